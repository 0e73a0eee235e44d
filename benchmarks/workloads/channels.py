"""Messages between interpreters, beside the standard library's ways and the system's own limits."""

import os
import pickle
import queue
from collections.abc import Callable, Iterator
from concurrent import interpreters
from contextlib import contextmanager
from typing import Any

import syncyte
from benchmarks import peers, wakes
from benchmarks.harness import Bench, Contestant, Goal, rate, time_each

MIXED = {
    "name": "syncyte",
    "id": 123456789,
    "score": 0.75,
    "ok": True,
    "parent": None,
    "tags": ["a", "b", "c"],
    "shape": (3, 224, 224),
    "raw": b"0123456789",
    "text": "an answer of a few words",
    "count": -1,
}


def run(bench: Bench) -> None:
    bench.fact("spin_us", syncyte._core._spin_time() * 1e6)
    round_trips(bench)
    parked(bench)
    throughput(bench)
    lists(bench)
    large(bench)
    shared(bench)
    asyncio_wakes(bench)
    waiting(bench)


def round_trips(bench: Bench) -> None:
    ours = bench.enter(peers.echo_of_queues(syncyte.Queue))
    stock = bench.enter(peers.echo_of_queues(interpreters.create_queue))
    threads = bench.enter(peers.echo_of_threads())
    pipe = bench.enter(peers.echo_of_pipe())
    processes = bench.enter(peers.echo_of_processes())
    count = 50 if bench.quick else 10_000
    for name, item, title in (
        ("round_trip_str", "hello", "Round trip of a 5-character str"),
        ("round_trip_dict", MIXED, "Round trip of a dict of 10 mixed fields"),
    ):
        goals = [Goal("syncyte.Queue", at_most=1.0 if item == "hello" else 4.0)]
        if item == "hello":
            goals += [
                Goal("syncyte.Queue", at_least=100, better_than="multiprocessing.Queue"),
                Goal("syncyte.Queue", at_least=25, better_than="multiprocessing.Pipe"),
                Goal("syncyte.Queue", at_least=5000, better_than="concurrent.interpreters.Queue"),
            ]
        bench.compare(
            name,
            [
                Contestant("syncyte.Queue", _trips(ours, item, count), ours=True),
                Contestant("multiprocessing.Pipe", _trips(pipe, item, count // 10)),
                Contestant("queue.SimpleQueue, threads", _trips(threads, item, count // 10)),
                Contestant("multiprocessing.Queue", _trips(processes, item, count // 10)),
                Contestant("concurrent.interpreters.Queue", _trips(stock, item, max(2, count // 1000))),
            ],
            title=title,
            unit="µs",
            better="lower",
            reference="multiprocessing.Pipe",
            goals=goals,
        )


def _trips(round_trip: Callable[[Any], Any], item: Any, count: int) -> Callable[[], list[float]]:
    return lambda: time_each(lambda: round_trip(item), count)


@contextmanager
def _without_spinning() -> Iterator[None]:
    before = syncyte._core._spin_time(0)
    try:
        yield
    finally:
        syncyte._core._spin_time(before)


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    """This thread, on that core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [core])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def parked(bench: Bench) -> None:
    """What a hand-over costs when the other side sleeps, on a core of its own.

    Left alone, the scheduler puts one pair on one core and another on two, which is all that one would see.
    """
    here, there = (sorted(os.sched_getaffinity(0)) * 2)[:2]
    ours = bench.enter(peers.echo_of_queues(syncyte.Queue, core=there))
    count = 50 if bench.quick else 3000

    def sample() -> list[float]:
        with _on_core(here), _without_spinning():
            return time_each(lambda: ours("hello"), count)

    def bare() -> list[float]:
        with _on_core(here):
            return syncyte._core._futex_round_trips(count, there)

    bench.compare(
        "round_trip_parked",
        [
            Contestant("syncyte.Queue, both sides asleep", sample, ours=True),
            Contestant("bare futex", bare),
        ],
        title="Round trip when each side sleeps, on a core of its own, until it is woken",
        unit="µs",
        better="lower",
        rounds=11,
        goals=[Goal("syncyte.Queue, both sides asleep", at_most=1.2, of="bare futex")],
    )


def throughput(bench: Bench) -> None:
    count = 4000 if bench.quick else 1_000_000
    one = bench.enter(peers.stream(1, 1, "hello", count))
    four = bench.enter(peers.stream(4, 4, "hello", count))
    threads = bench.enter(peers.stream_of_threads("hello", count // 4))
    processes = bench.enter(peers.stream_of_processes("hello", count // 20))
    bench.compare(
        "throughput",
        [
            Contestant("syncyte.Queue, 1 by 1", lambda: rate(one, count) / 1e6, ours=True),
            Contestant("syncyte.Queue, 4 by 4", lambda: rate(four, count) / 1e6, ours=True),
            Contestant("queue.SimpleQueue, threads", lambda: rate(threads, count // 4) / 1e6),
            Contestant("multiprocessing.Queue", lambda: rate(processes, count // 20) / 1e6),
        ],
        title="Small messages a second, producers by consumers",
        unit="M/s",
        better="higher",
        reference="multiprocessing.Queue",
        rounds=21,  # eight threads on four cores feel every neighbour of the machine
        goals=[
            Goal("syncyte.Queue, 1 by 1", at_least=3.0),
            Goal("syncyte.Queue, 4 by 4", at_least=1.0, of="syncyte.Queue, 1 by 1"),
        ],
    )


def lists(bench: Bench) -> None:
    count = 400 if bench.quick else 200_000
    numbers = list(range(1000, 1100))
    ours = bench.enter(peers.stream(1, 1, numbers, count))
    processes_count = count // 20
    processes = bench.enter(peers.stream_of_processes(numbers, processes_count))
    stock = interpreters.create_queue()

    def through_stock() -> None:
        for _ in range(processes_count):
            stock.put(numbers)
            stock.get()

    bench.compare(
        "throughput_lists",
        [
            Contestant("syncyte.Queue", lambda: rate(ours, count) / 1e3, ours=True),
            Contestant(
                "concurrent.interpreters.Queue, one thread",
                lambda: rate(through_stock, processes_count) / 1e3,
                note="both ends in one thread, where it need not poll",
            ),
            Contestant("multiprocessing.Queue", lambda: rate(processes, processes_count) / 1e3),
        ],
        title="Lists of 100 ints a second, one producer, one consumer",
        unit="k/s",
        better="higher",
        reference="multiprocessing.Queue",
        goals=[Goal("syncyte.Queue", at_least=500)],
    )


def large(bench: Bench) -> None:
    """What is passed by reference: the size does not matter."""
    ours = bench.enter(peers.echo_of_queues(syncyte.Queue))
    count = 20 if bench.quick else 2000
    buffer = syncyte.SharedBuffer(100_000_000)
    view = syncyte.share({f"key {number}": number for number in range(100_000)})
    pipe = bench.enter(peers.echo_of_pipe())
    block = bytes(100_000_000 if not bench.quick else 1_000_000)
    bench.compare(
        "round_trip_large",
        [
            Contestant("SharedBuffer of 100 MB", _trips(ours, buffer, count), ours=True),
            Contestant("shared dict of 100,000", _trips(ours, view, count), ours=True),
            Contestant("100 MB of bytes by multiprocessing.Pipe", _trips(pipe, block, 1)),
        ],
        title="Round trip of something large",
        unit="µs",
        better="lower",
        rounds=5,
        # There and back, at 10 µs each way.
        goals=[Goal(name, at_most=20) for name in ("SharedBuffer of 100 MB", "shared dict of 100,000")],
    )


def shared(bench: Bench) -> None:
    """Objects made once and read everywhere."""
    entries = {f"key {number}": number for number in range(1000 if bench.quick else 1_000_000)}
    view = syncyte.share(entries)
    keys = list(entries)[:: max(1, len(entries) // 1000)]

    def look_up(source: Any) -> list[float]:
        def all_keys() -> None:
            for key in keys:
                source[key]

        return [1e9 / rate(all_keys, len(keys)) for _ in range(20)]

    bench.compare(
        "shared_lookup",
        [
            Contestant("shared dict", lambda: look_up(view), ours=True),
            Contestant("dict", lambda: look_up(entries)),
        ],
        title="Looking up a key of a dict of a million",
        unit="ns",
        better="lower",
        goals=[Goal("shared dict", at_most=3.0, of="dict")],
    )
    bench.compare(
        "share",
        [
            Contestant("syncyte.share", lambda: time_each(lambda: syncyte.share(entries), 1, 1e3), ours=True),
            Contestant("pickle.dumps", lambda: time_each(lambda: pickle.dumps(entries), 1, 1e3)),
        ],
        title="Making a dict of a million ready to travel",
        unit="ms",
        better="lower",
        rounds=5,
        goals=[Goal("syncyte.share", at_most=1.0, of="pickle.dumps")],
    )


def asyncio_wakes(bench: Bench) -> None:
    # Short rounds, many of them: how deeply the cores sleep changes within seconds, and with it what any
    # wake-up costs, up to fourfold.
    count = 20 if bench.quick else 100
    bench.compare(
        "asyncio_wake",
        [
            Contestant("put, to the task in await q.aget()", lambda: wakes.queue_wakes(count), ours=True),
            Contestant("bare eventfd, to a task behind add_reader", lambda: wakes.eventfd_wakes(count)),
        ],
        title="Waking an asyncio task from another interpreter",
        unit="µs",
        better="lower",
        rounds=61,
        goals=[
            Goal(
                "put, to the task in await q.aget()",
                at_most=1.5,
                of="bare eventfd, to a task behind add_reader",
            )
        ],
    )


def waiting(bench: Bench) -> None:
    threads, seconds = (50, 0.1) if bench.quick else (1000, 1.0)
    bench.compare(
        "blocked_getters",
        [
            Contestant(
                "syncyte.Queue", lambda: wakes.cost_of_waiting(syncyte.Queue, threads, seconds), ours=True
            ),
            Contestant("queue.Queue", lambda: wakes.cost_of_waiting(queue.Queue, threads, seconds)),
            Contestant(
                "concurrent.interpreters.Queue",
                lambda: wakes.cost_of_waiting(interpreters.create_queue, threads, seconds),
            ),
        ],
        title="What 1,000 blocked getters use of one core",
        unit="%",
        better="lower",
        rounds=3,
        goals=[Goal("syncyte.Queue", at_most=1.0)],
    )
    bench.compare(
        "beside_a_waiter",
        [
            Contestant(
                "beside a waiter that spins where it may",
                lambda: wakes.loops_beside(1, seconds / 2) / 1e6,
                ours=True,
            ),
            Contestant("alone", lambda: wakes.loops_beside(0, seconds / 2) / 1e6),
        ],
        title="Turns of CPU-bound loops, one a core",
        unit="M/s",
        better="higher",
        rounds=25,  # short and many: the neighbours of the machine come and go
        goals=[Goal("beside a waiter that spins where it may", at_least=0.97, of="alone")],
    )
