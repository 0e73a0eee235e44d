"""Tasks past their limit, or cancelled while they run, are really interrupted; stuck workers are replaced."""

import concurrent.futures
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_until

import pool_tasks
import syncyte


@pytest.fixture
def pool() -> Iterator[syncyte.InterpreterPool]:
    with syncyte.InterpreterPool(2, warmup=None) as pool:
        pool.wait_ready(30)
        yield pool


def until_free(pool: syncyte.InterpreterPool) -> None:
    deadline = time.monotonic() + 20
    while any(entry["state"] == "busy" for entry in pool.stats()):
        assert time.monotonic() < deadline, pool.stats()
        time.sleep(0.01)


def restarts_of(pool: syncyte.InterpreterPool) -> list[int]:
    return [entry["restarts"] for entry in pool.stats()]


def test_a_task_past_its_timeout_is_interrupted(pool: syncyte.InterpreterPool) -> None:
    for _ in range(10):
        start, restarts = time.monotonic(), restarts_of(pool)
        futures = [pool.options(timeout=0.2).submit(pool_tasks.spin_stubbornly) for _ in range(2)]
        for future in futures:
            with pytest.raises(TimeoutError, match="too long"):
                future.result(30)
        assert time.monotonic() - start >= 0.2
        until_free(pool)
        if restarts_of(pool) == restarts:
            break
    else:  # one that got no core for a while may have been taken for stuck, but not all
        pytest.fail(f"workers were replaced: {pool.stats()}")
    assert pool.submit(pool_tasks.identity, 1).result(30) == 1
    assert pool.options(timeout=5).submit(pool_tasks.identity, 2).result(30) == 2


def test_a_running_task_can_be_cancelled(pool: syncyte.InterpreterPool) -> None:
    future = pool.submit(pool_tasks.spin_stubbornly)
    assert wait_until(future.running, 30)
    called: list[object] = []
    future.add_done_callback(called.append)
    assert future.cancel()
    assert called == [future]
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    until_free(pool)
    assert pool.submit(pool_tasks.identity, 1).result(30) == 1


def test_clean_up_of_an_interrupted_task_runs(pool: syncyte.InterpreterPool) -> None:
    told: syncyte.Queue[str] = syncyte.Queue()
    future = pool.submit(pool_tasks.spin_and_tell, told)
    assert told.get(timeout=30) == "started"
    future.cancel()
    assert told.get(timeout=30) == "cleaned up"


def test_a_wait_of_ours_is_interrupted(pool: syncyte.InterpreterPool) -> None:
    empty: syncyte.Queue[int] = syncyte.Queue()
    for _ in range(10):
        restarts = restarts_of(pool)
        with pytest.raises(TimeoutError, match="too long"):
            pool.options(timeout=0.1).submit(empty.get).result(30)
        until_free(pool)
        if restarts_of(pool) == restarts:
            break
    else:
        pytest.fail(f"workers were replaced: {pool.stats()}")


@pytest.mark.parametrize("deadline", [float("inf"), float("nan"), 1e10, 1e300])
def test_a_deadline_that_never_comes_is_none(pool: syncyte.InterpreterPool, deadline: float) -> None:
    assert pool.options(deadline=deadline).submit(pool_tasks.identity, 5).result(30) == 5


@pytest.mark.parametrize("deadline", [0.0, -5.0])
def test_a_deadline_that_has_passed_ends_the_task(pool: syncyte.InterpreterPool, deadline: float) -> None:
    with pytest.raises(TimeoutError):
        pool.options(deadline=deadline).submit(time.sleep, 20).result(30)


def test_a_limit_keeps_no_results(pool: syncyte.InterpreterPool) -> None:
    limited = pool.options(timeout=3600)
    megabytes = 10_000_000
    before = resident()
    for _ in range(60):
        assert len(limited.submit(bytes, megabytes).result(30)) == megabytes
    assert resident() - before < 30 * megabytes


def resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_deadline_counts_the_waiting_too() -> None:
    with syncyte.InterpreterPool(1, warmup=None) as pool:
        gate: syncyte.Queue[None] = syncyte.Queue()
        first = pool.submit(pool_tasks.hold, gate)
        late = pool.options(deadline=time.monotonic() + 0.1).submit(pool_tasks.identity, 1)
        with pytest.raises(TimeoutError, match="too long"):
            late.result(30)
        assert not first.done()
        gate.put(None)
        first.result(30)


def test_a_worker_stuck_in_a_call_is_replaced_and_comes_home() -> None:
    read_end, write_end = os.pipe()
    sizes = itertools.chain(range(8, 40), itertools.repeat(40))

    def is_home() -> bool:
        # Who came home last goes out first: each time one more, to find who came home meanwhile.
        with syncyte.InterpreterPool(next(sizes), warmup=None) as pool:
            pool.wait_ready(30)
            return first in {entry["interpreter_id"] for entry in pool.stats()}

    try:
        with syncyte.InterpreterPool(1, warmup=None) as pool:
            first = pool.submit(pool_tasks.interpreter).result(30)
            with pytest.raises(TimeoutError):
                pool.options(timeout=0.1).submit(os.read, read_end, 1).result(30)
            assert pool.submit(pool_tasks.interpreter).result(30) != first
            assert pool.stats()[0]["restarts"] == 1
            os.write(write_end, b"x")  # only now does the call end
        assert wait_until(is_home, 30)
    finally:
        os.close(read_end)
        os.close(write_end)


def test_the_next_task_does_not_feel_an_interruption(pool: syncyte.InterpreterPool) -> None:
    for turn in range(50):
        future = pool.options(timeout=0.002).submit(pool_tasks.spin, 0.0015 + turn % 5 * 0.00025)
        with pytest.raises((TimeoutError, AssertionError)):
            assert future.result(30) < 0
        assert pool.submit(pool_tasks.identity, turn).result(30) == turn
    until_free(pool)


def test_wrong_limits(pool: syncyte.InterpreterPool) -> None:
    with pytest.raises(ValueError, match="timeout must be greater than 0"):
        pool.options(timeout=0)
    with pytest.raises(TypeError):
        pool.options(timeout="1")  # type: ignore[arg-type]
