"""The side of a pool's fallback that is in the main interpreter, where workers come with what they cannot do.

A worker lends its thread to the main interpreter, by the door of on_main(). There it runs the task itself
(fallback="main"), or hands it to the child process that belongs to it and waits (fallback="process").
"""

import _thread
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import BrokenExecutor

from syncyte import _core, _fallback_child, _on_main, _worker
from syncyte._queue_empty import QueueEmpty

# How long a child may take to let go of an interrupted task, and to leave when it is told to.
_PATIENCE_SECONDS = 0.08
_GOODBYE_SECONDS = 2.0

type _Refusal = tuple[str, str]
# Whether it returned; the result or exception, None if it cannot travel; an exception's description.
type _Ended = tuple[bool, _core.Message | None, tuple[str, ...] | None]

_lock = threading.Lock()
_children: dict[tuple[str, int], Child] = {}
# pool -> interpreter -> tasks it passed on; pool -> refusing module -> tasks it concerned.
_counts: dict[str, dict[int, int]] = {}
_modules: dict[str, dict[str, int]] = {}


def serve(
    pool: str, interpreter: int, refused: _Refusal, setup: bytes | None, data: bytes, packed: _core.Message
) -> _Ended:
    """Do a task that refused to begin in `interpreter`. setup: what a child process needs; None: no child."""
    _count(pool, interpreter, refused, "the main interpreter" if setup is None else "a child process")
    if setup is None:
        ending, content, *display = _on_main._answer((("dump", data), packed))
        return ending == 0, content, display[0] if display else None
    child = _children.get((pool, interpreter))
    if child is None or not child.fit:
        if child is not None:
            child.kill()
        child = _children[pool, interpreter] = Child(setup)
    return child.call(data, packed)


def _count(pool: str, interpreter: int, refused: _Refusal, where: str) -> None:
    module, reason = refused
    with _lock:
        counts = _counts.setdefault(pool, {})
        counts[interpreter] = counts.get(interpreter, 0) + 1
        modules = _modules.setdefault(pool, {})
        first = module not in modules
        modules[module] = modules.get(module, 0) + 1
    if first:
        import logging

        logging.getLogger("syncyte").warning(
            "%s cannot be in the interpreters of a pool (%s): tasks that need it run in %s",
            module,
            reason,
            where,
        )


def routed(pool: str) -> tuple[dict[int, int], dict[str, int]]:
    """Return how many tasks a pool passed on, by interpreter and by the module that refused."""
    with _lock:
        return dict(_counts.get(pool, {})), dict(_modules.get(pool, {}))


def forget(pool: str) -> None:
    """Forget the counts of a pool that is gone."""
    with _lock:
        _counts.pop(pool, None)
        _modules.pop(pool, None)


def end_child(pool: str, interpreter: int) -> None:
    """End the child process of a worker that leaves its pool."""
    child = _children.pop((pool, interpreter), None)
    if child is not None:
        child.end()


class Child:
    """A child process that does the tasks of one worker; used by that worker's thread alone.

    That thread may be interrupted anywhere. So a thread of the child's own starts the process, listens to it
    and sees it off: none is left that nobody knows.
    """

    def __init__(self, setup: bytes) -> None:
        self.fit = True
        self._setup = setup
        self._begun: bytes | None = (
            None  # what the process said when it was prepared; nothing if it could not
        )
        self._beginning: _core.Queue[None] = _core.Queue()
        self._claim = threading.Lock()  # held from when somebody looks after the process
        self._lock = threading.Lock()  # guards the three below
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._unwanted = False
        self._frames: _core.Queue[bytes | None] = _core.Queue()
        self._gone = threading.Event()

    def _live(self) -> None:
        if not self._claim.acquire(blocking=False):
            return
        try:
            ours = self._start()
            with ours:
                self._send(self._setup)
                self._begun = _fallback_child.receive(ours.fileno()) or b""
                self._beginning.put(None)
                while (frame := _fallback_child.receive(ours.fileno())) is not None:
                    self._frames.put(frame)
        finally:
            self._begun = self._begun or b""
            self._beginning.put(None)
            self._frames.put(None)
            if self._process is not None:
                self._process.wait()
            self._gone.set()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        # A group of its own: a terminal's Ctrl-C is for the parent, which knows what to do with its tasks.
        with theirs:
            command = [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]
            command += ["-P", _fallback_child.__file__, str(theirs.fileno())]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0
            )
        with self._lock:
            self._process, self._socket = process, ours
            unwanted = self._unwanted
        if unwanted:
            self.kill()
        return ours

    def _send(self, frame: bytes) -> None:
        # A child that is gone is noticed when its answer is waited for.
        with contextlib.suppress(OSError):
            assert self._socket is not None
            _fallback_child.send(self._socket.fileno(), frame)

    def call(self, data: bytes, packed: _core.Message) -> _Ended:
        """Have the child do a task, and wait. An interrupt of this thread reaches the task."""
        try:
            arguments = _fallback_child.dumps(packed.get())
            request = _fallback_child.dumps((data, arguments))
        except Exception as error:
            return _failed(error)
        try:
            if self._begun is None:
                _thread.start_new_thread(self._live, ())
            while self._begun is None:
                self._beginning.get()
            begun = self._read(self._begun)
            if not begun[0]:
                self.end()
                return _cannot_start(begun)
        except ChildProcessError as error:
            self.kill()
            return _failed(BrokenExecutor(str(error)))
        self.fit = False
        try:
            self._send(request)
            ended = self._answer()
            self.fit = True
        except ChildProcessError as error:
            self.kill()
            return _failed(BrokenExecutor(str(error)))
        except BaseException:
            self._interrupt()
            raise
        return ended

    def _answer(self, timeout: float | None = None) -> _Ended:
        return self._read(self._frames.get(timeout=timeout))

    def _read(self, frame: bytes | None) -> _Ended:
        if not frame:
            raise ChildProcessError(self._how_it_ended())
        if frame[:1] == b"R":
            return True, _core.Message(frame[1:]), None
        import pickle

        size = int.from_bytes(frame[1:9], "little")
        exception = frame[9 : 9 + size]
        return False, _core.Message(exception) if exception else None, pickle.loads(frame[9 + size :])

    def _interrupt(self) -> None:
        """Make the child drop its task, or end it: the caller has given up."""
        try:
            assert self._process is not None
            os.kill(self._process.pid, signal.SIGINT)
            self._answer(_PATIENCE_SECONDS)
            self.fit = True
        except QueueEmpty, OSError:
            pass
        finally:
            if not self.fit:
                self.kill()

    def _how_it_ended(self) -> str:
        self._gone.wait(_GOODBYE_SECONDS)
        status = None if self._process is None else self._process.returncode
        if self._process is None:
            return "a child process of the pool's fallback could not be started"
        what = "ran the task" if self._begun else "was being prepared for tasks"
        if status is None:
            return f"the child process that {what} stopped answering"
        if status < 0:
            return f"the child process that {what} was ended by {signal.Signals(-status).name}"
        return f"the child process that {what} ended with exit status {status}"

    def kill(self) -> None:
        """End it now, with all that its tasks have started."""
        self.fit = False
        with self._lock:
            self._unwanted = True
            process, connection = self._process, self._socket
        if process is None or connection is None:
            return
        if not self._gone.is_set():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        # The listener closes it: not before it has let go of the number.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """End it in good order, if it is quick."""
        if self._claim.acquire(blocking=False):
            return  # it was never started, and will not be
        if self._process is not None:
            self._send(b"")
            self._gone.wait(_GOODBYE_SECONDS)
        self.kill()
        self._gone.wait(_GOODBYE_SECONDS)


def _failed(error: BaseException) -> _Ended:
    import pickle

    return False, _core.Message(pickle.dumps(error)), _worker.describe(error)


def _cannot_start(begun: _Ended) -> _Ended:
    assert begun[2] is not None
    return _failed(
        BrokenExecutor(f"a child process of the pool's fallback could not be prepared: {begun[2][4]}")
    )
