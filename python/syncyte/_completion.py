"""What a generation gives back: small records that pickle, compare and travel between interpreters."""


class _Record:
    """Base of the records: ``_fields`` are the slots, in the order of the constructor's arguments."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self._fields)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({fields})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Record) or type(self) is not type(other):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._values()

    def as_dict(self) -> dict[str, object]:
        """The fields by name, records inside as dictionaries too: ready for json.dumps."""
        fields = zip(self._fields, self._values(), strict=True)
        return {name: _plain(value) for name, value in fields}


def _plain(value: object) -> object:
    if isinstance(value, _Record):
        return value.as_dict()
    if isinstance(value, list) and value and isinstance(value[0], _Record):
        return [_plain(one) for one in value]
    return value


class Usage(_Record):
    """Tokens of one request: of its prompt, of its answer, and of the prompt those computed before.

    ``drafted_tokens`` were guessed ahead of the answer, and ``accepted_tokens`` of them were right.
    """

    _fields = ("prompt_tokens", "completion_tokens", "reused_tokens", "drafted_tokens", "accepted_tokens")
    __slots__ = _fields

    def __init__(
        self,
        prompt_tokens: int,
        completion_tokens: int,
        reused_tokens: int = 0,
        drafted_tokens: int = 0,
        accepted_tokens: int = 0,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.reused_tokens = reused_tokens
        self.drafted_tokens = drafted_tokens
        self.accepted_tokens = accepted_tokens

    @property
    def total_tokens(self) -> int:
        """Prompt and answer together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def computed_tokens(self) -> int:
        """Those of the prompt that had to be computed."""
        return self.prompt_tokens - self.reused_tokens


class Timings(_Record):
    """Seconds since the request was made: until it got its place, its first token (0 if none), its end.

    ``tokens_per_second`` is the speed after the first token; 0 when there was no second one.
    """

    _fields = ("queued", "first_token", "total", "tokens_per_second")
    __slots__ = _fields

    def __init__(self, queued: float, first_token: float, total: float, tokens_per_second: float) -> None:
        self.queued = queued
        self.first_token = first_token
        self.total = total
        self.tokens_per_second = tokens_per_second

    def __repr__(self) -> str:
        return (
            f"Timings(queued={self.queued:.4f}, first_token={self.first_token:.4f}, "
            f"total={self.total:.4f}, tokens_per_second={self.tokens_per_second:.1f})"
        )


class ToolCall(_Record):
    """A function that the model wants called: an ``id`` within its answer, the name, and the arguments."""

    _fields = ("id", "name", "arguments")
    __slots__ = _fields

    def __init__(self, id: str, name: str, arguments: dict[str, object]) -> None:
        self.id = id
        self.name = name
        self.arguments = arguments

    def __hash__(self) -> int:
        return hash((self.id, self.name))

    def as_message(self) -> dict[str, object]:
        """The call as OpenAI words it in an assistant's message: its arguments are text."""
        import json

        arguments = json.dumps(self.arguments, ensure_ascii=False)
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}}

    def result(self, content: object) -> dict[str, str]:
        """The message that tells the model what the function gave: text as it is, all else as JSON.

        TypeError for what is neither.
        """
        if not isinstance(content, str):
            import json

            content = json.dumps(content, ensure_ascii=False)
        return {"role": "tool", "tool_call_id": self.id, "name": self.name, "content": content}


class TokenLogprob(_Record):
    """A token, its text, the logarithm of its probability, and the likeliest ones in its place.

    Text that is part of a character only shows as U+FFFD.
    """

    _fields = ("token", "text", "logprob", "top")
    __slots__ = _fields

    def __init__(self, token: int, text: str, logprob: float, top: list[TokenLogprob] | None = None) -> None:
        self.token = token
        self.text = text
        self.logprob = logprob
        self.top = top or []

    def __hash__(self) -> int:
        return hash((self.token, self.logprob))


class Completion(_Record):
    """An answer.

    ``text`` holds no part of a stop string. ``tokens`` are all that were generated, those of a stop string
    included, the end-of-generation token not. ``finish_reason`` is "stop" (the model ended, or a stop
    string came), "length" (max_tokens, or the end of the context), "deadline" (another token would have
    come too late), "cancelled", or "tool_calls": then ``tool_calls`` has what a chat's model wants called,
    and ``text`` what it said beside. ``logprobs`` has an entry for each
    of ``tokens``, if they were asked for.
    """

    _fields = ("text", "tokens", "finish_reason", "usage", "timings", "tool_calls", "logprobs")
    __slots__ = _fields

    def __init__(
        self,
        text: str,
        tokens: list[int],
        finish_reason: str,
        usage: Usage,
        timings: Timings,
        tool_calls: list[ToolCall] | None = None,
        logprobs: list[TokenLogprob] | None = None,
    ) -> None:
        self.text = text
        self.tokens = tokens
        self.finish_reason = finish_reason
        self.usage = usage
        self.timings = timings
        self.tool_calls = tool_calls or []
        self.logprobs = logprobs or []

    def as_message(self) -> dict[str, object]:
        """The answer as a message of a chat, to go on from there."""
        message: dict[str, object] = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            message["tool_calls"] = [call.as_message() for call in self.tool_calls]
        return message

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return (
            f"Completion(text={text!r}, finish_reason={self.finish_reason!r}, "
            f"tokens={self.usage.prompt_tokens}+{self.usage.completion_tokens}, "
            f"{self.timings.tokens_per_second:.1f} tokens/s)"
        )

    def __str__(self) -> str:
        return self.text

    def __hash__(self) -> int:
        return hash((self.text, tuple(self.tokens), self.finish_reason))


class ModelInfo(_Record):
    """Facts about an open model. Lengths are in tokens, ``size_bytes`` is that of all its tensors.

    ``context_length`` bounds one sequence, prompt and answer; ``cache_tokens`` all that run together;
    ``max_sequences`` how many do. ``kv_type`` and ``flash_attention`` are as asked for when it was opened
    (None: as libllama decides). ``kv_unified``: whether all sequences share one KV cache. ``draft_model``:
    the file of the model that guesses for this one, or None. ``generates`` is False for a model that is for
    embed() or rerank() only; ``pooling`` is what its file asks for: "mean", "cls", "last", "rank" or "none".
    """

    _fields = (
        "path",
        "name",
        "architecture",
        "description",
        "quantization",
        "parameters",
        "size_bytes",
        "vocabulary_size",
        "embedding_length",
        "layers",
        "heads",
        "kv_heads",
        "trained_context_length",
        "context_length",
        "max_sequences",
        "cache_tokens",
        "threads",
        "kv_type",
        "flash_attention",
        "kv_unified",
        "draft_model",
        "generates",
        "pooling",
        "has_chat_template",
    )
    __slots__ = _fields

    path: str
    name: str
    architecture: str
    description: str
    quantization: str
    parameters: int
    size_bytes: int
    vocabulary_size: int
    embedding_length: int
    layers: int
    heads: int
    kv_heads: int
    trained_context_length: int
    context_length: int
    max_sequences: int
    cache_tokens: int
    threads: int
    kv_type: str
    flash_attention: bool | None
    kv_unified: bool
    draft_model: str | None
    generates: bool
    pooling: str
    has_chat_template: bool

    def __init__(self, *values: object) -> None:
        for name, value in zip(self._fields, values, strict=True):
            setattr(self, name, value)


class ModelStats(_Record):
    """What an engine does for its model, as of its last step. A cell of the KV cache holds one token.

    ``running``: requests that each step computes; ``waiting``: not begun yet; ``paused``: begun, and
    waiting to go on. ``cells`` in all: ``used_cells`` and ``free_cells``; of the used ones ``shared_cells``
    serve more than one sequence, ``pinned_cells`` are those of pinned prefixes. ``kept_cells`` are of
    nobody who runs, and leave when room is needed; of texts that left, ``parked_tokens`` are saved
    outside the cache, and come back for those who begin with them. Since the model was opened:
    ``evictions`` (times that cells left for want of room), ``pauses``, ``reused_tokens`` (of prompts,
    computed before), ``drafted_tokens`` (guessed ahead of answers), ``accepted_tokens`` (those of them that
    were right), ``computed_tokens``, ``steps``, and how long these took: ``busy_microseconds``, of them
    ``computing_microseconds`` inside the model; the difference is what scheduling and sampling cost.
    ``threads``: of the last step. ``draft_error``: why the draft model failed, and guesses no more; "" while
    it works, and where there is none.
    """

    _fields = (
        "running",
        "waiting",
        "paused",
        "cells",
        "used_cells",
        "shared_cells",
        "pinned_cells",
        "free_cells",
        "kept_cells",
        "parked_tokens",
        "evictions",
        "pauses",
        "reused_tokens",
        "drafted_tokens",
        "accepted_tokens",
        "computed_tokens",
        "steps",
        "busy_microseconds",
        "computing_microseconds",
        "threads",
        "draft_error",
    )
    __slots__ = _fields

    running: int
    waiting: int
    paused: int
    cells: int
    used_cells: int
    shared_cells: int
    pinned_cells: int
    free_cells: int
    kept_cells: int
    parked_tokens: int
    evictions: int
    pauses: int
    reused_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    computed_tokens: int
    steps: int
    busy_microseconds: int
    computing_microseconds: int
    threads: int
    draft_error: str

    def __init__(self, *values: int | str) -> None:
        for name, value in zip(self._fields, values, strict=True):
            setattr(self, name, value)


for _public in (Usage, Timings, Completion, ToolCall, TokenLogprob, ModelInfo, ModelStats):
    _public.__module__ = "syncyte"
