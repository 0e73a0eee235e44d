"""Nobody waits long: a long prompt that joins a stream, an urgent request among 16 that run, a fork."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import syncyte
from benchmarks.decoding import together
from benchmarks.harness import Bench, Contestant, Goal, Outcome, time_each
from benchmarks.llama_server import llama_server
from benchmarks.models import model_with_progress
from benchmarks.prompts import words
from benchmarks.streams import OURS, STOCK, Stream, contestants, our_stream, reading, streams
from benchmarks.summary import median


def run(bench: Bench) -> None:
    path = model_with_progress("tiny" if bench.quick else "0.3b", "q4_0")
    bench.fact("model", path.name)
    bench.fact("threads", bench.threads)
    forks(bench)
    for part in (joining_prompt, urgent_request):
        with Bench(bench.name, quick=bench.quick) as sides:  # closes this part's servers before the next
            part(bench, sides, path)


def joining_prompt(bench: Bench, sides: Bench, path: Path) -> None:
    """How long a stream stands still when a long prompt joins it, and how fast that prompt is read."""
    long, tokens = (60, 20) if bench.quick else (1000, 100)
    found = streams(bench, sides, path, 4, 2 * long)
    turn = iter(range(1_000_000))

    def worst_gap(stream: Stream) -> float:
        asked = time.perf_counter()
        times, _ = _joined(stream, words(16, 1000 * next(turn)), words(long, 1000 * next(turn)), tokens)
        # A tiny model's whole answer may come as one piece.
        return max((after - before for before, after in pairwise(times)), default=times[0] - asked)

    def beside(stream: Stream) -> float:
        _, seconds = _joined(stream, words(16, 1000 * next(turn)), words(long, 1000 * next(turn)), tokens)
        return long / seconds

    alone = reading(long, 500_000)
    bench.compare(
        "joining_prompt",
        contestants(found, worst_gap),
        title=f"A {long}-token prompt joins a stream: the longest pause between two of its tokens",
        unit="s",
        better="lower",
        reference=STOCK,
        rounds=7,
        goals=[Goal(OURS, at_most=0.25)],
    )
    bench.compare(
        "joining_speed",
        [
            Contestant(f"{OURS}, beside a stream", partial(beside, found[OURS]), ours=True),
            Contestant(f"{OURS}, alone", partial(alone, found[OURS]), ours=True),
            Contestant(f"{STOCK}, beside a stream", partial(beside, found[STOCK])),
            Contestant(f"{STOCK}, alone", partial(alone, found[STOCK])),
        ],
        title=f"Reading a {long}-token prompt, until its first answer's token",
        unit="tok/s",
        better="higher",
        reference=f"{STOCK}, alone",
        rounds=7,
        goals=[Goal(f"{OURS}, beside a stream", at_least=0.9, of=f"{OURS}, alone")],
    )


def _joined(stream: Stream, short: str, long: str, tokens: int) -> tuple[list[float], float]:
    """When the stream's tokens came, and how long the prompt that joined it took to its first token."""
    joined = threading.Event()
    started = 0.0

    def first() -> Iterator[int]:
        for number in stream(short, tokens):
            if number >= tokens // 5:
                joined.set()
            yield number
        joined.set()  # an answer of few pieces

    def second() -> Iterator[int]:
        nonlocal started
        joined.wait(60)
        started = time.perf_counter()
        return stream(long, 2)

    arrivals = together([first, second])
    return [when for when, _ in arrivals[0]], arrivals[1][0][0] - started


def urgent_request(bench: Bench, sides: Bench, path: Path) -> None:
    """How soon an urgent request speaks among as many running ones as there is room for."""
    count, asked, tokens = (2, 2, 30) if bench.quick else (16, 8, 150)
    context = 512
    model = sides.enter(
        syncyte.Model(path, context_length=context, max_sequences=count, threads=bench.threads)
    )
    server = sides.enter(
        llama_server(path, sequences=count, threads=bench.threads, context=context * count, cache_prompt=True)
    )
    turn = iter(range(1_000_000))

    def steps(ordinary: Stream, urgent: Stream) -> list[float]:
        """For each urgent request, the time to its first token in steps of those that run."""
        seed = next(turn) * 1000
        asked_at = time.perf_counter()
        running = threading.Semaphore(0)
        waits: list[float] = []

        def talk(index: int) -> Iterator[int]:
            pieces = 0
            for number in ordinary(words(16, seed + index), tokens):
                pieces += 1
                if pieces == 2:
                    running.release()
                yield number
            if pieces < 2:
                running.release()

        def ask() -> Iterator[int]:
            for _ in range(count):
                running.acquire(timeout=60)
            for index in range(asked):
                started = time.perf_counter()
                counts = urgent(words(16, seed + 500 + index), 2)
                next(counts, None)  # a tiny model's two tokens may be no text
                waits.append(time.perf_counter() - started)
                for _ in counts:
                    pass
                time.sleep(0.1)
            yield 1

        talks: list[Callable[[], Iterator[int]]] = [partial(talk, index) for index in range(count)]
        arrivals = together([*talks, ask])
        gaps = [after[0] - before[0] for notes in arrivals[:count] for before, after in pairwise(notes)]
        # Tiny models' whole answers may come as one piece each.
        gaps = gaps or [(notes[-1][0] - asked_at) / tokens for notes in arrivals[:count]]
        return [wait / median(gaps) for wait in waits]

    compared = bench.compare(
        "urgent_request",
        [
            Contestant(
                f"{OURS}, priority=10",
                partial(steps, our_stream(model), our_stream(model, priority=10)),
                ours=True,
            ),
            Contestant(STOCK, partial(steps, server.stream, server.stream)),
        ],
        title=f"A request among {count} running ones: its first token comes after",
        unit="steps",
        better="lower",
        rounds=3,
    )
    last = compared.contestants[f"{OURS}, priority=10"].p99
    compared.goals.append(Outcome("p99 ≤ 3 steps: its own prompt's and two more", last, last <= 3))


def forks(bench: Bench) -> None:
    """What a branch of a long conversation costs, with the shipped model, which has a chat template."""
    long, count = (100, 3) if bench.quick else (900, 100)
    with syncyte.Model(max_sequences=4, threads=bench.threads) as model:
        session = model.session(system="You are a demonstration.")
        length = 0
        while length < long:
            said = session.send("Tell me a joke about bread and cake", temperature=0.0, max_tokens=30)
            length = said.usage.prompt_tokens + said.usage.completion_tokens

        def fork() -> list[float]:
            return time_each(session.fork, count, scale=1e3)

        def first_token() -> float:
            branch = session.fork()
            started = time.perf_counter()
            branch.send("And?", temperature=0.0, max_tokens=1)
            return (time.perf_counter() - started) * 1e3

        def anew() -> float:
            started = time.perf_counter()
            messages = [*session.messages, {"role": "user", "content": "And?"}]
            model.chat(messages, temperature=0.0, max_tokens=1, cache_salt=str(next(turn)))
            return (time.perf_counter() - started) * 1e3

        turn = iter(range(1_000_000))
        bench.compare(
            "fork",
            [
                Contestant("fork()", fork, ours=True),
                Contestant("a branch's first token", first_token, ours=True),
                Contestant("the same without a cache", anew),
            ],
            title=f"A branch of a conversation of {length} tokens, shipped model",
            unit="ms",
            better="lower",
            goals=[Goal("fork()", at_most=1.0)],
        )
