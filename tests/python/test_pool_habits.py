"""Tasks end, print, warn and log as in a ProcessPoolExecutor: one script, run with either pool."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_SCRIPT = """
import json
import sys


def returns_a_generator():
    return (number for number in range(3))


def is_a_generator():
    yield 1


def exits():
    raise SystemExit("message")


def exits_with_status():
    sys.exit(3)


def is_interrupted():
    raise KeyboardInterrupt


def stops():
    raise StopIteration(3)


def fails_in_a_chain():
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise KeyError("k") from error


def fails_with_a_note():
    error = ValueError("v")
    error.add_note("noted")
    error.extra = 5
    raise error


def fails_in_a_group():
    raise ExceptionGroup("g", [ValueError(1), TypeError("t")])


class Failure(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)
        self.b = b


def fails_by_a_class_of_the_script():
    raise Failure(1, 2)


def warns():
    import warnings

    warnings.warn("careful")
    warnings.warn("old", DeprecationWarning)
    return sys.warnoptions


def warns_again():
    return warns()


def logs():
    import logging

    logging.getLogger("x").warning("logged %d", 1)
    logging.getLogger("x").info("not shown")


def prints():
    print("to stdout")
    print("to stderr", file=sys.stderr)
    print("without an end", end="")


def reads():
    try:
        return input()
    except EOFError as error:
        return sys.stdin.read() + str(error)


def raises_in_a_thread():
    import threading

    thread = threading.Thread(target=fails_in_a_chain, name="mine")
    thread.start()
    thread.join()


def raises_while_deleted():
    class Dear:
        def __del__(self):
            raise ValueError("in del")

    Dear()


def runs_a_loop():
    import asyncio

    async def main():
        await asyncio.sleep(0.001)
        return 5

    return asyncio.run(main())


def runs_a_program():
    import subprocess

    return subprocess.run(["echo", "hi"], capture_output=True, text=True).stdout


def sees_settings():
    return bool(sys.path[0]), sys.getrecursionlimit(), sys.flags.dev_mode


TASKS = [value for value in list(globals().values()) if callable(value) and value is not Failure]

if __name__ == "__main__":
    if sys.argv.pop(1) == "interpreters":
        import syncyte

        pool = syncyte.InterpreterPool(1)
    else:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    found = {}
    with pool:
        for task in TASKS:
            try:
                found[task.__name__] = pool.submit(task).result(60)
            except BaseException as error:
                cause = str(error.__cause__)
                kept = {name: repr(value) for name, value in vars(error).items()}
                kept = {name: text for name, text in kept.items() if "serializing" not in text}
                found[task.__name__] = [type(error).__name__, str(error), repr(error.args), kept]
                found[task.__name__].append("1 / 0" in cause and "direct cause" in cause)
    with open(sys.argv[1], "w") as file:
        json.dump(found, file)
"""


def _run(which: str, folder: Path) -> tuple[dict[str, Any], str, list[str]]:
    script = folder / "script.py"
    script.write_text(_SCRIPT)
    report = folder / "report"
    ran = subprocess.run(
        [sys.executable, "-W", "default", script, which, report],
        input="for the program\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    # Names of threads and functions, and places in memory, are each pool's own.
    said = [re.sub(r"0x[0-9a-f]+|Thread-\d+", "_", line) for line in ran.stderr.splitlines()]
    return json.loads(report.read_text()), ran.stdout, said


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Any], str, list[str]]]:
    return [_run(which, tmp_path_factory.mktemp("habits")) for which in ("interpreters", "processes")]


def test_results_and_exceptions(both: list[tuple[dict[str, Any], str, list[str]]]) -> None:
    (ours, *_), (theirs, *_) = both
    assert ours == theirs
    assert ours["fails_in_a_chain"][4] is True
    assert ours["fails_with_a_note"][3] == {"__notes__": "['noted']", "extra": "5"}


def test_what_is_printed_warned_and_logged(both: list[tuple[dict[str, Any], str, list[str]]]) -> None:
    (_, printed, said), (_, printed_there, said_there) = both
    assert printed == printed_there == "to stdout\nwithout an end"
    folder = re.compile(r"/[^ \"]*habits\d/")
    assert [folder.sub("", line) for line in said] == [folder.sub("", line) for line in said_there]
    text = "\n".join(said)
    for expected in (
        "UserWarning: careful",
        "logged 1",
        "to stderr",
        "Exception in thread mine",
        "ValueError: in del",
    ):
        assert text.count(expected) == 1
    assert "not shown" not in text
