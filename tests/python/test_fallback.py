"""Tasks that cannot begin in an interpreter run elsewhere: once, with the futures of any other task."""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Any

import fallback_tasks as tasks
import pytest

import syncyte

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_KINDS = ["process", "main"]
_WAIT = 60.0


# Child processes of other tests.
_others: set[int] = set()


@pytest.fixture(autouse=True)
def _begin() -> None:
    _others.clear()
    _others.update(_children())


@pytest.fixture
def refused(built: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module whose functions cannot be imported in interpreters; no_slot is what refuses."""
    monkeypatch.syspath_prepend(str(built))
    import fallback_refused

    return fallback_refused


@pytest.fixture(params=_KINDS)
def pool(request: pytest.FixtureRequest, refused: Any) -> Iterator[syncyte.InterpreterPool]:
    with syncyte.InterpreterPool(2, warmup=None, fallback=request.param) as opened:
        opened.kind = request.param  # type: ignore[attr-defined]
        opened.refused = refused  # type: ignore[attr-defined]
        yield opened
    assert _children() == set()


def _children() -> set[int]:
    """Child processes of this one that the test has brought."""
    found = set()
    for task in os.listdir("/proc/self/task"):  # noqa: PTH208
        try:
            with open(f"/proc/self/task/{task}/children") as file:  # noqa: PTH123
                found |= {int(pid) for pid in file.read().split()}
        except FileNotFoundError:
            continue
    return found - _others


def _wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + _WAIT
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def _is_elsewhere(pool: Any, place: tuple[int, int]) -> bool:
    process, interpreter = place
    return interpreter == 0 and (process == os.getpid()) == (pool.kind == "main")


def test_a_refused_function_runs_elsewhere_and_others_do_not(pool: Any, refused: Any) -> None:
    assert pool.submit(refused.answer).result(_WAIT) == 42
    assert _is_elsewhere(pool, pool.submit(refused.where).result(_WAIT))
    process, interpreter = pool.submit(tasks.where).result(_WAIT)
    assert process == os.getpid()
    assert interpreter != 0
    assert pool.routed == {"no_slot": 2}
    assert sum(entry["routed"] for entry in pool.stats()) == 2


def test_a_note_says_once_what_refused(pool: Any, refused: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "syncyte"):
        for _ in range(3):
            pool.submit(refused.answer).result(_WAIT)
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("no_slot cannot be in the interpreters of a pool")
    assert "does not support loading in subinterpreters" in text
    assert ("child process" in text) == (pool.kind == "process")


def test_bodies_begin_once(pool: Any, refused: Any, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    places = [pool.submit(refused.where, str(counter)).result(_WAIT) for _ in range(5)]
    assert all(_is_elsewhere(pool, place) for place in places)
    assert counter.read_text() == "xxxxx"


def test_what_refuses_in_the_middle_is_not_run_again(pool: Any, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    with pytest.raises(ImportError, match="no_slot does not support loading") as caught:
        pool.submit(tasks.count_and_import, str(counter)).result(_WAIT)
    assert counter.read_text() == "x"
    (note,) = caught.value.__notes__
    assert "did not run it again" in note
    assert "requires=['no_slot']" in note
    assert pool.submit(tasks.count_and_do_without, str(counter)).result(_WAIT) == "without"
    assert counter.read_text() == "xx"
    assert pool.routed == {}


def test_functions_by_code_that_use_a_refused_module(pool: Any, refused: Any) -> None:
    import no_slot  # type: ignore[import-not-found]

    space: dict[str, Any] = {"__name__": "__main__", "no_slot": no_slot}
    exec("def helper(x):\n    return x + no_slot.answer\n\ndef task(x):\n    return helper(x)\n", space)
    assert pool.submit(space["task"], 1).result(_WAIT) == 43
    # What was shipped before is remembered with what stands in for a module.
    exec("def other(x):\n    return helper(x) + 1\n", space)
    assert pool.submit(space["other"], 1).result(_WAIT) == 44
    assert pool.submit(lambda: no_slot.answer).result(_WAIT) == 42
    fn = refused.answer
    assert pool.submit(lambda: fn() + 1).result(_WAIT) == 43
    assert pool.submit(lambda x: x + 1, 1).result(_WAIT) == 2
    assert sum(pool.routed.values()) == 4


def test_arguments_that_cannot_be_loaded(pool: Any, refused: Any) -> None:
    with pytest.raises(refused.RefusedError, match="carried"):
        raise pool.submit(tasks.plain, refused.RefusedError("carried")).result(_WAIT)
    assert pool.submit(tasks.plain, value={"a": [1, 2]}).result(_WAIT) == {"a": [1, 2]}
    assert pool.routed == {"no_slot": 1}
    found = pool.submit(refused.echo, 1, [2], a={"b": None}).result(_WAIT)
    assert found == ((1, [2]), {"a": {"b": None}})
    assert pool.submit(refused.call, lambda x: x + 1, 1).result(_WAIT) == 2


def test_a_function_whose_arguments_are_refused_again_and_again_is_not_tried(refused: Any) -> None:
    with syncyte.InterpreterPool(1, warmup=None, fallback="main") as pool:
        assert pool.submit(tasks.where_with, None).result(_WAIT)[1] != 0
        for _ in range(2):
            assert pool.submit(tasks.where_with, refused.RefusedError()).result(_WAIT)[1] == 0
        assert pool.submit(tasks.where_with, [None]).result(_WAIT)[1] != 0
        for _ in range(3):
            assert pool.submit(tasks.where_with, refused.RefusedError()).result(_WAIT)[1] == 0
        assert pool.submit(tasks.where_with, [None]).result(_WAIT)[1] == 0
        assert pool.submit(tasks.where).result(_WAIT)[1] != 0


def test_map(pool: Any, refused: Any) -> None:
    assert list(pool.map(refused.echo, range(20))) == [((number,), {}) for number in range(20)]
    assert list(pool.map(refused.echo, [[1], {}], chunksize=2)) == [(([1],), {}), (({},), {})]
    assert list(pool.map(tasks.plain, range(100))) == list(range(100))
    assert list(pool.map(refused.echo, range(3), buffersize=1)) == [((number,), {}) for number in range(3)]
    with pytest.raises(LookupError, match="as told"):
        list(pool.map(refused.fail, ["lookup"]))
    assert pool.routed == {"no_slot": 26}


def test_exceptions_come_as_from_any_task(pool: Any, refused: Any) -> None:
    for kind, error in (
        ("lookup", LookupError),
        ("own", refused.RefusedError),
        ("exit", SystemExit),
        ("interrupt", KeyboardInterrupt),
    ):
        with pytest.raises(error, match="as told") as caught:
            pool.submit(refused.fail, kind).result(_WAIT)
        assert "fallback_refused.py" in str(caught.value.__cause__)
        assert "raise {" in str(caught.value.__cause__)
    with pytest.raises(Exception, match="lock"):
        pool.submit(refused.give_a_lock).result(_WAIT)
    assert pool.submit(refused.answer).result(_WAIT) == 42


def test_a_missing_module_is_not_a_refusal(
    pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here_only.py").write_text("def task(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import here_only  # type: ignore[import-not-found]

    # The workers' path was taken when the pool was opened.
    with pytest.raises(ModuleNotFoundError, match="here_only"):
        pool.submit(here_only.task).result(_WAIT)
    assert pool.routed == {}


def test_running_tasks_are_interrupted(pool: Any, refused: Any, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for future in pool.broadcast(refused.answer):  # children take their time to start
        future.result(_WAIT)
    late = pool.options(timeout=1.0).submit(refused.spin, str(trace))
    with pytest.raises(TimeoutError):
        late.result(_WAIT)
    _wait_for(lambda: trace.read_text().endswith("cleaned up\n"), "the task was not interrupted")
    again = pool.submit(refused.spin, str(trace))
    _wait_for(lambda: trace.read_text().count("\n") == 3, "the second task did not start")
    assert again.cancel()
    assert again.cancelled()
    _wait_for(lambda: trace.read_text().count("cleaned up\n") == 2, "the second task was not interrupted")
    assert pool.submit(refused.answer).result(_WAIT) == 42


def test_waiting_tasks_are_cancelled_and_go_by_priority(refused: Any, tmp_path: Path) -> None:
    for kind in _KINDS:
        gate = tmp_path / kind
        with syncyte.InterpreterPool(1, warmup=None, fallback=kind) as pool:
            first = pool.submit(refused.wait_for_file, str(gate))
            _wait_for(first.running, "the first task does not run")
            ended: list[int] = []
            futures = []
            for priority in (0, 2, 1):
                future = pool.options(priority=priority).submit(refused.echo, priority)
                future.add_done_callback(lambda done, to=ended: to.append(done.result()[0][0]))
                futures.append(future)
            dropped = pool.submit(refused.echo, 9)
            assert dropped.cancel()
            gate.touch()
            concurrent.futures.wait(futures, _WAIT)
            _wait_for(lambda found=ended: len(found) == 3, "callbacks were not called")
            assert ended == [2, 1, 0]


def test_a_child_that_dies_costs_one_task(refused: Any) -> None:
    with syncyte.InterpreterPool(1, warmup=None, fallback="process") as pool:
        process, _ = pool.submit(refused.where).result(_WAIT)
        assert pool.submit(refused.where).result(_WAIT)[0] == process
        with pytest.raises(BrokenExecutor, match="exit status 3"):
            pool.submit(refused.die, 3).result(_WAIT)
        assert pool.submit(refused.where).result(_WAIT)[0] != process
        os.kill(pool.submit(refused.where).result(_WAIT)[0], 9)
        time.sleep(0.2)
        with pytest.raises(BrokenExecutor, match="SIGKILL"):
            pool.submit(refused.where).result(_WAIT)
        assert pool.submit(refused.answer).result(_WAIT) == 42
    assert _children() == set()


def test_a_stuck_child_is_ended(refused: Any) -> None:
    with syncyte.InterpreterPool(1, warmup=None, fallback="process") as pool:
        process, _ = pool.submit(refused.where).result(_WAIT)
        space: dict[str, Any] = {"__name__": "__main__", "refused": refused}
        exec(
            "def stuck():\n"
            "    import signal, time\n"
            "    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
            "    refused.nap(60)\n",
            space,
        )
        with pytest.raises(TimeoutError):
            pool.options(timeout=0.5).submit(space["stuck"]).result(_WAIT)
        _wait_for(lambda: process not in _children(), "the child lives on")
        assert pool.submit(refused.answer).result(_WAIT) == 42


def test_shared_things(refused: Any) -> None:
    gc.collect()
    pinned = syncyte._core._pinned_handles()  # tests that were here before may have left some
    with syncyte.InterpreterPool(1, warmup=None, fallback="main") as pool:
        buffer = syncyte.SharedBuffer(8)
        assert pool.submit(refused.fill, buffer, 3).result(_WAIT) == 8
        assert bytes(buffer) == b"\3" * 8
        assert len(memoryview(pool.submit(refused.make_buffer, 16).result(_WAIT))) == 16
    with syncyte.InterpreterPool(1, warmup=None, fallback="process") as pool:
        with pytest.raises(TypeError, match=r"SharedBuffer belongs to the process.*fallback=.main. can"):
            pool.submit(refused.fill, buffer, 3).result(_WAIT)
        with pytest.raises(TypeError, match="SharedBuffer belongs to the process"):
            pool.submit(refused.make_buffer, 16).result(_WAIT)
        assert pool.submit(refused.answer).result(_WAIT) == 42
    assert syncyte._core._pinned_handles() <= pinned


def test_each_worker_has_a_child_of_its_own(refused: Any) -> None:
    with syncyte.InterpreterPool(2, warmup=None, fallback="process") as pool:
        places = [future.result(_WAIT)[0] for future in pool.broadcast(refused.where)]
        assert len(set(places)) == 2
        assert [future.result(_WAIT)[0] for future in pool.broadcast(refused.where)] == places
        assert _children() == set(places)
    assert _children() == set()


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("kind", _KINDS)
def test_a_refused_initializer_sends_all_tasks_elsewhere(kind: Any, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    with syncyte.InterpreterPool(
        2, warmup="import no_slot", initializer=tasks.setup_with_refused, fallback=kind
    ) as pool:
        pool.kind = kind  # type: ignore[attr-defined]
        assert _is_elsewhere(pool, pool.submit(tasks.count, str(counter)).result(_WAIT))
        assert counter.read_text() == "x"
        if kind == "process":
            assert pool.submit(tasks.is_prepared).result(_WAIT) is True
    # The next pool in the same interpreters is not concerned.
    with syncyte.InterpreterPool(2, warmup=None, fallback=kind) as pool:
        assert pool.submit(tasks.where).result(_WAIT)[1] != 0
    with pytest.raises(BrokenExecutor), syncyte.InterpreterPool(1, warmup="import no_slot") as pool:
        pool.wait_ready(_WAIT)


_NESTED = """
def inner():
    import os
    return no_slot.answer, os.getpid()

def outer(kind):
    import syncyte
    with syncyte.InterpreterPool(1, warmup=None, fallback=kind) as pool:
        return pool.submit(inner).result(60), pool.routed
"""


def test_tasks_that_submit_to_their_own_pool(pool: Any, refused: Any) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "refused": refused}
    exec("def inner(number):\n    return refused.echo(number)\n", space)
    exec("def outer(pool, number):\n    return pool.submit(inner, number).result(60)\n", space)
    futures = [pool.submit(refused.echo, number) for number in range(4)]
    found = [pool.submit(space["outer"], pool, number) for number in range(6)]
    if pool.kind == "main":
        assert [future.result(_WAIT) for future in found] == [((number,), {}) for number in range(6)]
    else:
        for future in found:
            with pytest.raises(TypeError, match="belongs to the process"):
                future.result(_WAIT)
    assert [future.result(_WAIT) for future in futures] == [((number,), {}) for number in range(4)]


@pytest.mark.usefixtures("refused")
def test_nested_pools_pass_on_too() -> None:
    import no_slot  # type: ignore[import-not-found]

    space: dict[str, Any] = {"__name__": "__main__", "no_slot": no_slot}
    exec(_NESTED, space)
    with syncyte.InterpreterPool(1, warmup=None) as pool:
        for kind in _KINDS:
            (answer, process), routed = pool.submit(space["outer"], kind).result(_WAIT)
            assert answer == 42
            assert (process == os.getpid()) == (kind == "main")
            assert routed == {"no_slot": 1}
    assert _children() == set()


# --- requires ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("kind", _KINDS)
def test_requires_sends_all_tasks_to_the_fallback(kind: Any, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    with syncyte.InterpreterPool(
        2, warmup="import no_slot", fallback=kind, requires=["json", "no_slot"]
    ) as pool:
        pool.kind = kind  # type: ignore[attr-defined]
        assert pool.submit(tasks.count_and_do_without, str(counter)).result(_WAIT) == "with"
        assert list(pool.map(tasks.plain, range(10))) == list(range(10))
        assert counter.read_text() == "x"
        assert pool.routed == {"no_slot": 11}


def test_requires_that_are_fit_change_nothing() -> None:
    with syncyte.InterpreterPool(1, warmup=None, fallback="process", requires=("json", "decimal")) as pool:
        assert pool.submit(tasks.where).result(_WAIT)[0] == os.getpid()
        assert pool.routed == {}
    with syncyte.InterpreterPool(1, warmup=None, requires=["json"]) as pool:
        assert pool.submit(tasks.where).result(_WAIT)[1] != 0


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize(
    ("requires", "error", "words"),
    [
        (["no_slot"], ImportError, r"no_slot cannot be in the pool's interpreters: .*fallback=\"process\""),
        (["crashes"], ImportError, "crashes cannot be .*SIGSEGV"),
        (["main_only"], ImportError, "main_only cannot be .*one interpreter per process"),
        (["broken"], ImportError, "broken cannot be imported at all here: RuntimeError: never works"),
        (["json", "jsom"], ModuleNotFoundError, "no module and no distribution named 'jsom'"),
        ("numpy", TypeError, r"requires=\['numpy'\]"),
        ([1], TypeError, "not of 'int'"),
    ],
)
def test_requires_says_what_is_wrong(requires: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        syncyte.InterpreterPool(1, requires=requires)


@pytest.mark.usefixtures("refused")
def test_requires_that_crash_run_elsewhere() -> None:
    with syncyte.InterpreterPool(1, warmup=None, fallback="process", requires=["crashes"]) as pool:
        assert pool.submit(tasks.where).result(_WAIT)[0] != os.getpid()


def test_a_wrong_fallback_is_refused() -> None:
    with pytest.raises(ValueError, match='fallback must be "process", "main" or None, not \'thread\''):
        syncyte.InterpreterPool(1, fallback="thread")  # type: ignore[arg-type]


# --- numpy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", _KINDS)
def test_numpy(kind: Any) -> None:
    np = pytest.importorskip("numpy")
    space: dict[str, Any] = {"__name__": "__main__", "np": np}
    exec("def scaled(array, by):\n    return np.asarray(array) * by\n", space)
    with syncyte.InterpreterPool(2, warmup=None, fallback=kind) as pool:
        assert pool.submit(tasks.array_sum, np.arange(10)).result(_WAIT) == 45.0
        found = pool.submit(space["scaled"], np.arange(4), 3).result(_WAIT)
        assert found.tolist() == [0, 3, 6, 9]
        # Imports made in C look for the globals of whoever calls.
        assert pool.submit(lambda size: float(np.arange(size).sum()), 4).result(_WAIT) == 6.0
        assert pool.submit(np.sqrt, 16.0).result(_WAIT) == 4.0
        assert pool.submit(np.linalg.norm, [3.0, 4.0]).result(_WAIT) == 5.0
        assert [a.tolist() for a in pool.map(space["scaled"], [np.arange(2)] * 3, range(3))] == [
            [0, 0],
            [0, 1],
            [0, 2],
        ]
        with pytest.raises(np.linalg.LinAlgError):
            pool.submit(np.linalg.inv, np.zeros((2, 2))).result(_WAIT)
        assert pool.submit(tasks.plain, 1).result(_WAIT) == 1
        assert set(pool.routed) == {"numpy._core._multiarray_umath"}
    with syncyte.InterpreterPool(1, warmup=None, fallback=kind, requires=["numpy"]) as pool:
        assert pool.submit(lambda: np.arange(3).tolist()).result(_WAIT) == [0, 1, 2]


# --- programs ---------------------------------------------------------------------------------------------


def _program(tmp_path: Path, source: str) -> Path:
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(source))
    return script


def test_a_script_with_classes_of_its_own(tmp_path: Path) -> None:
    script = _program(
        tmp_path,
        """
        import dataclasses, sys
        import numpy as np
        import syncyte

        @dataclasses.dataclass
        class Point:
            x: float
            y: float

        def turn(points):
            x = np.array([p.x for p in points])
            return [Point(float(-y), float(x)) for x, y in zip(x, [p.y for p in points])]

        if __name__ == "__main__":
            for kind in ("process", "main"):
                with syncyte.InterpreterPool(2, fallback=kind) as pool:
                    print(pool.submit(turn, [Point(1, 2)]).result())
        """,
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.splitlines() == ["[Point(x=-2.0, y=1.0)]"] * 2
    assert ran.stderr.count("numpy._core._multiarray_umath cannot be in the interpreters of a pool") == 2
    assert len(ran.stderr.splitlines()) == 2
    assert ran.returncode == 0


_BUSY = """
    import os, sys, time
    import numpy as np
    import syncyte

    def spin(path):
        np.arange(3)
        with open(path, "a") as file:
            file.write(f"{os.getpid()} ")
        while True:
            pass

    if __name__ == "__main__":
        import logging
        logging.getLogger("syncyte").setLevel(logging.ERROR)
        pool = syncyte.InterpreterPool(1, fallback=sys.argv[1])
        future = pool.submit(spin, sys.argv[2])
        while not os.path.exists(sys.argv[2]) or not open(sys.argv[2]).read():
            time.sleep(0.01)
        print("go", flush=True)
        future.result()
"""


def _gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("number", ["SIGINT", "SIGKILL"])
def test_nothing_outlives_the_program(kind: str, number: str, tmp_path: Path) -> None:
    import signal

    trace = tmp_path / "trace"
    script = _program(tmp_path, _BUSY)
    words = [sys.executable, str(script), kind, str(trace)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "go\n"
        child = int(trace.read_text().split()[0])
        assert (child == program.pid) == (kind == "main")
        program.send_signal(getattr(signal, number))
        _, said = program.communicate(timeout=30)
        assert program.returncode == -getattr(signal, number)
    if number == "SIGINT":
        assert said.rstrip().endswith("KeyboardInterrupt")
        assert said.count("Traceback") == 1
    _wait_for(lambda: _gone(child), "the child lives on")


def test_output_of_tasks(tmp_path: Path) -> None:
    script = _program(
        tmp_path,
        """
        import logging, sys
        import numpy as np
        import syncyte

        def say(text):
            np.arange(1)
            print(text + "\\n", end="")  # one write, also where Python does not buffer
            print(text + "\\n", end="", file=sys.stderr)

        if __name__ == "__main__":
            logging.getLogger("syncyte").setLevel(logging.ERROR)
            with syncyte.InterpreterPool(2, fallback=sys.argv[1]) as pool:
                list(pool.map(say, ["one", "two"]))
        """,
    )
    for kind in _KINDS:
        ran = subprocess.run(
            [sys.executable, script, kind], capture_output=True, text=True, timeout=60, check=False
        )
        assert sorted(ran.stdout.split()) == ["one", "two"]
        assert sorted(ran.stderr.split()) == ["one", "two"]
        assert ran.returncode == 0


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208


def test_threads_end(refused: Any) -> None:
    def use() -> None:
        with syncyte.InterpreterPool(2, warmup=None, fallback="process") as pool:
            assert list(pool.map(refused.echo, range(4), chunksize=1))

    use()
    before = _threads()
    for _ in range(3):
        use()
    _wait_for(lambda: _threads() <= before, "threads of the fallback live on")


def test_a_child_has_no_threads_to_wait_for(refused: Any) -> None:
    with syncyte.InterpreterPool(1, warmup=None, fallback="process") as pool:
        assert pool.submit(refused.threads).result(_WAIT) == ["MainThread"]


def test_many_interrupts_leave_nothing_behind(refused: Any) -> None:
    ended = {"ok": 0, "late": 0, "dropped": 0}
    for kind in _KINDS:
        with syncyte.InterpreterPool(2, warmup=None, fallback=kind) as pool:
            futures = []
            for number in range(60):
                limited = pool.options(timeout=0.001 * (number % 7 + 1))
                futures.append(limited.submit(refused.nap, 0.004))
                if number % 5 == 0:
                    futures[-1].cancel()
                futures.append(pool.submit(refused.echo, number))
            for future in futures:
                try:
                    future.result(_WAIT)
                    ended["ok"] += 1
                except TimeoutError:
                    ended["late"] += 1
                except concurrent.futures.CancelledError:
                    ended["dropped"] += 1
            assert pool.submit(refused.answer).result(_WAIT) == 42
        assert _children() == set()
    assert sum(ended.values()) == 240
    assert ended["ok"] >= 120
    assert ended["dropped"] >= 1
