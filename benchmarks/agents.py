"""What runs inside interpreters and processes of the workloads: importable by name, light to import."""

import time
from typing import Any

_kept: dict[str, Any] = {}


def stream_arrivals(
    path: str, options: dict[str, int], prompt: str, tokens: int
) -> list[tuple[float, float]]:
    """Streams one greedy answer of exactly `tokens` tokens; returns when pieces came and how many by then."""
    import syncyte

    model = syncyte.Model(path, **options)
    arrivals: list[tuple[float, float]] = []
    for _ in model.stream(prompt, max_tokens=tokens, temperature=0.0, ignore_eos=True):
        arrivals.append((time.perf_counter(), len(arrivals) + 1.0))
    return arrivals


def keep_model(path: str, options: dict[str, int]) -> None:
    """Opens a model that ask_kept() will use, and warms it."""
    import syncyte

    _kept["model"] = syncyte.Model(path, **options)
    ask_kept("ba be bi", 4)


def ask_kept(prompt: str, tokens: int) -> int:
    """One greedy answer of exactly `tokens` tokens; returns how many came."""
    answer = _kept["model"].generate(prompt, max_tokens=tokens, temperature=0.0, ignore_eos=True)
    count: int = answer.usage.completion_tokens
    return count
