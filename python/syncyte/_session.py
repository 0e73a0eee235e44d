"""Conversations: what was said, as messages and as the tokens that the engine's cache knows it by."""

from typing import TYPE_CHECKING, Any

from syncyte import _chat
from syncyte._model import Stream, completion_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from os import PathLike
    from types import TracebackType
    from typing import Unpack

    from syncyte._async_session import AsyncSessionStream
    from syncyte._completion import Completion
    from syncyte._generate_options import GenerateOptions
    from syncyte._model import Model

_FORMAT = 1


class _Turn:
    """A question, its answer, and how many tokens of the conversation there are with them.

    ``exact``: those tokens are the answer's text, no more: nothing was cut off as a stop string.
    """

    __slots__ = ("answer", "exact", "length", "question")

    def __init__(self, question: str, answer: str, length: int, exact: bool) -> None:
        self.question = question
        self.answer = answer
        self.length = length
        self.exact = exact


class Session:
    """A conversation with a model: each answer sees all that was said before.

    Made by Model.session() and Model.load_session(). What was said is sent as the very tokens that were
    computed before, so the engine goes on from its cache as long as that holds them: ``usage.reused_tokens``
    of an answer tells. For one thread at a time; forks are sessions of their own.
    """

    __slots__ = ("_model", "_options", "_system", "_tokens", "_turns")

    def __init__(self, model: Model, system: str | None, options: Mapping[str, Any]) -> None:
        from syncyte._options import checked

        if system is not None and not isinstance(system, str):
            raise TypeError(f"system must be str or None, not {type(system).__name__}")
        checked("session", options)
        self._model = model
        self._system = system
        self._options = dict(options)
        self._turns: list[_Turn] = []
        self._tokens: list[int] = []  # of all turns, up to the last answer's end

    @property
    def messages(self) -> list[dict[str, str]]:
        """What was said, as messages of a chat; a new list."""
        return self._messages(self._turns)

    def __len__(self) -> int:
        """How many questions were answered."""
        return len(self._turns)

    def send(self, text: str, **options: Unpack[GenerateOptions]) -> Completion:
        """Says ``text`` and waits for the answer. Options come before those of the session.

        If it fails, nothing was said. ValueError when the conversation no longer fits the context.
        """
        prompt = self._prompt(text)
        request = self._model._request("send", prompt, {**self._options, **options})
        made = completion_of(self._model, request, *request.finish())
        self._keep(text, prompt, made.text, made.tokens)
        return made

    def stream(self, text: str, **options: Unpack[GenerateOptions]) -> SessionStream:
        """As send(), but gives the pieces of the answer as they come: an iterator of str.

        The question and its answer belong to the conversation when the iteration has ended; when it is closed
        before, with what has come by then, if anything has.
        """
        prompt = self._prompt(text)
        request = self._model._request("stream", prompt, {**self._options, **options})
        return SessionStream(self, text, prompt, Stream(self._model, request))

    async def asend(self, text: str, **options: Unpack[GenerateOptions]) -> Completion:
        """As send(), for asyncio: the loop goes on meanwhile. Cancelling the task cancels the answer: then
        nothing was said."""
        from syncyte import _async_model

        prompt = self._prompt(text)
        request = self._model._request("asend", prompt, {**self._options, **options})
        made = await _async_model.finished(self._model, request)
        self._keep(text, prompt, made.text, made.tokens)
        return made

    def astream(self, text: str, **options: Unpack[GenerateOptions]) -> AsyncSessionStream:
        """As stream(), for asyncio: ``async for piece in session.astream(...)``. Starts at once."""
        from syncyte._async_session import AsyncSessionStream

        prompt = self._prompt(text)
        request = self._model._request("astream", prompt, {**self._options, **options})
        return AsyncSessionStream(self, text, prompt, request)

    def fork(self) -> Session:
        """A session that goes on from here by itself. What both have in common is in the cache once."""
        other = Session(self._model, self._system, self._options)
        other._turns = list(self._turns)
        other._tokens = list(self._tokens)
        return other

    def rewind(self, turns: int = 1) -> None:
        """Takes back so many of the last questions and their answers. ValueError if there are fewer."""
        if not isinstance(turns, int) or isinstance(turns, bool):
            raise TypeError(f"turns must be int, not {type(turns).__name__}")
        if not 0 <= turns <= len(self._turns):
            raise ValueError(f"cannot rewind {turns} turns; there are {len(self._turns)}")
        del self._turns[len(self._turns) - turns :]
        del self._tokens[self._turns[-1].length if self._turns else 0 :]

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the conversation to a file, as JSON; Model.load_session() reads it. OSError as open()."""
        import json
        from pathlib import Path

        turns = [[turn.question, turn.answer, turn.length, turn.exact] for turn in self._turns]
        content = {
            "syncyte_session": _FORMAT,
            "vocabulary": _vocabulary(self._model),
            "system": self._system,
            "turns": turns,
            "tokens": self._tokens,
        }
        Path(path).write_text(json.dumps(content, ensure_ascii=False) + "\n", "utf-8")

    def _messages(self, turns: list[_Turn]) -> list[dict[str, str]]:
        messages = [] if self._system is None else [{"role": "system", "content": self._system}]
        for turn in turns:
            messages.append({"role": "user", "content": turn.question})
            messages.append({"role": "assistant", "content": turn.answer})
        return messages

    def _prompt(self, text: str) -> list[int]:
        """Tokens of the conversation with ``text`` said: those there are, and what comes after them."""
        messages = _chat.checked_messages([*self.messages, {"role": "user", "content": text}])
        info = self._model._info()
        if self._turns:
            exact = self._turns[-1].exact
            rest = _chat.tokens_after(self._model, messages, info, len(messages) - 2)
            if exact and rest is not None:
                return self._tokens + rest
        return _chat.chat_tokens(self._model, messages, info)

    def _keep_cut(self, question: str, prompt: list[int], answer: str) -> None:
        """Of an answer that was cut off, only the text is known to have been seen."""
        self._keep(question, prompt, answer, self._model.tokenize(answer, add_special=False))
        self._turns[-1].exact = False

    def _keep(self, question: str, prompt: list[int], answer: str, tokens: list[int]) -> None:
        # Unfinished characters show as U+FFFD, stop strings not at all: then the tokens say something else.
        exact = self._model.detokenize(tokens).strip() == answer.strip() if tokens else True
        if prompt[: len(self._tokens)] != self._tokens:
            # Told anew: where the turns before end among these tokens is not known.
            self._turns = [_Turn(turn.question, turn.answer, 0, False) for turn in self._turns]
        self._tokens = prompt + tokens
        self._turns.append(_Turn(question, answer, len(self._tokens), exact))


class SessionStream:
    """The pieces of an answer within a conversation; an iterator of str. As Stream otherwise."""

    __slots__ = ("_parts", "_prompt", "_question", "_session", "_stream")

    def __init__(self, session: Session, question: str, prompt: list[int], stream: Stream) -> None:
        self._session: Session | None = session
        self._question = question
        self._prompt = prompt
        self._stream = stream
        self._parts: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            piece = next(self._stream)
        except StopIteration:
            if self._session is not None:
                made = self._stream.completion
                self._session._keep(self._question, self._prompt, made.text, made.tokens)
                self._session = None
            raise
        self._parts.append(piece)
        return piece

    @property
    def completion(self) -> Completion:
        """The whole answer. ValueError while the iteration has not ended, and after close()."""
        return self._stream.completion

    def close(self) -> None:
        """Cancels what has not come yet."""
        self._stream.close()
        if self._parts and self._session is not None:
            self._session._keep_cut(self._question, self._prompt, "".join(self._parts))
        self._session = None

    def __enter__(self) -> SessionStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(model: Model, path: str | PathLike[str], options: Mapping[str, Any]) -> Session:
    """The session in a file. ValueError when it is none."""
    import json
    from pathlib import Path

    try:
        content = json.loads(Path(path).read_text("utf-8"))
        if content["syncyte_session"] != _FORMAT:
            raise ValueError(f"of format {content['syncyte_session']!r}, not {_FORMAT}")  # noqa: TRY301
        session = Session(model, content["system"], options)
        for question, answer, length, exact in content["turns"]:
            _check(isinstance(question, str) and isinstance(answer, str) and isinstance(exact, bool))
            _check(isinstance(length, int) and not isinstance(length, bool) and length >= 0)
            session._turns.append(_Turn(question, answer, length, exact))
        lengths = [turn.length for turn in session._turns]
        tokens = content["tokens"]
        _check(isinstance(tokens, list) and lengths == sorted(lengths))
        _check((lengths[-1] if lengths else 0) == len(tokens))
        _check(all(isinstance(token, int) and not isinstance(token, bool) for token in tokens))
        if session._turns:
            _chat.checked_messages(session.messages)
        same = content["vocabulary"] == _vocabulary(model)
    except OSError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not a saved session: {error}") from None
    if same:
        most = int(content["vocabulary"][1]) - 1
        if not all(0 <= token <= most for token in tokens):
            raise ValueError(f"{path} is not a saved session: a token is not in the vocabulary")
        session._tokens = tokens
    else:
        # Another model's tokens mean nothing here: the texts are told anew.
        for turn in session._turns:
            turn.length, turn.exact = 0, False
    return session


def _check(good: bool) -> None:
    if not good:
        raise ValueError("it has been damaged")


def _vocabulary(model: Model) -> list[Any]:
    """What tells one model's tokens from another's."""
    info = model._info()
    return [info["architecture"], info["vocabulary_size"], info["name"], info["bos_text"], info["eos_text"]]


for _public in (Session, SessionStream):
    _public.__module__ = "syncyte"
