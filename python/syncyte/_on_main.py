"""on_main: a call in the main interpreter, from any other.

Extension modules that refuse to be in interpreters with a GIL of their own, such as numpy and torch, live in
the main interpreter; its globals are reachable from everywhere this way.
"""

import sys
import types
from typing import Any

from syncyte import _core, _worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["on_main"]

# What is sent: ("name", "module:qualname"), ("code", module, qualname, code bytes) for a function that the
# main interpreter has in its own __main__ if the code is the same, ("dump", bytes of syncyte._travel).
type _Target = tuple[str, *tuple[Any, ...]]

# How it ended.
_RETURNED, _RAISED, _UNKNOWN = range(3)


def on_main[T](fn: Callable[..., T] | str, /, *args: Any, **kwargs: Any) -> T:
    """Call `fn(*args, **kwargs)` in the main interpreter, wait, and return what it returns.

    fn: a function, or its address "package.module:name", for functions whose module cannot be imported here.
        A function of the program's __main__ is the main interpreter's own, with its live globals. Others
        travel by name where both interpreters can import them, else by their code.

    Arguments and the result travel as a queue's messages do; hand big data over in a SharedBuffer. The
    calling thread itself runs the call, beside the main thread and in turns with it, for the main interpreter
    has one GIL; it is not the main thread there. When the task that calls is cancelled or out of time, the
    call is interrupted like the task. In the main interpreter this is a plain call.

    Raises what fn raised, with the main interpreter's traceback as the cause; NotShareableError (a TypeError)
    for what cannot travel, or cannot be rebuilt here, such as an array of a library that refuses to be
    imported; RuntimeError when the main interpreter is ending.
    """
    if _core._is_main():
        called = _resolve(fn) if isinstance(fn, str) else fn
        result: T = called(*args, **kwargs)
        return result
    if not isinstance(fn, str) and not callable(fn):
        raise TypeError(f"on_main needs a function, or its address 'module:name', not {type(fn).__name__!r}")
    for target in _targets(fn):
        ending, content, *more = _ask(fn, target, args, kwargs)
        if ending == _RETURNED:
            return _received(fn, content)  # type: ignore[no-any-return]
        if ending == _RAISED:
            raise _rebuilt(content, *more)
    raise RuntimeError(f"the main interpreter does not know {_name(fn)}")


def _name(fn: object) -> str:
    return repr(fn) if isinstance(fn, str) else repr(getattr(fn, "__qualname__", fn))


# --- in the calling interpreter -------------------------------------------------------------------------


def _targets(fn: Callable[..., object] | str) -> Any:
    """Ways to name or carry the function, the most faithful first."""
    if isinstance(fn, str):
        _check_address(fn)
        yield "name", fn
        return
    module, qualname = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "")
    code = getattr(fn, "__code__", None)
    in_main = module in ("__main__", "__mp_main__") and "<" not in qualname
    if in_main and isinstance(fn, types.FunctionType) and code is not None:
        import marshal

        yield "code", "__main__", qualname, marshal.dumps(code)
    from syncyte import _travel

    yield "dump", _travel.dump(fn).data


def _check_address(address: str) -> None:
    module, colon, name = address.partition(":")
    if not (module and colon and name):
        raise ValueError(f"a function's address is 'package.module:name', not {address!r}")


def _ask(fn: object, target: _Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        message = _core.Message((args, kwargs))
    except Exception as error:
        raise _not_shareable(f"the arguments for {_name(fn)} cannot travel: {error}") from error
    return _core._call_on_main((target, message))


def _received(fn: object, content: _core.Message) -> Any:
    try:
        return content.get()
    except Exception as error:
        raise _not_shareable(
            f"the result of {_name(fn)} cannot be rebuilt in this interpreter "
            f"({_worker.first_cause(error)}); return plain values, bytes or a SharedBuffer"
        ) from error


def _not_shareable(message: str) -> Exception:
    from concurrent.interpreters import NotShareableError

    return NotShareableError(message)


def _rebuilt(content: _core.Message | None, display: tuple[str, str, str, str, str, str]) -> BaseException:
    """The exception of the main interpreter, with the traceback it had there as its cause."""
    from concurrent.interpreters import ExecutionFailed

    module, qualname, name, text, line, shown = display
    kind = types.SimpleNamespace(__name__=name, __qualname__=qualname, __module__=module)
    exception: BaseException | None = None
    if content is not None:
        try:
            exception = content.get()
        except Exception:
            exception = None
    if exception is None:
        exception = _core.Error(f"{module}.{qualname}: {text} (the exception itself could not travel)")
    info = types.SimpleNamespace(type=kind, msg=text, formatted=line, errdisplay=shown)
    exception.__cause__ = ExecutionFailed(info)
    return exception


# --- in the main interpreter ----------------------------------------------------------------------------

# What calls brought into namespaces here: (module, name) -> bytes. What was there before is never replaced.
_brought: dict[tuple[str, str], bytes] = {}
_codes: dict[bytes, types.CodeType] = {}


def _answer(asked: tuple[_Target, _core.Message]) -> tuple[Any, ...]:
    """Called by the core for on_main() of other interpreters."""
    target, message = asked
    try:
        fn = _found(target)
        if fn is None:
            return (_UNKNOWN, None)
        args, kwargs = message.get()
        result = fn(*args, **kwargs)
    except BaseException as error:
        return _RAISED, _carried(error), _worker.describe(error)
    try:
        return _RETURNED, _core.Message(result)
    except Exception as error:
        refusal = _not_shareable(
            f"the result of {_name(fn)}, of type {type(result).__name__!r}, cannot travel: {error}; "
            "return plain values, bytes or a SharedBuffer"
        )
        return _RAISED, _carried(refusal), _worker.describe(refusal)


def _carried(error: BaseException) -> _core.Message | None:
    try:
        return _core.Message(error)
    except Exception:
        return None


def _found(target: _Target) -> Callable[..., Any] | None:
    kind, *rest = target
    if kind == "name":
        return _resolve(rest[0])
    if kind == "code":
        return _own(*rest)
    return _loaded(rest[0])


def _resolve(address: str) -> Callable[..., Any]:
    _check_address(address)
    name, _, qualname = address.partition(":")
    __import__(name)
    found: Any = sys.modules[name]
    for part in qualname.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def _own(module: str, qualname: str, data: bytes) -> Callable[..., Any] | None:
    """The main interpreter's own function of that name, if it is the one that was meant."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    own = getattr(found, "__code__", None)
    if own is None or getattr(found, "__closure__", None):
        return None
    code = _codes.get(data)
    if code is None:
        import marshal

        if len(_codes) >= 256:
            _codes.clear()
        code = _codes[data] = marshal.loads(data)
    return found if own == code else None


def _loaded(data: bytes) -> Callable[..., Any]:
    """What syncyte._travel.dump wrote, with the globals that the main interpreter has rather than copies."""
    if data[:1] != b"C":
        return _worker.load(data)  # type: ignore[return-value]
    import pickle

    entries, payload = pickle.loads(data[1:])
    for (module, name), value in entries:
        namespace = _globals_of(module)
        if name not in namespace or _brought.get((module, name), value) != value:
            namespace[name] = pickle.loads(value)
            _brought[module, name] = value
    return pickle.loads(payload)  # type: ignore[no-any-return]


def _globals_of(module: str) -> dict[str, object]:
    if module != "__main__" and module not in _worker._namespaces:
        try:
            __import__(module)
        except ImportError:
            return _worker.namespace(module)
        _worker._namespaces[module] = sys.modules[module].__dict__
    return _worker.namespace(module)
