"""Decoding: 1 to 32 sequences here, in an interpreter each, in llama-batched-bench and in llama-server."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import syncyte
from benchmarks import agents
from benchmarks.decoding import Arrivals, batched_bench, speed, together
from benchmarks.harness import Bench, Comparison, Contestant, Goal, Outcome
from benchmarks.llama_server import Server, llama_server
from benchmarks.models import model_with_progress
from benchmarks.prompts import words
from benchmarks.streams import SEPARATE

PROMPT = 16
CONTEXT = 4096
TOGETHER = 8
LIMIT = "llama-batched-bench"
SERVERS = {"llama-server": [], "llama-server -kvu -b 128": ["-kvu", "-b", "128"]}
UNIFIED = "syncyte"

LEVELS = {
    "tiny": {8: 2, 1: 2},
    "0.3b": {8: 7, 1: 7, 4: 3, 16: 3, 32: 3},
    "0.1b": {8: 3, 1: 3},
    "1b": {8: 3, 1: 3},
}
"""For each model how many sequences decode together, and in how many rounds."""


class Sides:
    """Each contestant's way to decode, on one model and with one number of threads.

    Every prompt is new, so that nobody has it in a cache.
    """

    def __init__(self, bench: Bench, path: Path, sequences: int, threads: int, tokens: int) -> None:
        self._path = path
        self._threads = threads
        self._tokens = tokens
        self._quick = bench.quick
        self._turn = 0
        self._started = 0.0
        self._options: dict[str, Any] = {
            "context_length": CONTEXT,
            "max_sequences": sequences,
            "threads": threads,
        }
        self._separate = self._options | {"context_length": CONTEXT // sequences, "kv_unified": False}
        self.model = bench.enter(syncyte.Model(path, **self._options))
        self.separate = bench.enter(syncyte.Model(path, **self._separate))
        self._pool = bench.enter(syncyte.InterpreterPool(sequences))
        self.servers = {
            name: bench.enter(
                llama_server(path, sequences=sequences, threads=threads, context=CONTEXT, flags=flags)
            )
            for name, flags in SERVERS.items()
        }

    def contestants(self, sequences: int) -> list[Contestant]:
        """Everybody, decoding so many sequences at once; a sample is a rate in tokens/s."""
        sides = [
            Contestant(UNIFIED, partial(self._in_interpreters, sequences, self._options), ours=True),
            Contestant(SEPARATE, partial(self._in_interpreters, sequences, self._separate), ours=True),
            Contestant(LIMIT, partial(self._limit, sequences, [])),
            Contestant(f"{LIMIT} -kvu", partial(self._limit, sequences, ["-kvu"])),
        ]
        for name, server in self.servers.items():
            sides.append(Contestant(name, partial(self._over_http, server, sequences)))
        return sides

    def _prompts(self, count: int) -> list[str]:
        self._turn += 1
        self._started = time.perf_counter()
        return [words(PROMPT, seed=self._turn * 1000 + index) for index in range(count)]

    def _in_interpreters(self, sequences: int, options: dict[str, Any]) -> float:
        futures = [
            self._pool.submit(agents.stream_arrivals, str(self._path), options, prompt, self._tokens)
            for prompt in self._prompts(sequences)
        ]
        wait(futures, 300)
        return self._rate([future.result(0) for future in futures])

    def _over_http(self, server: Server, sequences: int) -> float:
        streams = [partial(server.stream, prompt, self._tokens) for prompt in self._prompts(sequences)]
        return self._rate(together(streams))

    def _limit(self, sequences: int, flags: list[str]) -> float:
        return batched_bench(
            self._path,
            sequences=sequences,
            prompt=PROMPT,
            tokens=self._tokens,
            threads=self._threads,
            context=CONTEXT,
            flags=flags,
        )

    def _rate(self, arrivals: list[Arrivals]) -> float:
        return speed(arrivals, self._tokens, self._started, quick=self._quick)


def run(bench: Bench) -> None:
    bench.fact("threads", bench.threads)
    bench.fact("prompt_tokens", PROMPT)
    for size in ("tiny",) if bench.quick else ("0.3b", "0.1b", "1b"):
        path = model_with_progress(size, "q4_0")
        compared = {}
        # Few at first: a server with 8 slots has larger ones than a server with 32.
        for few in (True, False):
            levels = {count: rounds for count, rounds in LEVELS[size].items() if (count <= TOGETHER) == few}
            if not levels:
                continue
            with Bench(bench.name, quick=bench.quick) as sides:  # closes its servers before the next
                parts = Sides(sides, path, max(levels), bench.threads, 48 if size == "1b" else 96)
                for count, rounds in levels.items():
                    compared[count] = decode(bench, parts, size, count, rounds)
                if not few or bench.quick:
                    mixed(bench, parts)
        gain(bench, size, compared[TOGETHER], compared[1])


def decode(bench: Bench, sides: Sides, size: str, sequences: int, rounds: int) -> Comparison:
    """Everybody decodes so many sequences with the model of this size."""
    before = sides.model.stats()
    comparison = bench.compare(
        f"decode_{sequences}{_suffix(size)}",
        sides.contestants(sequences),
        title=f"{sequences} sequence{'s' * (sequences > 1)} decoding, {size} Q4_0, {bench.threads} threads",
        unit="tok/s",
        better="higher",
        reference=LIMIT,
        rounds=rounds,
        goals=[] if size == "tiny" else goals(),
    )
    after = sides.model.stats()
    busy = after.busy_microseconds - before.busy_microseconds
    computing = after.computing_microseconds - before.computing_microseconds
    overhead = (busy - computing) / max(busy, 1)
    text = "scheduling and sampling ≤ 3 % of a step"
    comparison.goals.append(Outcome(text, 100 * overhead, overhead <= 0.03))
    return comparison


def goals() -> list[Goal]:
    """Like beside like: one cache for all sequences, or one for each, as it is everybody's default there."""
    stock, unified = SERVERS
    pairs = [(UNIFIED, f"{LIMIT} -kvu"), (UNIFIED, unified), (SEPARATE, LIMIT), (SEPARATE, stock)]
    return [Goal(ours, at_least=0.95, of=peer) for ours, peer in pairs]


def mixed(bench: Bench, sides: Sides) -> None:
    """Clients that ask one thing after another, of many lengths: somebody joins in every other step."""
    clients, asked = 16, 3
    turn = iter(range(1_000_000))

    def rate(generate: Callable[[str, int], object]) -> float:
        seed = next(turn) * 1000
        choose = random.Random(1)  # the same lengths for everybody
        requests = [
            (words(choose.randint(8, 48), seed + index), choose.randint(16, 64))
            for index in range(clients * asked)
        ]
        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as threads:
            for _ in threads.map(lambda request: generate(*request), requests):
                pass
        return sum(tokens for _, tokens in requests) / (time.perf_counter() - started)

    def ours(model: syncyte.Model) -> Callable[[str, int], object]:
        return lambda prompt, tokens: model.generate(
            prompt, max_tokens=tokens, temperature=0.0, ignore_eos=True
        )

    bench.compare(
        "mixed",
        [
            Contestant(UNIFIED, partial(rate, ours(sides.model)), ours=True),
            Contestant(SEPARATE, partial(rate, ours(sides.separate)), ours=True),
            *(Contestant(name, partial(rate, server.generate)) for name, server in sides.servers.items()),
        ],
        title=f"{clients} clients, {asked} requests each, prompts and answers of mixed lengths: answers",
        unit="tok/s",
        better="higher",
        reference="llama-server",
        rounds=5,
    )


def gain(bench: Bench, size: str, together: Comparison, one: Comparison) -> None:
    """What decoding together gains over decoding alone, for each contestant."""
    gains = {
        name: together.contestants[name].median / one.contestants[name].median
        for name in together.contestants
    }
    bench.fact(f"gain_of_{TOGETHER}_together{_suffix(size)}", gains)
    for ours in (UNIFIED, SEPARATE):
        text = f"{ours}: {TOGETHER} sequences ≥ 2.5 × one alone ({LIMIT}: {gains[LIMIT]:.2f})"
        together.goals.append(Outcome(text, gains[ours], gains[ours] >= 2.5))


def _suffix(size: str) -> str:
    return "" if size in ("tiny", "0.3b") else f"_{size}"
