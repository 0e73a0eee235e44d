"""Tasks that use the pool they run in, or another; pools and futures as messages."""

import concurrent.futures
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent import interpreters

import pytest

import pool_tasks
import syncyte


@pytest.fixture(params=[1, 3])
def pool(request: pytest.FixtureRequest) -> Iterator[syncyte.InterpreterPool]:
    with syncyte.InterpreterPool(request.param, warmup=None) as pool:
        pool.wait_ready(30)
        yield pool


def test_tasks_wait_for_tasks_of_their_pool(pool: syncyte.InterpreterPool) -> None:
    assert pool.submit(pool_tasks.count_down, pool, 20).result(60) == 20
    futures = [pool.submit(pool_tasks.count_down, pool, 3) for _ in range(20)]
    assert [future.result(60) for future in futures] == [3] * 20
    assert len(pool.stats()) <= 3 + 3  # they did each other's work: nothing grew


def test_tasks_map_in_their_pool(pool: syncyte.InterpreterPool) -> None:
    futures = [pool.submit(pool_tasks.map_inside, pool, 500) for _ in range(6)]
    assert [future.result(60) for future in futures] == [499 * 250] * 6


@pytest.mark.parametrize("task", [pool_tasks.fan_out, pool_tasks.gather_inside])
def test_spares_come_where_tasks_wait_by_other_means(pool: syncyte.InterpreterPool, task: object) -> None:
    futures = [pool.submit(task, pool, 10) for _ in range(5)]  # type: ignore[arg-type]
    assert [future.result(60) for future in futures] == [45] * 5
    deadline = time.monotonic() + 30
    while len(pool.stats()) > pool._max_workers:  # and go when nobody waits any more
        assert time.monotonic() < deadline, pool.stats()
        time.sleep(0.01)


def test_waits_within_waits(pool: syncyte.InterpreterPool) -> None:
    assert pool.submit(pool_tasks.wait_deeply, pool, 6).result(60) == 6


def test_two_pools_that_use_each_other() -> None:
    with syncyte.InterpreterPool(1, warmup=None) as one, syncyte.InterpreterPool(1, warmup=None) as two:

        def bounce(here: syncyte.InterpreterPool, there: syncyte.InterpreterPool, turns: int) -> int:
            return 0 if turns == 0 else 1 + here.submit(bounce, there, here, turns - 1).result()  # type: ignore[no-any-return]

        assert one.submit(bounce, two, one, 5).result(60) == 5


def test_nested_tasks_pass_a_full_queue() -> None:
    with syncyte.InterpreterPool(1, warmup=None, max_pending=1) as pool:
        assert pool.submit(pool_tasks.map_inside, pool, 50).result(60) == 49 * 25
        assert pool.submit(pool_tasks.count_down, pool, 10).result(60) == 10
        last = pool.submit(pool_tasks.submit_inside, pool, 20).result(60)
        assert last.result(60) == 19


def test_a_pool_in_a_global_and_in_a_closure(pool: syncyte.InterpreterPool) -> None:
    def ask(n: int) -> int:
        return pool.submit(abs, -n).result()  # type: ignore[no-any-return]

    assert [future.result(60) for future in [pool.submit(ask, n) for n in range(10)]] == list(range(10))


def test_a_pool_comes_back_as_itself(pool: syncyte.InterpreterPool) -> None:
    assert pool.submit(pool_tasks.identity, pool).result(60) is pool
    assert pickle.loads(pickle.dumps(pool)) is pool
    with interpreter() as other:
        assert other.call(pool_tasks.fan_out, pool, 4) == 6
        assert other.call(pool_tasks.count_down, pool, 2) == 2
    assert pool.submit(abs, -1).result(60) == 1  # the visitor's end is not the pool's


class interpreter:  # noqa: N801
    def __enter__(self) -> interpreters.Interpreter:
        self.made = interpreters.create()
        self.made.exec(f"import sys; sys.path[:] = {sys.path!r}")
        return self.made

    def __exit__(self, *_: object) -> None:
        self.made.close()


def test_futures_travel(pool: syncyte.InterpreterPool) -> None:
    first = pool.submit(pool_tasks.nap, 0.1)
    assert pool.submit(pool_tasks.result_of, first).result(60) == 0.1
    assert pool.submit(pool_tasks.identity, first).result(60).result(60) == 0.1
    handed_back = pool.submit(pool_tasks.submit_inside, pool, 3).result(60)
    called: list[object] = []
    handed_back.add_done_callback(called.append)
    assert handed_back.result(60) == 2
    assert concurrent.futures.wait([handed_back], 60).done == {handed_back}
    deadline = time.monotonic() + 30
    while not called:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_cancelling_a_task_reaches_what_it_runs_for_itself() -> None:
    told: syncyte.Queue[str] = syncyte.Queue()
    with syncyte.InterpreterPool(1, warmup=None) as pool:
        future = pool.submit(pool_tasks.spin_inside, pool, told)
        assert [told.get(timeout=30) for _ in range(2)] == ["outer", "started"]
        assert future.cancel()
        assert [told.get(timeout=30) for _ in range(2)] == ["cleaned up", "outer cleaned up"]
        assert pool.submit(abs, -1).result(60) == 1


@pytest.mark.parametrize("means", ["result", "wait"])
@pytest.mark.parametrize("stopped_by", ["cancel", "timeout"])
def test_what_a_stopped_task_waits_for_is_stopped(means: str, stopped_by: str) -> None:
    told: syncyte.Queue[str] = syncyte.Queue()
    with syncyte.InterpreterPool(3, warmup=None) as pool:
        timeout = 2.0 if stopped_by == "timeout" else None  # enough for both to begin
        future = pool.options(timeout=timeout).submit(pool_tasks.wait_for_spinners, pool, told, means)
        assert [told.get(timeout=30) for _ in range(2)] == ["started", "started"]
        if stopped_by == "cancel":
            assert future.cancel()
        # Sooner than these two end by themselves.
        assert [told.get(timeout=15) for _ in range(2)] == ["cleaned up", "cleaned up"]
        with pytest.raises((TimeoutError, concurrent.futures.CancelledError)):
            future.result()
        assert pool.submit(abs, -1).result(60) == 1


def test_what_others_have_a_future_of_goes_on() -> None:
    told: syncyte.Queue[object] = syncyte.Queue()
    with syncyte.InterpreterPool(3, warmup=None) as pool:
        future = pool.submit(pool_tasks.wait_for_spinners, pool, told, "hand over")
        said = [told.get(timeout=30) for _ in range(3)]
        (inner,) = [item for item in said if isinstance(item, list)]
        assert future.cancel()
        time.sleep(0.3)
        assert told.empty()
        assert not any(each.done() for each in inner)
        assert all(each.cancel() for each in inner)


def test_what_a_task_left_to_itself_goes_on_when_it_is_stopped() -> None:
    told: syncyte.Queue[str] = syncyte.Queue()
    with syncyte.InterpreterPool(3, warmup=None) as pool:
        future = pool.submit(pool_tasks.wait_for_spinners, pool, told, "forget")
        assert sorted(told.get(timeout=30) for _ in range(3)) == ["let go", "started", "started"]
        assert future.cancel()
        time.sleep(0.3)
        assert told.empty()
        pool._core.interrupt()


def test_two_tasks_broadcast_to_each_other() -> None:
    told: syncyte.Queue[str] = syncyte.Queue()
    with syncyte.InterpreterPool(2, warmup=None) as pool:
        futures = [pool.submit(pool_tasks.broadcast_inside, pool, told) for _ in range(2)]
        found = [future.result(60) for future in futures]
        assert found[0] == found[1]
        assert len(set(found[0])) == 2


def test_a_time_limit_of_an_inner_task_leaves_the_outer_one_alone() -> None:
    def outer(pool: syncyte.InterpreterPool) -> str:
        try:
            pool.options(timeout=0.1).submit(pool_tasks.spin_stubbornly).result()
        except TimeoutError:
            return f"in time, {pool.submit(abs, -5).result()}"
        return "?"

    with syncyte.InterpreterPool(1, warmup=None) as pool:
        assert pool.submit(outer, pool).result(60) == "in time, 5"


def test_a_task_cannot_wait_for_the_end_of_its_pool() -> None:
    with syncyte.InterpreterPool(1, warmup=None) as pool:
        with pytest.raises(RuntimeError, match="cannot wait for the end of its own pool"):
            pool.submit(pool_tasks.shut_down_inside, pool).result(60)
        assert pool.submit(abs, -1).result(60) == 1
        pool.submit(lambda pool: pool.shutdown(wait=False), pool).result(60)
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.submit(abs, -1)


def test_many_threads_nest_at_once(pool: syncyte.InterpreterPool) -> None:
    found: list[int] = []

    def use() -> None:
        found.extend(pool.submit(pool_tasks.count_down, pool, 4).result(60) for _ in range(20))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [4] * 80


def test_nested_tasks_are_finished_at_exit() -> None:
    script = """
        import syncyte
        def inner(n):
            print(f"inner {n}\\n", end="", flush=True)  # one write, also where Python does not buffer
        def outer(pool, told):
            import concurrent.futures, time
            futures = [pool.submit(inner, n) for n in range(3)]
            told.put(None)
            time.sleep(0.2)
            concurrent.futures.wait(futures)
            print("outer")
        pool = syncyte.InterpreterPool(1, warmup=None)
        told = syncyte.Queue()
        future = pool.submit(outer, pool, told)
        told.get()
        """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (found.stderr, found.returncode) == ("", 0)
    said = found.stdout.splitlines()
    assert (sorted(said[:-1]), said[-1]) == (["inner 0", "inner 1", "inner 2"], "outer")
