"""Answers within a conversation, awaited by asyncio tasks."""

from typing import TYPE_CHECKING

from syncyte._async_model import AsyncStream

if TYPE_CHECKING:
    from types import TracebackType

    from syncyte import _core
    from syncyte._completion import Completion
    from syncyte._model import Reader
    from syncyte._session import Session, _Question


class AsyncSessionStream:
    """The pieces of an answer within a conversation, for ``async for``. As SessionStream otherwise.

    Cancelling the task that iterates ends the answer with what has come by then; so does aclose(). If it
    fails, nothing was said.
    """

    __slots__ = ("_asked", "_parts", "_session", "_stream")

    def __init__(
        self, session: Session, asked: _Question, request: _core.Request, read: Reader | None
    ) -> None:
        self._session: Session | None = session
        self._asked = asked
        self._stream = AsyncStream(session._model, request, read)
        self._parts: list[str] = []

    def __aiter__(self) -> AsyncSessionStream:
        return self

    async def __anext__(self) -> str:
        try:
            piece = await anext(self._stream)
        except StopAsyncIteration:
            if self._session is not None:
                self._session._keep(self._asked, self._stream.completion, "".join(self._parts))
                self._session = None
            raise
        except ValueError:
            raise  # another task is waiting, and goes on
        except Exception:
            self._session = None
            raise
        except BaseException:
            self._cut_off()
            raise
        self._parts.append(piece)
        return piece

    @property
    def completion(self) -> Completion:
        """The whole answer. ValueError while the iteration has not ended, and after aclose()."""
        return self._stream.completion

    async def aclose(self) -> None:
        """Cancels what has not come yet."""
        await self._stream.aclose()
        self._cut_off()

    def _cut_off(self) -> None:
        if self._parts and self._session is not None:
            self._session._keep_cut(self._asked, "".join(self._parts))
        self._session = None

    async def __aenter__(self) -> AsyncSessionStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


AsyncSessionStream.__module__ = "syncyte"
