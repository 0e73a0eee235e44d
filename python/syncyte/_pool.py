"""InterpreterPool: an executor whose workers are interpreters with a GIL each."""

import contextlib
import itertools
import os
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent import interpreters
from concurrent.futures import Executor, Future
from concurrent.futures import _base as base
from concurrent.futures.interpreter import BrokenInterpreterPool
from typing import TYPE_CHECKING, Any, Literal

from syncyte import _core, _fork, _pool_map, _travel, _worker
from syncyte._outcome import CANCELLED, RETURNED, rebuild

if TYPE_CHECKING:
    from syncyte._fallback import Fallback, Kind

__all__ = ["InterpreterPool", "PoolFuture"]

_STATES = ("starting", "idle", "busy", "gone")
# What a worker needs for itself: its interpreter, the warm-up, and room to report an error.
_LEAST_MEMORY = 32 << 20

# Of this interpreter: its workers, their interpreters, the futures somebody waits for by other means than
# result(), and its open pools by id.
_crew = _core.Crew()
_interpreters: list[interpreters.Interpreter] = []
_watched: dict[int, PoolFuture] = {}
_pools: weakref.WeakValueDictionary[int, InterpreterPool] = weakref.WeakValueDictionary()
# Pools of other interpreters that are known here, by id.
_visited: weakref.WeakValueDictionary[int, InterpreterPool] = weakref.WeakValueDictionary()
_process = os.getpid()
_lazy = threading.Lock()
_exiting = False

# Callables that are equal only to themselves, and so can be remembered by a pool.
_REMEMBERED = (types.FunctionType, types.BuiltinFunctionType, type)


# Timeout and deadline in seconds, priority, and the worker that must do it or -1.
type _Limits = tuple[float | None, float | None, int, int]


def _live(worker: int) -> None:
    """A worker's life, on its thread; as long as the call runs, nobody can close the interpreter."""
    interpreter = interpreters.create()
    _interpreters.append(interpreter)
    # No names are left in its __main__, and nothing but the worker's own modules is imported.
    interpreter.exec(
        f"__import__('sys').path[:] = {sys.path!r}\n__import__('syncyte._core')._core._live_here({worker})"
    )


def _deliver(kind: int, id: int) -> None:
    """Called on the notifier's thread: a watched task ended (0), or a pool broke (1)."""
    if kind == 0:
        future = _watched.pop(id, None)
        if future is not None:
            future._finish()
        return
    pool = _pools.get(id)
    if pool is not None:
        pool._break()


def _close_all() -> None:
    """Finish what was submitted, end the workers, close their interpreters; before the interpreter's exit."""
    global _exiting
    _exiting = True
    if os.getpid() != _process:  # forked behind Python's back: the threads to wait for are not here
        return
    for pool in list(_pools.values()):
        pool.shutdown(wait=False)
    _crew.dismiss()
    interrupted = isinstance(getattr(sys, "last_exc", None), KeyboardInterrupt)
    while True:
        try:
            if interrupted:
                _interrupt_running()
            else:
                _crew.wait_gone(None)
            break
        except KeyboardInterrupt:
            interrupted = True
    _close(_crew)


def _interrupt_running() -> None:
    """Give running tasks half a second to end by an exception; what is stuck in a C call ends with us."""
    for pool in list(_pools.values()):
        pool._core.cancel_waiting()
    for _ in range(10):
        _crew.interrupt_all()
        try:
            _crew.wait_gone(0.05)
        except TimeoutError:
            continue
        return
    import signal

    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def _let_go() -> None:
    """Close the interpreters that wait for the next pool; before a fork."""
    global _crew
    idle, _crew = _crew, _core.Crew()
    idle.dismiss()
    idle.wait_gone(None)
    _close(idle)


def _close(crew: _core.Crew) -> None:
    crew.stop()
    while _interpreters:
        with contextlib.suppress(interpreters.InterpreterNotFoundError):
            _interpreters.pop().close()


def _note_process() -> None:
    global _process
    _process = os.getpid()


os.register_at_fork(after_in_child=_note_process)
threading._register_atexit(_close_all)  # type: ignore[attr-defined]


class PoolFuture(Future[Any]):
    """The future of a task; everything of concurrent.futures works with it.

    Waiting for its result goes straight to the task in the core. The attributes that the standard library
    shares between futures, waiters and callbacks come to life when they are first needed; from then on the
    notifier's thread tells of the end.

    `worker` and `interpreter_id` say where it ran, once it has started.
    """

    _settled: str | None = None
    _error: BaseException | None = None

    def __init__(self, task: _core.Task) -> None:
        self._task = task

    def __reduce__(self) -> tuple[Any, ...]:
        """As a future of the same task, in whichever interpreter it arrives."""
        return PoolFuture, (self._task.travelling(),)

    @property
    def worker(self) -> int | None:
        """Index of the worker that ran the task."""
        return self._task.worker

    @property
    def interpreter_id(self) -> int | None:
        """Id of the interpreter that ran the task."""
        return self._task.interpreter

    def result(self, timeout: float | None = None) -> Any:
        """As concurrent.futures.Future.result."""
        value = self._task.result(timeout)
        if value is self._task:
            try:
                raise self._failure()
            finally:
                self = None  # type: ignore[assignment]  # its exception's traceback refers to this frame
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As concurrent.futures.Future.exception."""
        self._task.wait(timeout)
        if self._task.ending == CANCELLED:
            raise base.CancelledError
        return self._exception

    def done(self) -> bool:
        """Whether the task was cancelled or is over."""
        return self._task.done()

    def running(self) -> bool:
        """Whether the task runs now."""
        return self._task.running()

    def cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self._task.ending == CANCELLED

    def cancel(self) -> bool:
        """End the task; False when it is over.

        One that runs is interrupted by an exception at its next bytecode. Its future is cancelled at once.
        """
        if self._task.cancel():
            if "_own_condition" in self.__dict__:
                self._finish()
            return True
        return self._task.ending == CANCELLED

    def _failure(self) -> BaseException:
        if self._task.ending == CANCELLED:
            return base.CancelledError()
        if self._error is None:
            self._error = rebuild(self._task.failure())
        return self._error

    # What concurrent.futures' own code reads and writes. Who holds the condition counts on the state to hold
    # still: wait() looks at it twice before it says what it waits for.

    @property
    def _state(self) -> str:  # type: ignore[override]
        condition: threading.Condition | None = self.__dict__.get("_own_condition")
        if condition is not None:
            self._settle_unless_held(condition)
        if self._settled is not None:
            return self._settled
        if condition is None and self._task.done():
            return base.CANCELLED_AND_NOTIFIED if self._task.ending == CANCELLED else base.FINISHED
        return base.RUNNING if self._task.running() or self._task.done() else base.PENDING

    @property
    def _result(self) -> Any:  # type: ignore[override]
        return self._task.result() if self._task.ending == RETURNED else None

    @property
    def _exception(self) -> BaseException | None:  # type: ignore[override]
        if self._task.ending == RETURNED:
            try:
                self._task.result()
            except BaseException as error:  # it travelled, but cannot be rebuilt here
                return error
            return None
        return None if self._task.ending in (None, CANCELLED) else self._failure()

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        condition: threading.Condition | None = self.__dict__.get("_own_condition")
        if condition is not None:
            self._settle_unless_held(condition)
            return condition
        with _lazy:
            if "_own_condition" not in self.__dict__:
                self._waiters: list[Any] = []
                self._done_callbacks: list[Callable[[Future[Any]], object]] = []
                self._own_condition = threading.Condition()
        _watched[self._task.id] = self
        if not _crew.watch(self._task):
            _watched.pop(self._task.id, None)
            self._finish()
        return self._own_condition

    def _settle(self) -> None:
        """Tell waiters of the end, once; with the condition held."""
        if self._settled is not None or not self._task.done():
            return
        ending = self._task.ending
        self._settled = base.CANCELLED_AND_NOTIFIED if ending == CANCELLED else base.FINISHED
        for waiter in self._waiters:
            if ending == CANCELLED:
                waiter.add_cancelled(self)
            elif ending == RETURNED:
                waiter.add_result(self)
            else:
                waiter.add_exception(self)
        self._own_condition.notify_all()

    def _settle_unless_held(self, condition: threading.Condition) -> None:
        if self._settled is None and self._task.done() and not condition._is_owned():  # type: ignore[attr-defined]
            with condition:
                self._settle()

    def _finish(self) -> None:
        """Tell waiters and callbacks of the end; each is told once, whoever comes first."""
        with self._own_condition:
            self._settle()
            callbacks = self._done_callbacks[:]
            self._done_callbacks.clear()
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                base.LOGGER.exception("exception calling callback for %r", self)


def _main_script() -> tuple[str | None, str | None]:
    """Return path and module name of the program's script, for workers that look for its classes."""
    if interpreters.get_current() != interpreters.get_main():
        return _worker.main_script()
    main = sys.modules["__main__"]
    sys.modules.setdefault("__mp_main__", main)  # what workers' instances of its classes are found under
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return None, spec.name
    path = getattr(main, "__file__", None)
    return (None if path is None else str(os.path.abspath(path))), None  # noqa: PTH100


def _visit(core: _core.Pool, name: str, fallback: Fallback | None) -> InterpreterPool:
    """Return the object that stands for a pool here: the one that opened it, where that is."""
    found = _pools.get(core.id) or _visited.get(core.id)
    if found is None:
        found = InterpreterPool.__new__(InterpreterPool)
        found._take(core, name, fallback)
        _visited[core.id] = found
    return found


class InterpreterPool(Executor):
    """A concurrent.futures.Executor whose workers are interpreters of this process, each with its own GIL.

    max_workers: how many; the number of usable cores when None.
    thread_name_prefix: as debuggers and `top` show the workers' threads.
    initializer, initargs: called once in each worker before its first task. When it raises, the pool is
        broken: its futures, and submit(), raise concurrent.futures.interpreter.BrokenInterpreterPool.
    warmup: source text or a callable, run in each worker at the start, before the initializer.
    recycle_after: after so many tasks a worker's interpreter goes back to its warm state: modules that tasks
        imported or changed are reset, __main__ is empty, and the initializer runs again. None: never.
    max_pending: how many tasks may wait; submit() blocks when that many do. None: no limit.
    fallback: where tasks go whose function or arguments need a module that refuses to be in an interpreter
        with its own GIL: "process", a child process of the worker's own, or "main", the main interpreter.
        Only tasks that have not begun go there, so none runs twice. None: they fail with ImportError.
    requires: packages that tasks need. Each is tried in a child process first. If one of them does not work
        in interpreters, all tasks go to the fallback; without one, ImportError says why.
    memory_limit: bytes that a worker's interpreter may hold, its imports included. An allocation beyond it
        fails in the task with MemoryError, and the worker is recycled. None: no limit.

    All workers start at once and get ready in parallel. When the pool ends, they go to the next pool that
    this interpreter opens: libraries stay imported there, but __main__ and the program's own modules start
    afresh.

    Functions travel by name where other interpreters can import them; those of __main__, lambdas and
    closures by their code, with the globals they use. Arguments and results travel as a queue's messages do.

    The pool itself can travel too, to tasks of its own or to any other interpreter. It ends with the object
    that opened it. A task that waits for tasks of its own pool runs them itself, or a spare worker does.
    """

    _counter = itertools.count().__next__

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        warmup: str | Callable[[], object] | None = "import json, re",
        recycle_after: int | None = None,
        max_pending: int | None = None,
        fallback: Kind = None,
        requires: Iterable[str] = (),
        memory_limit: int | None = None,
    ) -> None:
        if max_workers is None:
            max_workers = os.process_cpu_count() or 1
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        for name, limit in (("max_pending", max_pending), ("recycle_after", recycle_after)):
            if limit is not None and limit <= 0:
                raise ValueError(f"{name} must be greater than 0")
        if memory_limit is not None and memory_limit < _LEAST_MEMORY:
            raise ValueError(
                f"memory_limit must be at least {_LEAST_MEMORY} bytes, what an interpreter needs for itself, "
                f"not {memory_limit}"
            )
        if _worker.is_loading_main():
            raise RuntimeError(
                "a pool was opened while an interpreter was importing the program's script for its classes; "
                'guard the script\'s main part by: if __name__ == "__main__":'
            )
        if _exiting:
            raise RuntimeError("cannot open a pool after interpreter shutdown")
        if _core._is_main():
            _fork.guard(_let_go)
        setup = (
            sys.path[:],
            *_main_script(),
            warmup if warmup is None or isinstance(warmup, str) else _travel.dump(warmup).data,
            None if initializer is None else _travel.dump(initializer).data,
            tuple(initargs),
            recycle_after is not None or memory_limit is not None,
        )
        passed: Fallback | None = None
        if fallback is not None or requires:
            from syncyte._fallback import open_fallback

            passed = open_fallback(fallback, requires, setup)
            if passed is not None:
                setup = passed.setup
        name = thread_name_prefix or f"InterpreterPool-{self._counter()}"
        core = _crew.open_pool(
            max_workers, max_pending or 0, recycle_after or 0, memory_limit or 0, name, setup
        )
        self._take(core, name, passed)
        _pools[core.id] = self

    def _take(self, core: _core.Pool, name: str, fallback: Fallback | None) -> None:
        self._core = core
        self._fallback = fallback
        self._thread_name_prefix = name
        self._shutdown = False
        self._broken: str | bool = False
        self._functions: dict[object, tuple[_core.Function, _travel.Dumped]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """As the same pool, seen from another interpreter; it ends with the object that opened it."""
        return _visit, (self._core.travelling(), self._thread_name_prefix, self._fallback)

    @property
    def _max_workers(self) -> int:
        return self._core.size

    def resize(self, max_workers: int) -> None:
        """Change how many workers there are. New ones get ready in parallel; tasks that run are finished.

        Of those beyond `max_workers`, each leaves when it has no task, and waits for the next pool, or the
        next resize().
        """
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if self._shutdown or self._broken or self._core.foreign:
            raise self._refusal()
        self._core.resize(max_workers)

    async def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Submit and await: the result of `fn(*args, **kwargs)`. Cancelling the await interrupts the task."""
        import asyncio

        return await asyncio.wrap_future(self.submit(fn, *args, **kwargs))

    def broadcast(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> list[PoolFuture]:
        """Call `fn(*args, **kwargs)` once in every worker; the futures, by worker.

        A busy worker does so as soon as its task is over, before any other.
        """
        return [self._submit(fn, args, kwargs, (None, None, 0, place)) for place in range(self._core.size)]

    def options(
        self, *, timeout: float | None = None, deadline: float | None = None, priority: int = 0
    ) -> Submitter:
        """Return a view of the pool whose submit() limits its tasks, or lets them pass others.

        timeout: seconds a task may run. deadline: the time.monotonic() at which it must be over, started or
        not. A task past its limit ends with TimeoutError at once and is interrupted: by an exception at its
        next bytecode, which `except Exception` does not catch. If it is stuck in a C call, its worker is
        replaced, and comes back when the call ends. priority: of the tasks that wait, those of the highest
        go first; 0 for all that are submitted otherwise.
        """
        return Submitter(self, timeout, deadline, priority)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> PoolFuture:
        """Schedule `fn(*args, **kwargs)` and return its future.

        What cannot travel makes the future raise concurrent.interpreters.NotShareableError, saying what.
        """
        return self._submit(fn, args, kwargs, ())

    def _submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: _Limits | tuple[()],
    ) -> PoolFuture:
        if self._shutdown or self._broken or self._core.foreign:
            raise self._refusal()
        try:
            packed = (args, kwargs) if self._fallback is None else self._fallback.pack(args, kwargs)
            return PoolFuture(self._core.submit(self._known(fn)[0], packed[0], packed[1] or None, *limits))
        except _core.ClosedError:
            raise self._refusal() from None
        except Exception:
            return self._submit_whole(fn, args, kwargs, limits)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """As concurrent.futures.Executor.map.

        chunksize: how many calls a worker takes at a time; by default as many as take it about 0.2 ms.
        buffersize: how many items may be taken from the iterables before their results are fetched. With a
            buffersize, or in a pool with max_pending, items are taken as they are needed, else all at once.
        """
        if chunksize is not None and chunksize < 1:
            raise ValueError("chunksize must be >= 1")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        if self._shutdown or self._broken or self._core.foreign:
            raise self._refusal()
        end = None if timeout is None else time.monotonic() + timeout
        items = zip(*iterables, strict=False)
        if buffersize is not None or self._core.max_pending:
            return _pool_map.windowed(self, fn, items, chunksize, buffersize, end)
        found = list(items)
        try:
            started = self._map(fn, found, chunksize or 0)
        except _core.Error, RuntimeError:
            raise
        except Exception:
            # Something cannot travel as a message: call by call then, so that only that one fails.
            return super().map(fn, *zip(*found, strict=True), timeout=timeout) if found else iter(())
        return _pool_map.results(started, end)

    def _map(
        self, fn: Callable[..., Any], items: list[tuple[Any, ...]], chunksize: int, runners: int = 1 << 30
    ) -> _core.Map:
        packed = items if self._fallback is None else [self._fallback.pack(args, {})[0] for args in items]
        try:
            return self._core.map(self._known(fn)[0], packed, chunksize, runners)
        except _core.ClosedError:
            raise self._refusal() from None

    def _known(self, fn: Callable[..., Any]) -> tuple[_core.Function, _travel.Dumped]:
        """Return `fn` as the workers know it, made anew when what it carries has changed."""
        try:
            known = self._functions.get(fn)
        except TypeError:  # not hashable
            known = None
        if known is not None and known[1].still_holds(fn):
            return known
        dumped = _travel.dump(fn)
        entry = (self._sent(dumped.data, dumped.checks is not None), dumped)
        if dumped.checks is not None and isinstance(fn, _REMEMBERED):
            if len(self._functions) >= 256:
                self._functions.clear()
            self._functions[fn] = entry
        return entry

    def _sent(self, data: bytes, keep: bool) -> _core.Function:
        return _core.Function(data if self._fallback is None else self._fallback.guard(data), keep)

    def _submit_whole(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: _Limits | tuple[()],
    ) -> PoolFuture:
        """Carry a call whose parts cannot travel as a queue's message; a function among them, say."""
        try:
            whole = self._sent(_travel.dump_call(fn, args, kwargs), False)
            return PoolFuture(self._core.submit(whole, (), None, *limits))
        except interpreters.NotShareableError as refusal:
            failed = Future[Any]()
            failed.set_exception(refusal)
            return failed  # type: ignore[return-value]

    def _refusal(self) -> RuntimeError:
        """Why a pool that takes no tasks does not."""
        if self._core.foreign:
            return RuntimeError(_fork.FOREIGN)
        if self._broken:
            return BrokenInterpreterPool(self._broken)
        failure = self._core.failure()
        if failure is not None:
            return BrokenInterpreterPool(f"a worker could not start: {rebuild(failure)}")
        if _exiting:
            return RuntimeError("cannot schedule new futures after interpreter shutdown")
        return RuntimeError("cannot schedule new futures after shutdown")

    def _break(self) -> None:
        """Say why no worker can serve, and fail what waits; on the notifier's thread."""
        failure = self._core.failure()
        if failure is None or self._broken:
            return
        error = rebuild(failure)
        base.LOGGER.critical("Exception in initializer:", exc_info=error)
        self._broken = f"a worker could not start, the pool is not usable anymore: {error}"
        self._core.break_waiting(self._broken)

    def wait_ready(self, timeout: float | None = None) -> None:
        """Block until every worker is warm. TimeoutError; BrokenInterpreterPool when one could not start."""
        if self._core.foreign:
            raise self._refusal()
        self._core.wait_ready(timeout)
        failure = self._core.failure()
        if failure is not None:
            raise BrokenInterpreterPool("a worker could not start") from rebuild(failure)

    @property
    def routed(self) -> dict[str, int]:
        """How many tasks went to the fallback, by the module that refused; {} without one."""
        return {} if self._fallback is None else self._fallback.routed()[1]

    def stats(self) -> list[dict[str, Any]]:
        """Return for each worker: worker, state, interpreter_id, tasks, busy, restarts, recycles, memory,
        routed.

        busy: seconds. restarts: how often it was stuck in a call and replaced. memory: bytes that its
        interpreter holds, None where they are not counted. Spare workers, and those that are to leave, are
        listed while they are there. routed: how many of its tasks its interpreter passed on to the fallback.
        """
        if self._core.foreign:
            return []
        routed = {} if self._fallback is None else self._fallback.routed()[0]
        return [
            {
                "worker": place,
                "state": _STATES[state],
                "interpreter_id": None if interpreter < 0 else interpreter,
                "tasks": tasks,
                "busy": busy,
                "restarts": restarts,
                "recycles": recycles,
                "memory": None if memory < 0 else memory,
                "routed": routed.get(interpreter, 0),
            }
            for place, state, interpreter, tasks, busy, restarts, recycles, memory in self._core.stats()
        ]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> Literal[False]:
        """As Executor's, but Ctrl-C does not wait: it cancels what waits and interrupts what runs."""
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            self.shutdown(wait=True)
            return False
        self.shutdown(wait=False, cancel_futures=True)
        for _ in range(10):
            self._core.interrupt()
            with contextlib.suppress(TimeoutError):
                self._core.wait_left(0.05)
                break
        return False

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As concurrent.futures.Executor.shutdown. A task cannot wait for the end of its own pool."""
        self._shutdown = True
        if self._core.foreign:
            return
        if wait and self._core.in_task():
            raise RuntimeError("a task cannot wait for the end of its own pool: shutdown(wait=False)")
        if cancel_futures:
            self._core.cancel_waiting()
        self._core.close()
        if wait:
            self._core.wait_left(None)


class Submitter:
    """A pool with limits for what is submitted through it; see InterpreterPool.options."""

    __slots__ = ("_limits", "_pool")

    def __init__(
        self, pool: InterpreterPool, timeout: float | None, deadline: float | None, priority: int
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be greater than 0 seconds, not {timeout!r}")
        self._pool = pool
        self._limits: _Limits = (timeout, deadline, priority, -1)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> PoolFuture:
        """As InterpreterPool.submit."""
        return self._pool._submit(fn, args, kwargs, self._limits)
