"""What tasks do to their interpreter and their process, and what becomes of it."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent import interpreters
from pathlib import Path

import pytest

import pool_tasks
import syncyte


@pytest.fixture
def pool() -> Iterator[syncyte.InterpreterPool]:
    with syncyte.InterpreterPool(2, warmup=None) as pool:
        pool.wait_ready(30)
        yield pool


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_endless_recursion_in_python_and_in_c(pool: syncyte.InterpreterPool) -> None:
    def nest() -> str:
        nested: list[object] = []
        for _ in range(100_000):
            nested = [nested]
        return repr(nested)

    def sort_within_sort(depth: int) -> int:
        return min([depth], key=sort_within_sort_key)

    def sort_within_sort_key(depth: int) -> int:
        return sort_within_sort(depth + 1)

    for task, *args in ((pool_tasks.recurse,), (nest,), (sort_within_sort, 0)):
        with pytest.raises(RecursionError):
            pool.submit(task, *args).result(60)
    assert list(pool.map(abs, range(-100, 0))) == list(range(100, 0, -1))


def test_recursion_without_a_limit_ends_at_the_memory_limit() -> None:
    def unlimited() -> None:
        import sys

        sys.setrecursionlimit(10**9)
        pool_tasks.recurse()

    with syncyte.InterpreterPool(1, memory_limit=64 << 20) as pool:
        with pytest.raises(MemoryError):
            pool.submit(unlimited).result(60)
        with pytest.raises(RecursionError):  # the limit is back
            pool.submit(pool_tasks.recurse).result(60)


def test_threads_that_a_task_leaves_do_not_keep_it() -> None:
    def leave_thread(told: syncyte.Queue[str]) -> str:
        import threading

        def run() -> None:
            told.put("running")
            while True:
                pass

        threading.Thread(target=run).start()
        return "returned"

    told: syncyte.Queue[str] = syncyte.Queue()
    start = time.monotonic()
    with syncyte.InterpreterPool(1, warmup=None) as pool:
        assert pool.submit(leave_thread, told).result(30) == "returned"
        assert told.get(timeout=30) == "running"
        assert pool.submit(abs, -1).result(30) == 1  # beside it
    assert time.monotonic() - start < 10  # its thread was ended with the pool


def test_a_program_ends_although_tasks_left_threads() -> None:
    found = run("""
        import syncyte
        def leave():
            import threading, time
            def run():
                while True:
                    time.sleep(0.01)
            threading.Thread(target=run).start()
        pool = syncyte.InterpreterPool(2, warmup=None)
        for _ in range(4):
            pool.submit(leave).result()
        """)
    assert (found.stdout, found.stderr, found.returncode) == ("", "", 0)


def test_errors_in_finalizers_are_shown_and_harm_nobody() -> None:
    found = run("""
        import syncyte
        def leave():
            class Broken:
                def __del__(self):
                    raise ValueError("in __del__")
            Broken()
            return 1
        with syncyte.InterpreterPool(1, warmup=None) as pool:
            print(pool.submit(leave).result(), pool.submit(leave).result())
        """)
    assert found.stdout == "1 1\n"
    assert found.stderr.count("ValueError: in __del__") == 2
    assert found.returncode == 0


def test_sys_path_is_the_pools_again_for_the_next_one() -> None:
    def spoil() -> None:
        import sys

        sys.path[:] = ["/nowhere"]
        sys.stdout = None  # type: ignore[assignment]
        sys.meta_path = []

    def look() -> tuple[bool, bool, int]:
        import sys

        return "/nowhere" in sys.path, sys.stdout is None, len(sys.meta_path)

    with syncyte.InterpreterPool(1, warmup=None) as pool:
        pool.submit(spoil).result(30)
        assert pool.submit(look).result(30) == (True, True, 0)  # until then the worker's tasks share it
    with syncyte.InterpreterPool(8, warmup=None) as pool:
        pool.wait_ready(30)
        found = [future.result(30) for future in pool.broadcast(look)]
    assert all(not spoilt and not silent and finders > 0 for spoilt, silent, finders in found)


def test_the_working_directory_is_the_processs(tmp_path: Path) -> None:
    found = run(f"""
        import os, syncyte
        with syncyte.InterpreterPool(2, warmup=None) as pool:
            pool.submit(os.chdir, {str(tmp_path)!r}).result()
            print(os.getcwd(), {{future.result() for future in pool.broadcast(os.getcwd)}})
        """)
    assert found.stdout == f"{tmp_path} {{{str(tmp_path)!r}}}\n"


def test_the_environment_is_the_processs_once_a_pool_starts() -> None:
    found = run("""
        import os, syncyte
        def put():
            import os
            os.environ["SYNCYTE_TASK"] = "here"
        with syncyte.InterpreterPool(1, warmup=None) as pool:
            pool.submit(put).result()
            print(os.environ.get("SYNCYTE_TASK"), pool.submit(os.getenv, "SYNCYTE_TASK").result())
            os.reload_environ()
            print(os.environ.get("SYNCYTE_TASK"))
        with syncyte.InterpreterPool(2, warmup=None) as pool:
            print({future.result() for future in pool.broadcast(os.getenv, "SYNCYTE_TASK")})
        """)
    assert found.stdout == "None here\nhere\n{'here'}\n"


def test_sys_exit_ends_a_task_and_os_exit_the_process() -> None:
    found = run("""
        import os, sys, syncyte
        with syncyte.InterpreterPool(1, warmup=None) as pool:
            try:
                pool.submit(sys.exit, 3).result()
            except SystemExit as error:
                print("exit", error.code, pool.submit(abs, -1).result(), flush=True)
            pool.submit(os._exit, 5).result()
        """)
    assert (found.stdout, found.stderr, found.returncode) == ("exit 3 1\n", "", 5)


def test_nobody_can_close_a_workers_interpreter(pool: syncyte.InterpreterPool) -> None:
    ours = {entry["interpreter_id"] for entry in pool.stats()}
    found = [interpreter for interpreter in interpreters.list_all() if interpreter.id in ours]
    assert len(found) == 2
    for interpreter in found:
        assert interpreter.is_running()
        with pytest.raises(interpreters.InterpreterError, match="running"):
            interpreter.close()
    assert {future.result(30) for future in pool.broadcast(pool_tasks.interpreter)} == ours


def test_closing_all_interpreters_by_hand_leaves_the_program_alive() -> None:
    found = run("""
        import syncyte
        from concurrent import interpreters
        mine = interpreters.create()
        def close_all():
            refused = 0
            for interpreter in interpreters.list_all():
                if interpreter != interpreters.get_main():
                    try:
                        interpreter.close()
                    except interpreters.InterpreterError:
                        refused += 1
            return refused
        with syncyte.InterpreterPool(2, warmup=None) as pool:
            pool.wait_ready()
            print(close_all(), pool.submit(abs, -1).result())
        print(close_all())
        with syncyte.InterpreterPool(2, warmup=None) as pool:
            print(pool.submit(abs, -2).result())
        """)
    assert (found.stdout, found.stderr, found.returncode) == ("2 1\n2\n2\n", "", 0)
