"""The other end of a benchmark: something in another interpreter, process or thread that answers or consumes.

Each is a context manager; what it opens is closed with it.
"""

import multiprocessing
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent import interpreters
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

import syncyte

PLACE = "import os; os.sched_setaffinity(0, [{core}])\n"  # the calling thread alone
ECHO = "while (item := there.get()) is not None: back.put(item)"
SPAWN = multiprocessing.get_context("spawn")


@contextmanager
def in_interpreter(code: str, **names: object) -> Iterator[threading.Thread]:
    """Runs code in an interpreter of its own, until it ends by itself."""
    interpreter = interpreters.create()
    interpreter.prepare_main(**names)
    thread = threading.Thread(target=interpreter.exec, args=(code,))
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
        interpreter.close()


@contextmanager
def _queue_echo(there: Any, back: Any) -> Iterator[Callable[[Any], Any]]:
    def round_trip(item: Any) -> Any:
        there.put(item)
        return back.get()

    try:
        yield round_trip
    finally:
        there.put(None)


@contextmanager
def echo_of_queues(make: Callable[[], Any], core: int | None = None) -> Iterator[Callable[[Any], Any]]:
    """An echo in another interpreter (on that core only), through two queues that make() makes."""
    there, back = make(), make()
    code = ECHO if core is None else PLACE.format(core=core) + ECHO
    with in_interpreter(code, there=there, back=back), _queue_echo(there, back) as round_trip:
        yield round_trip


def _echo_queues(there: Any, back: Any) -> None:
    while (item := there.get()) is not None:
        back.put(item)


def _echo_pipe(pipe: Connection) -> None:
    while (item := pipe.recv()) is not None:
        pipe.send(item)


@contextmanager
def echo_of_processes() -> Iterator[Callable[[Any], Any]]:
    """An echo in another process, through two multiprocessing queues."""
    there, back = SPAWN.Queue(), SPAWN.Queue()
    process = SPAWN.Process(target=_echo_queues, args=(there, back))
    process.start()
    with _queue_echo(there, back) as round_trip:
        yield round_trip
    process.join()


@contextmanager
def echo_of_pipe() -> Iterator[Callable[[Any], Any]]:
    """An echo in another process, through a multiprocessing pipe."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_echo_pipe, args=(theirs,))
    process.start()

    def round_trip(item: Any) -> Any:
        ours.send(item)
        return ours.recv()

    try:
        yield round_trip
    finally:
        ours.send(None)
        process.join()


@contextmanager
def echo_of_threads() -> Iterator[Callable[[Any], Any]]:
    """An echo in another thread of this interpreter, through two queue.SimpleQueues."""
    there: queue.SimpleQueue[Any] = queue.SimpleQueue()
    back: queue.SimpleQueue[Any] = queue.SimpleQueue()
    thread = threading.Thread(target=_echo_queues, args=(there, back))
    thread.start()
    with _queue_echo(there, back) as round_trip:
        yield round_trip
    thread.join()


PRODUCE = """for _ in go:
    for _ in range(count): q.put(item)
"""
CONSUME = """for _ in go:
    for _ in range(count): q.get()
    done.put(None)
"""


@contextmanager
def stream(producers: int, consumers: int, item: Any, count: int) -> Iterator[Callable[[], None]]:
    """`count` puts of item shared by producers, as many gets by consumers, in an interpreter each."""
    q, done = syncyte.Queue[Any](), syncyte.Queue[None]()
    starts: list[Any] = []
    with ExitStack() as stack:
        for number, code in ((producers, PRODUCE), (consumers, CONSUME)):
            for _ in range(number):
                go = syncyte.Queue[None]()
                names = {"q": q, "go": go, "done": done, "message": syncyte._core.Message(item)}
                begin = f"item = message.get(); count = {count // number}\n"
                stack.enter_context(in_interpreter(begin + code, **names))
                starts.append(go)
        for go in starts:
            stack.callback(go.shutdown)

        def transfer() -> None:
            for go in starts:
                go.put(None)
            for _ in range(consumers):
                done.get()

        yield transfer


def _produce(q: Any, go: Any, item: Any, count: int) -> None:
    while go.get():
        for _ in range(count):
            q.put(item)


@contextmanager
def stream_of_processes(item: Any, count: int) -> Iterator[Callable[[], None]]:
    """One process puts, this one gets, through a multiprocessing queue."""
    q, go = SPAWN.Queue(), SPAWN.Queue()
    process = SPAWN.Process(target=_produce, args=(q, go, item, count))
    process.start()

    def transfer() -> None:
        go.put(True)
        for _ in range(count):
            q.get()

    try:
        yield transfer
    finally:
        go.put(False)
        process.join()


@contextmanager
def stream_of_threads(item: Any, count: int) -> Iterator[Callable[[], None]]:
    """One thread puts, this one gets, through a queue.SimpleQueue."""
    q: queue.SimpleQueue[Any] = queue.SimpleQueue()
    go: queue.SimpleQueue[bool] = queue.SimpleQueue()
    thread = threading.Thread(target=_produce, args=(q, go, item, count))
    thread.start()

    def transfer() -> None:
        go.put(True)
        for _ in range(count):
            q.get()

    try:
        yield transfer
    finally:
        go.put(False)
        thread.join()
