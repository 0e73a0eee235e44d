"""Asks a model file the held-out questions through syncyte itself, greedily, and counts what it gets right.

.venv/bin/python models/evaluate.py [MODEL.gguf] [--beside OTHER.gguf] [--failures] [--json FILE]
"""

import argparse
import hashlib
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from corpus import HeldOut, read_held_out

SHIPPED = Path(__file__).parents[1] / "python" / "syncyte" / "models" / "syncyte-demo-q8_0.gguf"
DEMO_PROMPTS = ("Tell me a joke", "Explain quantum physics", "How to bake a cake")
TARGETS = {"drone": 0.9, "routing": 0.9}


@dataclass
class Result:
    """What a model answered: per item whether it was right, and how fast the whole was."""

    answers: list[tuple[HeldOut, str, bool]]
    valid_json: float
    tokens_per_second: float
    size: int
    sha256: str

    def accuracy(self) -> dict[str, tuple[int, int]]:
        counts: defaultdict[str, list[bool]] = defaultdict(list)
        for item, _, right in self.answers:
            counts[item.field].append(right)
        return {name: (sum(rights), len(rights)) for name, rights in counts.items()}


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def is_right(item: HeldOut, answer: str) -> bool:
    """Whole answers: the same text (drone: the same JSON). Keywords: each, in one of its alternatives."""
    if item.field == "drone":
        return _json(answer) == json.loads(item.answer)
    if item.answer:
        return answer.strip() == item.answer
    lower = answer.lower()
    return all(
        any(re.search(rf"(?<!\d){re.escape(word)}(?![\d.]\d|\d)", lower) for word in entry.split("|"))
        for entry in item.keywords
    )


def evaluate(path: Path, answer: Callable[[str], tuple[str, int]]) -> Result:
    items = read_held_out()
    answers: list[tuple[HeldOut, str, bool]] = []
    started, tokens = time.perf_counter(), 0
    for item in track(items, description=path.name, console=Console(stderr=True)):
        text, count = answer(item.question)
        tokens += count
        answers.append((item, text, is_right(item, text)))
    seconds = time.perf_counter() - started
    drone = [_json(text) is not None for item, text, _ in answers if item.field == "drone"]
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return Result(answers, sum(drone) / max(1, len(drone)), tokens / seconds, len(data), digest)


def asker(path: Path) -> Callable[[str], tuple[str, int]]:
    """Answers by the file itself, through the engine: one question at a time, greedily."""
    import syncyte

    model = syncyte.Model(str(path), threads=1)

    def ask(question: str) -> tuple[str, int]:
        done = model.chat([{"role": "user", "content": question}], max_tokens=160, temperature=0)
        return done.text, done.usage.completion_tokens

    return ask


def show(results: dict[str, Result]) -> None:
    console = Console()
    table = Table(title="held-out questions answered rightly")
    table.add_column("field")
    for name in results:
        table.add_column(str(Path(name).parent)[-24:], justify="right")
    scores = {name: result.accuracy() for name, result in results.items()}
    for field in next(iter(scores.values())):
        row = []
        for score in scores.values():
            right, count = score[field]
            row.append(f"{right}/{count}  {100 * right / count:.1f} %")
        table.add_row(field, *row)
    table.add_row("drone: valid JSON", *(f"{100 * r.valid_json:.1f} %" for r in results.values()))
    table.add_row("size", *(f"{r.size / 1e6:.2f} MB" for r in results.values()))
    table.add_row("tokens/s, one sequence", *(f"{r.tokens_per_second:,.0f}" for r in results.values()))
    table.add_row("sha256", *(r.sha256[:16] for r in results.values()))
    console.print(table)


def meets_targets(result: Result) -> bool:
    """Whether the model is good enough to ship: every field's share, all drone answers JSON, at most 8 MB."""
    shares = {name: right / count for name, (right, count) in result.accuracy().items()}
    enough = all(share >= TARGETS.get(name, 0.8) for name, share in shares.items())
    return enough and result.valid_json >= 0.95 and result.size <= 8_000_000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--beside", type=Path, help="a second file in the same table")
    parser.add_argument("--failures", action="store_true", help="print the answers that were wrong")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    files = [options.model] + ([options.beside] if options.beside else [])
    results = {str(path): evaluate(path, asker(path)) for path in files}
    show(results)
    result = results[str(options.model)]
    if options.failures:
        for item, text, right in result.answers:
            if not right:
                print(f"{item.field}: {item.question}\n    {text}")
    for prompt in DEMO_PROMPTS:
        print(f"{prompt}\n    {asker(options.model)(prompt)[0]}")
    if options.json:
        options.json.write_text(
            json.dumps({"sha256": result.sha256, "size": result.size, "counts": result.accuracy()}, indent=1)
        )
    return 0 if meets_targets(result) else 1


if __name__ == "__main__":
    sys.exit(main())
