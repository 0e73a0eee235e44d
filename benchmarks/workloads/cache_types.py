"""What the KV cache holds: speed behind a long beginning and of reading it, by type of keys and values."""

from pathlib import Path

import syncyte
from benchmarks.harness import Bench, Goal
from benchmarks.llama_server import llama_server
from benchmarks.models import model_with_progress
from benchmarks.prompts import words
from benchmarks.streams import (
    OURS,
    STOCK,
    Stream,
    contestants,
    decoding_behind,
    have_beginning,
    our_stream,
    reading,
)

TYPES = ("f16", "f32", "q8_0")


def run(bench: Bench) -> None:
    path = model_with_progress("tiny" if bench.quick else "0.3b", "q4_0")
    bench.fact("model", path.name)
    bench.fact("threads", bench.threads)
    count, common, own, tokens = (2, 60, 5, 4) if bench.quick else (16, 1000, 20, 64)
    kinds = TYPES[:2] if bench.quick else TYPES  # a tiny model's heads are too narrow for blocks
    found = streams(bench, path, kinds, count, common + 2 * own + tokens)
    prefix = f"{words(common, 7)} "
    have_beginning(found, prefix, count, own)
    behind = f"decoding behind {common} tokens, by type of the KV cache"
    for sequences in (1, count):
        bench.compare(
            f"behind_beginning_{sequences}",
            contestants(found, decoding_behind(prefix, sequences, own, tokens, quick=bench.quick)),
            title=f"{sequences} sequence{'s' * (sequences > 1)} {behind}",
            unit="tok/s",
            better="higher",
            reference=f"{STOCK}, f16",
            rounds=3,
            goals=goals(found),
        )
    bench.compare(
        "reading",
        contestants(found, reading(common, 900_000)),
        title=f"Reading a {common}-token prompt, until its answer's first token, by type of the KV cache",
        unit="tok/s",
        better="higher",
        reference=f"{STOCK}, f16",
        rounds=3,
        goals=goals(found),
    )


def streams(
    bench: Bench, path: Path, kinds: tuple[str, ...], sequences: int, context: int
) -> dict[str, Stream]:
    """Each side with each type: one cache for all sequences, steps of 128 tokens at most."""
    found: dict[str, Stream] = {}
    for kind in kinds:
        model = syncyte.Model(
            path,
            context_length=context,
            max_sequences=sequences,
            threads=bench.threads,
            kv_type=kind,
            flash_attention=True,
        )
        found[f"{OURS}, {kind}"] = our_stream(bench.enter(model))
        server = llama_server(
            path,
            sequences=sequences,
            threads=bench.threads,
            context=context * sequences,
            flags=["-kvu", "-b", "128", "-fa", "on", "-ctk", kind, "-ctv", kind],
            cache_prompt=True,
        )
        found[f"{STOCK}, {kind}"] = bench.enter(server).stream
    return found


def goals(found: dict[str, Stream]) -> list[Goal]:
    """Like beside like."""
    ours = [name for name in found if name.startswith(OURS)]
    return [Goal(name, at_least=0.95, of=name.replace(OURS, STOCK)) for name in ours]
