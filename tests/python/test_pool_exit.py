"""How programs with pools end: by themselves, by Ctrl-C, with tasks running; each in a process of its own."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest


def run(script: str, *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def interrupt(script: str, tmp_path: Path) -> tuple[int, str, str, float]:
    """Run a script, and send SIGINT 0.3 s after it says "go": status, output, errors, seconds."""
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(script))
    with subprocess.Popen(
        [sys.executable, file], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "go\n"
            time.sleep(0.3)
            start = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    return process.returncode, out, err, time.monotonic() - start


@pytest.mark.parametrize("end", ["", "pool.shutdown(wait=False)", "del pool", "sys.exit(0)"])
def test_what_was_submitted_is_done_at_exit(end: str) -> None:
    found = run(f"""
        import syncyte, sys, time
        pool = syncyte.InterpreterPool(2, warmup=None)
        def say(text):
            import time
            time.sleep(0.1)
            print(text + "\\n", end="")  # one write, also where Python does not buffer
        for text in ("one", "two", "three"):
            pool.submit(say, text)
        {end}
        """)
    assert found.stderr == ""
    assert sorted(found.stdout.split()) == ["one", "three", "two"]
    assert found.returncode == 0


def test_no_pool_after_exit_has_begun() -> None:
    found = run("""
        import atexit, syncyte
        @atexit.register
        def late():
            for call in (lambda: pool.submit(abs, 1), lambda: syncyte.InterpreterPool(1)):
                try:
                    call()
                except RuntimeError as error:
                    print(error)
        pool = syncyte.InterpreterPool(1, warmup=None)
        print(pool.submit(abs, -1).result())
        """)
    assert found.stdout.splitlines() == [
        "1",
        "cannot schedule new futures after interpreter shutdown",
        "cannot open a pool after interpreter shutdown",
    ]
    assert found.stderr == ""


def test_pools_opened_inside_tasks_end_too() -> None:
    found = run("""
        import syncyte
        def inner():
            import syncyte
            global kept
            kept = syncyte.InterpreterPool(2, warmup=None)
            return kept.submit(abs, -3).result()
        pool = syncyte.InterpreterPool(2, warmup=None)
        print(pool.submit(inner).result())
        """)
    assert (found.stdout, found.stderr, found.returncode) == ("3\n", "", 0)


@pytest.mark.parametrize(
    "wait",
    [
        "pool.submit(spin).result()",
        "concurrent.futures.wait([pool.submit(spin) for _ in range(5)])",
        "list(pool.map(spin_with, range(100)))",
        "with pool: pool.submit(spin).result()",
        "[pool.submit(spin) for _ in range(10_000)]; pool.shutdown()",
        "pool.submit(spin); raise KeyboardInterrupt",
        "asyncio.run(use())",
    ],
)
def test_ctrl_c_ends_busy_tasks_within_a_second(wait: str, tmp_path: Path) -> None:
    status, out, err, seconds = interrupt(
        f"""
        import asyncio, concurrent.futures, syncyte
        def spin():
            while True:
                try:
                    pass
                except Exception:
                    pass
        def spin_with(_):
            spin()
        async def use():
            await asyncio.wrap_future(pool.submit(spin))
        pool = syncyte.InterpreterPool(2, warmup=None)
        pool.wait_ready()
        print("go", flush=True)
        {wait}
        """,
        tmp_path,
    )
    assert status == -signal.SIGINT
    assert out == ""
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "Warning" not in err
    assert "Fatal" not in err
    assert seconds < 20  # one second on an idle machine


def test_ctrl_c_ends_tasks_stuck_in_a_c_call(tmp_path: Path) -> None:
    status, _, err, seconds = interrupt(
        """
        import syncyte, time
        pool = syncyte.InterpreterPool(2, warmup=None)
        pool.wait_ready()
        print("go", flush=True)
        with pool:
            pool.submit(time.sleep, 60).result()
        """,
        tmp_path,
    )
    assert status == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "Warning" not in err
    assert "Fatal" not in err
    assert seconds < 20


def test_ctrl_c_can_be_caught_and_the_pool_used_again(tmp_path: Path) -> None:
    status, out, err, _ = interrupt(
        """
        import syncyte, time
        pool = syncyte.InterpreterPool(2, warmup=None)
        pool.wait_ready()
        try:
            print("go", flush=True)
            pool.submit(time.sleep, 3).result()
        except KeyboardInterrupt:
            print("caught", pool.submit(abs, -1).result())
        """,
        tmp_path,
    )
    assert (status, out, err) == (0, "caught 1\n", "")


def test_output_of_tasks_reaches_the_process() -> None:
    found = run("""
        import syncyte, sys
        def say():
            import sys
            print("out")
            print("err", file=sys.stderr)
            print("no newline", end="")
        with syncyte.InterpreterPool(1) as pool:
            pool.submit(say).result()
        """)
    assert found.stdout == "out\nno newline"
    assert found.stderr == "err\n"


def test_classes_of_the_script_travel(tmp_path: Path) -> None:
    script = tmp_path / "shapes.py"
    script.write_text(
        textwrap.dedent("""
        import syncyte
        class Square:
            def __init__(self, side):
                self.side = side
            def grown(self, by):
                return Square(self.side + by)
        def area(square):
            return square.side ** 2
        if __name__ == "__main__":
            with syncyte.InterpreterPool(2) as pool:
                print(pool.submit(area, Square(3)).result())
                print(isinstance(pool.submit(Square(3).grown, 1).result(), Square))
        """)
    )
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert (found.stdout, found.stderr) == ("9\nTrue\n", "")


def test_a_script_without_guard_is_explained(tmp_path: Path) -> None:
    script = tmp_path / "bare.py"
    script.write_text(
        textwrap.dedent("""
        import syncyte
        class Square:
            side = 2
        def double(x):
            return x * 2
        with syncyte.InterpreterPool(2) as pool:
            print(pool.submit(double, 4).result())
            pool.submit(Square).result()
        """)
    )
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert found.stdout == "8\n"
    assert found.stderr.rstrip().endswith('guard the script\'s main part by: if __name__ == "__main__":')


@pytest.mark.parametrize(
    "script",
    [
        # A callback that is being delivered at the end of the program watches another future.
        """
        f1, f2 = pool.submit(time.sleep, 0.2), pool.submit(int)
        f1.add_done_callback(lambda _: (time.sleep(0.1), f2.add_done_callback(print)))
        """,
        # One that comes after the pools were closed.
        """
        future = pool.submit(int)
        future.result()
        atexit.register(lambda: future.add_done_callback(print))
        """,
    ],
    ids=["during", "after"],
)
def test_callbacks_at_the_end_of_the_program_hold_nothing_up(script: str) -> None:
    begin = "import atexit, time\nfrom syncyte import InterpreterPool\npool = InterpreterPool(1)\n"
    done = run(begin + textwrap.dedent(script), timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
