"""Functions that the tests of isolate decorate, or that these call."""

from __future__ import annotations

import random
import threading
import time

FACTOR = 3
LIMITS = (1, 2, 3)
cache: dict[int, int] = {}
counter = 0


def burn(size: int) -> int:
    total = 0
    for number in range(size):
        total += number * FACTOR
    return total


def interpreter(size: int) -> int:
    """The id of the interpreter it runs in, after some work."""
    from concurrent import interpreters

    burn(size)
    return interpreters.get_current().id


def uses_constants(size: int) -> int:
    return burn(size) + sum(LIMITS)


def fills_a_cache(size: int) -> int:
    cache[size] = burn(size)
    return len(cache)


def through_another(size: int) -> int:
    return fills_a_cache(size) + 1


def assigns_a_global(size: int) -> int:
    global counter
    counter += 1
    return burn(size)


def draws(size: int) -> float:
    return burn(size) + random.random()


def default_cache(size: int, seen: list[int] = []) -> int:  # noqa: B006 - what is tested
    seen.append(size)
    return burn(size) + len(seen)


def sleeps(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def sorts(numbers: list[int]) -> list[int]:
    burn(50_000)
    return sorted(numbers)


def fails(size: int) -> None:
    burn(size)
    raise LookupError(size)


def writes_and_fails(path: str, size: int) -> None:
    with open(path, "a") as file:  # noqa: PTH123
        file.write("x")
    burn(size)
    raise TypeError("its own")


def imports_refused(path: str, size: int) -> int:
    """Begins, and then imports what interpreters refuse."""
    with open(path, "a") as file:  # noqa: PTH123
        file.write("x")
    import no_slot  # type: ignore[import-not-found]

    return burn(size) + int(no_slot.answer)


def gives_a_lock(size: int) -> object:
    burn(size)
    return threading.Lock()


def generates(size: int):  # type: ignore[no-untyped-def]
    yield burn(size)


async def awaits(size: int) -> int:
    return burn(size)


class Account:
    def __init__(self) -> None:
        self.total = 0

    def add(self, size: int) -> int:
        self.total += burn(size)
        return self.total
