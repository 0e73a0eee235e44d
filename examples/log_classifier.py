"""Classifies 10,000 log lines with a progress bar: four interpreters, each with many requests in flight.

python examples/log_classifier.py [LINES]
"""

import random
import sys
from collections import Counter

from rich.progress import Progress

import syncyte

CHUNK, IN_FLIGHT = 100, 25
LINES = {
    "connection to db{n} timed out after {m} ms": "network",
    "could not resolve host mail{n}": "network",
    "disk /var is {p} percent full": "storage",
    "I/O error on sdb2": "storage",
    "out of memory: killed process {m} (redis)": "memory",
    "only {m} MB of memory left": "memory",
    "failed login for root from 10.0.0.{n}": "security",
    "port scan from 10.0.0.{n} detected": "security",
    "unhandled exception in worker-{n}": "crash",
    "nginx crashed with signal 11": "crash",
    "backup finished in {n} minutes": "normal",
}


def classify(lines: list[str]) -> list[str]:
    """The class of each line: a stream starts at once, and joins the one batch of the whole process."""
    model = syncyte.Model()
    classes: list[str] = []
    for start in range(0, len(lines), IN_FLIGHT):
        asked = [
            {"role": "user", "content": f"Classify: {line}"} for line in lines[start : start + IN_FLIGHT]
        ]
        answers = [model.stream_chat([message], temperature=0, max_tokens=6) for message in asked]
        classes += ["".join(answer) for answer in answers]
    return classes


def main() -> None:
    rng = random.Random(7)
    drawn = rng.choices(list(LINES), k=int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
    log = [
        line.format(n=rng.randint(1, 20), m=rng.randint(200, 900), p=rng.randint(80, 99)) for line in drawn
    ]
    found: list[str] = []
    with syncyte.InterpreterPool(4) as pool, Progress() as progress:
        task = progress.add_task("classifying", total=len(log))
        for classes in pool.map(classify, [log[i : i + CHUNK] for i in range(0, len(log), CHUNK)]):
            found += classes
            progress.advance(task, len(classes))
    right = sum(LINES[line] == label for line, label in zip(drawn, found, strict=True))
    print(f"{len(log)} lines, {right / len(log):.1%} as intended: {dict(Counter(found).most_common())}")


if __name__ == "__main__":
    main()
