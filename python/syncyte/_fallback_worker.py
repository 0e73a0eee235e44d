"""The side of a pool's fallback that is in its workers: functions that give themselves up before they begin.

A task goes elsewhere only while nothing of its body has run: when its function, or an argument, cannot be
loaded here because a module refuses to be in an interpreter with its own GIL. Whatever happens from the
function's first line on is the task's own outcome.
"""

from concurrent import interpreters
from typing import Any

from syncyte import _core, _worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# What refused, and the words it did so with.
type Refusal = tuple[str, str]

# Found out once: a task may be interrupted anywhere, and half an Interpreter complains when it is dropped.
_interpreter = interpreters.get_current().id

# Of the pools that run here: why nothing of theirs can run, found by their warm-up or initializer.
_unfit: dict[str, Refusal] = {}
# Functions that were refused. Trying again costs an import each time.
_known: dict[bytes, Refusal] = {}
_MOST_KNOWN, _LONGEST_KNOWN = 256, 65_536
# A function whose arguments were refused so many times in a row is not tried any more.
_MOST_TRIES = 3
# Pools that have a child process for this interpreter.
_enlisted: set[str] = set()


def refusal_in(error: BaseException) -> Refusal | None:
    """Return what refused to be imported into this interpreter, if that is what the error comes from."""
    found = None
    at: BaseException | None = error
    for _ in range(100):  # chains may be circular
        if at is None:
            break
        if isinstance(at, ImportError) and not isinstance(at, ModuleNotFoundError):
            found = _refusal(str(at), at.name) or found
        at = at.__cause__ or at.__context__
    return found


def _refusal(text: str, name: str | None) -> Refusal | None:
    """Return what an ImportError's text says of interpreters: CPython's own words, or a module's."""
    _, ours, quoted = text.partition(_worker.ABSENT)
    if ours:
        text = quoted.removesuffix(_worker.ADVICE)
    line = next((line for line in text.splitlines() if _speaks_of_interpreters(line)), None)
    if line is None:
        return None
    before, mark, _ = line.partition(" does not support loading in subinterpreters")
    return (before.rpartition(" ")[2] if mark else name or "a module"), line.strip()


def _speaks_of_interpreters(line: str) -> bool:
    # CPython: "module x does not support loading in subinterpreters"; Cython, PyO3 and others put it alike.
    return "interpreter" in line.lower() or "once per process" in line


def guarded(kind: bytes, body: bytes) -> Guarded | GuardedSetup:
    """Return what syncyte._fallback wrote: a function (F), or a warm-up or initializer (S)."""
    import pickle

    parts = pickle.loads(body)
    return Guarded(*parts) if kind == b"F" else GuardedSetup(*parts)


class Guarded:
    """A function of a pool with a fallback, as its workers call it.

    pool: names the pool; none: there is no fallback, RefusedError says that the function has not begun.
    refused: what is known ahead to be refused, so that nothing needs to be tried.
    """

    def __init__(self, pool: str, setup: bytes | None, refused: Refusal | None, data: bytes) -> None:
        self._pool, self._setup, self._data = pool, setup, data
        self._refused = refused or _unfit.get(pool) or _known.get(data)
        self._tries = 0
        if self._refused is None:
            self._load()
            if self._refused is not None:
                _remember(data, self._refused)

    def _load(self) -> None:
        met: list[_worker.AbsentModule] = []
        _worker.standing_in = met
        try:
            self._fn: Callable[..., object] = _worker.load(self._data)  # type: ignore[assignment]
        except Exception as error:
            self._refused = refusal_in(error)
            if self._refused is None:
                raise
        finally:
            _worker.standing_in = None
        for absent in met:
            self._refused = self._refused or _refusal(str(absent.__doc__), absent.__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        """Calls the function, here or elsewhere. A single Message holds arguments that may not load here."""
        packed = args[0] if len(args) == 1 and type(args[0]) is _core.Message else None
        refused = self._refused
        if refused is None and packed is not None:
            try:
                args, kwargs = packed.get()
            except Exception as error:
                refused = refusal_in(error)
                if refused is None:
                    raise
                self._tries += 1
                if self._tries >= _MOST_TRIES:
                    self._refused = refused
            else:
                self._tries = 0
        if refused is not None:
            return self._elsewhere(refused, packed or _core.Message((args, kwargs)))
        try:
            return self._fn(*args, **kwargs)
        except ImportError as error:
            refused = refusal_in(error)
            if refused is not None and self._pool:
                error.add_note(
                    f"{refused[0]} refuses to be in this interpreter. The task had begun when it was "
                    "imported, so the fallback did not run it again. "
                    f"InterpreterPool(requires=[{_top(refused[0])!r}]) sends tasks there before they begin"
                )
            raise

    def _elsewhere(self, refused: Refusal, packed: _core.Message) -> object:
        if not self._pool:
            raise RefusedError(f"{refused[0]} cannot be in interpreters ({refused[1]})")
        here = _interpreter
        if self._setup is not None and self._pool not in _enlisted:
            _enlisted.add(self._pool)
            _worker.at_leave.append(lambda: _leave(self._pool, here))
        asked = (self._pool, here, refused, self._setup, self._data, packed)
        ended = _on_main("serve", *asked)
        returned, content, *display = ended
        pickled = self._setup is not None
        if returned:
            return Forwarded(content, pickled)
        raise ForwardedError(content, pickled, display[0])


def _remember(data: bytes, refused: Refusal) -> None:
    if len(data) > _LONGEST_KNOWN:
        return
    if not _known:
        _worker.at_leave.append(_known.clear)
    elif len(_known) >= _MOST_KNOWN:
        _known.pop(next(iter(_known)))
    _known[data] = refused


class RefusedError(TypeError):
    """A function cannot be in this interpreter. It has not begun."""


_here: dict[bytes, Guarded] = {}


def call_here(data: bytes, packed: _core.Message | None) -> object:
    """Call a dumped function here or not at all: RefusedError. Arguments are packed, or None for none."""
    guarded = _here.get(data)
    if guarded is None:
        guarded = Guarded("", None, None, data)
        if not _here:
            _worker.at_leave.append(_here.clear)
        elif len(_here) >= 64:
            _here.clear()
        _here[data] = guarded
    return guarded() if packed is None else guarded(packed)


def _top(module: str) -> str:
    return module.partition(".")[0]


def _on_main(name: str, *args: object) -> Any:
    """Call a function of syncyte._fallback in the main interpreter, whose own errors are errors here."""
    message = _core.Message((args, {}))
    ending, content, *display = _core._call_on_main((("name", f"syncyte._fallback_main:{name}"), message))
    if ending == 0:
        return content.get()
    raise ForwardedError(content, False, *display)


def _leave(pool: str, here: int) -> None:
    import contextlib

    _enlisted.discard(pool)
    with contextlib.suppress(Exception):
        _on_main("end_child", pool, here)


class GuardedSetup:
    """A warm-up or initializer: one that is refused makes the worker pass on all its tasks."""

    def __init__(self, pool: str, what: bytes | str) -> None:
        self._pool, self._what = pool, what
        if pool not in _unfit:
            _worker.at_leave.append(lambda: _unfit.pop(pool, None))

    def __call__(self, *packed: _core.Message) -> None:
        """Calls it, unless the pool was found unfit before. An initializer's arguments come as a message."""
        if self._pool in _unfit:
            return
        try:
            args = packed[0].get() if packed else ()
            if isinstance(self._what, str):
                exec(compile(self._what, "<warmup>", "exec"), {"__name__": "<warmup>"})
            else:
                _worker.load(self._what)(*args)  # type: ignore[operator]
        except Exception as error:
            refused = refusal_in(error)
            if refused is None:
                raise
            _unfit[self._pool] = refused


# What comes from elsewhere is not unpacked here, where its classes may be refused: it unpacks itself where it
# arrives.


def received(content: _core.Message, pickled: bool) -> Any:
    """Return what a message from elsewhere holds."""
    import pickle

    return pickle.loads(content.get()) if pickled else content.get()


class Forwarded:
    """A result on its way through a worker."""

    def __init__(self, content: _core.Message, pickled: bool) -> None:
        self._parts = content, pickled

    def __reduce__(self) -> tuple[object, ...]:
        return received, self._parts


class ForwardedError(BaseException):
    """An exception on its way through a worker, with the description it got where it was raised."""

    def __init__(
        self,
        content: _core.Message | None,
        pickled: bool,
        described: tuple[str, str, str, str, str, str],
    ) -> None:
        self.content, self.pickled, self.described = content, pickled, described

    def __reduce__(self) -> tuple[object, ...]:
        if self.content is None:
            raise TypeError("the exception could not travel")
        return received, (self.content, self.pickled)
