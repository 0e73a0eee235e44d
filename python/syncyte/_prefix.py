"""Prefix: the beginning of prompts, computed once and kept."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from syncyte import _core


class Prefix:
    """The beginning of prompts to come, which the model has computed; made by Model.prefix().

    A pinned one stays in the KV cache until it is closed or dropped. ``tokens`` is its length,
    ``reused_tokens`` how many of them were there before.
    """

    __slots__ = ("_pinned", "_request", "reused_tokens", "tokens")

    def __init__(self, request: _core.Request, pinned: bool) -> None:
        _, _, outcome = request.finish()
        self.tokens: int = request.prompt_tokens
        self.reused_tokens: int = outcome[4]
        self._pinned = pinned
        self._request: _core.Request | None = request

    @property
    def pinned(self) -> bool:
        """Whether it stays whatever comes."""
        return self._pinned and self._request is not None

    def close(self) -> None:
        """Lets it go: from now on it leaves the cache when others need the room."""
        if self._request is not None:
            self._request.cancel()
            self._request = None

    def __enter__(self) -> Prefix:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "pinned" if self.pinned else "kept while there is room"
        return f"<syncyte.Prefix, {self.tokens} tokens, {state}>"


Prefix.__module__ = "syncyte"
