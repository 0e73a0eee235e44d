"""Conversations: what was said, as messages and as the tokens that the engine's cache knows it by."""

from typing import TYPE_CHECKING, Any

from syncyte import _chat
from syncyte._model import Stream, completion_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike
    from types import TracebackType
    from typing import Unpack

    from syncyte import _core
    from syncyte._async_session import AsyncSessionStream
    from syncyte._completion import Completion
    from syncyte._generate_options import GenerateOptions
    from syncyte._model import Model, Reader
    from syncyte._tools import Tools

    # What is said in one turn: a question, or the results of tools.
    type Said = str | Mapping[str, object] | Sequence[Mapping[str, object]]

_FORMAT = 2  # 1 knew no tools; it is read, too


class _Turn:
    """What was said, its answer, and how many tokens of the conversation there are with them.

    ``text`` and ``calls`` are the answer, ``raw`` is how the model wrote it. ``exact``: the tokens are that,
    no more: nothing was cut off as a stop string.
    """

    __slots__ = ("calls", "exact", "length", "raw", "said", "text")

    def __init__(
        self,
        said: list[dict[str, Any]],
        text: str,
        calls: list[dict[str, object]],
        raw: str,
        length: int,
        exact: bool,
    ) -> None:
        self.said = said
        self.text = text
        self.calls = calls
        self.raw = raw
        self.length = length
        self.exact = exact

    def answer(self) -> dict[str, Any]:
        """The answer as a message."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.calls:
            message["tool_calls"] = self.calls
        return message

    def told_anew(self) -> _Turn:
        """The same where its tokens are not known."""
        return _Turn(self.said, self.text, self.calls, self.raw, 0, False)


class _Question:
    """What is being said: the tokens of the conversation with it, and the tools told of at their beginning.

    ``after``: the last turn before it.
    """

    __slots__ = ("after", "prompt", "said", "tools")

    def __init__(
        self, said: list[dict[str, Any]], prompt: list[int], tools: Tools | None, after: _Turn | None
    ) -> None:
        self.said = said
        self.prompt = prompt
        self.tools = tools
        self.after = after


class Session:
    """A conversation with a model: each answer sees all that was said before.

    Made by Model.session() and Model.load_session(). What was said is sent as the very tokens that were
    computed before, so the engine goes on from its cache as long as that holds them: ``usage.reused_tokens``
    of an answer tells. For one thread at a time; forks are sessions of their own.
    """

    __slots__ = ("_model", "_options", "_system", "_tokens", "_told", "_tools", "_turns")

    def __init__(
        self,
        model: Model,
        system: str | None,
        options: Mapping[str, Any],
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        from syncyte._options import checked

        if system is not None and not isinstance(system, str):
            raise TypeError(f"system must be str or None, not {type(system).__name__}")
        checked("session", options)
        self._model = model
        self._system = system
        self._options = dict(options)
        self._turns: list[_Turn] = []
        self._tokens: list[int] = []  # of all turns, up to the last answer's end
        self._tools = _checked_tools(tools)
        self._told: list[dict[str, Any]] | None = None  # the tools that _tokens tell of

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was said, as messages of a chat; a new list."""
        return [_chat.copied(message) for message in self._messages()]

    @property
    def tools(self) -> list[dict[str, Any]]:
        """What the model may call; a new list."""
        return [] if self._tools is None else [_chat.copied(tool) for tool in self._tools.listed]

    def __len__(self) -> int:
        """How many questions were answered."""
        return len(self._turns)

    def send(
        self,
        said: Said,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool = True,
        **options: Unpack[GenerateOptions],
    ) -> Completion:
        """Says something and waits for the answer. Options come before those of the session.

        ``said``: text, or messages, as those that ToolCall.result() makes of what a function gave; each of
        them has the role "user", "tool" or "system". ``tools``: what the model may call from now on, [] for
        nothing; by default what it was before. Other tools change the conversation's beginning, which is then
        computed anew. ``tool_choice`` and ``parallel_tool_calls``: of this answer, as for Model.chat(); with
        "none" the model still knows the tools.

        If it fails, nothing was said. ValueError when the conversation no longer fits the context, and for
        results of calls that the last answer did not make.
        """
        asked, request, read = self._ask("send", said, tools, tool_choice, parallel_tool_calls, options)
        raw, tokens, outcome = request.finish()
        made = completion_of(request, raw, tokens, outcome, read)
        self._keep(asked, made, raw)
        return made

    def stream(
        self,
        said: Said,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool = True,
        **options: Unpack[GenerateOptions],
    ) -> SessionStream:
        """As send(), but gives the pieces of the answer as they come: an iterator of str.

        The question and its answer belong to the conversation when the iteration has ended; when it is closed
        before, with what has come by then, if anything has. If it fails, nothing was said. Calls of tools
        come as the model writes them; the stream's ``completion`` has them read.
        """
        asked, request, read = self._ask("stream", said, tools, tool_choice, parallel_tool_calls, options)
        return SessionStream(self, asked, Stream(self._model, request, read))

    async def asend(
        self,
        said: Said,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool = True,
        **options: Unpack[GenerateOptions],
    ) -> Completion:
        """As send(), for asyncio: the loop goes on meanwhile. Cancelling the task cancels the answer: then
        nothing was said."""
        from syncyte import _async_model

        asked, request, read = self._ask("asend", said, tools, tool_choice, parallel_tool_calls, options)
        await _async_model.settled(request)
        raw, tokens, outcome = request.finish()
        made = completion_of(request, raw, tokens, outcome, read)
        self._keep(asked, made, raw)
        return made

    def astream(
        self,
        said: Said,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool = True,
        **options: Unpack[GenerateOptions],
    ) -> AsyncSessionStream:
        """As stream(), for asyncio: ``async for piece in session.astream(...)``. Starts at once."""
        from syncyte._async_session import AsyncSessionStream

        asked, request, read = self._ask("astream", said, tools, tool_choice, parallel_tool_calls, options)
        return AsyncSessionStream(self, asked, request, read)

    def fork(self) -> Session:
        """A session that goes on from here by itself. What both have in common is in the cache once."""
        other = Session(self._model, self._system, self._options)
        other._turns = list(self._turns)
        other._tokens = list(self._tokens)
        other._tools, other._told = self._tools, self._told
        return other

    def rewind(self, turns: int = 1) -> None:
        """Takes back so many of the last questions and their answers. ValueError if there are fewer.

        The tools stay as they are.
        """
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

        turns = [[t.said, t.text, t.calls, t.raw, t.length, t.exact] for t in self._turns]
        content = {
            "syncyte_session": _FORMAT,
            "vocabulary": _vocabulary(self._model),
            "system": self._system,
            "tools": None if self._tools is None else self._tools.listed,
            "told": self._told,
            "turns": turns,
            "tokens": self._tokens,
        }
        Path(path).write_text(json.dumps(content, ensure_ascii=False) + "\n", "utf-8")

    def _messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if self._system is not None:
            messages.append({"role": "system", "content": self._system})
        for turn in self._turns:
            messages += turn.said
            messages.append(turn.answer())
        return messages

    def _ask(
        self,
        caller: str,
        said: Said,
        tools: Sequence[Mapping[str, Any]] | None,
        tool_choice: str | Mapping[str, Any] | None,
        parallel: bool,
        options: Mapping[str, Any],
    ) -> tuple[_Question, _core.Request, Reader | None]:
        told = self._tools if tools is None else _checked_tools(tools)
        asked = self._question(said, told)
        merged = {**self._options, **options}
        if told is None:
            if tool_choice not in (None, "none", "auto"):
                raise ValueError("tool_choice without tools")
            return asked, self._model._request(caller, asked.prompt, merged), None
        from syncyte._tools import Tools

        calling = Tools(told.listed, tool_choice, parallel)
        request, read = self._model._calling_request(caller, asked.prompt, calling, merged)
        if read is None:
            return asked, request, None
        first = sum(len(turn.calls) for turn in self._turns)
        return asked, request, lambda text: calling.read(text, first)

    def _question(self, said: Said, tools: Tools | None) -> _Question:
        """What is said, and the tokens of the conversation with it: those there are, and what comes after."""
        new = self._checked(said)
        last = self._turns[-1] if self._turns else None
        messages = _chat.checked_messages([*self._messages(), *new])
        info = self._model._info()
        if last is not None and last.exact and self._told == (None if tools is None else tools.listed):
            # As the model wrote the last answer, calls and all: that is what its tokens say.
            answer = len(messages) - len(new) - 1
            written = [*messages]
            written[answer] = {"role": "assistant", "content": last.raw}
            try:
                rest = _chat.tokens_after(self._model, written, info, answer, tools)
            except ValueError:
                rest = None  # the template wants to see the calls that results are of
            if rest is not None:
                return _Question(new, self._tokens + rest, tools, last)
        return _Question(new, _chat.chat_tokens(self._model, messages, info, tools), tools, last)

    def _checked(self, said: Said) -> list[dict[str, Any]]:
        if isinstance(said, str):
            return _chat.checked_messages([{"role": "user", "content": said}])
        if isinstance(said, (bytes, bytearray)) or not hasattr(said, "__iter__"):
            raise TypeError(f"what is said must be str, a message or a list of messages, not {_named(said)}")
        new = _chat.checked_messages([said] if hasattr(said, "keys") else said)  # type: ignore[list-item]
        _check_said(new, self._turns[-1].calls if self._turns else [])
        return new

    def _keep_cut(self, asked: _Question, raw: str) -> None:
        """Of an answer that was cut off, only the text is known to have been seen."""
        # Of a model that was closed meanwhile nothing is asked any more: the texts are what can be saved.
        tokens = [] if self._model.closed else self._model.tokenize(raw, add_special=False)
        self._append(asked, _Turn(asked.said, raw, [], raw, 0, False), tokens)

    def _keep(self, asked: _Question, made: Completion, raw: str) -> None:
        # Unfinished characters show as U+FFFD, stop strings not at all: then the tokens say something else.
        tokens = made.tokens
        exact = not self._model.closed and self._model.detokenize(tokens).strip() == raw.strip()
        calls = [call.as_message() for call in made.tool_calls]
        self._append(asked, _Turn(asked.said, made.text, calls, raw, 0, exact), tokens)

    def _append(self, asked: _Question, turn: _Turn, tokens: list[int]) -> None:
        last = self._turns[-1] if self._turns else None
        if last is not asked.after:
            turn.exact = False  # another answer has come in between: these tokens do not tell of it
        if last is not asked.after or asked.prompt[: len(self._tokens)] != self._tokens:
            # Told anew: where the turns before end among these tokens is not known.
            self._turns = [one.told_anew() for one in self._turns]
        self._tokens = asked.prompt + tokens
        turn.length = len(self._tokens)
        self._turns.append(turn)
        self._tools = asked.tools
        self._told = None if asked.tools is None else asked.tools.listed


class SessionStream:
    """The pieces of an answer within a conversation; an iterator of str. As Stream otherwise."""

    __slots__ = ("_asked", "_parts", "_session", "_stream")

    def __init__(self, session: Session, asked: _Question, stream: Stream) -> None:
        self._session: Session | None = session
        self._asked = asked
        self._stream = stream
        self._parts: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            piece = next(self._stream)
        except StopIteration:
            if self._session is not None:
                self._session._keep(self._asked, self._stream.completion, "".join(self._parts))
                self._session = None
            raise
        except ValueError:
            raise  # another thread is waiting, and goes on
        except Exception:
            self._session = None  # it failed: nothing was said
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
            self._session._keep_cut(self._asked, "".join(self._parts))
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
        if content["syncyte_session"] == 1:
            turns = [_turn_of_first(*one) for one in content["turns"]]
            session = Session(model, content["system"], options)
        elif content["syncyte_session"] == _FORMAT:
            turns = content["turns"]
            session = Session(model, content["system"], options, content["tools"])
            told = _checked_tools(content["told"])
            session._told = None if told is None else told.listed
        else:
            raise ValueError(f"of format {content['syncyte_session']!r}, not {_FORMAT}")  # noqa: TRY301
        for one in turns:
            session._turns.append(_checked_turn(session._turns, *one))
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
        session._told = None
    return session


def _turn_of_first(question: str, answer: str, length: int, exact: bool) -> list[Any]:
    """A turn of the first format in the present one."""
    return [[{"role": "user", "content": question}], answer, [], answer, length, exact]


def _checked_turn(
    before: list[_Turn], said: object, text: object, calls: object, raw: object, length: object, exact: object
) -> _Turn:
    _check(isinstance(said, list) and isinstance(calls, list) and isinstance(exact, bool))
    _check(isinstance(length, int) and not isinstance(length, bool) and length >= 0)
    _check(isinstance(text, str) and isinstance(raw, str))
    new = _chat.checked_messages(said)  # type: ignore[arg-type]
    _check_said(new, before[-1].calls if before else [])
    turn = _Turn(new, text, calls, raw, length, exact)  # type: ignore[arg-type]
    for call in turn.calls:
        function = call["function"]
        _check(isinstance(call["id"], str) and isinstance(function["name"], str))  # type: ignore[index]
        _check(isinstance(function["arguments"], str))  # type: ignore[index]
    # Its calls as such, and no lone surrogates in how they were written.
    _chat.checked_messages([turn.answer(), {"role": "assistant", "content": turn.raw}])
    return turn


def _check_said(said: list[dict[str, Any]], calls: list[dict[str, object]]) -> None:
    """ValueError for messages that cannot come after an answer with these calls."""
    ids = [call["id"] for call in calls]
    for message in said:
        role, result_of = message["role"], message.get("tool_call_id")
        if role not in ("user", "tool", "system"):
            raise ValueError(f'a message to send has the role "user", "tool" or "system", not {role!r}')
        if "tool_calls" in message:
            raise ValueError("calls of tools come from the model, they are not sent")
        if role == "tool" and not calls:
            raise ValueError("the last answer called no tool, so there can be no results")
        if role == "tool" and result_of is not None and result_of not in ids:
            raise ValueError(f"the last answer made no call {result_of!r}, only {', '.join(map(str, ids))}")


def _checked_tools(tools: Sequence[Mapping[str, Any]] | None) -> Tools | None:
    """The tools as they are told to the model; none of an empty list."""
    if tools is None or (isinstance(tools, (list, tuple)) and not tools):
        return None
    from syncyte._tools import Tools

    return Tools(tools, None)


def _named(value: object) -> str:
    return type(value).__name__


def _check(good: bool) -> None:
    if not good:
        raise ValueError("it has been damaged")


def _vocabulary(model: Model) -> list[Any]:
    """What tells one model's tokens from another's."""
    info = model._info()
    return [info["architecture"], info["vocabulary_size"], info["name"], info["bos_text"], info["eos_text"]]


for _public in (Session, SessionStream):
    _public.__module__ = "syncyte"
