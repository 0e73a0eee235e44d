"""Many agents, one model, here and in llama-server: common beginnings, turns, a long prompt that joins."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import syncyte
from benchmarks import agents
from benchmarks.agents import Talk
from benchmarks.decoding import together
from benchmarks.harness import Bench, Contestant, Goal
from benchmarks.llama_server import Server, llama_server
from benchmarks.models import model_with_progress
from benchmarks.prompts import words

OURS = "syncyte"
STOCK = "llama-server"
TUNED = "llama-server -kvu -b 128"

Stream = Callable[[str, int], Iterator[int]]


def run(bench: Bench) -> None:
    path = model_with_progress("tiny" if bench.quick else "0.3b", "q4_0")
    bench.fact("model", path.name)
    bench.fact("threads", bench.threads)
    for part in (common_prefix, turns, joining_prompt):
        with Bench(bench.name, quick=bench.quick) as sides:  # closes this part's servers before the next
            part(bench, sides, path)


def _streams(bench: Bench, sides: Bench, path: Path, sequences: int, context: int) -> dict[str, Stream]:
    """How each side streams an answer: the prompt and the number of tokens give the counts as they come."""
    model = sides.enter(
        syncyte.Model(path, context_length=context, max_sequences=sequences, threads=bench.threads)
    )

    def ours(prompt: str, tokens: int) -> Iterator[int]:
        pieces = model.stream(prompt, max_tokens=tokens, temperature=0.0, ignore_eos=True)
        return (count for count, _ in enumerate(pieces, 1))

    streams: dict[str, Stream] = {OURS: ours}
    for name, server in _servers(bench, sides, path, sequences, context).items():
        streams[name] = server.stream
    return streams


def _servers(bench: Bench, sides: Bench, path: Path, sequences: int, context: int) -> dict[str, Server]:
    """Each has room for every sequence, and may begin with what its slots have of a prompt."""
    return {
        name: sides.enter(
            llama_server(
                path,
                sequences=sequences,
                threads=bench.threads,
                context=context * sequences,
                flags=flags,
                cache_prompt=True,
            )
        )
        for name, flags in ((STOCK, []), (TUNED, ["-kvu", "-b", "128"]))
    }


def _contestants(streams: dict[str, Stream], sample: Callable[[Stream], float]) -> list[Contestant]:
    return [Contestant(name, partial(sample, stream), ours=name == OURS) for name, stream in streams.items()]


def common_prefix(bench: Bench, sides: Bench, path: Path) -> None:
    """Agents that begin with the same 1,000 tokens, which nobody has computed, all at once."""
    count, common, own = (4, 60, 5) if bench.quick else (32, 1000, 20)
    streams = _streams(bench, sides, path, count, 2 * (common + own))
    turn = iter(range(1_000_000))

    def last_first_token(stream: Stream) -> float:
        seed = next(turn) * 1000
        prefix = words(common, seed)
        prompts = [f"{prefix} {words(own, seed + 1 + index)}" for index in range(count)]
        started = time.perf_counter()
        arrivals = together([partial(stream, prompt, 2) for prompt in prompts])
        return max(notes[0][0] for notes in arrivals) - started

    bench.compare(
        "common_prefix",
        _contestants(streams, last_first_token),
        title=f"{count} agents, {common} tokens in common, {own} of their own: first token of the last",
        unit="s",
        better="lower",
        reference=STOCK,
        rounds=3,
        goals=[Goal(OURS, at_least=4, better_than=name) for name in (STOCK, TUNED)],
    )


def turns(bench: Bench, sides: Bench, path: Path) -> None:
    """Agents that talk with the model in turns and run some Python after each answer."""
    count, each = (2, 2) if bench.quick else (16, 4)
    context = 512
    options = {"context_length": count * context, "max_sequences": count, "threads": bench.threads}
    pool = sides.enter(syncyte.InterpreterPool(count))
    processes = sides.enter(ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")))
    sides.enter(syncyte.Model(path, **options))  # stays open between the rounds
    turn = iter(range(1_000_000))

    def rate(executor: Executor, agent: Callable[..., int]) -> float:
        seed = next(turn) * count
        talks = [Talk(seed + index, each, said=20, tokens=24, thought=0.005) for index in range(count)]
        started = time.perf_counter()
        done = sum(executor.map(agent, talks))
        return done / (time.perf_counter() - started)

    def ours() -> float:
        return rate(pool, partial(agents.converse, str(path), options))

    servers = _servers(bench, sides, path, count, context)
    bench.compare(
        "turns",
        [
            Contestant(f"{OURS}, {count} interpreters", ours, ours=True),
            *(
                Contestant(
                    f"{name}, {count} client processes",
                    partial(rate, processes, partial(agents.converse_over_http, server.port)),
                )
                for name, server in servers.items()
            ),
        ],
        title=f"{count} agents of {each} turns, 5 ms of Python between turns",
        unit="turns/s",
        better="higher",
        reference=f"{STOCK}, {count} client processes",
        rounds=5,
        goals=[
            Goal(f"{OURS}, {count} interpreters", at_least=1.3, of=f"{name}, {count} client processes")
            for name in servers
        ],
    )


def joining_prompt(bench: Bench, sides: Bench, path: Path) -> None:
    """How long a stream stands still when a long prompt joins it."""
    long, tokens = (60, 20) if bench.quick else (1000, 100)
    streams = _streams(bench, sides, path, 4, 2 * long)
    turn = iter(range(1_000_000))

    def worst_gap(stream: Stream) -> float:
        seed = next(turn) * 1000
        joined = threading.Event()

        def first() -> Iterator[int]:
            for number in stream(words(16, seed), tokens):
                if number == tokens // 5:
                    joined.set()
                yield number

        def second() -> Iterator[int]:
            joined.wait(60)
            return stream(words(long, seed + 1), 2)

        times = [when for when, _ in together([first, second])[0]]
        return max((after - before for before, after in pairwise(times)), default=0.0)

    bench.compare(
        "joining_prompt",
        _contestants(streams, worst_gap),
        title=f"A {long}-token prompt joins a stream: the longest pause between two of its tokens",
        unit="s",
        better="lower",
        reference=STOCK,
        rounds=5,
        goals=[Goal(OURS, at_most=0.25)],
    )
