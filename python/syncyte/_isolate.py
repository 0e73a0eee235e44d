"""isolate: functions that move to an interpreter with a GIL of its own when that is worth it."""

import re
import threading
import types
from collections.abc import Callable
from functools import update_wrapper
from time import perf_counter, thread_time
from typing import Any, overload

from syncyte import _core, _fallback_worker, _travel
from syncyte._pool import InterpreterPool, PoolFuture
from syncyte._purity import is_fixed, obstacle_of

__all__ = ["Isolated", "isolate"]

# Seconds a call must cost to move: some thirty times what handing it over costs.
_THRESHOLD = 0.001
# A moved function comes back when a call costs less than this share of the threshold: no to and fro.
_RETURN_SHARE = 0.5
# How much of the average the newest call makes.
_NEWEST = 0.25
# A call that spends less of its time on a CPU waits for something, with the GIL released: it stays.
_BUSY_SHARE = 0.5
# Calls that must have been measured before a function moves: the first one often imports and fills caches.
_MEASURED_FIRST = 2
# A function whose cost is this many times below the threshold is measured once in so many calls.
_CHEAP = 8
_UNWATCHED = 15
# Reading a thread's CPU time is a call of the kernel: once in so many calls will do, once it is known.
_CPU_TIME_EVERY = 8

_shared_lock = threading.Lock()
_shared: InterpreterPool | None = None


def _shared_pool() -> InterpreterPool:
    """The pool of all functions that were given none; opened when the first of them moves."""
    global _shared
    with _shared_lock:
        if _shared is None or _shared._shutdown:
            _shared = InterpreterPool(thread_name_prefix="isolate", warmup=None)
        return _shared


@overload
def isolate[**P, R](fn: Callable[P, R], /) -> Isolated[P, R]: ...
@overload
def isolate[**P, R](
    *, pool: InterpreterPool | None = None, threshold: float = _THRESHOLD, copy_arguments: bool = False
) -> Callable[[Callable[P, R]], Isolated[P, R]]: ...
def isolate(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    pool: InterpreterPool | None = None,
    threshold: float = _THRESHOLD,
    copy_arguments: bool = False,
) -> Any:
    """Decorate a function: its calls run in place while they are cheap, and move to an interpreter otherwise.

    pool: where to; one shared by all such functions if None, opened when it is first needed.
    threshold: seconds of CPU time a call has to cost, on average, to be worth moving.
    copy_arguments: whether lists, dicts and other mutable arguments may be handed over as copies: say so of
        functions that do not change their arguments. Calls with such arguments stay in place otherwise.

    A call moves when the function's measured cost is above the threshold, a core is idle, and nothing of the
    result would change: functions that assign globals, use mutable ones, or cannot travel stay, and stats()
    says why. Not seen: state kept inside other modules, which each interpreter has of its own.
    """
    if not threshold >= 0:
        raise ValueError(f"threshold must be a number of seconds, 0 or more, got {threshold!r}")
    if fn is None:
        return lambda fn: Isolated(fn, pool, threshold, copy_arguments)
    return Isolated(fn, pool, threshold, copy_arguments)


class Isolated[**P, R]:
    """A function under isolate(): called like the function; `await fn.run(...)` in event loops."""

    def __init__(
        self,
        fn: Callable[P, R],
        pool: InterpreterPool | None = None,
        threshold: float = _THRESHOLD,
        copy_arguments: bool = False,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"isolate needs a function, not {type(fn).__name__!r}")
        update_wrapper(self, fn)
        self._fn = fn
        self._pool = pool
        self._threshold = threshold
        self._copy_arguments = copy_arguments
        self._cost = 0.0
        self._busy = 0.0  # share of its time that it spends on a CPU; 0: not measured yet
        self._in_place = 0  # the unwatched ones to come included
        self._unwatched = 0  # calls to make before one is measured again
        self._moved = 0
        self._dear = False  # whether its cost asks for an interpreter
        self._reason = ""  # why the last dear call ran where it did
        # Why it never moves. Examined when it first could; None until then, and if nothing was found.
        self._obstacle = None if _core._is_main() else "is not in the main interpreter"
        self._examined = False
        self._dumped: _travel.Dumped | None = None

    # --- calls ---

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the function, here or in an interpreter, and returns its result."""
        if self._unwatched > 0:  # threads may take it below
            self._unwatched -= 1
            return self._fn(*args, **kwargs)
        if self._dear:
            return self._call_dear(args, kwargs)  # type: ignore[no-any-return]
        start = perf_counter()
        try:
            return self._fn(*args, **kwargs)
        finally:
            spent = perf_counter() - start
            self._in_place += 1
            self._cost = cost = self._cost + (spent - self._cost) * _NEWEST
            if cost * _CHEAP < self._threshold:
                self._unwatched = _UNWATCHED
                self._in_place += _UNWATCHED
            elif cost > self._threshold and self._obstacle is None:
                self._dear = self._in_place >= _MEASURED_FIRST

    async def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the function without holding the event loop up, unless it is known to be cheap.

        A call that cannot move runs in a thread of the loop's executor. Cancelling the awaiting task takes a
        call back that has not started.
        """
        import asyncio

        if self._in_place >= _MEASURED_FIRST and self._cost <= self._threshold:
            return self(*args, **kwargs)
        if self._may_ever_move() and self._obstacle_in(args, kwargs) is None:
            start = perf_counter()
            try:
                result: R = await asyncio.wrap_future(self._submit(args, kwargs))
            except _refusals() as error:
                if self._is_own(error):
                    raise
                self._moved -= 1
                result = await asyncio.to_thread(self._call_measured, args, kwargs)
                self._stay(error)
            else:
                self._learn(perf_counter() - start)
            return result
        return await asyncio.to_thread(self._call_measured, args, kwargs)

    def _call_dear(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._may_move_now(args, kwargs):
            if self._busy and self._in_place % _CPU_TIME_EVERY:
                return self._call_timed(args, kwargs)
            return self._call_measured(args, kwargs)
        start = perf_counter()
        try:
            result = self._submit(args, kwargs).result()
        except _refusals() as error:
            if self._is_own(error):
                raise
            self._moved -= 1
            result = self._call_measured(args, kwargs)
            self._stay(error)
        else:
            self._learn(perf_counter() - start)
        return result

    def _call_timed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        start = perf_counter()
        try:
            return self._fn(*args, **kwargs)
        finally:
            self._in_place += 1
            self._count(perf_counter() - start)

    def _call_measured(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        start, on_cpu = perf_counter(), thread_time()
        try:
            return self._fn(*args, **kwargs)
        finally:
            spent, on_cpu = perf_counter() - start, thread_time() - on_cpu
            self._in_place += 1
            self._busy += (min(1.0, on_cpu / spent) - self._busy) * _NEWEST if self._busy else on_cpu / spent
            self._count(spent)

    def _is_own(self, error: BaseException) -> bool:
        """Whether the function itself raised it, rather than what carries it there or its result home.

        Not its own either: an import that only interpreters refuse.
        """
        if isinstance(error, ImportError) and _fallback_worker.refusal_in(error) is not None:
            return False
        code = getattr(self._fn, "__code__", None)
        excinfo = getattr(error.__cause__, "excinfo", None)
        if code is None or excinfo is None:
            return False
        frame = rf'File "{re.escape(code.co_filename)}", line \d+, in {re.escape(code.co_name)}$'
        return re.search(frame, excinfo.errdisplay, re.MULTILINE) is not None

    def _submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PoolFuture:
        self._moved += 1
        try:
            call: tuple[bytes, _core.Message | None]
            try:
                call = self._data(), _core.Message((args, kwargs))
            except Exception:  # a function among the arguments, say
                call = _travel.dump_call(self._fn, args, kwargs), None
            return (self._pool or _shared_pool()).submit(_fallback_worker.call_here, *call)
        except RuntimeError as refusal:
            raise _RefusedError(str(refusal)) from refusal

    def _data(self) -> bytes:
        """The function as it travels, made anew when what it carries has changed."""
        dumped = self._dumped
        if dumped is None or not dumped.still_holds(self._fn):
            dumped = self._dumped = _travel.dump(self._fn)
        return dumped.data

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """As a method: the instance is the first argument."""
        return self if instance is None else types.MethodType(self, instance)

    def __reduce__(self) -> tuple[Any, ...]:
        """In another interpreter it is made anew, and stays in place there."""
        return Isolated, (self._fn, None, self._threshold, self._copy_arguments)

    # --- decisions ---

    def stats(self) -> dict[str, Any]:
        """Return how many calls ran in_place, how many moved, and how the next one is decided.

        cost: seconds of a call, on average, newer ones counting more. where: "in place" or "interpreter", the
        latter if a core is idle. reason: why.
        """
        moves = self._dear and self._busy >= _BUSY_SHARE and self._may_ever_move()
        reason = self._reason or "being measured" if self._dear else self._obstacle or "cheap"
        if self._in_place + self._moved == 0:
            reason = self._obstacle or "not called yet"
        return {
            "in_place": self._in_place - self._unwatched,
            "moved": self._moved,
            "cost": self._cost,
            "where": "interpreter" if moves else "in place",
            "reason": reason,
        }

    def _count(self, spent: float) -> None:
        self._cost += (spent - self._cost) * _NEWEST
        if self._cost < self._threshold * _RETURN_SHARE:
            self._dear = False

    def _learn(self, spent: float) -> None:
        self._reason = f"costs {self._cost * 1e3:.3g} ms a call"
        self._count(spent)

    def _stay(self, why: BaseException) -> None:
        self._obstacle = f"{type(why).__name__}: {why}"
        self._dear = False

    def _may_ever_move(self) -> bool:
        if not self._examined:
            self._examined = True
            if self._obstacle is None:
                self._obstacle = obstacle_of(self._fn)
            if self._obstacle is not None:
                self._dear = False
        return self._obstacle is None

    def _may_move_now(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if not self._may_ever_move():
            return False
        # The cheapest to find out comes first.
        obstacle = None if self._busy else "its CPU time is being measured"
        if obstacle is None and _core._idle_cores() == 0:
            obstacle = "no core was idle"
        if obstacle is None and self._busy < _BUSY_SHARE:
            obstacle = "waits more than it computes"
        if obstacle is None:
            obstacle = self._obstacle_in(args, kwargs)
        if obstacle is None and not self._is_pool_free():
            obstacle = "no worker was free"
        if obstacle is not None:
            self._reason = obstacle
        return obstacle is None

    def _is_pool_free(self) -> bool:
        """Whether the workers are up, and none of them has calls waiting."""
        pool = self._pool or _shared_pool()
        try:
            pool.wait_ready(0)
        except TimeoutError:
            return False
        except Exception as broken:
            self._stay(broken)
            return False
        return pool._core.pending == 0 and not pool._shutdown

    def _obstacle_in(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        if self._copy_arguments:
            return None
        for name, value in [*enumerate(args), *kwargs.items()]:
            if not is_fixed(value):
                kind = type(value).__name__
                return (
                    f"argument {name!r} is a {kind}, which the function could change (copy_arguments=False)"
                )
        return None


class _RefusedError(Exception):
    """A pool takes no calls any more."""


def _refusals() -> tuple[type[Exception], ...]:
    """What comes of a call that could not be made elsewhere, or whose result could not be brought."""
    from concurrent.futures.interpreter import BrokenInterpreterPool

    return TypeError, ImportError, BrokenInterpreterPool, _RefusedError
