"""What the tests of on_main run, in interpreters and in the main one. Imports nothing but syncyte."""

from __future__ import annotations

import threading

import syncyte

calls: list[int] = []


def remember(number: int) -> int:
    """Runs in the main interpreter: its list is the one the test sees."""
    calls.append(number)
    return len(calls)


def remember_from_here(number: int) -> int:
    return syncyte.on_main(remember, number)


def count_here() -> int:
    return len(calls)


def add_up(*numbers: int, start: int = 0) -> int:
    return sum(numbers, start)


def numpy_sum(size: int) -> float:
    import numpy as np

    return float(np.arange(size).sum())


def numpy_fill(buffer: syncyte.SharedBuffer, value: int) -> int:
    import numpy as np

    array = np.frombuffer(memoryview(buffer), dtype=np.uint8)
    array[:] = value
    return array.nbytes


def numpy_with_gil_taken_back(rounds: int) -> int:
    """Loops that let go of the GIL and take it back by PyGILState_Ensure: for objects, and for errors."""
    import numpy as np

    caught: list[str] = []
    total = 0
    with np.errstate(divide="call", call=lambda kind, _: caught.append(kind)):
        for _ in range(rounds):
            np.ones(50_000) / np.zeros(50_000)
            total += int(np.arange(1_000).astype(object).sum())
    return total + len(caught)


def numpy_array() -> object:
    import numpy as np

    return np.arange(3)


def fail(message: str) -> None:
    raise LookupError(message)


class Unsendable(Exception):  # noqa: N818 - named for what it is
    def __init__(self) -> None:
        super().__init__("stays here")
        self.lock = threading.Lock()


def fail_unsendably() -> None:
    raise Unsendable


def give_a_lock() -> object:
    return threading.Lock()


def spin(path: str) -> None:
    """Until somebody interrupts it; tells of both in the file."""
    with open(path, "a") as file:  # noqa: PTH123
        file.write("started\n")
    try:
        while True:
            try:
                while True:
                    pass
            except Exception:  # what interrupts is none
                pass
    finally:
        with open(path, "a") as file:  # noqa: PTH123
            file.write("cleaned up\n")


def wait_for_a_message(path: str, queue: syncyte.Queue[int]) -> int:
    with open(path, "a") as file:  # noqa: PTH123
        file.write("started\n")
    try:
        return queue.get()
    finally:
        with open(path, "a") as file:  # noqa: PTH123
            file.write("cleaned up\n")


def answer_later(queue: syncyte.Queue[int]) -> None:
    queue.put(1)


def make_buffer(size: int) -> syncyte.SharedBuffer:
    buffer = syncyte.SharedBuffer(size)
    memoryview(buffer)[:] = b"\5" * size
    return buffer


def where() -> tuple[bool, bool]:
    """Whether this is the main interpreter, and its main thread."""
    from concurrent import interpreters

    here = interpreters.get_current() == interpreters.get_main()
    return here, threading.current_thread() is threading.main_thread()


def with_a_lambda(offset: int) -> int:
    base = 100
    return syncyte.on_main(lambda number: base + offset + number + count_here(), 1)


def call(name: str, *args: object, **kwargs: object) -> object:
    """Calls a function of this module on the main interpreter."""
    return syncyte.on_main(globals()[name], *args, **kwargs)


def call_many(times: int) -> int:
    return sum(syncyte.on_main(add_up, number, 1) for number in range(times))
