"""Many requests of all sorts at once: what ends is right, and nothing is left behind."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest
from tiny_gguf import write_tiny_gguf

import syncyte

if TYPE_CHECKING:
    from pathlib import Path

THREADS, EACH = 12, 80


@pytest.mark.slow
def test_random_requests_of_many_threads(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    finished = 0

    def work(model: syncyte.Model, seed: int) -> None:
        nonlocal finished
        draw = random.Random(seed)
        families = ["the other word is " * n for n in (1, 3, 6)]
        try:
            for _ in range(EACH):
                prompt = draw.choice(families) + draw.choice("abcdef") * draw.randint(0, 20)
                count = draw.randint(1, 40)
                kind = draw.randrange(4)
                if kind == 0:  # given up half-way
                    stream = model.stream(prompt, max_tokens=count, ignore_eos=True)
                    for _ in range(draw.randint(0, 5)):
                        next(stream, None)
                    if draw.random() < 0.5:
                        stream.close()
                elif kind == 1:
                    stream = model.stream(prompt, max_tokens=count, seed=seed, stop=draw.choice(["e", "zz"]))
                    text = "".join(stream)
                    assert text == stream.completion.text
                else:
                    completion = model.generate(prompt, max_tokens=count, seed=seed, ignore_eos=True)
                    assert len(completion.tokens) == count
                    assert completion.finish_reason == "length"
                    assert completion.usage.reused_tokens < completion.usage.prompt_tokens
                finished += 1
        except BaseException as error:
            failures.append(error)

    with syncyte.Model(write_tiny_gguf(tmp_path / "stress.gguf"), threads=1, max_sequences=5) as model:
        threads = [threading.Thread(target=work, args=(model, seed)) for seed in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert finished == THREADS * EACH
        end = time.monotonic() + 10
        while (stats := model._stats())["running"] + stats["waiting"] and time.monotonic() < end:
            time.sleep(0.01)
        assert (stats["running"], stats["waiting"], stats["reserved_cells"]) == (0, 0, 0)
        assert stats["kept_cells"] <= model.info.cache_tokens
        assert stats["reused_tokens"] > 1000
