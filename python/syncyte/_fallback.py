"""A pool's fallback, as the pool sees it: what it sends to its workers so that they can pass tasks on.

Where a task goes is decided in the worker (syncyte._fallback_worker), before its function is called. The
worker then takes it to the main interpreter (syncyte._fallback_main) and brings the outcome home, so that
futures, limits, priorities and map() are those of any other task.
"""

import contextlib
import itertools
import pickle
import sys
import weakref
from collections.abc import Iterable
from typing import Any, Literal

from syncyte import _core, _fallback_child, _on_main

type Kind = Literal["process", "main"] | None
# Import path, the program's script in two forms, warm-up, initializer, its arguments; see _worker.enter.
type Setup = tuple[Any, ...]

_PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes))
_counter = itertools.count().__next__


def check_requirements(requires: Iterable[str], fallback: Kind) -> tuple[str, str] | None:
    """Return the first of the packages that own-GIL interpreters cannot hold, and why; None if all are fit.

    ImportError for one that cannot be imported at all, or is not fit while there is no fallback.
    """
    if isinstance(requires, str):
        raise TypeError(f"requires is a list of package names: requires=[{requires!r}]")
    names = list(requires)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"requires is a list of package names, not of {type(name).__name__!r}")
    if not names:
        return None
    found: list[tuple[str, str, str]] = _on_main.on_main("syncyte._audit.brief:check", names, sys.path[:])
    for name, verdict, reason in found:
        if verdict == "missing":
            raise ModuleNotFoundError(f"requires={names!r}: {reason}", name=name)
        if verdict == "broken":
            raise ImportError(f"requires={names!r}: {name} {reason}", name=name)
        if verdict == "unfit" and fallback is None:
            raise ImportError(
                f"{name} cannot be in the pool's interpreters: {reason}. "
                'Give the pool a fallback="process" or fallback="main", or call it by syncyte.on_main()',
                name=name,
            )
    return next(((name, reason) for name, verdict, reason in found if verdict == "unfit"), None)


def open_fallback(fallback: Kind, requires: Iterable[str], setup: Setup) -> Fallback | None:
    """Check what a pool was given; None if it needs no fallback."""
    if fallback not in (None, "process", "main"):
        raise ValueError(f'fallback must be "process", "main" or None, not {fallback!r}')
    refused = check_requirements(requires, fallback)
    if fallback is None:
        return None
    if fallback == "process" and not sys.executable:
        raise RuntimeError(
            'fallback="process" needs sys.executable, Python\'s own path, which is not known here'
        )
    return Fallback(fallback, refused, setup)


class Fallback:
    """What one pool's workers need to know to pass tasks on."""

    def __init__(
        self, kind: Literal["process", "main"], refused: tuple[str, str] | None, setup: Setup
    ) -> None:
        from concurrent import interpreters

        self._key = f"{interpreters.get_current().id}.{_counter()}"
        self._refused = refused
        self._plain_setup = setup
        self._child: bytes | None = None
        if kind == "process":
            self._child = pickle.dumps((setup[0], _fallback_child.dumps(setup)), 5)
        weakref.finalize(self, _forget, self._key).atexit = False

    def __reduce__(self) -> tuple[Any, ...]:
        """With a pool that travels: what its tasks need, wherever they are submitted."""
        return _visit, (self._key, self._refused, self._child)

    @property
    def setup(self) -> Setup:
        """The pool's setup with warm-up and initializer guarded; without them if all tasks go elsewhere."""
        path, main_path, main_name, warmup, initializer, initargs, *more = self._plain_setup
        if self._refused is not None:
            warmup, initializer, initargs = None, None, ()
        if warmup is not None:
            warmup = b"S" + pickle.dumps((self._key, warmup), 5)
        if initializer is not None:
            initializer = b"S" + pickle.dumps((self._key, initializer), 5)
            initargs = (_core.Message(initargs),)
        return path, main_path, main_name, warmup, initializer, initargs, *more

    def guard(self, function: bytes) -> bytes:
        """Return a dumped function so that it passes itself on where it cannot be loaded."""
        return b"F" + pickle.dumps((self._key, self._child, self._refused, function), 5)

    def pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return a call's arguments so that a worker need not be able to load them."""
        if not kwargs and all(type(value) in _PLAIN for value in args):
            return args, kwargs
        return (_core.Message((args, kwargs)),), {}

    def routed(self) -> tuple[dict[int, int], dict[str, int]]:
        """Return how many tasks were passed on: by interpreter, and by the module that refused."""
        found: tuple[dict[int, int], dict[str, int]] = _on_main.on_main(
            "syncyte._fallback_main:routed", self._key
        )
        return found


def _visit(key: str, refused: tuple[str, str] | None, child: bytes | None) -> Fallback:
    fallback = Fallback.__new__(Fallback)
    fallback._key, fallback._refused, fallback._child = key, refused, child
    return fallback


def _forget(key: str) -> None:
    if _core._is_main() and "syncyte._fallback_main" not in sys.modules:
        return
    with contextlib.suppress(Exception):
        _on_main.on_main("syncyte._fallback_main:forget", key)
