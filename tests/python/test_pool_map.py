"""map() takes items as they are needed under buffersize and max_pending, and hands them out in runs."""

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

import pool_tasks
import syncyte


@pytest.fixture(scope="module")
def pool() -> Iterator[syncyte.InterpreterPool]:
    with syncyte.InterpreterPool(2, warmup=None) as pool:
        pool.wait_ready(30)
        yield pool


class Counted:
    """An endless iterator that knows how many items were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Counted:
        return self

    def __next__(self) -> int:
        self.taken += 1
        return self.taken


@pytest.mark.parametrize("buffersize", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize("chunksize", [None, 1, 5])
def test_no_more_items_are_taken_than_asked_for(
    pool: syncyte.InterpreterPool, buffersize: int, chunksize: int | None
) -> None:
    items = Counted()
    results = pool.map(abs, items, buffersize=buffersize, chunksize=chunksize)
    assert items.taken <= buffersize
    for n in range(1, 300):
        assert next(results) == n
        assert n <= items.taken <= n + buffersize
    results.close()  # type: ignore[attr-defined]


def test_small_buffers_are_exact(pool: syncyte.InterpreterPool) -> None:
    items = Counted()
    results = pool.map(abs, items, buffersize=3)
    assert items.taken == 3
    for n in range(1, 20):
        assert next(results) == n
        assert items.taken == 3 + n


def test_runs_get_longer_where_calls_are_short(pool: syncyte.InterpreterPool) -> None:
    before = sum(entry["tasks"] for entry in pool.stats())
    assert list(pool.map(abs, range(20_000), buffersize=10_000)) == list(range(20_000))
    deadline = time.monotonic() + 30
    while sum(entry["tasks"] for entry in pool.stats()) - before < 20_000:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_under_max_pending() -> None:
    with syncyte.InterpreterPool(2, warmup=None, max_pending=2) as pool:
        items = Counted()
        results = pool.map(abs, items)
        assert items.taken <= 4
        assert list(itertools.islice(results, 10_000)) == list(range(1, 10_001))
        results.close()  # type: ignore[attr-defined]
        assert list(pool.map(pow, range(100), itertools.repeat(2))) == [n**2 for n in range(100)]
        assert list(pool.map(abs, [])) == []
        here: syncyte.Queue[None] = syncyte.Queue()
        assert len(set(pool.map(pool_tasks.meet, [here] * 2, [2] * 2))) == 2  # side by side
        assert pool.submit(abs, -1).result(30) == 1


def test_failures_come_in_their_place(pool: syncyte.InterpreterPool) -> None:
    results = pool.map(divmod, [1, 1, 1], [2, 0, 3], buffersize=2)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)
    lock = threading.Lock()
    results = pool.map(pool_tasks.identity, [1, lock, 2], buffersize=1)
    assert next(results) == 1
    with pytest.raises(TypeError, match="cannot pickle"):
        next(results)
    with pytest.raises(TimeoutError):
        list(pool.map(pool_tasks.nap, [0.5] * 4, timeout=0.1, buffersize=2))


def test_results_that_nobody_takes_are_not_made(pool: syncyte.InterpreterPool) -> None:
    items = Counted()
    results = pool.map(abs, items, buffersize=4)
    next(results)
    del results
    taken = items.taken
    assert pool.submit(abs, -1).result(30) == 1
    assert items.taken == taken


def test_wrong_arguments(pool: syncyte.InterpreterPool) -> None:
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        pool.map(abs, [1], chunksize=0)
    with pytest.raises(ValueError, match="buffersize must be None or > 0"):
        pool.map(abs, [1], buffersize=0)
    with pytest.raises(TypeError, match="buffersize must be an integer or None"):
        pool.map(abs, [1], buffersize=1.5)  # type: ignore[arg-type]
