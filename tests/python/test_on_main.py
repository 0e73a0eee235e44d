"""on_main: calls from interpreters that run in the main one."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from concurrent import interpreters
from typing import TYPE_CHECKING

import on_main_tasks as tasks
import pytest

import syncyte

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def pool() -> Iterator[syncyte.InterpreterPool]:
    with syncyte.InterpreterPool(3, warmup=None) as opened:
        yield opened


def test_runs_in_the_main_interpreter_with_its_globals(pool: syncyte.InterpreterPool) -> None:
    tasks.calls.clear()
    assert pool.submit(tasks.call, "where").result() == (True, False)
    assert sorted(pool.map(tasks.remember_from_here, range(5))) == [1, 2, 3, 4, 5]
    assert sorted(tasks.calls) == [0, 1, 2, 3, 4]
    assert pool.submit(tasks.count_here).result() == 0


def test_arguments_and_results_travel(pool: syncyte.InterpreterPool) -> None:
    assert pool.submit(tasks.call, "add_up", 1, 2, start=3).result() == 6
    assert pool.submit(syncyte.on_main, "math:hypot", 3, 4).result() == 5.0
    assert pool.submit(syncyte.on_main, "on_main_tasks:add_up", 1).result() == 1


def test_numpy_is_reachable(pool: syncyte.InterpreterPool) -> None:
    assert pool.submit(tasks.call, "numpy_sum", 1000).result() == 499_500.0
    buffer = syncyte.SharedBuffer(4096)
    assert pool.submit(tasks.call, "numpy_fill", buffer, 7).result() == 4096
    assert bytes(buffer) == b"\7" * 4096


def test_buffers_come_back_by_reference(pool: syncyte.InterpreterPool) -> None:
    buffer = pool.submit(tasks.call, "make_buffer", 64).result()
    assert bytes(buffer) == b"\5" * 64


def _await_text(path: Path, text: str, times: int = 1) -> None:
    end = time.monotonic() + 30
    while not path.exists() or path.read_text().count(text) < times:
        assert time.monotonic() < end, f"{text!r} was not written {times} times"
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["spin", "wait_for_a_message"])
def test_a_timeout_ends_what_the_task_does_in_the_main_interpreter(
    pool: syncyte.InterpreterPool, tmp_path: Path, name: str
) -> None:
    trace = tmp_path / "trace"
    more: list[object] = [syncyte.Queue[int]()] if name == "wait_for_a_message" else []
    for _ in range(20):  # one whose time is up before it starts leaves no trace
        limited = pool.options(timeout=0.5).submit(tasks.call, name, str(trace), *more)
        with pytest.raises(TimeoutError):
            limited.result(30)
        times = trace.read_text().count("started\n") if trace.exists() else 0
        if times > 0:
            break
    assert times > 0
    _await_text(trace, "cleaned up\n", times)
    cancelled = pool.submit(tasks.call, name, str(trace), *more)
    _await_text(trace, "started\n", times + 1)
    assert cancelled.cancel()
    _await_text(trace, "cleaned up\n", times + 1)
    # The same workers go on, and nobody is interrupted who came after.
    assert list(pool.map(tasks.call_many, [50] * 6)) == [sum(range(50)) + 50] * 6


def test_the_main_thread_may_be_busy_or_blocked(pool: syncyte.InterpreterPool) -> None:
    future = pool.submit(tasks.call_many, 200)
    end = time.monotonic() + 30
    while not future.done():  # bytecode: the main interpreter's lock changes hands
        assert time.monotonic() < end
    assert future.result() == sum(range(200)) + 200
    future = pool.submit(tasks.call_many, 200)
    time.sleep(0.2)  # a call that lets go of the lock
    assert future.result(30) == sum(range(200)) + 200
    queue: syncyte.Queue[int] = syncyte.Queue()
    future = pool.submit(tasks.call, "answer_later", queue)
    assert queue.get(timeout=30) == 1  # a wait of ours, for what the main interpreter is to put
    assert future.result(30) is None


def test_extension_modules_find_the_main_interpreter_when_they_take_the_gil_back(
    pool: syncyte.InterpreterPool,
) -> None:
    rounds = 10
    expected = rounds * 499_500 + rounds
    futures = [pool.submit(tasks.call, "numpy_with_gil_taken_back", rounds) for _ in range(9)]
    assert [future.result() for future in futures] == [expected] * 9


def test_lambdas_use_the_main_interpreters_globals(pool: syncyte.InterpreterPool) -> None:
    tasks.calls[:] = [1, 2, 3]
    assert pool.submit(tasks.with_a_lambda, 10).result() == 100 + 10 + 1 + 3


def test_exceptions_come_back_with_the_traceback_they_had(pool: syncyte.InterpreterPool) -> None:
    with pytest.raises(LookupError, match="not there") as caught:
        pool.submit(tasks.call, "fail", "not there").result()
    assert isinstance(caught.value.__cause__, interpreters.ExecutionFailed)
    assert "on_main_tasks.py" in str(caught.value.__cause__)
    with pytest.raises(syncyte.Error, match=r"on_main_tasks\.Unsendable: stays here"):
        pool.submit(tasks.call, "fail_unsendably").result()


def test_what_cannot_travel_is_named(pool: syncyte.InterpreterPool) -> None:
    with pytest.raises(TypeError, match=r"result of 'give_a_lock'.*'lock', cannot travel"):
        pool.submit(tasks.call, "give_a_lock").result()
    with pytest.raises(TypeError, match=r"result of 'numpy_array' cannot be rebuilt.*_multiarray_umath"):
        pool.submit(tasks.call, "numpy_array").result()
    # The interpreter and the main one go on.
    assert pool.submit(tasks.call, "add_up", 1).result() == 1


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ("no-colon", ValueError, "package.module:name"),
        ("math:", ValueError, "package.module:name"),
        ("math:no_such_thing", AttributeError, "no_such_thing"),
        ("no_such_module:f", ModuleNotFoundError, "no_such_module"),
        (42, TypeError, "int"),
    ],
)
def test_wrong_functions_are_refused(
    pool: syncyte.InterpreterPool, wrong: object, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        pool.submit(syncyte.on_main, wrong).result()


def test_in_the_main_interpreter_it_is_a_plain_call() -> None:
    marker = object()
    assert syncyte.on_main(lambda value: value, marker) is marker
    assert syncyte.on_main("math:sqrt", 4) == 2.0


def test_plain_interpreters_can_call_too() -> None:
    interpreter = interpreters.create()
    try:
        interpreter.exec(f"import sys; sys.path[:] = {sys.path!r}")
        assert interpreter.call(syncyte.on_main, "math:sqrt", 9) == 3.0
        interpreter.exec("import syncyte\ndef here(x): return x * 2\nassert syncyte.on_main(here, 4) == 8")
    finally:
        interpreter.close()


def test_many_calls_from_several_interpreters_at_once(pool: syncyte.InterpreterPool) -> None:
    times = 500
    expected = sum(range(times)) + times
    assert list(pool.map(tasks.call_many, [times] * 12)) == [expected] * 12


def test_a_script_that_imports_numpy_at_its_top(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import numpy as np
        import syncyte

        counted = {"calls": 0}

        def mean(size):
            counted["calls"] += 1
            return float(np.arange(size).mean())

        def task(size):
            return syncyte.on_main(mean, size)

        def direct(size):
            return np.arange(size)

        if __name__ == "__main__":
            with syncyte.InterpreterPool(2) as pool:
                print(list(pool.map(task, [3, 5, 7])), counted)
                try:
                    pool.submit(direct, 3).result()
                except ImportError as error:
                    print(error)
        """)
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stderr == ""
    first, second = ran.stdout.splitlines()
    assert first == "[1.0, 2.0, 3.0] {'calls': 3}"
    assert second.startswith("numpy cannot be imported in this interpreter: ")
    assert second.endswith("syncyte.on_main() calls functions in the main interpreter.")
    assert ran.returncode == 0


def test_ctrl_c_ends_a_program_whose_task_is_in_the_main_interpreter(tmp_path: Path) -> None:
    import signal

    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import syncyte

        def spin():
            print("spinning", flush=True)
            while True:
                pass

        def task():
            return syncyte.on_main(spin)

        if __name__ == "__main__":
            syncyte.InterpreterPool(1).submit(task).result()
        """)
    )
    running = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stdout.readline() == b"spinning\n"
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in said
    assert b"remaining" not in said
