"""Memory: 1 and 4 workers that share a model, beside 4 processes and a server with 4 client processes."""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import footprint, models
from benchmarks.harness import Bench, Contestant, Outcome
from benchmarks.memory_child import PROMPT, TOKENS

ROOT = Path(__file__).resolve().parents[2]
ALLOWANCE = 12.0
"""Megabytes that one more worker may take."""
WORKERS = 4


def measure(way: str, path: Path, options: dict[str, Any], workers: int) -> footprint.Footprint:
    """The memory of a fresh process tree that has set up its workers and given an answer from each."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.memory_child",
        way,
        str(path),
        json.dumps(options),
        str(workers),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        watchdog = threading.Timer(180, child.kill)
        watchdog.start()
        try:
            said = child.stdout.readline()
            if said != "ready\n":
                raise RuntimeError(f"the {way} program ended with {child.wait(30)} before it was ready")
            return footprint.of_tree(child.pid)
        finally:
            child.stdin.close()
            child.wait()
            watchdog.cancel()


def run(bench: Bench) -> None:
    size = "tiny" if bench.quick else "0.3b"
    shape = models.SHAPES[size]
    # A copy: whoever else maps the same file would be counted for a part of it.
    folder = bench.enter(tempfile.TemporaryDirectory(dir=models.cache_folder()))
    path = Path(shutil.copy(models.model_with_progress(size, "q4_0"), folder))
    options = {"context_length": min(4096, shape.context), "max_sequences": 8, "threads": 1}
    ways = {
        "syncyte, 1 worker": ("interpreters", 1),
        f"syncyte, {WORKERS} workers": ("interpreters", WORKERS),
        f"llama-server, {WORKERS} client processes": ("server", WORKERS),
        f"{WORKERS} processes, a model each": ("processes", WORKERS),
    }
    private: dict[str, list[float]] = {name: [] for name in ways}

    def sample(name: str) -> float:
        way, workers = ways[name]
        taken = measure(way, path, options, workers)
        private[name].append(taken.private)
        return taken.proportional

    one, four, _, processes = ways
    rounds = 3
    proportional = bench.compare(
        "pss",
        [Contestant(name, partial(sample, name), ours=name.startswith("syncyte")) for name in ways],
        title=f"Proportional set size, {size.upper()} Q4_0 model",
        unit="MB",
        better="lower",
        reference=processes,
        rounds=rounds,
        warmup=0,
    )
    bench.compare(
        "uss",
        [Contestant(name, private[name].pop, ours=name.startswith("syncyte")) for name in ways],
        title=f"Private memory, {size.upper()} Q4_0 model",
        unit="MB",
        better="lower",
        reference=processes,
        rounds=rounds,
        warmup=0,
    )
    # Keys and values in half precision, one of each per layer and token.
    cell = shape.layers * 2 * 2 * (shape.embedding // shape.heads * shape.kv_heads)
    cells = (WORKERS - 1) * (PROMPT + TOKENS + 1) * cell / 1e6
    medians = proportional.contestants
    bound = medians[one].median + WORKERS * ALLOWANCE + cells
    proportional.goals.append(
        Outcome(
            f"{four} ≤ {one} + {WORKERS} × {ALLOWANCE:g} MB + {cells:.1f} MB of KV cache = {bound:.0f} MB",
            medians[four].median,
            medians[four].median <= bound,
        )
    )
    bench.fact("model", path.name)
    bench.fact("model_options", options)
