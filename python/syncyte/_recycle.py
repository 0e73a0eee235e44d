"""Taking a worker's interpreter back to what it was after the warm-up, without making a new one.

CPython 3.14 does not give back all memory of an interpreter that is closed, so it is kept, and emptied.
"""

import gc
import sys
import types
from time import monotonic

from syncyte import _core
from syncyte._worker import is_of_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["end_threads", "remember", "restore", "thaw"]

# Seconds that threads which a task left have to end, all together.
_PATIENCE = 0.5

# Of this interpreter, after the warm-up: its modules with what was in them, and the filters of warnings.
_modules: dict[str, tuple[types.ModuleType, dict[str, Any]]] = {}
_warnings: list[Any] = []

# What was there after the last full collection is set apart from the collector (gc.freeze), so that the
# next ones look only at what came later. Full again after so many, or when modules have come to stay.
_FULL_EVERY = 64
_since_full = 0
_modules_then = 0

# What keeps its state: ourselves, and what the interpreter itself works with.
_KEPT = ("syncyte", "sys", "__main__", "_frozen_importlib", "_frozen_importlib_external")


def remember() -> None:
    """Note the warm state, to which restore() returns."""
    _modules.clear()
    for name, module in sys.modules.items():
        if name.partition(".")[0] not in _KEPT and isinstance(module, types.ModuleType):
            _modules[name] = module, dict(module.__dict__)
    warnings = sys.modules.get("warnings")
    if warnings is not None:
        _warnings[:] = warnings.filters
    _collect_all()


def thaw() -> None:
    """Give everything back to the collector; when the pool ends."""
    if _modules:
        gc.unfreeze()
        _modules.clear()
        _warnings.clear()


def _collect_all() -> None:
    global _since_full, _modules_then
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    _since_full, _modules_then = 0, len(sys.modules)


def restore() -> None:
    """Bring modules back to the warm state; end threads that tasks left.

    The program's own modules that came later are forgotten. The standard library's and installed packages'
    stay: many keep what they imported alive by registering it somewhere, and would leave that each time.
    """
    global _since_full
    compiled = {name.partition(".")[0] for name, module in sys.modules.items() if _is_compiled(module)}
    for name, module in list(sys.modules.items()):
        # What is compiled stays, and with it its whole package: it might not come up a second time.
        if name not in _modules and name.partition(".")[0] not in compiled and is_of_program(name, module):
            del sys.modules[name]
    for name, (module, content) in _modules.items():
        sys.modules[name] = module
        _reset(name, module.__dict__, content)
    warnings = sys.modules.get("warnings")
    if warnings is not None and warnings.filters != _warnings:
        warnings.resetwarnings()
        warnings.filters[:] = _warnings
    gc.enable()
    _since_full += 1
    if _since_full >= _FULL_EVERY or len(sys.modules) != _modules_then:
        _collect_all()
    else:
        gc.collect()
    end_threads()


def _is_compiled(module: object) -> bool:
    return not isinstance(module, types.ModuleType) or str(getattr(module, "__file__", None)).endswith(".so")


def _reset(name: str, present: dict[str, Any], content: dict[str, Any]) -> None:
    """Make `present`, a module's namespace, bind the names that it bound, to the objects it bound them to."""
    if len(present) == len(content):
        missing = object()
        if all(present.get(key, missing) is value for key, value in content.items()):
            return
    for key in [key for key in present if key not in content]:
        if f"{name}.{key}" not in sys.modules:
            del present[key]
    present.update(content)


def end_threads() -> None:
    """Raise SystemExit in threads that tasks left, and wait a little for them to end."""
    threading = sys.modules.get("threading")
    if threading is None:
        return
    left = [
        thread
        for thread in threading.enumerate()
        if not isinstance(thread, (threading._MainThread, threading._DummyThread))
        and thread.ident != threading.get_ident()
    ]
    for thread in left:
        _core._raise_in_thread(thread.ident, SystemExit)
    end = monotonic() + _PATIENCE
    for thread in left:
        thread.join(max(0.0, end - monotonic()))
