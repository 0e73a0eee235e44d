"""Queues and channels in asyncio."""

import asyncio
import contextlib
import gc
import threading
import time
from concurrent import interpreters
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import syncyte

SOON = 30.0


def descriptors_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_aget_and_aput():
    async def main() -> None:
        q = syncyte.Queue(1)
        await q.aput("a")
        putting = asyncio.create_task(q.aput("b"))
        await asyncio.sleep(0.01)
        assert not putting.done()
        assert await q.aget() == "a"
        await putting
        assert await q.aget() == "b"

    asyncio.run(main())


def test_woken_from_another_interpreter():
    interpreter = interpreters.create()
    q = syncyte.Queue()
    interpreter.prepare_main(q=q)
    with ThreadPoolExecutor(1) as pool:

        async def main() -> None:
            for number in range(20):
                getting = asyncio.create_task(q.aget())
                await asyncio.sleep(0)
                pool.submit(interpreter.exec, f"q.put({number})")
                assert await asyncio.wait_for(getting, SOON) == number

        asyncio.run(main())
    interpreter.close()


def test_async_iteration_ends_at_shutdown():
    async def main() -> list[int]:
        q = syncyte.Queue()
        threading.Thread(target=lambda: (q.put_many(range(100)), q.shutdown())).start()
        return [item async for item in q]

    assert asyncio.run(main()) == list(range(100))


def test_channel_ends_await():
    async def main() -> None:
        recv, send = syncyte.create_channel(1)
        receiving = asyncio.create_task(recv.arecv())
        await asyncio.sleep(0)
        await send.asend("hello")
        assert await receiving == "hello"
        send.close()
        with pytest.raises(syncyte.ChannelClosed):
            await recv.arecv()
        assert [item async for item in recv] == []

    asyncio.run(main())


def test_shutdown_ends_waits():
    async def main() -> None:
        q = syncyte.Queue()
        getting = [asyncio.create_task(q.aget()) for _ in range(5)]
        await asyncio.sleep(0.01)
        q.shutdown()
        for outcome in await asyncio.gather(*getting, return_exceptions=True):
            assert isinstance(outcome, syncyte.QueueShutDown)

    asyncio.run(main())


def test_cancelling_before_anything_came():
    async def main() -> None:
        q = syncyte.Queue()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(q.aget(), 0.01)
        q.put(1)
        assert q.qsize() == 1

    asyncio.run(main())


def test_what_was_handed_to_a_cancelled_task_goes_back_to_the_front():
    async def main() -> None:
        q = syncyte.Queue()
        tasks = [asyncio.create_task(q.aget()) for _ in range(3)]
        await asyncio.sleep(0)
        q.put_many(range(6))  # 0, 1, 2 are handed over at once, though no task has run since
        assert q.qsize() == 3
        tasks[1].cancel()
        tasks[0].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert outcomes[2] == 2
        assert [q.get_nowait() for _ in range(5)] == [0, 1, 3, 4, 5]

    asyncio.run(main())


def test_a_cancelled_put_is_withdrawn():
    async def main() -> None:
        q = syncyte.Queue(1)
        q.put("first")
        putting = asyncio.create_task(q.aput("second"))
        await asyncio.sleep(0)
        putting.cancel()
        await asyncio.gather(putting, return_exceptions=True)
        assert q.get_nowait() == "first"
        assert q.empty()

    asyncio.run(main())


def test_a_loop_that_ends_gives_back_what_its_tasks_were_handed():
    q = syncyte.Queue()

    async def main() -> None:
        waiting = asyncio.create_task(q.aget())
        await asyncio.sleep(0)
        q.put("kept")
        assert not waiting.done()  # and asyncio.run() cancels it

    asyncio.run(main())
    assert q.get_nowait() == "kept"


def test_a_loop_that_is_dropped_gives_back_too():
    q = syncyte.Queue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(q.aget())
    loop.call_soon(loop.stop)
    loop.run_forever()
    q.put("kept")
    assert q.empty()
    loop.close()
    # asyncio complains about a pending task that is destroyed; that is the point here.
    loop.set_exception_handler(lambda *_: None)
    task._log_destroy_pending = False
    del task, loop
    gc.collect()
    assert q.get_nowait() == "kept"


def test_an_interpreter_that_ends_leaves_no_waiter_behind():
    interpreter = interpreters.create()
    q = syncyte.Queue()
    interpreter.prepare_main(q=q)
    interpreter.exec("""if True:
        import asyncio, sys
        loop = asyncio.new_event_loop()
        sys.kept = loop.create_task(q.aget())
        sys.kept._log_destroy_pending = False
        loop.call_soon(loop.stop)
        loop.run_forever()
    """)
    interpreter.close()
    q.put("kept")
    assert q.get(timeout=SOON) == "kept"


def test_thousands_of_waiters_share_one_descriptor():
    async def main() -> None:
        q = syncyte.Queue()
        await asyncio.wait_for(asyncio.gather(q.aput(0), q.aget()), SOON)
        descriptors = descriptors_open()
        threads = threading.active_count()
        tasks = [asyncio.create_task(q.aget()) for _ in range(5000)]
        await asyncio.sleep(0)
        assert descriptors_open() <= descriptors + 1
        assert threading.active_count() == threads
        threading.Thread(target=q.put_many, args=(range(5000),)).start()
        # First come, first served, tasks too.
        assert await asyncio.gather(*tasks) == list(range(5000))

    asyncio.run(main())


def test_waiting_costs_no_time():
    async def main() -> float:
        q = syncyte.Queue()
        tasks = [asyncio.create_task(q.aget()) for _ in range(1000)]
        least, end = 1.0, time.monotonic() + SOON
        # What other tests left may still be ending: the quietest of some moments tells.
        while least >= 0.05 and time.monotonic() < end:
            used = time.process_time()
            await asyncio.sleep(0.3)
            least = min(least, time.process_time() - used)
        q.shutdown()
        await asyncio.gather(*tasks, return_exceptions=True)
        return least

    assert asyncio.run(main()) < 0.05


def test_random_cancellations_lose_nothing_and_keep_order():
    async def main() -> list[int]:
        q = syncyte.Queue()
        count = 3000
        producer = threading.Thread(target=lambda: [q.put(number) for number in range(count)])
        producer.start()
        got: list[int] = []
        round_ = 0
        while len(got) < count:
            round_ += 1
            task = asyncio.create_task(q.aget())
            for _ in range(round_ % 3):
                await asyncio.sleep(0)
            if round_ % 2:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                got.append(await task)
        producer.join()
        return got

    assert asyncio.run(main()) == list(range(3000))


def test_outside_a_loop():
    q = syncyte.Queue()
    with pytest.raises(RuntimeError):
        q.aget().send(None)
    q.put(1)
    assert q.get() == 1


def test_what_comes_back_after_all_was_dropped_keeps_nobody_waiting() -> None:
    q: syncyte.Queue = syncyte.Queue()

    async def main() -> None:
        task = asyncio.ensure_future(q.aget())
        await asyncio.sleep(0.01)
        q.put(1)  # handed to the task
        q.shutdown(immediate=True)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert (q.qsize(), q.unfinished_tasks) == (0, 0)
    q.join()
