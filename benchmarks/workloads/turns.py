"""Agents that talk with the model in turns, with some Python between, here and as clients of llama-server."""

import itertools
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from typing import Any

import syncyte
from benchmarks import agents
from benchmarks.agents import Talk
from benchmarks.harness import Bench, Contestant, Goal
from benchmarks.models import model_with_progress
from benchmarks.prompts import words
from benchmarks.streams import OURS, SEPARATE, STOCK, servers

TURNS = 4
CONTEXT = 512


def run(bench: Bench) -> None:
    path = model_with_progress("tiny" if bench.quick else "0.3b", "q4_0")
    count, system = (2, 20) if bench.quick else (16, 300)
    bench.fact("model", path.name)
    bench.fact("threads", bench.threads)
    setup: dict[str, Any] = {"max_sequences": count, "threads": bench.threads}
    kinds: dict[str, dict[str, Any]] = {
        OURS: {**setup, "context_length": count * CONTEXT},
        SEPARATE: {**setup, "context_length": CONTEXT, "kv_unified": False},
    }
    pool = bench.enter(syncyte.InterpreterPool(count))
    processes = bench.enter(ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")))
    for options in kinds.values():
        bench.enter(syncyte.Model(path, **options))  # stays open between the rounds
    peers = servers(bench, bench, path, count, CONTEXT)
    sides: dict[str, tuple[Executor, Callable[[Talk], int]]] = {
        f"{name}, {count} interpreters": (pool, partial(agents.converse, str(path), options))
        for name, options in kinds.items()
    }
    ours = list(sides)
    for name, server in peers.items():
        agent = partial(agents.converse_over_http, server.port)
        sides[f"{name}, {count} client processes"] = (processes, agent)
    theirs = [side for side in sides if side not in ours]
    team = itertools.count()

    def rate(common: int, executor: Executor, agent: Callable[[Talk], int]) -> float:
        number = next(team)
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
            [Contestant(side, partial(rate, common, *sides[side]), ours=side in ours) for side in sides],
            title=title,
            unit="turns/s",
            better="higher",
            reference=f"{STOCK}, {count} client processes",
            rounds=5,
            goals=[Goal(one, at_least=1.3, of=other) for one, other in itertools.product(ours, theirs)],
        )
