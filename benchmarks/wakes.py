"""How long an asyncio task waits for its wake-up, and what waiting costs."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import syncyte
from benchmarks.peers import in_interpreter

# Writes down when it begins each put, long enough after the task began to wait for the loop to be asleep.
WAKER = """import os, time
stamps = []
for _ in go:
    time.sleep(0.0003)
    stamps.append(time.perf_counter_ns())
    wake()
result.put(stamps)
"""


async def _wait_for_each(count: int, go: Any, wait: Callable[[], Any]) -> list[int]:
    stamps = []
    for _ in range(count):
        go.put(None)
        await wait()
        stamps.append(time.perf_counter_ns())
    return stamps


def _delays(count: int, wake: str, names: dict[str, Any], wait: Callable[[], Any]) -> list[float]:
    """Microseconds from each wake-up in another interpreter to the task that waited for it."""
    go, result = syncyte.Queue[None](), syncyte.Queue[list[int]]()
    with in_interpreter(f"def wake(): {wake}\n{WAKER}", go=go, result=result, **names):
        arrived = asyncio.run(_wait_for_each(count, go, wait))
        go.shutdown()
        sent = result.get()
    return [(there - here) / 1000 for here, there in zip(sent, arrived, strict=True)]


def queue_wakes(count: int) -> list[float]:
    """A put, to the task that awaits the item."""
    q = syncyte.Queue[None]()
    return _delays(count, "q.put(None)", {"q": q}, q.aget)


def eventfd_wakes(count: int) -> list[float]:
    """A write to a bare eventfd, to the task whose future a reader of the loop sets."""
    descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    future: asyncio.Future[None] | None = None

    def woken() -> None:
        os.eventfd_read(descriptor)
        if future is not None:
            future.set_result(None)

    async def wait() -> None:
        nonlocal future
        loop = asyncio.get_running_loop()
        if future is None:
            loop.add_reader(descriptor, woken)
        future = loop.create_future()
        await future

    try:
        return _delays(count, f"os.eventfd_write({descriptor}, 1)", {}, wait)
    finally:
        os.close(descriptor)


def cost_of_waiting(make: Callable[[], Any], threads: int, seconds: float) -> float:
    """Per cent of one core that blocked getters use, by the clocks of their threads."""
    q = make()
    before = threading.stack_size(256 * 1024)
    try:
        getters = [threading.Thread(target=q.get) for _ in range(threads)]
        for thread in getters:
            thread.start()
    finally:
        threading.stack_size(before)
    time.sleep(0.2)
    clocks = [time.pthread_getcpuclockid(thread.ident or 0) for thread in getters]
    used, started = sum(map(time.clock_gettime, clocks)), time.monotonic()
    time.sleep(seconds)
    used, passed = sum(map(time.clock_gettime, clocks)) - used, time.monotonic() - started
    for _ in range(threads):
        q.put(None)
    for thread in getters:
        thread.join()
    # Who never ran counts with the resolution of its clock: a share can then be told of it.
    return 100 * max(used, threads * time.clock_getres(time.CLOCK_THREAD_CPUTIME_ID)) / passed


SPIN_IN_PYTHON = """import time
turns = 0
end = time.monotonic() + seconds
while time.monotonic() < end:
    turns += 1
done.put(turns)
"""
# Waits as often and as hopefully as it can.
WAIT_AND_WAIT = """import queue
while not stop.is_shutdown:
    try: never.get(timeout=0.0005)
    except queue.Empty: pass
"""


def loops_beside(waiters: int, seconds: float) -> float:
    """Turns a second of one CPU-bound Python loop a core, all cores busy, beside so many waiters."""
    loops = len(os.sched_getaffinity(0))
    done, stop, never = syncyte.Queue[int](), syncyte.Queue[None](), syncyte.Queue[None]()
    with ExitStack() as stack:
        for _ in range(waiters):
            stack.enter_context(in_interpreter(WAIT_AND_WAIT, stop=stop, never=never))
        stack.callback(stop.shutdown)
        for _ in range(loops):
            stack.enter_context(in_interpreter(SPIN_IN_PYTHON, seconds=seconds, done=done))
        return sum(done.get() for _ in range(loops)) / seconds
