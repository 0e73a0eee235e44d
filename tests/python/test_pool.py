"""InterpreterPool: functions, arguments, results and errors travel; futures behave; pools begin and end."""

import asyncio
import concurrent.futures
import functools
import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures._base import FINISHED, RUNNING
from concurrent.futures.interpreter import BrokenInterpreterPool
from concurrent.interpreters import ExecutionFailed, NotShareableError, get_current

import pytest
from waiting import wait_until

import pool_tasks
import syncyte


@pytest.fixture(scope="module")
def pool() -> Iterator[syncyte.InterpreterPool]:
    with syncyte.InterpreterPool(3, warmup=None) as pool:
        pool.wait_ready(30)
        yield pool


def local_double(x: int) -> int:
    return x * 2


FACTOR = 3


def test_functions_travel(pool: syncyte.InterpreterPool) -> None:
    offset = 5

    def closure(x: int) -> int:
        return x + offset

    def recursive(n: int) -> int:
        return 1 if n == 0 else n * recursive(n - 1)

    assert pool.submit(pow, 2, 10).result(30) == 1024
    assert pool.submit(pool_tasks.identity, value=7).result(30) == 7
    assert pool.submit(lambda x, y=4: x + y, 1).result(30) == 5
    assert pool.submit(closure, 1).result(30) == 6
    assert pool.submit(recursive, 5).result(30) == 120
    assert pool.submit(functools.partial(pool_tasks.identity, 9)).result(30) == 9
    assert pool.submit(pool_tasks.Counter(40).plus, 2).result(30) == 42
    assert pool.submit(str.upper, "x").result(30) == "X"
    assert pool.submit(dict, a=1).result(30) == {"a": 1}
    assert pool.submit(map_with, lambda x: x + 1, [1, 2]).result(30) == [2, 3]


def map_with(function: object, values: list[int]) -> list[int]:
    return [function(value) for value in values]  # type: ignore[operator]


def test_a_changed_global_travels_again(pool: syncyte.InterpreterPool) -> None:
    source = "def scaled(x):\n    return helper(x) * FACTOR\n\ndef helper(x):\n    return x + 1\n"
    space: dict[str, object] = {"FACTOR": 2, "__name__": "__main__"}
    exec(source, space)
    scaled = space["scaled"]
    assert pool.submit(scaled, 1).result(30) == 4  # type: ignore[arg-type]
    space["FACTOR"] = 10
    assert pool.submit(scaled, 1).result(30) == 20  # type: ignore[arg-type]
    exec("def helper(x):\n    return x + 2\n", space)
    assert pool.submit(scaled, 1).result(30) == 30  # type: ignore[arg-type]


def test_what_cannot_travel_is_named(pool: syncyte.InterpreterPool) -> None:
    lock = threading.Lock()

    def locked() -> object:
        return lock

    with pytest.raises(NotShareableError, match=r"locked.*'lock' of its closure.*cannot pickle"):
        pool.submit(locked).result(30)
    with pytest.raises(NotShareableError, match="cannot pickle"):
        pool.submit(pool_tasks.identity, lock).result(30)
    with pytest.raises(Exception, match="lambda"):
        pool.submit(pool_tasks.lambda_result).result(30)
    assert pool.submit(pool_tasks.identity, 1).result(30) == 1


def test_exceptions_arrive_with_their_traceback(pool: syncyte.InterpreterPool) -> None:
    future = pool.submit(pool_tasks.fail, "spam")
    with pytest.raises(LookupError, match="spam") as caught:
        future.result(30)
    cause = caught.value.__cause__
    assert isinstance(cause, ExecutionFailed)
    assert cause.excinfo.type.__name__ == "LookupError"
    assert "pool_tasks.py" in str(cause)
    assert "raise LookupError(message)" in str(cause)
    assert future.exception() is caught.value
    with pytest.raises(syncyte.Error, match=r"UnpicklableError: 1 and 2"):
        pool.submit(pool_tasks.fail_unpicklably).result(30)


@pytest.mark.parametrize(
    ("task", "arguments", "kind"),
    [
        (pool_tasks.leave, (3,), SystemExit),
        (pool_tasks.interrupt, (), KeyboardInterrupt),
        (pool_tasks.recurse, (), RecursionError),
        (pool_tasks.identity, (), TypeError),
    ],
)
def test_nothing_ends_a_worker(
    pool: syncyte.InterpreterPool, task: object, arguments: tuple[object, ...], kind: type[BaseException]
) -> None:
    for _ in range(4):
        with pytest.raises(kind):
            pool.submit(task, *arguments).result(30)  # type: ignore[arg-type]
    assert pool.submit(pool_tasks.identity, 1).result(30) == 1


def test_every_task_runs_in_an_interpreter_of_the_pool(pool: syncyte.InterpreterPool) -> None:
    here: syncyte.Queue[None] = syncyte.Queue()
    futures = [pool.submit(pool_tasks.meet, here, 3) for _ in range(3)]
    found = {future.result(60) for future in futures}
    assert len(found) == 3
    assert {future.interpreter_id for future in futures} == found
    for future in pool.broadcast(pool_tasks.nap, 0.02):
        future.result(30)
    assert get_current().id not in found
    assert {future.worker for future in futures} == {0, 1, 2}
    assert pool.submit(pool_tasks.interpreter).result(30) in found
    stats = pool.stats()
    assert [entry["worker"] for entry in stats] == [0, 1, 2]
    assert {entry["interpreter_id"] for entry in stats} == found
    assert sum(entry["tasks"] for entry in stats) >= 6
    assert all(entry["busy"] >= 0.02 for entry in stats)


def test_futures_are_those_of_concurrent_futures(pool: syncyte.InterpreterPool) -> None:
    gate: syncyte.Queue[float] = syncyte.Queue()
    future = pool.submit(pool_tasks.hold, gate)
    assert isinstance(future, concurrent.futures.Future)
    with pytest.raises(TimeoutError):
        future.result(0.01)
    assert not future.done()
    called: list[object] = []
    future.add_done_callback(called.append)
    gate.put(0.2)
    assert future.result(30) == 0.2
    assert future.done()
    assert not future.running()
    assert not future.cancel()
    assert "finished returned float" in repr(future)
    assert wait_until(lambda: bool(called))
    assert called == [future]
    future.add_done_callback(called.append)
    assert called == [future, future]


def test_wait_and_as_completed(pool: syncyte.InterpreterPool) -> None:
    gate: syncyte.Queue[None] = syncyte.Queue()
    slow = pool.submit(pool_tasks.hold, gate)
    quick = [pool.submit(pool_tasks.identity, n) for n in range(20)]
    done, pending = concurrent.futures.wait([slow, *quick], 30, concurrent.futures.FIRST_COMPLETED)
    assert done <= set(quick)
    assert slow in pending
    gate.put(None)
    done, pending = concurrent.futures.wait([slow, *quick], 30)
    assert len(done) == 21
    assert not pending
    futures = [pool.submit(pool_tasks.identity, n) for n in range(50)]
    assert sorted(f.result() for f in concurrent.futures.as_completed(futures, 30)) == list(range(50))
    failing = pool.submit(pool_tasks.fail, "x")
    done, _ = concurrent.futures.wait([failing], 30, concurrent.futures.FIRST_EXCEPTION)
    assert done == {failing}


def test_states_hold_still_while_somebody_counts_them(pool: syncyte.InterpreterPool) -> None:
    gate: syncyte.Queue[int] = syncyte.Queue()
    future = pool.submit(pool_tasks.hold, gate)
    with future._condition:
        assert future._state != FINISHED
        gate.put(7)
        assert future.result(30) == 7
        assert future._state == RUNNING
        assert future.done()
    assert future._state == FINISHED
    assert concurrent.futures.wait([future], 0).done == {future}
    for _ in range(200):
        futures = {pool.submit(pool_tasks.identity, n) for n in range(8)}
        assert concurrent.futures.wait(futures, 30) == (futures, set())


def test_waiting_tasks_can_be_cancelled() -> None:
    with syncyte.InterpreterPool(1, warmup=None) as pool:
        gate: syncyte.Queue[float] = syncyte.Queue()
        running = pool.submit(pool_tasks.hold, gate)
        waiting = pool.submit(pool_tasks.identity, 1)
        called: list[object] = []
        waiting.add_done_callback(called.append)
        assert waiting.cancel()
        assert called == [waiting]
        assert waiting.cancelled()
        assert waiting.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            waiting.result()
        with pytest.raises(concurrent.futures.CancelledError):
            waiting.exception()
        assert concurrent.futures.wait([waiting], 30).done == {waiting}
        gate.put(0.3)
        assert running.result(30) == 0.3
        assert not running.cancel()


def test_asyncio(pool: syncyte.InterpreterPool) -> None:
    async def use() -> list[object]:
        loop = asyncio.get_running_loop()
        one = loop.run_in_executor(pool, pool_tasks.identity, 1)
        two = asyncio.wrap_future(pool.submit(pool_tasks.nap, 0.05))
        return list(await asyncio.gather(one, two))

    assert asyncio.run(use()) == [1, 0.05]
    assert asyncio.run(pool.run(pool_tasks.identity, value=3)) == 3


def test_broadcast_reaches_every_worker(pool: syncyte.InterpreterPool) -> None:
    busy = pool.submit(pool_tasks.nap, 0.1)
    futures = pool.broadcast(pool_tasks.interpreter)
    assert [future.result(30) for future in futures] == [e["interpreter_id"] for e in pool.stats()]
    assert [future.worker for future in futures] == [0, 1, 2]
    assert busy.result(30) == 0.1


def test_higher_priorities_go_first() -> None:
    with syncyte.InterpreterPool(1, warmup=None) as pool:
        order: syncyte.Queue[int] = syncyte.Queue()
        gate: syncyte.Queue[None] = syncyte.Queue()
        first = pool.submit(pool_tasks.hold, gate)
        assert wait_until(first.running, 30)
        futures = [
            pool.options(priority=priority).submit(order.put, priority) for priority in (0, -1, 2, 1, 0, 2)
        ]
        gate.put(None)
        concurrent.futures.wait(futures, 30)
        assert [order.get() for _ in futures] == [2, 2, 1, 0, 0, -1]


def test_map(pool: syncyte.InterpreterPool) -> None:
    assert list(pool.map(abs, range(-10_000, 0))) == list(range(10_000, 0, -1))
    assert list(pool.map(pow, range(10), range(10), chunksize=3)) == [n**n for n in range(10)]
    assert list(pool.map(pool_tasks.identity, [])) == []
    assert list(pool.map(lambda x: x + 1, range(3), buffersize=2)) == [1, 2, 3]
    results = pool.map(divmod, [1, 1, 1], [2, 0, 3])
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(TimeoutError):
        list(pool.map(pool_tasks.nap, [0.5], timeout=0.05))
    here: syncyte.Queue[None] = syncyte.Queue()
    assert len(set(pool.map(pool_tasks.meet, [here] * 3, [3] * 3))) == 3  # side by side
    assert list(pool.map(map_with, [lambda x: -x], [[1]])) == [[-1]]
    with pytest.raises(NotShareableError):
        list(pool.map(pool_tasks.identity, [1, threading.Lock()]))


def test_initializer_and_warmup() -> None:
    with syncyte.InterpreterPool(
        2, "init", pool_tasks.set_status, ("ready",), warmup="import decimal, colorsys"
    ) as pool:
        futures = [pool.submit(pool_tasks.get_status) for _ in range(8)]
        assert [future.result(30) for future in futures] == ["ready"] * 8
        assert "colorsys" in pool.submit(pool_tasks.module_names).result(30)
    assert pool_tasks.STATUS == "untouched"


def submit_for_ever(pool: syncyte.InterpreterPool) -> None:
    while True:
        pool.submit(pool_tasks.identity, 1).result(30)


def test_a_failing_initializer_breaks_the_pool(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.CRITICAL, "concurrent.futures"),
        syncyte.InterpreterPool(2, initializer=pool_tasks.fail, initargs=("no luck",)) as pool,
    ):
        with pytest.raises(BrokenInterpreterPool, match="no luck"):
            submit_for_ever(pool)
        with pytest.raises(BrokenInterpreterPool) as caught:
            pool.wait_ready(30)
        assert isinstance(caught.value.__cause__, LookupError)
    assert "LookupError: no luck" in caplog.text


def test_a_pool_starts_afresh_in_recycled_interpreters() -> None:
    with syncyte.InterpreterPool(1, warmup=None) as pool:
        first = pool.submit(pool_tasks.interpreter).result(30)
        pool.submit(pool_tasks.set_status, "stale").result(30)
        exec_main = eval("lambda: globals().__setitem__('leftover', 1)", {"__name__": "__main__"})
        pool.submit(exec_main).result(30)
        assert "leftover" in pool.submit(pool_tasks.main_names).result(30)
    with syncyte.InterpreterPool(8, warmup=None) as pool:
        pool.wait_ready(30)
        assert first in {entry["interpreter_id"] for entry in pool.stats()}
        assert set(pool.map(pool_tasks.get_status_slowly, [0.05] * 16, chunksize=1)) == {"untouched"}
        assert not any("leftover" in names for names in pool.map(pool_tasks.main_names_slowly, [0.05] * 16))


def test_shutdown() -> None:
    pool = syncyte.InterpreterPool(1, warmup=None)
    futures = [pool.submit(pool_tasks.nap, 0.05) for _ in range(4)]
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(pool_tasks.identity, 1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.map(pool_tasks.identity, [1])
    assert [future.result(30) for future in futures] == [0.05] * 4
    pool.shutdown()
    pool = syncyte.InterpreterPool(1, warmup=None)
    futures = [pool.submit(pool_tasks.nap, 0.3) for _ in range(20)]
    results = pool.map(pool_tasks.nap, [0.3] * 20)
    pool.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)
    assert sum(future.cancelled() for future in futures) > 10
    with pytest.raises(concurrent.futures.CancelledError):
        list(results)


def test_a_forgotten_pool_finishes_its_tasks() -> None:
    pool = syncyte.InterpreterPool(1, warmup=None)
    gone = weakref.ref(pool)
    futures = [pool.submit(pool_tasks.nap, 0.05) for _ in range(3)]
    del pool
    gc.collect()
    assert gone() is None
    assert [future.result(30) for future in futures] == [0.05] * 3


def test_pools_inside_pools_and_threads(pool: syncyte.InterpreterPool) -> None:
    assert pool.submit(pool_tasks.nested, [-1, -2]).result(60) == [1, 2]
    found: list[object] = []

    def use() -> None:
        with syncyte.InterpreterPool(1, warmup=None) as own:
            found.append(own.submit(pool_tasks.identity, 1).result(30))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 4


def test_max_pending_holds_back_the_submitter() -> None:
    with syncyte.InterpreterPool(1, warmup=None, max_pending=2) as pool:
        pool.wait_ready(30)
        start = time.monotonic()
        futures = [pool.submit(pool_tasks.nap, 0.1) for _ in range(5)]
        assert time.monotonic() - start >= 0.15
        assert [future.result(30) for future in futures] == [0.1] * 5


def test_wrong_arguments() -> None:
    for count in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            syncyte.InterpreterPool(count)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        syncyte.InterpreterPool(1, initializer="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_pending"):
        syncyte.InterpreterPool(1, max_pending=0)


def test_an_idle_pool_uses_no_cpu(pool: syncyte.InterpreterPool) -> None:
    pool.submit(pool_tasks.identity, 1).result(30)

    def costs_nothing() -> bool:
        before = time.process_time()
        time.sleep(0.5)
        return time.process_time() - before < 0.1

    # Not at once: what other tests left may still be ending.
    assert wait_until(costs_nothing)


def test_threads_end_with_their_number_unchanged() -> None:
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208

    with syncyte.InterpreterPool(3, warmup=None) as pool:
        pool.wait_ready(30)
    count = threads()
    for _ in range(10):
        with syncyte.InterpreterPool(3, warmup=None) as pool:
            assert pool.submit(pool_tasks.identity, 1).result(30) == 1
    # A joined thread is among them for a moment more.
    assert wait_until(lambda: threads() <= count)
