"""Tasks whose module cannot be imported in an interpreter with its own GIL, because of what it imports."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import no_slot  # type: ignore[import-not-found]


class RefusedError(Exception):
    """Its class cannot be imported in the workers."""


def threads() -> list[str]:
    import threading

    return [thread.name for thread in threading.enumerate()]


def answer() -> int:
    return int(no_slot.answer)


def where(path: str | None = None) -> tuple[int, int]:
    from concurrent import interpreters

    if path is not None:
        with Path(path).open("a") as file:
            file.write("x")
    return os.getpid(), interpreters.get_current().id


def echo(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs


def call(fn: Any, *args: Any) -> Any:
    return fn(*args)


def fail(kind: str) -> None:
    raise {"lookup": LookupError, "own": RefusedError, "exit": SystemExit, "interrupt": KeyboardInterrupt}[
        kind
    ]("as told")


def give_a_lock() -> object:
    return threading.Lock()


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def wait_for_file(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.005)


def spin(path: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    try:
        while True:
            pass
    finally:
        with Path(path).open("a") as file:
            file.write("cleaned up\n")


def die(status: int) -> None:
    os._exit(status)


def fill(buffer: Any, value: int) -> int:
    memoryview(buffer)[:] = bytes([value]) * len(memoryview(buffer))
    return len(memoryview(buffer))


def make_buffer(size: int) -> Any:
    import syncyte

    return syncyte.SharedBuffer(size)
