"""What the pool's tests run in workers: importable there, and importing no more than it needs."""

import sys
import time
from typing import Any

STATUS = "untouched"


def identity(value: Any) -> Any:
    return value


def interpreter() -> int:
    from concurrent import interpreters

    return interpreters.get_current().id


def set_status(value: str) -> None:
    global STATUS
    STATUS = value


def get_status() -> str:
    return STATUS


def fail(message: str) -> None:
    raise LookupError(message)


class UnpicklableError(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def fail_unpicklably() -> None:
    raise UnpicklableError(1, 2)


def leave(code: int) -> None:
    sys.exit(code)


def interrupt() -> None:
    raise KeyboardInterrupt


def recurse() -> None:
    recurse()


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def hold(gate: Any) -> Any:
    """Runs until somebody puts something into the queue; returns that."""
    return gate.get()


def meet(here: Any, count: int) -> int:
    """Waits for so many of these to run side by side; returns its interpreter."""
    here.put(None)
    end = time.monotonic() + 60
    while here.qsize() < count:
        if time.monotonic() > end:
            raise TimeoutError(f"{here.qsize()} of {count} ran side by side")
        time.sleep(0.001)
    return interpreter()


def spin(seconds: float) -> int:
    end, turns = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        turns += 1
    return turns


def lambda_result() -> Any:
    return lambda: None


def say(text: str) -> None:
    print(text)


class Event:
    """A threading.Event for several interpreters, as far as the tests of the standard library use it."""

    def __init__(self) -> None:
        import syncyte

        self.queue: Any = syncyte.Queue()

    def set(self) -> None:
        self.queue.put(None)

    def wait(self) -> None:
        self.queue.put(self.queue.get())


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    def plus(self, more: int) -> int:
        return self.start + more


def nested(numbers: list[int]) -> list[int]:
    import syncyte

    with syncyte.InterpreterPool(2, warmup=None) as pool:
        return list(pool.map(abs, numbers))


def module_names() -> list[str]:
    return sorted(sys.modules)


def main_names() -> list[str]:
    return sorted(vars(sys.modules["__main__"]))


def get_status_slowly(seconds: float) -> str:
    time.sleep(seconds)
    return STATUS


def main_names_slowly(seconds: float) -> list[str]:
    time.sleep(seconds)
    return main_names()


def spin_stubbornly() -> None:
    while True:
        try:
            while True:
                pass
        except Exception:
            pass


def spin_and_tell(queue: Any) -> None:
    end = time.monotonic() + 20  # who asked for it may be stopped before it waits: then nobody stops this one
    try:
        queue.put("started")
        while time.monotonic() < end:
            pass
    finally:
        queue.put("cleaned up")


def count_down(pool: Any, depth: int) -> int:
    """Wait for a task of the same pool, which waits for another, and so on."""
    if depth == 0:
        return 0
    return 1 + int(pool.submit(count_down, pool, depth - 1).result())


def fan_out(pool: Any, count: int) -> int:
    """Wait for many tasks of the same pool by the standard library's means."""
    import concurrent.futures

    futures = [pool.submit(identity, n) for n in range(count)]
    concurrent.futures.wait(futures)
    return sum(future.result() for future in concurrent.futures.as_completed(futures))


def wait_deeply(pool: Any, depth: int) -> int:
    import concurrent.futures

    if depth == 0:
        return 0
    future = pool.submit(wait_deeply, pool, depth - 1)
    concurrent.futures.wait([future])
    return 1 + int(future.result())


def map_inside(pool: Any, count: int) -> int:
    return sum(pool.map(identity, range(count)))


def gather_inside(pool: Any, count: int) -> int:
    import asyncio

    async def use() -> int:
        return sum(await asyncio.gather(*(pool.run(identity, n) for n in range(count))))

    return asyncio.run(use())


def submit_inside(pool: Any, count: int) -> Any:
    """Return the last of some futures, unfinished."""
    return [pool.submit(identity, n) for n in range(count)][-1]


def result_of(future: Any) -> Any:
    return future.result()


def spin_inside(pool: Any, told: Any) -> None:
    told.put("outer")
    try:
        pool.submit(spin_and_tell, told).result()
    finally:
        told.put("outer cleaned up")


def wait_for_spinners(pool: Any, told: Any, means: str) -> None:
    """Wait in one of the usual ways for tasks of the pool, which say when they begin and are stopped."""
    import concurrent.futures

    futures = [pool.submit(spin_and_tell, told) for _ in range(2)]
    if means == "result":
        futures[0].result(30)
    elif means == "wait":
        concurrent.futures.wait(futures, 30)
    elif means == "hand over":
        told.put(futures)
        time.sleep(0)
        futures[0].result(30)
    else:
        del futures
        told.put("let go")
        spin(30)


def broadcast_inside(pool: Any, told: Any) -> list[int]:
    """Wait for a broadcast, with another task that does the same."""
    told.put("here")
    while told.qsize() < 2:
        time.sleep(0.001)
    return [future.result() for future in pool.broadcast(interpreter)]


def shut_down_inside(pool: Any) -> None:
    pool.shutdown()
