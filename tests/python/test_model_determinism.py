"""What is guaranteed of repeated generations.

Alone on its engine, and with a beginning that it computes itself, a request with a seed gives the same
tokens every time. Beside others the cells of the cache are visited in another order, and logits differ in
their last bits, as they do behind a beginning that was computed so: a text changes only where two choices
were that close. Random weights, whose likeliest tokens lie close together, are the worst case.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import pytest

import syncyte

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COUNT = 24


def prompts() -> list[str]:
    draw = random.Random(1)
    words = "the a other word time look there about which make".split()
    return [" ".join(draw.choices(words, k=draw.randint(2, 40))) for _ in range(COUNT)]


def answers(
    model: syncyte.Model, order: Sequence[int], temperature: float, *, together: bool, salt: str = ""
) -> list[list[int]]:
    asked, results = prompts(), [[0]] * COUNT

    def ask(index: int) -> None:
        completion = model.generate(
            asked[index],
            max_tokens=20,
            temperature=temperature,
            seed=index,
            ignore_eos=True,
            cache_salt=salt,
        )
        results[index] = completion.tokens

    threads = [threading.Thread(target=ask, args=(index,)) for index in order]
    for thread in threads:
        thread.start()
        if not together:
            thread.join()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_alone_is_exact_and_together_nearly_so(tiny_model: Path, temperature: float) -> None:
    with syncyte.Model(tiny_model, threads=1) as model:
        order = list(range(COUNT))
        alone = answers(model, order, temperature, together=False, salt="first")
        together = answers(model, order, temperature, together=True)
        shuffled = random.Random(2).sample(order, COUNT)
        assert answers(model, shuffled, temperature, together=False, salt="second") == alone
        again = answers(model, shuffled, temperature, together=True)
    for other in (together, again):
        same = sum(a == b for a, b in zip(alone, other, strict=True))
        first = sum(a[0] == b[0] for a, b in zip(alone, other, strict=True))
        assert same >= COUNT * 2 // 3
        assert first >= COUNT - 2
