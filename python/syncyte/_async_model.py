"""Generations awaited by asyncio tasks: woken through the loop's one eventfd, no thread waits for them."""

import asyncio
from typing import TYPE_CHECKING

from syncyte._aio import port_of
from syncyte._model import completion_of

if TYPE_CHECKING:
    from types import TracebackType

    from syncyte import _core
    from syncyte._completion import Completion
    from syncyte._model import Model, Reader


async def _ready(request: _core.Request, *, finished: bool) -> None:
    """Waits until next(), or finish(), of the request does not wait any more."""
    loop = asyncio.get_running_loop()
    loop_port = port_of(loop)
    token = request.watch(loop_port.port, finished)
    if token is None:
        return
    future: asyncio.Future[None] = loop.create_future()
    loop_port.waiting[token] = future
    try:
        await future
    except BaseException:
        loop_port.waiting.pop(token, None)
        request.unwatch(loop_port.port, token)
        raise


async def settled(request: _core.Request) -> None:
    """Waits until finish() does not wait any more. Cancelling the task cancels the request."""
    try:
        await _ready(request, finished=True)
    except BaseException:
        request.cancel()
        raise


async def finished(request: _core.Request, read: Reader | None = None) -> Completion:
    """The whole answer. Cancelling the task cancels the request."""
    await settled(request)
    return completion_of(request, *request.finish(), read)


class AsyncStream:
    """The pieces of a text that is being generated, for ``async for`` in one task. As Stream otherwise.

    Cancelling the task that iterates cancels what has not come yet; so does aclose(), and dropping it.
    """

    __slots__ = ("_completion", "_model", "_read", "_request", "_text", "_tokens")

    def __init__(self, model: Model, request: _core.Request, read: Reader | None = None) -> None:
        self._model = model  # open as long as this
        self._request: _core.Request | None = request
        self._read = read
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._completion: Completion | None = None

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> str:
        while (request := self._request) is not None:
            try:
                await _ready(request, finished=False)
            except ValueError:
                raise  # another task is waiting, and goes on
            except BaseException:
                self._give_up()
                raise
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
        raise StopAsyncIteration

    @property
    def completion(self) -> Completion:
        """The whole answer. ValueError while the iteration has not ended, and after aclose()."""
        if self._completion is None:
            raise ValueError("the stream has not ended" if self._request else "the stream was closed")
        return self._completion

    async def aclose(self) -> None:
        """Cancels what has not come yet."""
        self._give_up()

    def _give_up(self) -> None:
        if self._request is not None:
            self._request.cancel()
            self._request = None

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_up()


AsyncStream.__module__ = "syncyte"
