"""The one measure of decoding speed used for everybody: tokens per second while all sequences run.

llama-batched-bench times its generation phase alone: S sequences that advance one token each per step, for T
steps; speed = S * T / time, without the prefill. For those that stream, the same phase lasts from the first
token of the last sequence to start until the last token of the first to end; the speed is the sum of what
each sequence does in it.
"""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.llama_server import tool

Arrivals = list[tuple[float, float]]
"""For one sequence: when something arrived (seconds) and how many tokens there were by then."""


def rescaled(arrivals: Arrivals, tokens: int) -> Arrivals:
    """The arrivals of pieces as those of `tokens` tokens: now and then a piece of text is more than one."""
    pieces = arrivals[-1][1]
    return [(when, count * tokens / pieces) for when, count in arrivals]


def joint_rate(sequences: Sequence[Arrivals]) -> float:
    """Tokens per second while all sequences run; see the module's text."""
    start = max(arrivals[0][0] for arrivals in sequences)
    end = min(arrivals[-1][0] for arrivals in sequences)
    total = 0.0
    for arrivals in sequences:
        first = max((arrival for arrival in arrivals if arrival[0] <= start), default=arrivals[0])
        last = max((arrival for arrival in arrivals if arrival[0] <= end), default=first)
        if last[0] <= first[0]:
            raise ValueError("the sequences never ran together: too few tokens for a measurement")
        total += (last[1] - first[1]) / (last[0] - first[0])
    return total


def overall_rate(sequences: Sequence[Arrivals], started: float) -> float:
    """Tokens per second since they were asked for, prefill included, whether or not they ran together."""
    end = max(arrivals[-1][0] for arrivals in sequences)
    return sum(arrivals[-1][1] for arrivals in sequences) / (end - started)


def speed(arrivals: Sequence[Arrivals], tokens: int, started: float, *, quick: bool) -> float:
    """Tokens per second of answers of `tokens` tokens each, asked for at `started`.

    While all of them run; with `quick` in all, since a tiny model on a busy machine may end one sequence
    before the next begins.
    """
    notes = [rescaled(each, tokens) for each in arrivals]
    return overall_rate(notes, started) if quick else joint_rate(notes)


def together(streams: Sequence[Callable[[], Iterable[int]]]) -> list[Arrivals]:
    """Runs each stream in a thread of its own, all at once, and notes when its tokens arrive.

    A stream yields how many tokens it has so far. The first failure of any is raised here.
    """
    arrivals: list[Arrivals] = [[] for _ in streams]
    failures: list[BaseException] = []
    gate = threading.Barrier(len(streams))

    def follow(stream: Callable[[], Iterable[int]], notes: Arrivals) -> None:
        try:
            gate.wait(30)
            for tokens in stream():
                notes.append((time.perf_counter(), tokens))
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=follow, args=pair, daemon=True)
        for pair in zip(streams, arrivals, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    if failures:
        raise failures[0]
    if any(thread.is_alive() for thread in threads):
        raise TimeoutError("a stream did not end within 300 s")
    return arrivals


def batched_bench(
    model: Path,
    *,
    sequences: int,
    prompt: int,
    tokens: int,
    threads: int,
    context: int,
    flags: Sequence[str] = (),
) -> float:
    """Decoding speed in tokens/s as llama-batched-bench reports it; the limit of what the library can do."""
    command = [tool("llama-batched-bench"), "-m", str(model), "-c", str(context), "-b", "2048", "-ub", "512"]
    command += ["-npp", str(prompt), "-ntg", str(tokens), "-npl", str(sequences), "-t", str(threads)]
    command += [*flags, "--output-format", "jsonl"]
    for _ in range(8):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                speed: float = json.loads(line)["speed_tg"]
                return speed
        if done.returncode != 0:
            raise RuntimeError(f"llama-batched-bench ended with {done.returncode}:\n{done.stderr[-500:]}")
    # Its log is written by a thread that the end of a short run now and then overtakes.
    raise RuntimeError("llama-batched-bench said nothing, 8 times")
