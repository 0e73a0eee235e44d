"""A conversation with a model: who said what, what still fits the context, and the figures so far."""

from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import syncyte

# What an answer gets when --max-tokens does not say, if the context is that large.
_ANSWER_TOKENS = 512


class Conversation:
    """The messages of a conversation and how to go on with it. Used by one thread."""

    def __init__(self, model: syncyte.Model, system: str | None, options: dict[str, Any]) -> None:
        self.model = model
        self.context_length: int = model.info.context_length
        self._options = {"max_tokens": max(1, min(_ANSWER_TOKENS, self.context_length // 3))} | options
        self._system = system
        self._messages: list[dict[str, str]] = []
        self._answers = 0
        self._tokens = 0
        self._seconds = 0.0
        self._first_piece: float | None = None
        self.reset()

    def reset(self) -> None:
        """Forgets all but the system message. The figures go on."""
        self._messages = [{"role": "system", "content": self._system}] if self._system is not None else []

    def say(self, text: str) -> int:
        """Adds what the user says; returns how many old messages no longer fit and were left out."""
        self._messages.append({"role": "user", "content": text})
        first = 1 if self._system is not None else 0
        left_out = 0
        room = self.context_length - self._options["max_tokens"]
        while len(self._messages) - first > 2 and self._size() > room:
            del self._messages[first : first + 2]
            left_out += 2
        return left_out

    def answer(self) -> Iterator[str]:
        """The pieces of the answer to the last thing said.

        What has come when the caller stops, or is interrupted, stays in the conversation. When it fails
        before the first piece, the question is taken back.
        """
        begin = monotonic()
        pieces: list[str] = []
        first = None
        stream = self.model.stream_chat(self._messages, **self._options)
        try:
            for piece in stream:
                if first is None:
                    first = monotonic() - begin
                pieces.append(piece)
                yield piece
        finally:
            stream.close()
            self._keep("".join(pieces), monotonic() - begin, first)

    def _keep(self, text: str, seconds: float, first_piece: float | None) -> None:
        if not text:
            self._messages.pop()
            return
        self._messages.append({"role": "assistant", "content": text})
        self._answers += 1
        self._tokens += len(self.model.tokenize(text, add_special=False))
        self._seconds += seconds
        self._first_piece = first_piece

    def figures(self) -> Iterator[tuple[str, str]]:
        """(what, how much) of the conversation so far."""
        size = self._size()
        yield "answers", f"{self._answers:,} with {self._tokens:,} tokens"
        if self._seconds:
            yield "speed", f"{self._tokens / self._seconds:,.1f} tokens/s"
        if self._first_piece is not None:
            yield "first words", f"after {self._first_piece * 1000:,.0f} ms in the last answer"
        yield "context", f"{size:,} of {self.context_length:,} tokens used ({len(self._messages)} messages)"

    def _size(self) -> int:
        """Tokens that the conversation takes of the context."""
        return len(self.model.chat_tokens(self._messages)) if self._messages else 0
