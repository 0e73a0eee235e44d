"""Why fork() and pools do not go together, said where it is tried."""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

from syncyte import _core

__all__ = ["guard"]

_REFUSED = (
    "cannot fork while an InterpreterPool is open: the child would have its locks and none of its threads, "
    "and could hang. Shut the pool down first, or start processes by subprocess, or by multiprocessing's "
    "'spawn' or 'forkserver' method"
)
FOREIGN = (
    "this pool belongs to the process that forked this one: its workers are threads, and a fork has none of "
    "them; open a pool of its own here, or start processes by 'spawn' or 'forkserver'"
)
_guarded = False


def guard(let_go: Callable[[], object]) -> None:
    """Make os.fork() and os.forkpty() raise RuntimeError while a pool is open; in the main interpreter.

    Hooks of os.register_at_fork() cannot refuse, and only the main interpreter can fork at all. In a child
    that has a second interpreter CPython 3.14 crashes, so `let_go` closes those that wait for the next pool.
    """
    global _guarded
    if not _guarded:
        _guarded = True
        os.fork = _unless_open(os.fork, let_go)
        os.forkpty = _unless_open(os.forkpty, let_go)


def _unless_open(fork: Callable[[], Any], let_go: Callable[[], object]) -> Any:
    @wraps(fork)
    def guarded() -> Any:
        if _core._pools_at_work():
            raise RuntimeError(_REFUSED)
        let_go()
        return fork()

    return guarded
