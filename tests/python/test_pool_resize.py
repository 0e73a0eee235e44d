"""A pool changes its size while its tasks run."""

import random
import threading
import time

import pytest
from waiting import wait_until

import pool_tasks
import syncyte


def until(pool: syncyte.InterpreterPool, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(pool.stats()) != count or any(entry["state"] == "starting" for entry in pool.stats()):
        assert time.monotonic() < deadline, pool.stats()
        time.sleep(0.005)


def workers_of(pool: syncyte.InterpreterPool, count: int) -> set[int | None]:
    """Who runs so many tasks that wait for each other."""
    here: syncyte.Queue[None] = syncyte.Queue()
    futures = [pool.submit(pool_tasks.meet, here, count) for _ in range(count)]
    assert len({future.result(60) for future in futures}) == count
    return {future.worker for future in futures}


def test_up_and_down() -> None:
    with syncyte.InterpreterPool(1, warmup=None) as pool:
        pool.resize(4)
        pool.wait_ready(30)
        assert workers_of(pool, 4) == {0, 1, 2, 3}
        pool.resize(2)
        until(pool, 2)
        assert workers_of(pool, 2) == {0, 1}
        futures = [pool.submit(pool_tasks.nap, 0.05) for _ in range(6)]
        assert {future.worker for future in futures if future.result(30)} <= {0, 1}
        assert len(pool.broadcast(pool_tasks.interpreter)) == 2


def test_running_tasks_are_finished() -> None:
    with syncyte.InterpreterPool(3, warmup=None) as pool:
        pool.wait_ready(30)
        gate: syncyte.Queue[float] = syncyte.Queue()
        futures = [pool.submit(pool_tasks.hold, gate) for _ in range(3)]
        assert wait_until(lambda: all(future.running() for future in futures), 30)
        pool.resize(1)
        waiting = [pool.submit(pool_tasks.identity, n) for n in range(20)]
        gate.put_many([0.3] * 3)
        assert [future.result(30) for future in futures] == [0.3] * 3
        assert [future.result(30) for future in waiting] == list(range(20))
        until(pool, 1)


def test_a_place_that_is_wanted_again() -> None:
    with syncyte.InterpreterPool(2, warmup=None) as pool:
        pool.wait_ready(30)
        choice = random.Random(3)
        futures = []
        for _ in range(300):
            pool.resize(choice.randrange(1, 4))
            futures.append(pool.submit(pool_tasks.identity, 1))
            if choice.random() < 0.1:
                futures.append(pool.submit(pool_tasks.spin, 0.002))
        assert all(future.result(60) for future in futures)
        pool.resize(2)
        until(pool, 2)


def test_resizing_from_threads_and_tasks() -> None:
    def shrink(pool: syncyte.InterpreterPool) -> None:
        pool.resize(1)

    with syncyte.InterpreterPool(2, warmup=None) as pool:
        threads = [threading.Thread(target=pool.resize, args=(count,)) for count in (1, 2, 3)]
        for thread in threads:
            thread.start()
        assert list(pool.map(abs, range(-1000, 0))) == list(range(1000, 0, -1))
        for thread in threads:
            thread.join()
        pool.submit(shrink, pool).result(60)
        until(pool, 1)


def test_wrong_sizes() -> None:
    with syncyte.InterpreterPool(1, warmup=None) as pool:
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            pool.resize(0)
        with pytest.raises(TypeError):
            pool.resize("2")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.resize(2)
