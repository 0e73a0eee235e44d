"""Messages over eight interpreters, with timeouts, cancellations and interpreters that end in the middle.

None lost, none twice, the order of each producer kept.

SYNCYTE_STRESS_MESSAGES sets how many; a full run is 10 million, the usual one takes a few seconds.
"""

import os
import threading
import time
from concurrent import interpreters

import syncyte

MESSAGES = int(os.environ.get("SYNCYTE_STRESS_MESSAGES", "200000"))
PRODUCERS = 4
CONSUMERS = 4

PRODUCE = """if True:
    import queue
    number = first
    while number < last:
        try:
            kind = number % 16
            if kind == 0:  # in a hurry: full now and then
                q.put((producer, number), timeout=1e-6)
            elif kind == 1:
                q.put_nowait((producer, number))
            elif kind == 2 and number + 8 < last:
                try:
                    q.put_many([(producer, number + i) for i in range(8)], timeout=1e-5)
                except queue.Full as full:
                    number += full.count
                    continue
                number += 8
                continue
            else:
                q.put((producer, number))
            number += 1
        except queue.Full:
            pass
"""

# Consumers get in every way there is. What they got they report in the order they got it, in batches.
CONSUME = """if True:
    import queue, time
    got = []
    turn = 0
    share = limit
    def report():
        results.put((consumer, got[:]))
        got.clear()
    while share is None or share > 0:
        before = len(got)
        turn += 1
        try:
            kind = turn % 8
            if kind == 0:
                got.append(q.get(timeout=1e-6))
            elif kind == 1:
                got.append(q.get_nowait())
            elif kind == 2 and share is None:
                got.extend(q.get_many(5, timeout=1e-5))
            elif kind == 3:
                got.append(syncyte.select([q, never], timeout=1e-5)[1])
            else:
                got.append(q.get())
        except (queue.Empty, TimeoutError):
            pass
        except (queue.ShutDown, syncyte.ChannelClosed):
            break
        if share is not None:
            share -= len(got) - before
        if len(got) >= 500:
            report()
    report()
"""

CONSUME_ASYNC = """if True:
    import asyncio
    async def main():
        got = []
        turn = 0
        while True:
            turn += 1
            task = asyncio.ensure_future(q.aget())
            for _ in range(turn % 4):
                await asyncio.sleep(0)
            if turn % 3 == 0:
                task.cancel()
            try:
                got.append(await task)
            except asyncio.CancelledError:
                pass
            except syncyte.QueueShutDown:
                break
            if len(got) >= 500:
                results.put((consumer, got))
                got = []
        results.put((consumer, got))
    asyncio.run(main())
"""


def run(code: str, **names: object) -> threading.Thread:
    """Runs code in a new interpreter, which ends with it."""

    def work() -> None:
        interpreter = interpreters.create()
        try:
            interpreter.prepare_main(**names)
            interpreter.exec("import syncyte\n" + code)
        finally:
            interpreter.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def check(results: list[tuple[int, list[tuple[int, int]]]], each: int, in_order: set[int]) -> None:
    """Every message once; and in the order of its producer, for the consumers that cancel nothing."""
    seen = [bytearray(each) for _ in range(PRODUCERS)]
    last: dict[tuple[int, int], int] = {}
    for consumer, batch in results:
        for producer, number in batch:
            assert not seen[producer][number], f"message {number} of producer {producer} came twice"
            seen[producer][number] = 1
            if consumer in in_order:
                assert last.get((consumer, producer), -1) < number
                last[consumer, producer] = number
    assert [flags.count(0) for flags in seen] == [0] * PRODUCERS


def drain(q: syncyte.Queue, into: list) -> threading.Thread:
    thread = threading.Thread(target=lambda: into.extend(q))
    thread.start()
    return thread


def test_eight_interpreters() -> None:
    each = MESSAGES // PRODUCERS
    q, results, never = syncyte.Queue(64), syncyte.Queue(), syncyte.Queue()
    collected: list[tuple[int, list[tuple[int, int]]]] = []
    collecting = drain(results, collected)
    names = {"q": q, "results": results, "never": never}
    # Two consumers end early, interpreter and all, and are replaced by two that stay.
    consumers = [run(CONSUME, consumer=c, limit=[None, each // 10][c % 2], **names) for c in range(CONSUMERS)]
    # Each producer's work is done by several interpreters in turn.
    parts = 3

    def produce(producer: int) -> None:
        for part in range(parts):
            first, last = each * part // parts, each * (part + 1) // parts
            run(PRODUCE, producer=producer, first=first, last=last, q=q).join()

    producers = [threading.Thread(target=produce, args=(producer,)) for producer in range(PRODUCERS)]
    for thread in producers:
        thread.start()
    time.sleep(0.1)
    consumers += [run(CONSUME, consumer=c, limit=None, **names) for c in (CONSUMERS, CONSUMERS + 1)]
    for thread in producers:
        thread.join()
    q.shutdown()
    for thread in consumers:
        thread.join()
    results.shutdown()
    collecting.join()
    check(collected, each, set(range(CONSUMERS + 2)))


def test_cancelled_tasks_in_interpreters() -> None:
    each = MESSAGES // PRODUCERS // 4
    q, results = syncyte.Queue(64), syncyte.Queue()
    collected: list[tuple[int, list[tuple[int, int]]]] = []
    collecting = drain(results, collected)
    consumers = [run(CONSUME_ASYNC, consumer=c, q=q, results=results) for c in range(2)]
    producers = [run(PRODUCE, producer=p, first=0, last=each, q=q) for p in range(PRODUCERS)]
    for thread in producers:
        thread.join()
    q.shutdown()
    for thread in consumers:
        thread.join()
    results.shutdown()
    # What was given back after its getters had been told of the end waits in the queue.
    collected.append((-1, list(q)))
    collecting.join()
    check(collected, each, set())
