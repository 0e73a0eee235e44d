"""Model: weights and an engine that every interpreter of the process shares."""

from typing import TYPE_CHECKING

from syncyte import _core
from syncyte._completion import Completion, ModelInfo, ModelStats, Timings, TokenLogprob, Usage
from syncyte._options import checked, shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from os import PathLike
    from types import TracebackType
    from typing import Any, Self, Unpack

    from syncyte._async_model import AsyncStream
    from syncyte._completion import ToolCall
    from syncyte._core import Lora, SharedBuffer
    from syncyte._embedding import Pooling
    from syncyte._generate_options import GenerateOptions
    from syncyte._prefix import Prefix
    from syncyte._session import Session
    from syncyte._tools import Tools

    # Takes the calls of tools out of an answer.
    type Reader = Callable[[str], tuple[str, list[ToolCall]]]


@_core._adopt_handle_type
class Model(_core.Model):
    """A language model in a GGUF file, loaded once per process whoever opens it.

    The same file (by device and inode) opened again, in any interpreter, is the same weights and the same
    engine, which computes the requests of all of them in one batch per step. The weights go when the last
    user has closed or dropped it; opened again after that, it has its own options from the start, also while
    requests of former users go on. Without ``path``: the small demonstration model that comes along.

    ``context_length``: tokens one sequence can hold, prompt and answer; by default what the model was
    trained with, 4096 at most. ``max_sequences``: requests computed together (1 to 256, default 16); more
    wait in line. ``cache_tokens``: tokens the KV cache holds, of all that run and of what has ended and
    may be begun with again; by default room for all at full length, 4096 at most, or ``context_length``
    where that is more. ``threads``: threads that compute, at most (default: the cores this process may
    use); fewer while interpreters or other programs keep cores busy. ``max_waiting``: how many requests
    beyond ``max_sequences`` may be open; one more is refused with OverloadedError at once, so that whoever
    asks can turn elsewhere or ask later (default: no limit).

    ``kv_type``: what the KV cache holds, "f16" (the default), "f32", "q8_0" or "q4_0", or two for the keys
    and values, as in "q8_0,f16"; quantised values need flash attention. ``flash_attention``: True or False;
    None leaves it to libllama, which knows the machine. ``kv_unified``: with False each sequence has a KV
    cache of its own, of ``context_length`` tokens (by default 4096 for all together, 256 for each at least):
    prompts and conversations that have little in common decode faster; what one begins with and another has
    computed is copied instead of shared, and no prefix can be pinned. ``draft_model``: the GGUF file of a
    small model of the same vocabulary, which guesses for requests that ``speculate``. ``gpu_layers``: how
    many layers leave the CPU, -1 for all (default: all, where ggml finds an accelerator). ``devices``: the
    accelerators to use, by ggml's names; an empty list is the CPU alone. ``rpc``: servers of libggml's RPC
    backend that take a part of the model, as in ["10.0.0.2:50052"].

    What is left out is as the first opener has it; a value other than that is a ValueError. Who asks for
    another ``kv_type``, ``flash_attention``, ``kv_unified`` or ``draft_model`` gets an engine of its own on
    the same weights.

    When the KV cache has no room for all that run, what nobody uses leaves it, and then the least urgent
    requests pause and go on later. What leaves is saved in memory for those who begin with it again: at most
    as much as the cache itself takes. OverloadedError from a request itself says that pinned prefixes leave
    no room for it.

    A request with a ``seed`` that runs alone gives the same tokens every time, if it computes its beginning
    itself (a ``cache_salt`` of its own sees to that) on the same number of threads
    (``set_core_budget(engine=...)`` fixes it). Beside others, behind a beginning that others have computed,
    or on other threads its sums come in another order, and its logits differ in their last bits; those of
    quantised weights, whose kernels round what they are given, by some thousandths, now and then a few
    tenths. That changes the text only where two choices were that close.

    Raises FileNotFoundError, OSError, or ModelError for a file that is not a usable model, and for an RPC
    server that does not answer.
    """

    __slots__ = ()

    def __new__(
        cls,
        path: str | PathLike[str] | None = None,
        *,
        context_length: int | None = None,
        max_sequences: int | None = None,
        cache_tokens: int | None = None,
        threads: int | None = None,
        max_waiting: int | None = None,
        kv_type: str | None = None,
        flash_attention: bool | None = None,
        kv_unified: bool | None = None,
        draft_model: str | PathLike[str] | None = None,
        gpu_layers: int | None = None,
        devices: Sequence[str] | None = None,
        rpc: Sequence[str] | None = None,
    ) -> Self:
        """Opens the model, or joins those who have it open."""
        if path is None:
            from syncyte._embedded import embedded_model_path

            path = embedded_model_path()
        return super().__new__(
            cls,
            path,
            context_length,
            max_sequences,
            cache_tokens,
            threads,
            max_waiting,
            kv_type,
            flash_attention,
            kv_unified,
            draft_model,
            gpu_layers,
            devices,
            rpc,
        )

    def generate(self, prompt: str | Sequence[int], **options: Unpack[GenerateOptions]) -> Completion:
        """Continues ``prompt`` (text, or tokens) and waits for all of it.

        ``options``: see GenerateOptions, which says what each means: ``max_tokens``, ``temperature``,
        ``seed``, ``stop``, ``json_schema`` and so on.

        TypeError for an unknown option; ValueError for a value out of range and for a prompt that does not
        fit the context.
        """
        request = self._request("generate", prompt, options)
        return completion_of(request, *request.finish())

    def generate_n(
        self, prompt: str | Sequence[int], n: int, **options: Unpack[GenerateOptions]
    ) -> list[Completion]:
        """So many answers to one prompt, made together; the prompt is computed once.

        With a ``seed`` the first is what generate() gives, and each of the others has a seed of its own. When
        one fails, its error is raised and the others are cancelled.
        """
        if not isinstance(n, int) or isinstance(n, bool):
            raise TypeError(f"n must be int, not {type(n).__name__}")
        if n < 1:
            raise ValueError(f"n must be 1 or more, not {n}")
        given = checked("generate_n", options)
        tokens = self.tokenize(prompt, parse_special=True) if isinstance(prompt, str) else prompt
        first = int(given["seed"])  # type: ignore[call-overload]
        requests: list[_core.Request] = []
        try:
            for index in range(n):
                requests.append(self._submit(tokens, {**given, "seed": (first + index) % 2**64}))
            return [completion_of(request, *request.finish()) for request in requests]
        except BaseException:
            for request in requests:  # the exception may keep them for long
                request.cancel()
            raise

    def stream(self, prompt: str | Sequence[int], **options: Unpack[GenerateOptions]) -> Stream:
        """As generate(), but gives the pieces of the text as they come: an iterator of str.

        Starts at once. Closing or dropping the iterator cancels the rest.
        """
        return Stream(self, self._request("stream", prompt, options))

    def chat(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool = True,
        **options: Unpack[GenerateOptions],
    ) -> Completion:
        """Answers ``messages``, a list of {"role": ..., "content": ...}, by the model's own chat template.

        Texts of control tokens inside a message are plain text. ``tools``: functions that the model may want
        called, and ``tool_choice``: "auto", "none", "required" or one of them, as OpenAI defines them; the
        answer's ``tool_calls`` has what it wants, and its arguments satisfy the function's parameters.
        ``parallel_tool_calls``: several calls in one answer. Other options as for generate().
        """
        request, read = self._chat_request("chat", messages, tools, tool_choice, parallel_tool_calls, options)
        return completion_of(request, *request.finish(), read)

    def stream_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool = True,
        **options: Unpack[GenerateOptions],
    ) -> Stream:
        """As chat(), but gives the pieces of the answer as they come, like stream().

        Calls of tools come as the model writes them; the stream's ``completion`` has them read.
        """
        return Stream(
            self,
            *self._chat_request("stream_chat", messages, tools, tool_choice, parallel_tool_calls, options),
        )

    async def agenerate(self, prompt: str | Sequence[int], **options: Unpack[GenerateOptions]) -> Completion:
        """As generate(), for asyncio: the loop goes on meanwhile. Cancelling the task cancels the request."""
        from syncyte import _async_model

        return await _async_model.finished(self._request("agenerate", prompt, options))

    def astream(self, prompt: str | Sequence[int], **options: Unpack[GenerateOptions]) -> AsyncStream:
        """As stream(), for asyncio: ``async for piece in model.astream(...)``. Starts at once."""
        from syncyte._async_model import AsyncStream

        return AsyncStream(self, self._request("astream", prompt, options))

    async def achat(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool = True,
        **options: Unpack[GenerateOptions],
    ) -> Completion:
        """As chat(), for asyncio."""
        from syncyte import _async_model

        return await _async_model.finished(
            *self._chat_request("achat", messages, tools, tool_choice, parallel_tool_calls, options)
        )

    def astream_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool = True,
        **options: Unpack[GenerateOptions],
    ) -> AsyncStream:
        """As stream_chat(), for asyncio."""
        from syncyte._async_model import AsyncStream

        return AsyncStream(
            self,
            *self._chat_request("astream_chat", messages, tools, tool_choice, parallel_tool_calls, options),
        )

    def embed(
        self, texts: Sequence[str], *, normalize: bool = True, pooling: Pooling | None = None
    ) -> SharedBuffer:
        """A vector of each text: a SharedBuffer of float32 with the shape (texts, numbers).

        ``normalize``: to a length of one, so that the dot product of two is their cosine. ``pooling``: how
        the vectors of a text's tokens become one, "mean", "cls" (the first) or "last"; by default as the
        model's file says, and "mean" where it says nothing, as those of generative models. Texts are computed
        many at a time, beside what generates. Control tokens in a text are plain text.

        ValueError for a text that is empty or longer than ``info.context_length``, and for a model that
        ranks texts.
        """
        from syncyte import _embedding

        return _embedding.buffer_of(_embedding.request(self, texts, normalize, pooling))

    async def aembed(
        self, texts: Sequence[str], *, normalize: bool = True, pooling: Pooling | None = None
    ) -> SharedBuffer:
        """As embed(), for asyncio: the loop goes on meanwhile. Cancelling the task cancels the request."""
        from syncyte import _async_model, _embedding

        request = _embedding.request(self, texts, normalize, pooling)
        await _async_model.settled(request)
        return _embedding.buffer_of(request)

    def rerank(self, query: str, documents: Sequence[str]) -> list[tuple[int, float]]:
        """The documents by how well they answer ``query``: (index, score), the best first.

        A model made to rank reads query and document together; its scores are of any size. With an embedding
        model the score is the cosine of their embeddings. Scores of different models do not compare. Equal
        ones stay in the order given.

        ValueError for a model that is neither, and for texts that are too long.
        """
        from syncyte import _embedding

        ranking = _embedding.Ranking(self, query, documents)
        ranking.request.finish()
        return ranking.result()

    async def arerank(self, query: str, documents: Sequence[str]) -> list[tuple[int, float]]:
        """As rerank(), for asyncio."""
        from syncyte import _async_model, _embedding

        ranking = _embedding.Ranking(self, query, documents)
        await _async_model.settled(ranking.request)
        ranking.request.finish()
        return ranking.result()

    def session(
        self,
        system: str | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Session:
        """A conversation: session.send("...") answers, and sees what was said before.

        ``system``: what the model is told first. ``tools``: functions that it may want called, as for chat().
        ``options``: of every answer, as for generate().
        """
        from syncyte._session import Session

        return Session(self, system, options, tools)

    def load_session(self, path: str | PathLike[str], **options: Unpack[GenerateOptions]) -> Session:
        """The conversation that Session.save() wrote. ValueError for a file that is none; OSError as open().

        One of another model goes on too: its texts are told to this one.
        """
        from syncyte import _session

        return _session.load(self, path, options)

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

    def prefix(
        self,
        text: str | Sequence[int],
        *,
        pin: bool = True,
        cache_salt: str = "",
        lora: Lora | None = None,
    ) -> Prefix:
        """Computes the beginning of prompts to come (text, or tokens), so that they need not.

        With ``pin`` it stays in the KV cache until the result is closed or dropped; otherwise as long as
        there is room. Prompts with the same ``cache_salt`` and ``lora`` begin with it. Pins hold half of the
        cache at most, 32 of them: OverloadedError beyond. ValueError for a model whose state cannot be shared
        (recurrent ones).
        """
        from syncyte._prefix import Prefix

        return Prefix(self._prefix(text, pin, cache_salt, lora), pin)

    def lora(self, path: str | PathLike[str], scale: float = 1.0) -> Lora:
        """A LoRA adapter in a GGUF file, for requests of this model that ask for it by ``lora=``.

        ``scale``: how much it counts; 0 is the model alone, 1 what it was trained for. The model's own
        weights stay as they are, and in memory once; so is a file that is loaded again, at whatever scale.

        A step of the engine computes requests of one adapter; adapters, and requests without one, take turns
        of a tenth of a second, the more urgent first. What was computed with one is not reused with another.

        Raises FileNotFoundError, OSError, or ModelError for a file that is not an adapter for this model.
        """
        from syncyte._options import adapter_scale

        return self._lora(path, adapter_scale("scale", scale))

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
        self, caller: str, prompt: str | Sequence[int], options: Mapping[str, object]
    ) -> _core.Request:
        return self._submit(prompt, checked(caller, options))

    def _chat_request(
        self,
        caller: str,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, Any]] | None,
        tool_choice: object,
        parallel: bool,
        options: Mapping[str, object],
    ) -> tuple[_core.Request, Reader | None]:
        if tools is None:
            if tool_choice not in (None, "none", "auto"):
                raise ValueError("tool_choice without tools")
            return self._request(caller, self.chat_tokens(messages), options), None
        from syncyte import _chat
        from syncyte._tools import Tools

        checked_tools = Tools(tools, tool_choice, parallel)
        prompt = _chat.chat_tokens(self, _chat.checked_messages(messages), self._info(), checked_tools)
        return self._calling_request(caller, prompt, checked_tools, options)

    def _calling_request(
        self, caller: str, prompt: Sequence[int], tools: Tools, options: Mapping[str, object]
    ) -> tuple[_core.Request, Reader | None]:
        """A request whose answer may call the tools, as they were told in the prompt."""
        grammar = tools.grammar()
        if grammar is None:
            return self._request(caller, prompt, options), None
        shape = next((name for name in shapes if options.get(name) not in (None, False)), None)
        if shape is not None:
            raise ValueError(
                f'tools and {shape} say both what the answer has to be; tool_choice="none" allows it'
            )
        return self._submit(prompt, {**checked(caller, options), "grammar": grammar}), tools.read


class Stream:
    """The pieces of a text that is being generated; an iterator of str.

    Every piece is valid text, and none holds a part of a stop string. ``completion`` is the whole of it once
    the iteration has ended. One thread at a time waits for a piece: ValueError for another. close() may come
    from any.
    """

    __slots__ = ("_completion", "_model", "_read", "_request", "_text", "_tokens")

    def __init__(self, model: Model, request: _core.Request, read: Reader | None = None) -> None:
        self._model = model  # open as long as this
        self._read = read
        self._request: _core.Request | None = request
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._completion: Completion | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while (request := self._request) is not None:
            text, tokens, outcome = request.next()
            if self._request is None:
                break  # closed meanwhile
            self._text.append(text)
            self._tokens += tokens
            if outcome is not None:
                self._completion = completion_of(
                    request, "".join(self._text), self._tokens, outcome, self._read
                )
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
        request, self._request = self._request, None
        if request is not None:
            request.cancel()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def versions() -> dict[str, str]:
    """Versions of syncyte, CPython, libllama and ggml, the instruction sets that ggml uses, and whose
    attention computes: "ggml", or the vector instructions that syncyte's own needs
    (``SYNCYTE_ATTENTION=ggml`` in the environment turns that off).
    """
    import sys

    found = _core._engine_versions()
    build = found["libllama_build"]
    return {
        "syncyte": _core.__version__,
        "cpython": sys.version.split()[0],
        "libllama": found["libllama"] + (f" (build {build})" if build else ""),
        "ggml": found["ggml"],
        "system": found["system"],
        "attention": found["attention"],
    }


def completion_of(
    request: _core.Request,
    text: str,
    tokens: list[int],
    outcome: tuple[str, float, float, float, int, int, int],
    read: Reader | None = None,
) -> Completion:
    """What a request has come to. ``read`` takes the calls of tools out of the text."""
    reason, queued, first_token, total, reused, drafted, accepted = outcome
    calls: list[ToolCall] = []
    if read is not None:
        text, calls = read(text)
        if calls and reason == "stop":
            reason = "tool_calls"
    after_first = total - first_token
    speed = (len(tokens) - 1) / after_first if len(tokens) > 1 and after_first > 0 else 0.0
    return Completion(
        text,
        tokens,
        reason,
        Usage(request.prompt_tokens, len(tokens), reused, drafted, accepted),
        Timings(queued, first_token, total, speed),
        calls,
        _logprobs(request, tokens),
    )


def _logprobs(request: _core.Request, tokens: list[int]) -> list[TokenLogprob]:
    def one(token: int, logprob: float) -> TokenLogprob:
        return TokenLogprob(token, request._piece(token).decode(errors="replace"), logprob)

    result = []
    for token, (logprob, top) in zip(tokens, request.logprobs(), strict=False):
        result.append(one(token, logprob))
        result[-1].top = [one(*pair) for pair in top]
    return result


for _public in (Model, Stream):
    _public.__module__ = "syncyte"
