"""How tasks end, and the exceptions that stand for those which did not return."""

import types
from concurrent import interpreters
from concurrent.futures import CancelledError
from concurrent.futures.interpreter import BrokenInterpreterPool

from syncyte import _core

__all__ = ["BROKEN", "CANCELLED", "RAISED", "RETURNED", "TIMED_OUT", "rebuild"]

# As the core numbers them.
RETURNED, RAISED, CANCELLED, TIMED_OUT, BROKEN = range(5)


def rebuild(failure: tuple[int, BaseException | None, tuple[str, ...] | None, str]) -> BaseException:
    """Return the exception that stands for a task which did not return."""
    ending, exception, display, message = failure
    if ending == CANCELLED:
        return CancelledError()
    if ending == TIMED_OUT:
        return TimeoutError(message)
    if ending == BROKEN:
        return BrokenInterpreterPool(message)
    if display is None:
        return exception or _core.Error(message)
    module, qualname, name, text, line, shown = display
    kind = types.SimpleNamespace(__name__=name, __qualname__=qualname, __module__=module)
    info = types.SimpleNamespace(type=kind, msg=text, formatted=line, errdisplay=shown)
    cause = interpreters.ExecutionFailed(info)
    if exception is None:
        exception = _core.Error(f"{module}.{qualname}: {text} (the exception itself could not travel)")
    exception.__cause__ = cause
    return exception
