"""The side of a pool's fallback that is in the main interpreter, where workers come with what they cannot do.

A worker lends its thread to the main interpreter, by the door of on_main(). There it runs the task itself
(fallback="main"), or hands it to the child process that belongs to it and waits (fallback="process").
"""

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
    """A child process that does the tasks of one worker; made and used by that worker's thread alone."""

    def __init__(self, setup: bytes) -> None:
        self.fit = False
        self._ready = False
        self._frames: _core.Queue[bytes | None] = _core.Queue()
        ours, theirs = socket.socketpair()
        # A group of its own: a terminal's Ctrl-C is for the parent, which knows what to do with its tasks.
        with theirs:
            command = [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]
            command += ["-P", _fallback_child.__file__, str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0
            )
        self._socket = ours
        try:
            threading.Thread(target=self._listen, name="syncyte-fallback", daemon=True).start()
            self._send(setup)
            self.fit = True
        except BaseException:
            self.kill()
            raise

    def _listen(self) -> None:
        with self._socket:
            descriptor = self._socket.fileno()
            while (frame := _fallback_child.receive(descriptor)) is not None:
                self._frames.put(frame)
        self._frames.put(None)

    def _send(self, frame: bytes) -> None:
        # A child that is gone is noticed when its answer is waited for.
        with contextlib.suppress(OSError):
            _fallback_child.send(self._socket.fileno(), frame)

    def call(self, data: bytes, packed: _core.Message) -> _Ended:
        """Have the child do a task, and wait. An interrupt of this thread reaches the task."""
        try:
            arguments = _fallback_child.dumps(packed.get())
            request = _fallback_child.dumps((data, arguments))
        except Exception as error:
            return _failed(error)
        fit, self.fit = self.fit, False
        try:
            if not self._ready:
                begun = self._answer()
                if not begun[0]:
                    self.end()
                    return _cannot_start(begun)
                self._ready = True
            self._send(request)
            ended = self._answer()
            self.fit = fit
        except ChildProcessError as error:
            self.kill()
            return _failed(BrokenExecutor(str(error)))
        except BaseException:
            self._interrupt()
            raise
        return ended

    def _answer(self, timeout: float | None = None) -> _Ended:
        frame = self._frames.get(timeout=timeout)
        if frame is None:
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
            if self._ready:
                os.kill(self._process.pid, signal.SIGINT)
                self._answer(_PATIENCE_SECONDS)
                self.fit = True
        except QueueEmpty, OSError:
            pass
        finally:
            if not self.fit:
                self.kill()

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            return "the child process that ran the task stopped answering"
        if status < 0:
            return f"the child process that ran the task was ended by {signal.Signals(-status).name}"
        return f"the task ended its child process, with exit status {status}"

    def kill(self) -> None:
        """End it now, with all that its tasks have started."""
        self.fit = False
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._hang_up()

    def _hang_up(self) -> None:
        # The listener closes it: not before it has let go of the number.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """End it in good order, if it is quick."""
        self._send(b"")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GOODBYE_SECONDS)
        self.kill()


def _failed(error: BaseException) -> _Ended:
    import pickle

    return False, _core.Message(pickle.dumps(error)), _worker.describe(error)


def _cannot_start(begun: _Ended) -> _Ended:
    assert begun[2] is not None
    return _failed(
        BrokenExecutor(f"a child process of the pool's fallback could not be prepared: {begun[2][4]}")
    )
