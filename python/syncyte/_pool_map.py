"""InterpreterPool.map: results in order, and items taken only as they are needed."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from syncyte import _core
from syncyte._outcome import rebuild

if TYPE_CHECKING:
    from syncyte._pool import InterpreterPool, PoolFuture

__all__ = ["results", "windowed"]

# Seconds that a worker should be busy with what it takes at a time.
_CLAIM = 200e-6
# Items that one run has at most.
_MOST = 4096


def results(started: _core.Map, end: float | None) -> Iterator[Any]:
    """Yield the results of a map, in order, until time.monotonic() is `end`."""
    try:
        while batch := started.take(None if end is None else max(0.0, end - time.monotonic())):
            if isinstance(batch, tuple):
                raise rebuild(batch)
            batch.reverse()
            while batch:
                yield batch.pop()
    finally:
        started.stop()


def windowed(
    pool: InterpreterPool,
    fn: Callable[..., Any],
    items: Iterator[tuple[Any, ...]],
    chunksize: int | None,
    buffersize: int | None,
    end: float | None,
) -> Iterator[Any]:
    """Begin a map that is never far ahead of who takes its results."""
    window = _Window(pool, fn, items, chunksize, buffersize)
    window.fill()
    return window.results(end)


class _Window:
    """The runs of items that are under way; each is one job of the pool."""

    def __init__(
        self,
        pool: InterpreterPool,
        fn: Callable[..., Any],
        items: Iterator[tuple[Any, ...]],
        chunksize: int | None,
        buffersize: int | None,
    ) -> None:
        self.pool = pool
        self.fn = fn
        self.items = items
        self.fixed = chunksize
        self.chunk = min(chunksize or 1, buffersize or _MOST)
        self.left = buffersize  # items that may still be taken; None: any number
        self.most = buffersize
        # As many runs as keep all workers busy while the first of them are handed out.
        workers = pool._core.size
        self.runs = min(2 * workers, workers + pool._core.max_pending) if pool._core.max_pending else 1 << 30
        self.under_way: deque[tuple[_core.Map | PoolFuture, int]] = deque()
        self.exhausted = False

    def fill(self) -> None:
        """Start what the window has room for."""
        while not self.exhausted and len(self.under_way) < self.runs and self.left != 0:
            if self.left is not None and self.left < self.chunk and self.under_way:
                return  # whole runs, while there is something to go on with
            count = self.chunk if self.left is None else min(self.chunk, self.left)
            run = list(islice(self.items, count))
            if len(run) < count:
                self.exhausted = True
            if run:
                self.start(run)

    def start(self, run: list[tuple[Any, ...]]) -> None:
        if self.left is not None:
            self.left -= len(run)
        try:
            self.under_way.append((self.pool._map(self.fn, run, len(run), 1), len(run)))
        except RuntimeError:
            raise
        except Exception:
            # Something cannot travel as a message: call by call then, so that only that one fails.
            self.under_way.extend((self.pool.submit(self.fn, *args), 1) for args in run)

    def learn(self, cost: float) -> None:
        """Make the next runs as long as is worth handing over."""
        if self.fixed is not None or cost <= 0:
            return
        most = min(4 * self.chunk, _MOST)
        if self.most is not None:
            # All workers have something, and results keep coming.
            most = min(most, max(1, self.most // (4 * self.pool._core.size)))
        self.chunk = max(1, min(int(_CLAIM / cost), most))

    def results(self, end: float | None) -> Iterator[Any]:
        try:
            while self.under_way:
                run, count = self.under_way[0]
                for taken, value in enumerate(self.values(run, end), 1):
                    if self.left is not None:
                        self.left += 1
                    if taken == count:
                        self.under_way.popleft()
                    self.fill()
                    yield value
        finally:
            for run, _ in self.under_way:
                if isinstance(run, _core.Map):
                    run.stop()
                else:
                    run.cancel()

    def values(self, run: _core.Map | PoolFuture, end: float | None) -> Iterator[Any]:
        if isinstance(run, _core.Map):
            yield from results(run, end)
            self.learn(run.cost)
        else:
            yield run.result(None if end is None else max(0.0, end - time.monotonic()))
