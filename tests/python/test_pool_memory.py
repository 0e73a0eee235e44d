"""memory_limit: a task that takes too much gets MemoryError; what workers hold is counted."""

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

import pool_tasks
import syncyte

MEGABYTE = 1 << 20


def take_bytes(size: int) -> int:
    return len(bytes(size))


def take_small(count: int) -> int:
    return len([[n] for n in range(count)])


def take_all_that_there_is(step: int) -> int:
    kept = []
    while True:
        kept.append(bytearray(step))


def take_in_a_thread(size: int) -> str:
    import threading

    found = []

    def take() -> None:
        try:
            bytes(size)
        except MemoryError:
            found.append("MemoryError")

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return found[0]


def keep(size: int) -> None:
    global kept
    kept = bytes(size)


@pytest.mark.parametrize(
    ("task", "argument"),
    [(take_bytes, 500 * MEGABYTE), (take_small, 4_000_000), (take_all_that_there_is, 100_000)],
)
def test_a_task_that_takes_too_much_fails(task: Callable[[int], int], argument: int) -> None:
    with syncyte.InterpreterPool(2, memory_limit=160 * MEGABYTE) as pool:
        for _ in range(3):
            with pytest.raises(MemoryError):
                pool.submit(task, argument).result(60)
            assert pool.submit(take_bytes, 20 * MEGABYTE).result(60) == 20 * MEGABYTE
        with pytest.raises(MemoryError):
            list(pool.map(task, [argument] * 3))
        deadline = time.monotonic() + 30
        while sum(entry["recycles"] for entry in pool.stats()) < 4:
            assert time.monotonic() < deadline, pool.stats()
            time.sleep(0.001)
        assert list(pool.map(abs, range(-100, 0))) == list(range(100, 0, -1))


def test_threads_of_a_task_are_held_to_it_too() -> None:
    with syncyte.InterpreterPool(1, warmup="import threading", memory_limit=64 * MEGABYTE) as pool:
        assert pool.submit(take_in_a_thread, 200 * MEGABYTE).result(60) == "MemoryError"


def test_what_a_task_kept_goes() -> None:
    with syncyte.InterpreterPool(1, memory_limit=300 * MEGABYTE) as pool:
        pool.submit(keep, 180 * MEGABYTE).result(60)
        with pytest.raises(MemoryError):
            pool.submit(keep, 180 * MEGABYTE).result(60)
        pool.submit(keep, 180 * MEGABYTE).result(60)  # recycled in between


def test_others_have_no_limit() -> None:
    with (
        syncyte.InterpreterPool(1, memory_limit=90 * MEGABYTE) as small,
        syncyte.InterpreterPool(1) as large,
    ):
        futures = [large.submit(take_bytes, 100 * MEGABYTE) for _ in range(3)]
        with pytest.raises(MemoryError):
            small.submit(take_bytes, 100 * MEGABYTE).result(60)
        assert [future.result(60) for future in futures] == [100 * MEGABYTE] * 3
        assert len(bytes(100 * MEGABYTE)) == 100 * MEGABYTE


def test_stats_tell_what_a_worker_holds() -> None:
    with syncyte.InterpreterPool(1, warmup="import json, re") as pool:
        pool.submit(abs, -1).result(60)
        before = pool.stats()[0]["memory"]
        assert MEGABYTE < before < 40 * MEGABYTE
        pool.submit(keep, 50 * MEGABYTE).result(60)
        assert 45 * MEGABYTE < pool.stats()[0]["memory"] - before < 55 * MEGABYTE
        pool.submit(keep, 0).result(60)
        assert pool.stats()[0]["memory"] - before < 5 * MEGABYTE
        assert pool.submit(pool_tasks.identity, 1).result(60) == 1


def test_wrong_limits() -> None:
    with pytest.raises(ValueError, match="memory_limit must be at least"):
        syncyte.InterpreterPool(1, memory_limit=1000)
    script = "import syncyte; syncyte.InterpreterPool(1, memory_limit=1 << 30)"
    found = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert "RuntimeError: memory_limit needs CPython's own allocator" in found.stderr
