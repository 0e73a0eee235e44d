"""Agents in turns, here and with llama-server: one beside others that rest, and all at once."""

import itertools
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import syncyte
from benchmarks import agents
from benchmarks.agents import Talk
from benchmarks.decoding import together
from benchmarks.harness import Bench, Contestant, Goal
from benchmarks.prompts import words
from benchmarks.streams import (
    OURS,
    SEPARATE,
    STOCK,
    TUNED,
    contestants,
    decoding_behind,
    run_parts,
    servers,
    streams,
)

TURNS = 4
CONTEXT = 512


def run(bench: Bench) -> None:
    run_parts(bench, beside_histories, in_turns)


def beside_histories(bench: Bench, sides: Bench, path: Path) -> None:
    """One agent that talks while the others, each with a long history, rest."""
    others, history, own, tokens = (2, 40, 5, 8) if bench.quick else (10, 1000, 100, 96)
    found = streams(bench, sides, path, others + 1, history + 2 * tokens)
    for stream, other in itertools.product(found.values(), range(others)):
        text = words(history, 700_000 + other)
        for prompt in (text, f"{text} {words(own, 710_000 + other)}"):  # two turns
            together([partial(stream, prompt, 2)])
    bench.compare(
        "beside_histories",
        contestants(found, decoding_behind("", 1, own, tokens, quick=bench.quick)),
        title=f"1 agent decoding while {others} others rest, with histories of {history} tokens",
        unit="tok/s",
        better="higher",
        reference=STOCK,
        rounds=7,
        goals=[Goal(OURS, at_least=0.95, of=name) for name in (STOCK, TUNED)],
    )


def in_turns(bench: Bench, sides: Bench, path: Path) -> None:
    """All agents at once, each with some Python between its turns."""
    count, system = (2, 20) if bench.quick else (16, 300)
    setup: dict[str, Any] = {"max_sequences": count, "threads": bench.threads}
    kinds: dict[str, dict[str, Any]] = {
        OURS: {**setup, "context_length": CONTEXT, "cache_tokens": count * CONTEXT},
        SEPARATE: {**setup, "context_length": CONTEXT, "kv_unified": False},
    }
    pool = sides.enter(syncyte.InterpreterPool(count))
    processes = sides.enter(ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")))
    for options in kinds.values():
        sides.enter(syncyte.Model(path, **options))  # stays open between the rounds
    peers = servers(bench, sides, path, count, CONTEXT)
    teams: dict[str, tuple[Executor, Callable[[Talk], int]]] = {
        f"{name}, {count} interpreters": (pool, partial(agents.converse, str(path), options))
        for name, options in kinds.items()
    }
    ours = list(teams)
    for name, server in peers.items():
        agent = partial(agents.converse_over_http, server.port)
        teams[f"{name}, {count} client processes"] = (processes, agent)
    theirs = [name for name in teams if name not in ours]
    numbers = itertools.count()

    def rate(common: int, executor: Executor, agent: Callable[[Talk], int]) -> float:
        number = next(numbers)
        prompt = words(common, 800_000 + number)
        talks = [
            Talk(prompt, number * count + member, TURNS, said=20, tokens=24, thought=0.005)
            for member in range(count)
        ]
        started = time.perf_counter()
        done = sum(executor.map(agent, talks))
        return done / (time.perf_counter() - started)

    work = f"{count} agents of {TURNS} turns, 5 ms of Python between turns"
    for name, title, common in (
        ("own_histories", f"{work}: histories of their own", 0),
        ("system_prompt", f"{work}: a new system prompt of {system} tokens for all", system),
    ):
        bench.compare(
            name,
            [Contestant(side, partial(rate, common, *teams[side]), ours=side in ours) for side in teams],
            title=title,
            unit="turns/s",
            better="higher",
            reference=f"{STOCK}, {count} client processes",
            rounds=5,
            goals=[Goal(one, at_least=1.3, of=other) for one, other in itertools.product(ours, theirs)],
        )
