"""Features of the pool that meet: fallback, travelling pools, recycling, resizing, time limits."""

from pathlib import Path
from typing import Any

import pytest

import pool_tasks
import syncyte

_WAIT = 60


def ask_plain(pool: Any) -> list[int]:
    return [*pool.map(abs, [-1, -2]), pool.submit(pool_tasks.identity, 3).result()]


@pytest.fixture
def refused(built: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module whose functions cannot be imported in interpreters."""
    monkeypatch.syspath_prepend(str(built))
    import fallback_refused

    return fallback_refused


@pytest.mark.parametrize("fallback", ["main", "process"])
def test_a_travelling_pool_takes_its_fallback_along(refused: Any, fallback: Any) -> None:
    with syncyte.InterpreterPool(2, warmup=None, fallback=fallback) as pool:
        assert pool.submit(ask_plain, pool).result(_WAIT) == [1, 2, 3]
        assert pool.submit(refused.answer).result(_WAIT) == 42
        assert sum(pool.routed.values()) == 1


@pytest.mark.parametrize("fallback", ["main", "process"])
def test_recycling_with_a_fallback(refused: Any, fallback: Any) -> None:
    with syncyte.InterpreterPool(1, warmup=None, fallback=fallback, recycle_after=1) as pool:
        assert [pool.submit(refused.answer).result(_WAIT) for _ in range(3)] == [42] * 3
        assert pool.submit(abs, -1).result(_WAIT) == 1


def test_a_worker_that_is_stuck_while_the_pool_shrinks() -> None:
    with syncyte.InterpreterPool(2, warmup=None) as pool:
        pool.wait_ready(_WAIT)
        stuck = [pool.options(timeout=0.1).submit(pool_tasks.nap, 1.0) for _ in range(2)]
        for future in stuck:
            with pytest.raises(TimeoutError):
                future.result(_WAIT)
        pool.resize(1)
        assert [pool.submit(pool_tasks.identity, n).result(_WAIT) for n in range(5)] == list(range(5))
        pool.resize(3)
        pool.wait_ready(_WAIT)
        assert len({future.result(_WAIT) for future in pool.broadcast(pool_tasks.interpreter)}) == 3


def test_limits_reach_nested_tasks_in_recycled_workers() -> None:
    with syncyte.InterpreterPool(2, warmup=None, recycle_after=2) as pool:
        for turn in range(20):
            future = pool.options(timeout=0.05).submit(pool_tasks.spin_inside, pool, syncyte.Queue())
            with pytest.raises(TimeoutError):
                future.result(_WAIT)
            assert pool.submit(pool_tasks.count_down, pool, 3).result(_WAIT) == 3, turn
