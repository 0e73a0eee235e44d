"""Trains the embedded model from models/corpus/ alone, on a CPU, with fixed seeds.

    /usr/bin/python3 models/train.py [--steps 4500] [--threads 4] [--out build/model]

Writes vocabulary.json, weights.pt, loss.json and loss.png into the output folder; export.py makes the GGUF.
"""

import argparse
import itertools
import json
import os
import random
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.nn import functional

from examples import IGNORED, Examples, Sequence, batches
from muon import Muon
from network import Network, Shape
from tokenizer import Tokenizer, learn_pieces

SEED = 20_26
PIECES = 1536
SHARD = 1024
TOKENS = 4096


def stream(examples: Examples, tokenizer: Tokenizer) -> Iterator[list[Sequence]]:
    """Batches without end, drawn shard by shard; shard n is the same in every run."""
    for index in itertools.count():
        rng = random.Random(SEED * 1000 + index)
        yield from batches([examples.sequence(tokenizer, rng) for _ in range(SHARD)], rng, TOKENS)


def as_tensors(batch: list[Sequence]) -> tuple[Tensor, Tensor]:
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    labels = torch.full((len(batch), longest), IGNORED, dtype=torch.long)
    for row, (tokens, targets) in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, : len(targets)] = torch.tensor(targets)
    return ids[:, :-1], labels[:, 1:]


def loss_of(network: Network, batch: list[Sequence]) -> Tensor:
    ids, labels = as_tensors(batch)
    learnt = labels != IGNORED
    logits = network.logits(network(ids)[learnt])
    return functional.cross_entropy(logits, labels[learnt])


def learning_rate(step: int, steps: int) -> float:
    """A share of the peak rate: a short warm-up, level, then down to nothing over the last 60 percent."""
    return min(1.0, (step + 1) / 50, (steps - step) / (0.6 * steps))


def optimizers_of(network: Network) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the matrices of the layers, AdamW for the rest, each with its peak rate."""
    matrices = [p for p in network.layers.parameters() if p.dim() == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in network.parameters() if id(p) not in chosen]
    adam = torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.97), weight_decay=0.0)
    width, hidden = network.shape.width, network.shape.hidden
    stacked = {torch.Size((3 * width, width)): 3, torch.Size((2 * hidden, width)): 2}
    return [(Muon(matrices, 0.02, stacked, weight_decay=0.02), 0.02), (adam, 3e-3)]


def train(network: Network, source: Iterator[list[Sequence]], steps: int) -> list[tuple[int, float, float]]:
    """Runs the steps; returns (step, loss, seconds since the start), smoothed over twenty steps."""
    optimizers = optimizers_of(network)
    history: list[tuple[int, float, float]] = []
    recent: deque[float] = deque(maxlen=20)
    started, seen = time.monotonic(), 0
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn(
            "{task.completed}/{task.total} loss {task.fields[loss]:.4f} {task.fields[speed]:,.0f} tokens/s"
        ),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, refresh_per_second=1) as progress:
        task = progress.add_task("training", total=steps, loss=0.0, speed=0.0)
        for step in range(steps):
            batch = next(source)
            for optimizer, peak in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = peak * learning_rate(step, steps)
                optimizer.zero_grad()
            loss = loss_of(network, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            for optimizer, _ in optimizers:
                optimizer.step()
            recent.append(loss.item())
            seen += sum(len(ids) for ids, _ in batch)
            elapsed = time.monotonic() - started
            if step % 20 == 19 or step == steps - 1:
                history.append((step + 1, sum(recent) / len(recent), elapsed))
            if step % 50 == 49 and not progress.console.is_terminal:
                print(
                    f"step {step + 1} loss {sum(recent) / len(recent):.4f} {seen / elapsed:.0f} tokens/s",
                    flush=True,
                )
            progress.update(task, advance=1, loss=sum(recent) / len(recent), speed=seen / elapsed)
    return history


def draw_curve(history: list[tuple[int, float, float]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), constrained_layout=True)
    axes.plot([h[0] for h in history], [h[1] for h in history], color="#1f6f8b")
    axes.set(
        xlabel="step",
        ylabel="loss (nats per answer token)",
        yscale="log",
        title="Training the embedded model",
    )
    axes.grid(visible=True, which="both", alpha=0.25)
    figure.savefig(path, dpi=120)


def make_vocabulary(examples: Examples, path: Path) -> Tokenizer:
    rng = random.Random(SEED)
    chat_words = ["user\nassistant\nsystem\n"] * 400
    systems = [text for group in examples.systems.values() for text in group] * 3
    pieces = learn_pieces([*examples.texts(rng, 24_000), *chat_words, *systems], PIECES)
    tokenizer = Tokenizer(pieces)
    tokenizer.save(path)
    return tokenizer


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--threads", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=Path("build/model"))
    return parser.parse_args()


def main() -> None:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(options.threads)
    examples = Examples()
    tokenizer = make_vocabulary(examples, options.out / "vocabulary.json")
    network = Network(Shape(len(tokenizer)))
    count = sum(p.numel() for p in network.parameters())
    print(
        f"{len(tokenizer)} tokens, {count / 1e6:.2f} M parameters, {options.steps} steps of {TOKENS} tokens"
    )
    history = train(network, stream(examples, tokenizer), options.steps)
    torch.save({"shape": asdict(network.shape), "weights": network.state_dict()}, options.out / "weights.pt")
    (options.out / "loss.json").write_text(json.dumps(history))
    draw_curve(history, options.out / "loss.png")
    print(f"{history[-1][2]:.0f} s, final loss {history[-1][1]:.4f}: {options.out / 'weights.pt'}")


if __name__ == "__main__":
    main()
