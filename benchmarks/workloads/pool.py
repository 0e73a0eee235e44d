"""Tasks in pools: dispatch, map, arguments, busy cores, a web-like mix, beside the stdlib's pools."""

import heapq
import itertools
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, InterpreterPoolExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import syncyte
from benchmarks import pool_tasks
from benchmarks.harness import Bench, Contestant, Goal, Outcome

ROOT = Path(__file__).resolve().parents[2]
OURS, STOCK, PROCESSES, THREADS = (
    "syncyte.InterpreterPool",
    "InterpreterPoolExecutor",
    "ProcessPoolExecutor",
    "ThreadPoolExecutor",
)


def run(bench: Bench) -> None:
    workers = len(os.sched_getaffinity(0))
    bench.fact("workers", workers)
    context = multiprocessing.get_context("spawn")
    pools: dict[str, Executor] = {
        OURS: bench.enter(syncyte.InterpreterPool(workers)),
        STOCK: bench.enter(InterpreterPoolExecutor(workers)),
        PROCESSES: bench.enter(ProcessPoolExecutor(workers, mp_context=context)),
        THREADS: bench.enter(ThreadPoolExecutor(workers)),
    }
    for pool in pools.values():  # every worker exists and knows the functions
        list(pool.map(pool_tasks.nothing, range(workers * 20)))
        list(pool.map(time.sleep, [0.1] * workers))
    dispatch(bench, pools)
    mapped(bench, pools)
    large_arguments(bench, pools)
    busy_cores(bench, pools, workers)
    web_mix(bench, pools)
    in_place(bench)
    warm_start(bench)
    idle_cpu(bench)
    worker_memory(bench)


def contestants(
    pools: dict[str, Executor], sample: Callable[[Executor], Callable[[], float | Sequence[float]]]
) -> list[Contestant]:
    return [Contestant(name, sample(pool), ours=name == OURS) for name, pool in pools.items()]


def dispatch(bench: Bench, pools: dict[str, Executor]) -> None:
    count = 50 if bench.quick else 1000

    def sample(pool: Executor) -> Callable[[], list[float]]:
        def trips() -> list[float]:
            times = []
            for number in range(count):
                start = time.perf_counter()
                pool.submit(pool_tasks.nothing, number).result()
                times.append((time.perf_counter() - start) * 1e6)
            return times

        return trips

    bench.compare(
        "dispatch",
        contestants(pools, sample),
        title="submit() to result() of a trivial function",
        unit="µs",
        better="lower",
        reference=STOCK,
        goals=[Goal(OURS, at_most=10), Goal(OURS, at_least=10, better_than=STOCK)],
    )


def mapped(bench: Bench, pools: dict[str, Executor]) -> None:
    ours, others = (2000, 200) if bench.quick else (500_000, 10_000)

    def sample(pool: Executor) -> Callable[[], float]:
        count = ours if isinstance(pool, syncyte.InterpreterPool) else others

        def per_second() -> float:
            start = time.perf_counter()
            if sum(1 for _ in pool.map(pool_tasks.nothing, range(count))) != count:
                raise RuntimeError("map lost results")
            return count / (time.perf_counter() - start) / 1000

        return per_second

    bench.fact("map_items", {"syncyte": ours, "others": others})
    bench.fact("map_chunks", "each pool's own default: syncyte claims items in runs, the others one by one")
    bench.compare(
        "map",
        contestants(pools, sample),
        title="map() of a trivial function",
        unit="k tasks/s",
        better="higher",
        reference=STOCK,
        goals=[
            Goal(OURS, at_least=500),
            Goal(OURS, at_least=20, better_than=STOCK),
            Goal(OURS, at_least=20, better_than=PROCESSES),
        ],
    )


def large_arguments(bench: Bench, pools: dict[str, Executor]) -> None:
    for name, value, title in (
        ("text_10k", "x" * 10_000, "submit() to result() with a str of 10 kB"),
        ("bytes_1m", b"x" * 1_000_000, "submit() to result() with bytes of 1 MB"),
    ):
        count = 10 if bench.quick else 100

        def sample(
            pool: Executor, value: str | bytes = value, count: int = count
        ) -> Callable[[], list[float]]:
            def trips() -> list[float]:
                times = []
                for _ in range(count):
                    start = time.perf_counter()
                    if pool.submit(pool_tasks.measure, value).result() != len(value):
                        raise RuntimeError("the argument changed on its way")
                    times.append((time.perf_counter() - start) * 1e6)
                return times

            return trips

        bench.compare(
            name, contestants(pools, sample), title=title, unit="µs", better="lower", reference=STOCK
        )


def busy_cores(bench: Bench, pools: dict[str, Executor], workers: int) -> None:
    turns = 20_000 if bench.quick else 4_000_000

    def sample(pool: Executor) -> Callable[[], float]:
        def seconds() -> float:
            start = time.perf_counter()
            list(pool.map(pool_tasks.count, [turns] * workers))
            return time.perf_counter() - start

        return seconds

    bench.compare(
        "busy_cores",
        contestants(pools, sample),
        title="Pure Python on every core at once",
        unit="s",
        better="lower",
        reference=PROCESSES,
        goals=[Goal(OURS, at_least=0.97, better_than=PROCESSES)],
    )


def web_mix(bench: Bench, pools: dict[str, Executor]) -> None:
    """Latency of tasks that arrive at random times (Poisson) and take 0.1 to 20 ms.

    With half of the workers busy on average, tasks wait for a worker in any pool: an ideal one, with these
    arrivals and no cost of its own, is computed alongside, and what a pool adds to that is what is compared.
    """
    count = 20 if bench.quick else 1000
    workers = len(os.sched_getaffinity(0))
    choice = random.Random(7)
    arrivals = [(choice.expovariate(50 * workers), choice.uniform(0.1, 20)) for _ in range(count)]

    def sample(pool: Executor) -> Callable[[], float]:
        def worst_but_one_in_a_hundred() -> float:
            futures, sent = [], []
            due = time.monotonic()
            for gap, milliseconds in arrivals:
                due += gap
                time.sleep(max(0.0, due - time.monotonic()))
                sent.append(time.monotonic())
                futures.append(pool.submit(pool_tasks.request, milliseconds, sent[-1]))
            ideal = _ideal_latencies(sent, [milliseconds / 1000 for _, milliseconds in arrivals], workers)
            found = [future.result() for future in futures]
            over = sorted((real - best) * 1000 for real, best in zip(found, ideal, strict=True))
            return over[len(over) * 99 // 100]

        return worst_but_one_in_a_hundred

    starts = list(itertools.accumulate(gap for gap, _ in arrivals))
    ideal = _ideal_latencies(starts, [milliseconds / 1000 for _, milliseconds in arrivals], workers)
    bench.fact("web_mix_ideal_p99_ms", round(sorted(ideal)[count * 99 // 100] * 1000, 1))
    bench.compare(
        "web_mix",
        contestants(pools, sample),
        title="Tasks of 0.1 to 20 ms at random times: p99 of what is added to an ideal pool's latency",
        unit="ms",
        better="lower",
        reference=STOCK,
        rounds=3,
        goals=[Goal(OURS, at_least=1, better_than=other) for other in (STOCK, PROCESSES, THREADS)],
    )


def _ideal_latencies(sent: list[float], seconds: list[float], workers: int) -> list[float]:
    """First come, first served, by workers that cost nothing: seconds from each sending to its end."""
    free = [0.0] * workers
    latencies = []
    for at, takes in zip(sent, seconds, strict=True):
        end = max(at, heapq.heappop(free)) + takes
        heapq.heappush(free, end)
        latencies.append(end - at)
    return latencies


def in_place(bench: Bench) -> None:
    """What a call of a function under isolate() costs where it stays: cheap, or measured each time."""
    calls = 1000 if bench.quick else 200_000
    cheap, measured = "syncyte.isolate, cheap", "syncyte.isolate, measured each call"
    functions: dict[str, Callable[[object], object]] = {
        "plain function": pool_tasks.nothing,
        cheap: syncyte.isolate(pool_tasks.nothing),
        # Above this threshold at each call, and bound to the program by what it uses.
        measured: syncyte.isolate(threshold=1e-9)(pool_tasks.remembers),
    }

    def sample(function: Callable[[object], object]) -> Callable[[], float]:
        def nanoseconds() -> float:
            start = time.perf_counter()
            for _ in range(calls):
                function(None)
            return (time.perf_counter() - start) / calls * 1e9

        return nanoseconds

    bench.compare(
        "in_place",
        [
            Contestant(name, sample(function), ours=name != "plain function")
            for name, function in functions.items()
        ],
        title="A call of an isolated function that stays in place",
        unit="ns",
        better="lower",
        reference="plain function",
        goals=[Goal(cheap, at_most=1000), Goal(measured, at_most=1000)],
    )


def warm_start(bench: Bench) -> None:
    """From nothing to four workers that have imported json, re and asyncio."""
    script = (
        "import time, {module}\n"
        "if __name__ == '__main__':\n"
        "    start = time.perf_counter()\n"
        "    {code}\n"
        "    print(time.perf_counter() - start)\n"
        "    {end}\n"
    )
    contest = {
        OURS: script.format(
            module="syncyte, syncyte._pool",
            code="pool = syncyte.InterpreterPool(4, warmup='import json, re, asyncio'); pool.wait_ready()",
            end="pool.shutdown()",
        ),
        "four bare interpreters in threads": script.format(
            module="threading; from concurrent import interpreters",
            code="made = []; threads = [threading.Thread(target=lambda: (made.append(interpreters.create()), "
            "made[-1].exec('import json, re, asyncio'))) for _ in range(4)]; "
            "[thread.start() for thread in threads]; [thread.join() for thread in threads]",
            end="[interpreter.close() for interpreter in made]",
        ),
    }
    bench.compare(
        "warm_start",
        [Contestant(name, _in_process(text), ours=name == OURS) for name, text in contest.items()],
        title="Four workers with json, re and asyncio, from nothing",
        unit="ms",
        better="lower",
        goals=[Goal(OURS, at_most=120)],
    )


def idle_cpu(bench: Bench) -> None:
    """What a pool of four that has nothing to do costs."""
    seconds = 0.1 if bench.quick else 2
    script = (
        "import time, {module}\n"
        "if __name__ == '__main__':\n"
        "    pool = {code}\n"
        "    list(pool.map(abs, range(100)))\n"
        "    time.sleep(0.2)\n"
        "    start = time.process_time()\n"
        "    time.sleep({seconds})\n"
        "    print((time.process_time() - start) / {seconds})\n"
        "    pool.shutdown()\n"
    )
    contest = {
        OURS: script.format(module="syncyte", code="syncyte.InterpreterPool(4)", seconds=seconds),
        STOCK: script.format(
            module="concurrent.futures",
            code="concurrent.futures.InterpreterPoolExecutor(4)",
            seconds=seconds,
        ),
    }
    bench.compare(
        "idle_cpu",
        [Contestant(name, _in_process(text), ours=name == OURS) for name, text in contest.items()],
        title="CPU time of four idle workers",
        unit="ms/s",
        better="lower",
        reference=STOCK,
        rounds=3,
        warmup=0,
        goals=[Goal(OURS, at_most=1)],
    )


def worker_memory(bench: Bench) -> None:
    """What each further worker adds to private memory, beside an interpreter that does nothing."""
    more = 2 if bench.quick else 8
    script = (
        "from benchmarks import bare, footprint\n"
        "import gc, os, {module}\n"
        "if __name__ == '__main__':\n"
        "    def private():\n"
        "        gc.collect()\n"
        "        return footprint.of_process(os.getpid()).private\n"
        "    {first}\n"
        "    before = private()\n"
        "    {more}\n"
        "    print((private() - before) / {count} / 1000)\n"
        "    {end}\n"
    )

    def our_script(warmup: str | None) -> str:
        return script.format(
            module="syncyte",
            first=f"pool = syncyte.InterpreterPool(1, warmup={warmup!r}); pool.wait_ready()",
            more=f"pool.resize({more + 1}); pool.wait_ready()",
            count=more,
            end="pool.shutdown()",
        )

    def plain_script(code: str) -> str:
        return script.format(
            module="threading",
            first=f"made = bare.Bare(1, {code!r})",
            more=f"others = bare.Bare({more}, {code!r})",
            count=more,
            end="made.close(); others.close()",
        )

    warmup = "import json, re"
    idle, warm = f"{OURS}, without a warm-up", f"{OURS}, warm-up: {warmup}"
    plain, imported = "a bare interpreter in a thread", f"the same after {warmup}"
    contest = {
        idle: our_script(None),
        warm: our_script(warmup),
        imported: plain_script(warmup),
        plain: plain_script("pass"),
    }
    compared = bench.compare(
        "worker_memory",
        [Contestant(name, _in_process(text), ours=name in (idle, warm)) for name, text in contest.items()],
        title="Private memory of one more idle worker",
        unit="MB",
        better="lower",
        reference=plain,
        rounds=3,
        warmup=0,
    )
    medians = {name: summary.median for name, summary in compared.contestants.items()}
    for ours_, bare_ in ((idle, plain), (warm, imported)):
        beyond = medians[ours_] - medians[bare_]
        compared.goals.append(Outcome(f"{ours_} ≤ {bare_} + 3 MB", beyond, beyond <= 3))


def _in_process(script: str) -> Callable[[], float]:
    import subprocess
    import sys

    def milliseconds() -> float:
        found = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
        )
        return float(found.stdout) * 1000

    return milliseconds
