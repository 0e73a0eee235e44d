"""What keeps a function from running elsewhere with the same outcome, as far as its code tells."""

import sys
import types
from typing import Any

from syncyte import _core, _travel

_PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes, range))
# Modules whose instances do not change once made.
_FIXED_MODULES = frozenset(("datetime", "decimal", "fractions", "ipaddress", "pathlib", "uuid", "zoneinfo"))
# Modules whose functions draw on a state that each interpreter has of its own.
_STATEFUL = frozenset(("random", "_random"))
_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200


def is_fixed(value: object) -> bool:
    """Whether nobody can change the value, or it travels by reference: a copy is as good."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind in (tuple, frozenset):
        return all(is_fixed(item) for item in value)  # type: ignore[attr-defined]
    if isinstance(value, (_core.Handle, types.ModuleType, type)):
        return True
    if isinstance(value, types.BuiltinFunctionType):
        return value.__self__ is None or isinstance(value.__self__, types.ModuleType)
    if isinstance(value, types.FunctionType):
        return obstacle_of(value) is None
    return kind.__module__.partition(".")[0] in _FIXED_MODULES


def obstacle_of(fn: object) -> str | None:
    """Why calls of `fn` have to stay where they are; None if nothing is known against moving them."""
    obstacle = _look(fn, set())
    if obstacle is not None:
        return obstacle
    try:
        _travel.dump(fn)  # type: ignore[arg-type]
    except Exception as error:
        return str(error)
    return None


def _look(fn: Any, seen: set[int]) -> str | None:
    if isinstance(fn, (types.BuiltinFunctionType, type)):
        return None if is_fixed(fn) else f"{fn!r} belongs to an object"
    if not isinstance(fn, types.FunctionType):
        return f"a {type(fn).__name__} is not a plain function"
    if id(fn) in seen:
        return None
    seen.add(id(fn))
    name, code = fn.__qualname__, fn.__code__
    if code.co_flags & (_COROUTINE | _ASYNC_GENERATOR):
        return f"{name} is a coroutine function: its body runs in the event loop"
    if code.co_flags & _GENERATOR:
        return f"{name} is a generator function: its body runs where it is consumed"
    assigned = _assigned(code)
    if assigned is not None:
        return f"{name} assigns {assigned}"
    for default in [*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()]:
        if not is_fixed(default):
            return f"{name} has a {type(default).__name__} as default, which calls share"
    return _look_at_cells(fn, seen) or _look_at_globals(fn, seen)


def _assigned(code: types.CodeType) -> str | None:
    """A global, or a variable of an enclosing function, that the code assigns or deletes."""
    import dis

    for instruction in dis.get_instructions(code):
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            return f"the global {instruction.argval!r}"
        if instruction.opname in ("STORE_DEREF", "DELETE_DEREF") and instruction.argval in code.co_freevars:
            return f"{instruction.argval!r} of the function around it"
    for constant in code.co_consts:
        # A function inside may assign to the variables of this one, but not further out.
        if isinstance(constant, types.CodeType) and (found := _assigned_outside(constant, code)) is not None:
            return found
    return None


def _assigned_outside(inner: types.CodeType, outer: types.CodeType) -> str | None:
    found = _assigned(inner)
    if found is None or found.startswith("the global"):
        return found
    name = found.split("'")[1]
    return found if name in outer.co_freevars else None


def _look_at_cells(fn: types.FunctionType, seen: set[int]) -> str | None:
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:
            continue
        obstacle = _look_at(value, seen, f"{fn.__qualname__} uses {name!r} of the function around it")
        if obstacle is not None:
            return obstacle
    return None


def _look_at_globals(fn: types.FunctionType, seen: set[int]) -> str | None:
    for name in sorted(_travel._global_names(fn.__code__)):
        if name in fn.__globals__:
            value = fn.__globals__[name]
            obstacle = _look_at(value, seen, f"{fn.__qualname__} uses the global {name!r}")
            if obstacle is not None:
                return obstacle
    return None


def _look_at(value: object, seen: set[int], use: str) -> str | None:
    inner = getattr(value, "_fn", None) if type(value).__name__ == "Isolated" else value
    if isinstance(inner, types.FunctionType):
        return None if _is_library(inner) else _look(inner, seen)
    if isinstance(value, types.ModuleType) and value.__name__ in _STATEFUL:
        return f"{use}: a module with a state that each interpreter has of its own"
    if not is_fixed(value):
        return f"{use}, a {type(value).__name__} that an interpreter would only have a copy of"
    return None


def _is_library(fn: types.FunctionType) -> bool:
    """Whether a function is the standard library's or an installed package's: trusted to keep no state."""
    module = fn.__module__ if isinstance(fn.__module__, str) else ""
    if module.partition(".")[0] in sys.stdlib_module_names:
        return module.partition(".")[0] not in _STATEFUL and module != "__main__"
    return "site-packages" in fn.__code__.co_filename or "dist-packages" in fn.__code__.co_filename
