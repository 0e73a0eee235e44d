"""Decoding: 1 and 8 sequences here, in llama-batched-bench (the limit) and in llama-server over HTTP."""

import time
from collections.abc import Iterator
from concurrent.futures import wait
from functools import partial
from pathlib import Path

import syncyte
from benchmarks import agents
from benchmarks.decoding import Arrivals, batched_bench, joint_rate, overall_rate, rescaled, together
from benchmarks.harness import Bench, Contestant, Goal, Outcome
from benchmarks.llama_server import Server, llama_server
from benchmarks.models import model_with_progress
from benchmarks.prompts import words

PROMPT = 16
CONTEXT = 4096
SEQUENCES = 8
LIMIT = "llama-batched-bench"
SERVERS = {"llama-server": [], "llama-server -kvu -b 128": ["-kvu", "-b", "128"]}


class Sides:
    """Each contestant's way to decode, on one model and with one number of threads.

    Every prompt is new, so that nobody has it in a cache.
    """

    def __init__(self, bench: Bench, path: Path, threads: int, tokens: int) -> None:
        self._path = path
        self._threads = threads
        self._tokens = tokens
        self._quick = bench.quick
        self._turn = 0
        self._started = 0.0
        self._options = {"context_length": CONTEXT, "max_sequences": SEQUENCES, "threads": threads}
        self._model = bench.enter(syncyte.Model(path, **self._options))
        self._pool = bench.enter(syncyte.InterpreterPool(SEQUENCES))
        self._servers = {
            name: bench.enter(
                llama_server(path, sequences=SEQUENCES, threads=threads, context=CONTEXT, flags=flags)
            )
            for name, flags in SERVERS.items()
        }

    def contestants(self, sequences: int) -> list[Contestant]:
        """Everybody, decoding so many sequences at once; a sample is a rate in tokens/s."""
        sides = [
            Contestant("syncyte, threads", partial(self._in_threads, sequences), ours=True),
            Contestant("syncyte, interpreters", partial(self._in_interpreters, sequences), ours=True),
            Contestant(LIMIT, partial(self._limit, sequences, [])),
            Contestant(f"{LIMIT} -kvu", partial(self._limit, sequences, ["-kvu"])),
        ]
        for name, server in self._servers.items():
            sides.append(Contestant(name, partial(self._over_http, server, sequences)))
        return sides

    def _prompts(self, count: int) -> list[str]:
        self._turn += 1
        self._started = time.perf_counter()
        return [words(PROMPT, seed=self._turn * 1000 + index) for index in range(count)]

    def _in_threads(self, sequences: int) -> float:
        def stream(prompt: str) -> Iterator[int]:
            pieces = self._model.stream(prompt, max_tokens=self._tokens, temperature=0.0, ignore_eos=True)
            return (count for count, _ in enumerate(pieces, 1))

        arrivals = together([partial(stream, prompt) for prompt in self._prompts(sequences)])
        return self._rate(arrivals)

    def _in_interpreters(self, sequences: int) -> float:
        futures = [
            self._pool.submit(agents.stream_arrivals, str(self._path), self._options, prompt, self._tokens)
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
        notes = [rescaled(each, self._tokens) for each in arrivals]
        # A tiny model on a busy machine may end one sequence before the next begins.
        return overall_rate(notes, self._started) if self._quick else joint_rate(notes)


def run(bench: Bench) -> None:
    bench.fact("threads", bench.threads)
    bench.fact("prompt_tokens", PROMPT)
    for size in ("tiny",) if bench.quick else ("0.3b", "0.1b"):
        with Bench(bench.name, quick=bench.quick) as sides:  # closes one model's servers before the next
            decode(bench, Sides(sides, model_with_progress(size, "q4_0"), bench.threads, 96), size)


def decode(bench: Bench, sides: Sides, size: str) -> None:
    """Everybody decodes with the model of this size, together and alone."""
    suffix = "" if size in ("tiny", "0.3b") else f"_{size}"
    eight = bench.compare(
        f"decode_8{suffix}",
        sides.contestants(SEQUENCES),
        title=f"{SEQUENCES} sequences decoding together, {size} Q4_0, {bench.threads} threads",
        unit="tok/s",
        better="higher",
        reference=LIMIT,
        rounds=7,
        goals=[
            Goal("syncyte, threads", at_least=0.8, of=LIMIT),
            Goal("syncyte, interpreters", at_least=0.8, of=LIMIT),
        ],
    )
    one = bench.compare(
        f"decode_1{suffix}",
        sides.contestants(1),
        title=f"1 sequence decoding alone, {size} Q4_0, {bench.threads} threads",
        unit="tok/s",
        better="higher",
        reference=LIMIT,
        rounds=7,
    )
    gains = {
        name: eight.contestants[name].median / one.contestants[name].median for name in eight.contestants
    }
    bench.fact(f"gain_of_{SEQUENCES}_together{suffix}", gains)
    gain = gains["syncyte, interpreters"]
    text = f"{SEQUENCES} sequences ≥ 2.5 × one alone ({LIMIT}: {gains[LIMIT]:.2f})"
    eight.goals.append(Outcome(text, gain, gain >= 2.5))
