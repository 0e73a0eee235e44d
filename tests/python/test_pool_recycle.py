"""recycle_after: a worker's interpreter goes back to its warm state, and costs no memory each time."""

import gc
import os
import sys
import threading
import time
from pathlib import Path

import pytest

import pool_tasks
import syncyte


def private_bytes() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Private_Dirty")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "warm_part.py").write_text("value = 1\nitems = []\n")
    (tmp_path / "late_part.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("package")
def test_modules_and_main_are_reset() -> None:
    def dirty() -> int:
        import builtins
        import sys
        import warnings

        import late_part  # type: ignore[import-not-found]
        import warm_part  # type: ignore[import-not-found]

        global left
        left = warm_part.value + late_part.value
        warm_part.value += 1
        late_part.value += 1
        warm_part.extra = 1
        builtins.extra = 1  # type: ignore[attr-defined]
        warnings.simplefilter("ignore")
        sys.path.insert(0, "/nowhere")
        sys.setrecursionlimit(5000)
        sys.stdout = None  # type: ignore[assignment]
        sys.excepthook = None  # type: ignore[assignment]
        return left

    def look() -> list[object]:
        import builtins
        import sys
        import warnings

        import warm_part

        return [
            "left" in vars(sys.modules["__main__"]),
            "late_part" in sys.modules,
            warm_part.value,
            hasattr(warm_part, "extra"),
            hasattr(builtins, "extra"),
            ("ignore", None, Warning, None, 0) in warnings.filters,
            "/nowhere" in sys.path,
            sys.getrecursionlimit() == 5000,
            sys.stdout is None or sys.excepthook is None,
        ]

    with syncyte.InterpreterPool(1, warmup="import json, warm_part, warnings", recycle_after=1) as pool:
        assert [pool.submit(dirty).result(60) for _ in range(3)] == [2, 2, 2]
        assert pool.submit(look).result(60) == [False, False, 1, *[False] * 6]
        interpreters = {entry["interpreter_id"] for entry in pool.stats()}
        pool.submit(look).result(60)
        assert {entry["interpreter_id"] for entry in pool.stats()} == interpreters
    with syncyte.InterpreterPool(1, warmup="import json, warm_part") as pool:
        assert [pool.submit(dirty).result(60) for _ in range(3)] == [2, 4, 6]


def test_the_initializer_runs_again() -> None:
    runs: syncyte.Queue[str] = syncyte.Queue()
    with syncyte.InterpreterPool(
        1, initializer=pool_tasks.set_status, initargs=("ready",), recycle_after=2
    ) as pool:
        for _ in range(6):
            assert pool.submit(pool_tasks.get_status).result(60) == "ready"
            pool.submit(pool_tasks.set_status, "used").result(60)
        deadline = time.monotonic() + 30
        while pool.stats()[0]["recycles"] != 6:
            assert time.monotonic() < deadline, pool.stats()
            time.sleep(0.001)
    with syncyte.InterpreterPool(1, initializer=runs.put, initargs=("once more",), recycle_after=10) as pool:
        assert list(pool.map(abs, range(35))) == list(range(35))
        assert list(pool.map(abs, range(25), chunksize=5)) == list(range(25))
    assert runs.qsize() == 1 + 6


def submit_many(pool: syncyte.InterpreterPool) -> None:
    for _ in range(10_000):
        pool.submit(abs, -1).result(60)


def test_an_initializer_that_fails_later_breaks_the_pool() -> None:
    budget: syncyte.Queue[int] = syncyte.Queue()
    budget.put(1)
    with syncyte.InterpreterPool(1, initializer=budget.get_nowait, warmup=None, recycle_after=1) as pool:
        assert pool.submit(abs, -1).result(60) == 1
        with pytest.raises(RuntimeError, match="could not start"):
            submit_many(pool)


def test_threads_that_tasks_left_are_ended() -> None:
    told: syncyte.Queue[str] = syncyte.Queue()

    def leave_thread() -> None:
        import threading
        import time

        def run() -> None:
            try:
                while True:
                    time.sleep(0.01)
            finally:
                told.put("ended")

        threading.Thread(target=run).start()

    with syncyte.InterpreterPool(1, warmup="import threading", recycle_after=1) as pool:
        pool.submit(leave_thread).result(60)
        assert told.get(timeout=30) == "ended"
    with syncyte.InterpreterPool(1, warmup=None) as pool:
        pool.submit(leave_thread).result(60)
    assert told.get(timeout=30) == "ended"


@pytest.mark.usefixtures("package")
@pytest.mark.memory
def test_a_thousand_recycles_keep_memory_flat() -> None:
    def use() -> int:
        import late_part
        import warm_part

        global left
        left = [warm_part.value] * 1000
        warm_part.items = list(range(1000))
        return len(left) + late_part.value

    def recycle(pool: syncyte.InterpreterPool, times: int) -> None:
        before = sum(entry["recycles"] for entry in pool.stats())
        for _ in range(times // 20):
            assert {future.result(60) for future in [pool.submit(use) for _ in range(20)]} == {1001}
        deadline = time.monotonic() + 60
        while sum(entry["recycles"] for entry in pool.stats()) < before + times:
            assert time.monotonic() < deadline, pool.stats()
            time.sleep(0.001)

    with syncyte.InterpreterPool(2, warmup="import json, re, warm_part", recycle_after=1) as pool:
        recycle(pool, 100)
        for _ in range(3):  # the kernel and the allocator take memory in strides: a leak shows each time
            gc.collect()
            before, threads = private_bytes(), threading.active_count()
            memory = sum(entry["memory"] or 0 for entry in pool.stats())
            recycle(pool, 1000)
            gc.collect()
            grown = private_bytes() - before
            assert sum(entry["memory"] or 0 for entry in pool.stats()) - memory < 4 << 20
            assert threading.active_count() == threads
            if grown < 4 << 20:
                break
        assert grown < 4 << 20


def test_nested_tasks_do_not_recycle_their_waiter() -> None:
    with syncyte.InterpreterPool(1, warmup=None, recycle_after=1) as pool:
        assert pool.submit(pool_tasks.count_down, pool, 5).result(60) == 5
        assert pool.submit(pool_tasks.map_inside, pool, 20).result(60) == 190


def test_the_environment_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget() -> str | None:
        import os

        os.environ._data.clear()  # type: ignore[attr-defined]
        return os.environ.get("SYNCYTE_TEST_SEEN")

    with syncyte.InterpreterPool(1, warmup=None, recycle_after=2) as pool:
        monkeypatch.setenv("SYNCYTE_TEST_SEEN", "yes")
        pool.submit(forget).result(60)
        pool.submit(forget).result(60)
        assert pool.submit(os.getenv, "SYNCYTE_TEST_SEEN").result(60) == "yes"


def test_wrong_counts() -> None:
    with pytest.raises(ValueError, match="recycle_after must be greater than 0"):
        syncyte.InterpreterPool(1, recycle_after=0)
    assert "syncyte._recycle" not in sys.modules
