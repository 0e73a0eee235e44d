"""How our engine and llama-server, stock and tuned, stream answers of the same prompts."""

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import syncyte
from benchmarks.decoding import speed, together
from benchmarks.harness import Bench, Contestant
from benchmarks.llama_server import Server, llama_server
from benchmarks.models import model_with_progress
from benchmarks.prompts import words

OURS = "syncyte"
SEPARATE = "syncyte, kv_unified=False"
STOCK = "llama-server"
TUNED = "llama-server -kvu -b 128"

Stream = Callable[[str, int], Iterator[int]]
"""The prompt and the number of tokens give the counts of tokens as they come."""


def run_parts(bench: Bench, *parts: Callable[[Bench, Bench, Path], None]) -> None:
    """Runs each part with the 0.3 B model, and a bench that closes what it entered before the next begins."""
    path = model_with_progress("tiny" if bench.quick else "0.3b", "q4_0")
    bench.fact("model", path.name)
    bench.fact("threads", bench.threads)
    for part in parts:
        with Bench(bench.name, quick=bench.quick) as sides:
            part(bench, sides, path)


def our_stream(model: syncyte.Model, **options: Any) -> Stream:
    """Greedy answers of exactly the tokens asked for."""

    def stream(prompt: str, tokens: int) -> Iterator[int]:
        pieces = model.stream(prompt, max_tokens=tokens, temperature=0.0, ignore_eos=True, **options)
        return (count for count, _ in enumerate(pieces, 1))

    return stream


def streams(bench: Bench, sides: Bench, path: Path, sequences: int, context: int) -> dict[str, Stream]:
    """How each side streams an answer, with room for so many sequences of `context` tokens each."""
    model = sides.enter(
        syncyte.Model(
            path,
            context_length=context,
            max_sequences=sequences,
            cache_tokens=context * sequences,
            threads=bench.threads,
        )
    )
    found = {OURS: our_stream(model)}
    for name, server in servers(bench, sides, path, sequences, context).items():
        found[name] = server.stream
    return found


def servers(bench: Bench, sides: Bench, path: Path, sequences: int, context: int) -> dict[str, Server]:
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


def contestants(found: dict[str, Stream], sample: Callable[[Stream], float]) -> list[Contestant]:
    """Everybody, each sampled with its stream."""
    return [
        Contestant(name, partial(sample, stream), ours=name.startswith(OURS))
        for name, stream in found.items()
    ]


def have_beginning(found: dict[str, Stream], prefix: str, sequences: int, own: int) -> None:
    """Everybody computes the beginning, in all of a server's slots."""
    for stream in found.values():
        together([partial(stream, prefix + words(own, 400_000 + index), 1) for index in range(sequences)])


def decoding_behind(
    prefix: str, sequences: int, own: int, tokens: int, *, quick: bool
) -> Callable[[Stream], float]:
    """A sample, in tokens/s: so many sequences decode behind one beginning and `own` tokens each."""
    turn = itertools.count()

    def sample(stream: Stream) -> float:
        seed = 500_000 + 10_000 * sequences + 1000 * next(turn)
        prompts = [prefix + words(own, seed + index) for index in range(sequences)]
        started = time.perf_counter()
        arrivals = together([partial(stream, prompt, tokens) for prompt in prompts])
        return speed(arrivals, tokens, started, quick=quick)

    return sample


def reading(length: int, seed: int) -> Callable[[Stream], float]:
    """A sample, in tokens/s: a new prompt of so many tokens, until its answer's first token."""
    turn = itertools.count()

    def sample(stream: Stream) -> float:
        prompt = words(length, seed + 1000 * next(turn))
        started = time.perf_counter()
        counts = stream(prompt, 2)
        next(counts)
        seconds = time.perf_counter() - started
        for _ in counts:
            pass
        return length / seconds

    return sample
