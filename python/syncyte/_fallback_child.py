"""The child process of a pool's fallback: one worker's tasks, one after the other.

Started by its path with the number of a socket, over which pickled frames go to and fro. It prepares itself
as the pool's interpreters do, so that tasks find the same import path, __main__ and initializer. It ends when
the socket does, whatever it is doing: a parent that was killed leaves nobody behind.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LENGTH = 8


def send(descriptor: int, *parts: bytes) -> None:
    """Write one frame. OSError when nobody listens any more."""
    frame = memoryview(b"".join([sum(map(len, parts)).to_bytes(_LENGTH, "little"), *parts]))
    while frame:
        frame = frame[os.write(descriptor, frame) :]


def receive(descriptor: int) -> bytes | None:
    """Read one frame; None when the other side is gone."""
    try:
        head = _read(descriptor, _LENGTH)
        return None if head is None else _read(descriptor, int.from_bytes(head, "little"))
    except OSError:
        return None


def _read(descriptor: int, size: int) -> bytes | None:
    pieces = []
    while size:
        piece = os.read(descriptor, min(size, 1 << 20))
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def dumps(value: object) -> bytes:
    """Pickle what goes to another process. NotShareableError for what belongs to this one."""
    import pickle
    from concurrent.interpreters import NotShareableError
    from io import BytesIO

    from syncyte import _core

    class Pickler(pickle.Pickler):
        def reducer_override(self, target: Any) -> Any:
            if isinstance(target, _core.Handle):
                raise NotShareableError(
                    f"a {type(target).__name__} belongs to the process that made it: the pool's fallback, "
                    'a child process, cannot have it; fallback="main" can'
                )
            return NotImplemented

    buffer = BytesIO()
    Pickler(buffer, 5).dump(value)
    return buffer.getvalue()


def main(descriptor: int) -> None:
    """Serve until told to go: set up by the first frame, then a call with each."""
    import _thread
    import builtins
    import pickle
    import signal
    import types
    from queue import SimpleQueue

    # The thread that started us blocks all signals. Interrupts are let in while a task runs only; threads
    # made from here on start without them.
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGINT})
    first = receive(descriptor)
    if first is None:
        return
    path, setup = pickle.loads(first)
    sys.path[:] = path
    # Functions from the program's __main__ get a module of that name to themselves.
    sys.modules["syncyte._fallback_child"] = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.modules["__main__"].__dict__["__builtins__"] = builtins

    frames: SimpleQueue[bytes] = SimpleQueue()

    def listen() -> None:
        while (frame := receive(descriptor)) is not None:
            frames.put(frame)
        os._exit(1)

    # A task's descendants that outlive the task must not keep the parent waiting for the end of the socket.
    os.set_inheritable(descriptor, False)
    # Nor does it belong to the threads that tasks left, which are waited for.
    _thread.start_new_thread(listen, ())
    _serve(descriptor, frames, setup)


def _serve(descriptor: int, frames: Any, setup: bytes) -> None:
    import pickle

    from syncyte import _worker

    try:
        _worker.enter(pickle.loads(setup))
    except BaseException as error:
        send(descriptor, b"E", *_raised(error))
        return
    send(descriptor, b"R")
    while frame := frames.get():  # an empty one says goodbye
        send(descriptor, *_answer(frame))
    _worker.leave()


def _answer(frame: bytes) -> tuple[bytes, ...]:
    """Run one task. (b"R", pickled result) or (b"E", size of the pickle, pickled exception, description)."""
    import pickle

    from syncyte import _worker

    try:
        data, arguments = pickle.loads(frame)
        fn: Any = _worker.load(data)
        args, kwargs = pickle.loads(arguments)
        return b"R", dumps(_interruptible(fn, args, kwargs))
    except BaseException as error:
        return b"E", *_raised(error)


def _raised(error: BaseException) -> tuple[bytes, ...]:
    import pickle

    from syncyte import _worker

    try:
        exception = dumps(error)
        pickle.loads(exception)
    except Exception:
        exception = b""
    return len(exception).to_bytes(_LENGTH, "little"), exception, pickle.dumps(_worker.describe(error))


def _interruptible(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """Call a task, letting the parent's interrupts in; one that comes too late is dropped."""
    import signal

    from syncyte._worker import TaskInterrupted

    running = True

    def interrupt(_number: int, _frame: object) -> None:
        if running:
            raise TaskInterrupted

    signal.signal(signal.SIGINT, interrupt)
    signal.sigtimedwait({signal.SIGINT}, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        return fn(*args, **kwargs)
    finally:
        running = False
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


if __name__ == "__main__":
    main(int(sys.argv.pop()))
