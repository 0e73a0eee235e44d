"""Queues and channels awaited by asyncio tasks.

Each event loop has one port: an eventfd that becomes readable when any wait of any of its tasks is over. So a
put in another interpreter wakes the loop without attaching to this one, and a waiter costs no thread.
"""

import asyncio
import weakref
from typing import Any

from syncyte._core import AsyncWait, ChannelClosed, Port, Queue, Receiver, Sender
from syncyte._queue_errors import QueueShutDown


class _LoopPort:
    """The port of one event loop, and the futures of its tasks that wait. Kept alive by the loop's reader."""

    __slots__ = ("__weakref__", "port", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.port = Port()
        self.waiting: dict[int, asyncio.Future[None]] = {}
        loop.add_reader(self.port.fileno(), self.wake)

    def wake(self) -> None:
        """Wakes the tasks whose waits are over."""
        for token in self.port.drain():
            future = self.waiting.pop(token, None)
            if future is not None and not future.done():
                future.set_result(None)


# Futures refer to their loop, so a strong reference here would keep a loop with waiting tasks alive for ever.
_ports: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[_LoopPort]] = (
    weakref.WeakKeyDictionary()
)


def port_of(loop: asyncio.AbstractEventLoop) -> _LoopPort:
    """The port of an event loop, made at its first wait."""
    known = _ports.get(loop)
    loop_port = None if known is None else known()
    if loop_port is None:
        loop_port = _LoopPort(loop)
        _ports[loop] = weakref.ref(loop_port)
    return loop_port


async def _result(loop: asyncio.AbstractEventLoop, loop_port: _LoopPort, wait: AsyncWait) -> Any:
    if not wait.done:
        token = wait.token
        future: asyncio.Future[None] = loop.create_future()
        loop_port.waiting[token] = future
        try:
            await future
        except BaseException:
            loop_port.waiting.pop(token, None)
            wait.cancel()
            raise
    return wait.result()


async def aget(source: Queue[Any] | Receiver[Any]) -> Any:
    """Gets the next item of a queue or channel."""
    loop = asyncio.get_running_loop()
    loop_port = port_of(loop)
    return await _result(loop, loop_port, loop_port.port.begin_get(source))


async def aput(target: Queue[Any] | Sender[Any], item: object) -> None:
    """Puts an item into a queue or channel, waiting for room."""
    loop = asyncio.get_running_loop()
    loop_port = port_of(loop)
    await _result(loop, loop_port, loop_port.port.begin_put(target, item))


async def next_item(source: Queue[Any] | Receiver[Any]) -> Any:
    """Gets the next item for `async for`, which ends when the source is closed."""
    try:
        return await aget(source)
    except QueueShutDown, ChannelClosed:
        raise StopAsyncIteration from None
