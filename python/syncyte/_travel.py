"""How callables travel: by name, by code with the globals they use, or by pickle."""

import pickle
import sys
import types
from collections.abc import Callable
from concurrent.interpreters import NotShareableError
from io import BytesIO
from opcode import opmap
from typing import Any

from syncyte import _worker

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_LOAD_GLOBAL, _LOAD_NAME, _EXTENDED_ARG = opmap["LOAD_GLOBAL"], opmap["LOAD_NAME"], opmap["EXTENDED_ARG"]


class Dumped:
    """A callable as bytes, and how to tell that the same bytes still stand for it.

    `checks` lists (namespace, name, value): the globals that the bytes carry. None: never reuse the bytes.
    """

    __slots__ = ("checks", "code", "data", "defaults")

    def __init__(
        self, data: bytes, checks: list[tuple[dict[str, Any], str, Any]] | None, fn: object = None
    ) -> None:
        self.data = data
        self.checks = checks
        self.code = getattr(fn, "__code__", None)
        self.defaults = getattr(fn, "__defaults__", None)

    def still_holds(self, fn: object) -> bool:
        """Whether `fn` and the globals it uses are what they were."""
        if self.checks is None or getattr(fn, "__code__", None) is not self.code:
            return False
        if getattr(fn, "__defaults__", None) is not self.defaults:
            return False
        return all(namespace.get(name, _missing) is value for namespace, name, value in self.checks)


_missing = object()


def dump(fn: Callable[..., object]) -> Dumped:
    """Return `fn` as bytes for `syncyte._worker.load`.

    Raises concurrent.interpreters.NotShareableError, naming what cannot travel.
    """
    if is_importable(fn):
        return Dumped(f"N{fn.__module__}:{fn.__qualname__}".encode(), [], fn)
    return _dump(fn, fn)


def dump_call(fn: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> bytes:
    """Return a whole call as bytes: for arguments with functions inside that only `dump` knows to carry."""
    from functools import partial

    return _dump(partial(fn, *args, **kwargs), fn).data


def _dump(target: object, fn: object) -> Dumped:
    entries: dict[tuple[str, str], bytes | None] = {}
    checks: list[tuple[dict[str, Any], str, Any]] = []
    pickler = _Pickler(entries, checks)
    try:
        payload = pickler.dumps(target)
    except RecursionError:
        raise
    except Exception as error:
        data = _by_cloudpickle(target)
        if data is None:
            message = f"{_describe(fn)} cannot travel to another interpreter: {error}"
            raise NotShareableError(message) from None
        return Dumped(data, None)
    data = b"C" + pickle.dumps((list(entries.items()), payload), 5)
    return Dumped(data, checks if pickler.shared.reusable else None, fn)


def _by_cloudpickle(target: object) -> bytes | None:
    try:
        import cloudpickle  # type: ignore[import-not-found]
    except ImportError:
        return None
    try:
        return b"P" + bytes(cloudpickle.dumps(target))
    except Exception:
        return None


def _describe(fn: object) -> str:
    name = getattr(fn, "__qualname__", None)
    return f"function {name!r}" if name else f"{type(fn).__qualname__!r} object"


def is_importable(fn: object) -> bool:
    """Whether another interpreter finds `fn` by its module and qualified name."""
    module, qualname = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or module in ("__main__", "__mp_main__"):
        return False
    if not isinstance(fn, (types.FunctionType, types.BuiltinFunctionType, type)):
        return False
    found: object = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found is fn


def _global_names(code: types.CodeType) -> set[str]:
    """Return the names that `code` and the functions inside it look up as globals."""
    names = set()
    raw, extended = code.co_code, 0
    for at in range(0, len(raw), 2):
        op, arg = raw[at], raw[at + 1] | extended
        extended = arg << 8 if op == _EXTENDED_ARG else 0
        if op == _LOAD_GLOBAL:
            names.add(code.co_names[arg >> 1])
        elif op == _LOAD_NAME:
            names.add(code.co_names[arg])
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


class _Shared:
    def __init__(self) -> None:
        self.reusable = True


class _Pickler(pickle.Pickler):
    def __init__(
        self,
        entries: dict[tuple[str, str], bytes | None],
        checks: list[tuple[dict[str, Any], str, Any]],
        shared: _Shared | None = None,
    ) -> None:
        self.buffer = BytesIO()
        super().__init__(self.buffer, 5)
        self.entries = entries
        self.checks = checks
        self.shared = shared or _Shared()

    def dumps(self, target: object) -> bytes:
        self.dump(target)
        return self.buffer.getvalue()

    def reducer_override(self, target: Any) -> Any:
        if isinstance(target, types.FunctionType):
            if is_importable(target):
                return NotImplemented
            return self._function(target)
        if isinstance(target, types.ModuleType):
            return _worker.import_or_stand_in, (target.__name__,)
        if not isinstance(target, (types.BuiltinFunctionType, type, types.CodeType)):
            self.shared.reusable = False
        if isinstance(target, types.CodeType):
            import marshal

            return _worker.load_code, (marshal.dumps(target),)
        return NotImplemented

    def _function(self, fn: types.FunctionType) -> tuple[object, ...]:
        module = fn.__module__ if isinstance(fn.__module__, str) else "__main__"
        if module == "__mp_main__":
            module = "__main__"
        self._globals_of(fn, module)
        cells = fn.__closure__
        if cells or fn.__dict__ or fn.__kwdefaults__:
            self.shared.reusable = False
        state = (
            None if cells is None else tuple(self._contents(fn, i, cell) for i, cell in enumerate(cells)),
            fn.__defaults__,
            fn.__kwdefaults__,
            fn.__dict__ or None,
        )
        if any(type(value) not in _PLAIN for value in fn.__defaults__ or ()):
            self.shared.reusable = False
        maker = (fn.__code__, module, fn.__name__, fn.__qualname__, fn.__doc__)
        return _worker.make_function, maker, state, None, None, _worker.set_function_state

    def _contents(self, fn: types.FunctionType, index: int, cell: types.CellType) -> tuple[object, ...]:
        try:
            value = cell.cell_contents
        except ValueError:
            return ()
        if value is not fn and not isinstance(value, types.FunctionType):
            self._try(value, f"the variable {fn.__code__.co_freevars[index]!r} of its closure")
        return (value,)

    def _globals_of(self, fn: types.FunctionType, module: str) -> None:
        for name in sorted(_global_names(fn.__code__)):
            if name not in fn.__globals__:
                continue  # a builtin, or missing there as here
            value = fn.__globals__[name]
            self.checks.append((fn.__globals__, name, value))
            key = (module, name)
            if key in self.entries:
                continue
            self.entries[key] = None
            self.entries[key] = self._try(value, f"global {name!r} that {fn.__qualname__!r} uses")

    def _try(self, value: object, what: str) -> bytes:
        try:
            return _Pickler(self.entries, self.checks, self.shared).dumps(value)
        except RecursionError:
            raise
        except Exception as error:
            if isinstance(error, NotShareableError):
                raise
            raise NotShareableError(f"{what}, a {type(value).__name__!r}: {error}") from None
