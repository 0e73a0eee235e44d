"""Many agents, one model, here and in llama-server: common beginnings, own histories."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import syncyte
from benchmarks.decoding import together
from benchmarks.harness import Bench, Contestant, Goal
from benchmarks.llama_server import Server
from benchmarks.prompts import words
from benchmarks.streams import (
    OURS,
    STOCK,
    TUNED,
    Stream,
    contestants,
    decoding_behind,
    have_beginning,
    run_parts,
    servers,
    streams,
)


def run(bench: Bench) -> None:
    run_parts(bench, common_prefix, histories)


def common_prefix(bench: Bench, sides: Bench, path: Path) -> None:
    """Agents that begin with the same 1,000 tokens, which nobody has computed, all at once."""
    count, common, own = (4, 60, 5) if bench.quick else (32, 1000, 20)
    tokens = 4 if bench.quick else 64
    found = streams(bench, sides, path, count, common + 2 * own + tokens)
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
        contestants(found, last_first_token),
        title=f"{count} agents, {common} tokens in common, {own} of their own: first token of the last",
        unit="s",
        better="lower",
        reference=STOCK,
        rounds=2,
        warmup=0,  # all of it is cold, and takes a server a minute
        goals=[Goal(OURS, at_least=4, better_than=name) for name in (STOCK, TUNED)],
    )
    prefix = f"{words(common, 7)} "
    have_beginning(found, prefix, count, own)
    for sequences in (2,) if bench.quick else (16, 32):
        bench.compare(
            f"behind_prefix_{sequences}",
            contestants(found, decoding_behind(prefix, sequences, own, tokens, quick=bench.quick)),
            title=f"{sequences} sequences decoding behind one beginning",
            unit="tok/s",
            better="higher",
            reference=STOCK,
            rounds=3,
            goals=[Goal(OURS, at_least=1.2, of=name) for name in (STOCK, TUNED)],
        )


def histories(bench: Bench, sides: Bench, path: Path) -> None:
    """How often a history is computed anew: agents in turns, each over a history of its own."""
    count, each, history, said = (2, 2, 20, 4) if bench.quick else (6, 4, 300, 20)
    model = sides.enter(
        syncyte.Model(path, context_length=2 * history, max_sequences=count, threads=bench.threads)
    )
    peers = servers(bench, sides, path, count, 2 * history)
    turn = iter(range(1_000_000))

    def computed(ask: Callable[[str], int]) -> float:
        texts = [words(history, next(turn)) for _ in range(count)]
        total = 0
        for number in range(each):
            texts = [f"{text} {words(said, 1000 + number)}" for text in texts]
            with ThreadPoolExecutor(count) as threads:
                total += sum(threads.map(ask, texts))
        return total / (count * (history + each * said))

    def ours(prompt: str) -> int:
        answer = model.generate(prompt, max_tokens=4, temperature=0.0, ignore_eos=True)
        return answer.usage.computed_tokens

    def theirs(server: Server, prompt: str) -> int:
        return int(server.answer(prompt, 4)["timings"]["prompt_n"])

    bench.compare(
        "histories",
        [
            Contestant(OURS, partial(computed, ours), ours=True),
            *(Contestant(name, partial(computed, partial(theirs, server))) for name, server in peers.items()),
        ],
        title=f"{count} agents of {each} turns over histories of {history} tokens: each token is computed",
        unit="times",
        better="lower",
        reference=STOCK,
        rounds=3,
        goals=[Goal(OURS, at_most=1.05)],
    )
