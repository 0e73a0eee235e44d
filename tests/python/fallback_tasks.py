"""What the tests of a pool's fallback run: importable in interpreters."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any


def where() -> tuple[int, int]:
    """Process and interpreter."""
    from concurrent import interpreters

    return os.getpid(), interpreters.get_current().id


def where_with(_value: Any) -> tuple[int, int]:
    return where()


def plain(value: Any) -> Any:
    return value


def count(path: str) -> tuple[int, int]:
    """Leaves one letter in the file for each time the body is begun."""
    with Path(path).open("a") as file:
        file.write("x")
    return where()


def count_and_import(path: str) -> int:
    count(path)
    import no_slot  # type: ignore[import-not-found]

    return int(no_slot.answer)


def count_and_do_without(path: str) -> str:
    count(path)
    try:
        import no_slot  # noqa: F401
    except ImportError:
        return "without"
    return "with"


def setup_with_refused() -> None:
    import no_slot  # noqa: F401

    sys.modules["fallback_tasks"].prepared = True  # type: ignore[attr-defined]


def is_prepared() -> bool:
    return getattr(sys.modules["fallback_tasks"], "prepared", False)


def array_sum(array: Any) -> float:
    return float(array.sum())


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
