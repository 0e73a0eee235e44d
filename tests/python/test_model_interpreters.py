"""One model for all interpreters; and ends of every sort: Ctrl-C, exit, interpreters that close, fork."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from concurrent import interpreters
from typing import TYPE_CHECKING

import pytest

import syncyte
from syncyte import _core

if TYPE_CHECKING:
    from pathlib import Path


def run_script(script: str, *arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs Python source in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def ask_in_interpreter(path: str, seed: int) -> tuple[str, int]:
    import syncyte
    from syncyte import _core

    with syncyte.Model(path) as model:
        return model.generate("the", max_tokens=20, seed=seed, ignore_eos=True).text, _core._open_models()


def use_model(model) -> str:
    return model.generate("the", max_tokens=20, seed=4, ignore_eos=True).text


def test_every_interpreter_gets_the_same_model(tiny_model: Path) -> None:
    with syncyte.Model(tiny_model, threads=1) as model:
        texts = [model.generate("the", max_tokens=20, seed=s, ignore_eos=True).text for s in range(4)]
        opened = _core._open_models()
        made = [interpreters.create() for _ in range(4)]
        try:
            for seed, interpreter in enumerate(made):
                text, count = interpreter.call(ask_in_interpreter, str(tiny_model), seed)
                assert text == texts[seed]
                assert count == opened
        finally:
            for interpreter in made:
                interpreter.close()


def test_a_model_travels(tiny_model: Path) -> None:
    with syncyte.Model(tiny_model, threads=1) as model:
        interpreter = interpreters.create()
        try:
            assert interpreter.call(use_model, model) == use_model(model)
        finally:
            interpreter.close()


def test_a_model_outlives_the_interpreter_that_opened_it(tiny_model: Path) -> None:
    interpreter = interpreters.create()
    interpreter.exec(f"import syncyte; model = syncyte.Model({str(tiny_model)!r}, threads=1)")
    with syncyte.Model(tiny_model) as model:
        interpreter.close()
        assert use_model(model)


def test_ctrl_c_ends_a_generation(tiny_model: Path) -> None:
    # The interrupted request must be gone from the engine as well.
    script = """
        import sys, time, signal, syncyte
        model = syncyte.Model(sys.argv[1], threads=1, context_length=200_000, max_sequences=1)
        try:
            print("ready", flush=True)
            while True:
                model.generate("the", max_tokens=150_000, ignore_eos=True, top_k=0)
        except KeyboardInterrupt:
            print("interrupted", time.monotonic(), flush=True)
        text = model.generate("the", max_tokens=5, ignore_eos=True)
        print(len(text.tokens), model._stats()["waiting"])
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tiny_model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    word, when, tokens, waiting = output.split()
    assert (word, tokens, waiting) == ("interrupted", "5", "0")
    assert float(when) - sent < 20  # 0.1 on an idle machine


@pytest.mark.parametrize(
    "ending", ["pass", "sys.exit(3)", "raise SystemError('x')", "model.close()", "del model"]
)
def test_exit_with_requests_running(tiny_model: Path, ending: str) -> None:
    done = run_script(
        f"""
        import sys, threading, time, syncyte
        model = syncyte.Model(sys.argv[1], threads=2, max_sequences=4)
        streams = [model.stream("the", max_tokens=500, ignore_eos=True) for _ in range(12)]
        next(streams[0])
        print("running", flush=True)
        {ending}
        """,
        tiny_model,
    )
    assert done.stdout == "running\n"
    assert done.returncode == {"sys.exit(3)": 3, "raise SystemError('x')": 1}.get(ending, 0)
    assert not done.stderr or "SystemError: x" in done.stderr


def test_exit_while_daemon_threads_wait(tiny_model: Path) -> None:
    done = run_script(
        """
        import sys, threading, time, syncyte
        model = syncyte.Model(sys.argv[1], threads=1, context_length=200_000, max_sequences=2)
        def ask():
            model.generate("the", max_tokens=150_000, ignore_eos=True)
        for _ in range(6):
            threading.Thread(target=ask, daemon=True).start()
        time.sleep(0.2)
        print("running", flush=True)
        """,
        tiny_model,
    )
    assert (done.stdout, done.returncode, done.stderr) == ("running\n", 0, "")


def test_interpreters_close_with_requests_running(tiny_model: Path) -> None:
    done = run_script(
        """
        import sys, time
        from concurrent import interpreters
        import syncyte
        from syncyte import _core
        model = syncyte.Model(sys.argv[1], threads=1, max_sequences=4)
        for _ in range(5):
            made = [interpreters.create() for _ in range(3)]
            for one in made:
                one.exec(f'''if True:
                    import syncyte
                    model = syncyte.Model({sys.argv[1]!r})
                    streams = [model.stream("the", max_tokens=500, ignore_eos=True) for _ in range(4)]
                    next(streams[0])''')
            for one in made:
                one.close()
        end = time.monotonic() + 30
        while model._stats()["running"] and time.monotonic() < end:
            time.sleep(0.01)
        print(model._stats()["running"], model._stats()["reserved_cells"], _core._open_models())
        """,
        tiny_model,
    )
    assert (done.stdout, done.returncode, done.stderr) == ("0 0 1\n", 0, "")


def test_what_an_interpreter_leaks_is_given_up_when_it_closes(tiny_model: Path) -> None:
    # A reference too many, as a faulty extension makes it: nothing is deallocated when the interpreter ends.
    done = run_script(
        """
        import sys, time
        from concurrent import interpreters
        import syncyte
        options = {"threads": 1, "context_length": 200_000, "max_sequences": 2}
        model = syncyte.Model(sys.argv[1], **options)
        one = interpreters.create()
        one.exec(f'''if True:
            import ctypes, syncyte
            model = syncyte.Model({sys.argv[1]!r})
            stream = model.stream("the", max_tokens=150_000, ignore_eos=True)
            next(stream)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))''')
        running = model._stats()["running"]
        one.close()
        end = time.monotonic() + 30
        while model._stats()["running"] and time.monotonic() < end:
            time.sleep(0.01)
        print(running, model._stats()["running"])
        """,
        tiny_model,
    )
    assert (done.stdout, done.returncode, done.stderr) == ("1 0\n", 0, "")


def test_a_forked_child_is_told(tiny_model: Path) -> None:
    done = run_script(
        """
        import os, sys, syncyte
        model = syncyte.Model(sys.argv[1], threads=1)
        model.generate("the", max_tokens=2)
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # fork() beside threads
        child = os.fork()
        if child == 0:
            try:
                model.generate("the")
            except syncyte.ModelError as error:
                print("child:", error, flush=True)
            model.close()
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(len(model.generate("the", max_tokens=2, ignore_eos=True).tokens))
        """,
        tiny_model,
    )
    assert done.returncode == 0, done.stderr
    child, status, tokens = done.stdout.splitlines()
    assert "fork()" in child
    assert (status, tokens) == ("7", "2")


@pytest.mark.memory
def test_memory_comes_back(tiny_model: Path) -> None:
    done = run_script(
        """
        import sys, syncyte
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096
        def once(rounds):
            for _ in range(rounds):
                with syncyte.Model(sys.argv[1], threads=1) as model:
                    for stream in [model.stream("the other", max_tokens=30) for _ in range(20)]:
                        next(stream, None)
                    model.generate("the", max_tokens=10)
        once(20)
        for _ in range(3):  # the kernel counts in strides: a leak shows each time
            before = resident()
            once(60)
            grown = (resident() - before) // 1024
            if grown < 4096:
                break
        print(grown)
        """,
        tiny_model,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 4096  # KiB; a leaked context would be 60 times 2 MB
