"""What the pool workload's workers do: importable everywhere, and importing nothing."""

import time


def nothing(value: object) -> object:
    return value


seen: list[object] = [None]


def remembers(value: object) -> object:
    """Uses a list of the program's, and so never moves to an interpreter."""
    return seen[0] or value


def measure(value: str | bytes) -> int:
    return len(value)


def count(turns: int) -> int:
    """Pure Python that keeps a core busy."""
    total = 0
    for number in range(turns):
        total += number % 7
    return total


def request(milliseconds: float, sent: float) -> float:
    """Waits as a request to elsewhere would; seconds since it was sent, on the clock all share."""
    time.sleep(milliseconds / 1000)
    return time.monotonic() - sent
