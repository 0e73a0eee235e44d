"""How our engine and llama-server, stock and tuned, stream answers of the same prompts."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import syncyte
from benchmarks.harness import Bench, Contestant
from benchmarks.llama_server import Server, llama_server

OURS = "syncyte"
SEPARATE = "syncyte, kv_unified=False"
STOCK = "llama-server"
TUNED = "llama-server -kvu -b 128"

Stream = Callable[[str, int], Iterator[int]]
"""The prompt and the number of tokens give the counts of tokens as they come."""


def our_stream(model: syncyte.Model, **options: Any) -> Stream:
    """Greedy answers of exactly the tokens asked for."""

    def stream(prompt: str, tokens: int) -> Iterator[int]:
        pieces = model.stream(prompt, max_tokens=tokens, temperature=0.0, ignore_eos=True, **options)
        return (count for count, _ in enumerate(pieces, 1))

    return stream


def streams(bench: Bench, sides: Bench, path: Path, sequences: int, context: int) -> dict[str, Stream]:
    """How each side streams an answer, with room for so many sequences of `context` tokens each."""
    model = sides.enter(
        syncyte.Model(path, context_length=context, max_sequences=sequences, threads=bench.threads)
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
    return [Contestant(name, partial(sample, stream), ours=name == OURS) for name, stream in found.items()]
