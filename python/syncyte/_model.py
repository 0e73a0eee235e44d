"""Model: weights and an engine that every interpreter of the process shares."""

from typing import TYPE_CHECKING

from syncyte import _core
from syncyte._completion import Completion, ModelInfo, ModelStats, Timings, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike
    from types import TracebackType
    from typing import Self

    from syncyte._prefix import Prefix

_MOST_TOKENS = 2**31 - 1


@_core._adopt_handle_type
class Model(_core.Model):
    """A language model in a GGUF file, loaded once per process whoever opens it.

    The same file (by device and inode) opened again, in any interpreter, is the same weights and the same
    engine, which computes the requests of all of them in one batch per step. The weights go when the last
    user has closed or dropped it. Without ``path``: the small demonstration model that comes along.

    ``context_length``: tokens one sequence can hold, prompt and answer; by default what the model was
    trained with, 4096 at most. ``max_sequences``: requests computed together (1 to 256, default 16); more
    wait in line. ``threads``: threads that compute, at most (default: the cores this process may use);
    fewer while interpreters or other programs keep cores busy. ``max_waiting``: how many requests beyond
    ``max_sequences`` may be open; one more is refused with OverloadedError at once, so that whoever asks
    can turn elsewhere or ask later (default: no limit). What is left out is as the first opener has it; a
    value other than that is a ValueError.

    When the KV cache has no room for all that run, what nobody uses leaves it, and then the least urgent
    requests pause and go on later. OverloadedError from a request itself says that pinned prefixes leave no
    room for it.

    A request with a ``seed`` that runs alone gives the same tokens every time. Beside others its logits may
    differ in their last bits, which changes the text only where two choices were that close.

    Raises FileNotFoundError, OSError, or ModelError for a file that is not a usable model.
    """

    __slots__ = ()

    def __new__(
        cls,
        path: str | PathLike[str] | None = None,
        *,
        context_length: int | None = None,
        max_sequences: int | None = None,
        threads: int | None = None,
        max_waiting: int | None = None,
    ) -> Self:
        """Opens the model, or joins those who have it open."""
        if path is None:
            from syncyte._embedded import embedded_model_path

            path = embedded_model_path()
        return super().__new__(cls, path, context_length, max_sequences, threads, max_waiting)

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int = 128,
        temperature: float = 0.8,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        repeat_penalty: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        ignore_eos: bool = False,
    ) -> Completion:
        """Continues ``prompt`` (text, or tokens) and waits for all of it.

        ``max_tokens``: at most so many. ``temperature``: 0 takes the likeliest token always. ``top_k`` (0:
        all), ``top_p`` (1: all), ``min_p`` (0: all) bound the choice; ``repeat_penalty`` (1: none) lowers
        what was among the last 64 tokens. ``seed``: the same one gives the same choices. ``stop``: strings
        that end the text, never part of it. ``ignore_eos``: goes on where the model would end.

        ValueError for values out of range and for a prompt that does not fit the context.
        """
        request = self._request(
            prompt, max_tokens, temperature, top_p, top_k, min_p, repeat_penalty, seed, stop, ignore_eos
        )
        text, tokens, outcome = request.finish()
        return _completion(request, text, tokens, outcome)

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int = 128,
        temperature: float = 0.8,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        repeat_penalty: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        ignore_eos: bool = False,
    ) -> Stream:
        """As generate(), but gives the pieces of the text as they come: an iterator of str.

        Starts at once. Closing or dropping the iterator cancels the rest.
        """
        return Stream(
            self._request(
                prompt, max_tokens, temperature, top_p, top_k, min_p, repeat_penalty, seed, stop, ignore_eos
            )
        )

    def chat(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        max_tokens: int = 128,
        temperature: float = 0.8,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        repeat_penalty: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        ignore_eos: bool = False,
    ) -> Completion:
        """Answers ``messages``, a list of {"role": ..., "content": ...}, by the model's own chat template.

        Texts of control tokens inside a message are plain text. Options as for generate().
        """
        return self.generate(
            self.chat_tokens(messages),
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            repeat_penalty=repeat_penalty,
            seed=seed,
            stop=stop,
            ignore_eos=ignore_eos,
        )

    def stream_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        max_tokens: int = 128,
        temperature: float = 0.8,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        repeat_penalty: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        ignore_eos: bool = False,
    ) -> Stream:
        """As chat(), but gives the pieces of the answer as they come, like stream()."""
        return self.stream(
            self.chat_tokens(messages),
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            repeat_penalty=repeat_penalty,
            seed=seed,
            stop=stop,
            ignore_eos=ignore_eos,
        )

    def chat_tokens(self, messages: Sequence[Mapping[str, object]]) -> list[int]:
        """The prompt that chat() makes of ``messages``."""
        from syncyte import _chat

        return _chat.chat_tokens(self, _chat.checked_messages(messages), self._info())

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Tokens of ``text``.

        ``add_special``: with the begin- and end-of-sequence tokens the model wants. ``parse_special``: the
        texts of control tokens become those tokens.
        """
        return self._tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Text of ``tokens``; what is not UTF-8 becomes U+FFFD. ValueError for an unknown token."""
        return self._detokenize(tokens)

    def prefix(self, text: str | Sequence[int], *, pin: bool = True, cache_salt: str = "") -> Prefix:
        """Computes the beginning of prompts to come (text, or tokens), so that they need not.

        With ``pin`` it stays in the KV cache until the result is closed or dropped; otherwise as long as
        there is room. Prompts with the same ``cache_salt`` begin with it. Pins hold half of the cache at
        most, 32 of them: OverloadedError beyond. ValueError for a model whose state cannot be shared
        (recurrent ones).
        """
        from syncyte._prefix import Prefix

        return Prefix(self._prefix(text, pin, cache_salt), pin)

    def stats(self) -> ModelStats:
        """What the engine does for this model at the moment, and what it has done."""
        found = self._stats()
        return ModelStats(*(found[name] for name in ModelStats._fields))

    @property
    def info(self) -> ModelInfo:
        """Architecture, sizes, quantisation, limits."""
        found = self._info()
        found["has_chat_template"] = bool(found["chat_template"])
        return ModelInfo(*(found[name] for name in ModelInfo._fields))

    @property
    def path(self) -> str:
        """Absolute path of the file."""
        return str(self._info()["path"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return "<syncyte.Model, closed>"
        info = self._info()
        return f"<syncyte.Model {info['path']!r}, {info['description']}>"

    def _request(
        self,
        prompt: str | Sequence[int],
        max_tokens: int,
        temperature: float,
        top_p: float,
        top_k: int,
        min_p: float,
        repeat_penalty: float,
        seed: int | None,
        stop: str | Sequence[str],
        ignore_eos: bool,
    ) -> _core.Request:
        _check_int("max_tokens", max_tokens, 1, _MOST_TOKENS)
        _check_int("top_k", top_k, 0, _MOST_TOKENS)
        _check_float("temperature", temperature, 0.0, 1e6)
        _check_float("top_p", top_p, 0.0, 1.0)
        _check_float("min_p", min_p, 0.0, 1.0)
        _check_float("repeat_penalty", repeat_penalty, 1e-3, 1e3)
        return self._submit(
            prompt,
            max_tokens,
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            _checked_seed(seed),
            _checked_stops(stop),
            ignore_eos,
        )


class Stream:
    """The pieces of a text that is being generated; an iterator of str.

    Every piece is valid text, and none holds a part of a stop string. ``completion`` is the whole of it once
    the iteration has ended.
    """

    __slots__ = ("_completion", "_request", "_text", "_tokens")

    def __init__(self, request: _core.Request) -> None:
        self._request: _core.Request | None = request
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._completion: Completion | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while self._request is not None:
            text, tokens, outcome = self._request.next()
            self._text.append(text)
            self._tokens += tokens
            if outcome is not None:
                self._completion = _completion(self._request, "".join(self._text), self._tokens, outcome)
                self._request = None
            if text:
                return text
        raise StopIteration

    @property
    def completion(self) -> Completion:
        """The whole answer. ValueError while the iteration has not ended, and after close()."""
        if self._completion is None:
            raise ValueError("the stream has not ended" if self._request else "the stream was closed")
        return self._completion

    def close(self) -> None:
        """Cancels what has not come yet."""
        if self._request is not None:
            self._request.cancel()
            self._request = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def versions() -> dict[str, str]:
    """Versions of syncyte, CPython, libllama and ggml, and the instruction sets that ggml uses."""
    import sys

    found = _core._engine_versions()
    build = found["libllama_build"]
    return {
        "syncyte": _core.__version__,
        "cpython": sys.version.split()[0],
        "libllama": found["libllama"] + (f" (build {build})" if build else ""),
        "ggml": found["ggml"],
        "system": found["system"],
    }


def _completion(
    request: _core.Request,
    text: str,
    tokens: list[int],
    outcome: tuple[str, float, float, float, int],
) -> Completion:
    reason, queued, first_token, total, reused = outcome
    after_first = total - first_token
    speed = (len(tokens) - 1) / after_first if len(tokens) > 1 and after_first > 0 else 0.0
    return Completion(
        text,
        tokens,
        reason,
        Usage(request.prompt_tokens, len(tokens), reused),
        Timings(queued, first_token, total, speed),
    )


def _check_int(name: str, value: int, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be {least} or more, not {value}")


def _check_float(name: str, value: float, least: float, most: float) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not least <= value <= most:  # NaN is not
        raise ValueError(f"{name} must be from {least:g} to {most:g}, not {value!r}")


def _checked_seed(seed: int | None) -> int:
    if seed is None:
        import os

        return int.from_bytes(os.urandom(8))
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed must be int or None, not {type(seed).__name__}")
    return seed % 2**64


def _checked_stops(stop: str | Sequence[str]) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    for text in stops:
        if not isinstance(text, str):
            raise TypeError(f"stop must be str or a list of str, not of {type(text).__name__}")
        if not text:
            raise ValueError("a stop string cannot be empty")
    return stops


for _public in (Model, Stream):
    _public.__module__ = "syncyte"
