"""fork() beside an open pool is refused; other ways to start processes are not; a child starts anew."""

import subprocess
import sys
import textwrap

import pytest

BEGIN = """
import sys
import ctypes, multiprocessing, os, subprocess, syncyte
from concurrent.futures import ProcessPoolExecutor

def double(x):
    return 2 * x

def wait_for(pid):
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)

if __name__ == "__main__":
"""


def run(script: str, tmp_path: object) -> subprocess.CompletedProcess[str]:
    file = f"{tmp_path}/forking.py"
    with open(file, "w") as out:  # noqa: PTH123
        out.write(BEGIN + textwrap.indent(textwrap.dedent(script), "    "))
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "fork",
    [
        "os.fork()",
        "os.forkpty()",
        "__import__('pty').fork()",
        "multiprocessing.get_context('fork').Process(target=print).start()",
        "multiprocessing.get_context('fork').Pool(1)",
    ],
)
def test_fork_is_refused_while_a_pool_is_open(fork: str, tmp_path: object) -> None:
    found = run(
        f"""
        with syncyte.InterpreterPool(2, warmup=None) as pool:
            try:
                {fork}
            except RuntimeError as error:
                print(error)
            print(pool.submit(abs, -1).result())
        """,
        tmp_path,
    )
    assert found.stderr == ""
    assert found.stdout.startswith("cannot fork while an InterpreterPool is open")
    assert "'forkserver'" in found.stdout
    assert found.stdout.endswith("\n1\n")


def test_other_ways_to_start_processes_work(tmp_path: object) -> None:
    found = run(
        """
        with syncyte.InterpreterPool(2, warmup=None) as pool:
            print(subprocess.run(["echo", "subprocess"], capture_output=True, text=True).stdout.strip())
            print(wait_for(os.posix_spawn("/bin/true", ["true"], os.environ)))
            for method in ("spawn", "forkserver"):
                context = multiprocessing.get_context(method)
                with ProcessPoolExecutor(1, mp_context=context) as processes:
                    print(method, list(processes.map(double, [1, 2])))
            with ProcessPoolExecutor(1) as processes:
                print(processes.submit(double, 4).result())
            print(pool.submit(double, 3).result())
        """,
        tmp_path,
    )
    assert found.stderr == ""
    assert found.stdout.split("\n") == ["subprocess", "0", "spawn [2, 4]", "forkserver [2, 4]", "8", "6", ""]


def test_a_child_forked_after_the_pools_starts_anew(tmp_path: object) -> None:
    found = run(
        """
        with syncyte.InterpreterPool(2, warmup=None) as pool:
            pool.submit(double, 1).result()
        pid = os.fork()
        if pid == 0:
            with syncyte.InterpreterPool(2, warmup=None) as mine:
                print(list(mine.map(double, [1, 2])), flush=True)
            sys.exit(7)
        print(wait_for(pid))
        with syncyte.InterpreterPool(2, warmup=None) as pool:
            print(pool.submit(double, 5).result())
        """,
        tmp_path,
    )
    assert found.stderr == ""
    assert found.stdout == "[2, 4]\n7\n10\n"


def test_a_pool_of_the_parent_says_so_in_the_child(tmp_path: object) -> None:
    # What forks behind Python's back is not refused.
    found = run(
        """
        pool = syncyte.InterpreterPool(2, warmup=None)
        pool.wait_ready()
        read_end, write_end = os.pipe()
        future = pool.submit(os.read, read_end, 1)
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            calls = {
                "submit": lambda: pool.submit(abs, 1),
                "map": lambda: list(pool.map(abs, [1])),
                "resize": lambda: pool.resize(3),
                "result": lambda: future.result(),
                "cancel": lambda: future.cancel(),
                "broadcast": lambda: pool.broadcast(abs, 1),
                "wait_ready": lambda: pool.wait_ready(),
            }
            for name, call in calls.items():
                try:
                    print(name, call(), flush=True)
                except RuntimeError as error:
                    print(name, str(error)[:60], flush=True)
            print("stats", pool.stats(), flush=True)
            pool.shutdown()
            del pool
            os._exit(7)  # behind Python's back to the end
        print(wait_for(pid))
        os.write(write_end, b"x")
        future.result()
        pool.shutdown()
        """,
        tmp_path,
    )
    assert found.stderr == ""
    refusal = "this pool belongs to the process that forked this one: its w"
    assert found.stdout.splitlines() == [
        *[f"{name} {refusal}" for name in "submit map resize result cancel broadcast wait_ready".split()],
        "stats []",
        "7",
    ]
