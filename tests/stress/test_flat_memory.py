"""Memory, threads and open files stay flat over many requests: finished, given up, and failed ones.

SYNCYTE_STRESS_FLAT: how many requests (default 3,000; a full run makes 100,000).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import sys
import threading
import time
from pathlib import Path

import pytest

import syncyte

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
from tiny_gguf import write_tiny_gguf
from waiting import wait_until

REQUESTS = int(os.environ.get("SYNCYTE_STRESS_FLAT", "3000"))
THREADS = 8
SAMPLES = 10


def resident_bytes() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Private_Dirty")


def entries(folder: str) -> int:
    return len(os.listdir(folder))  # noqa: PTH208


def entries_after(folder: str, seconds: float) -> int:
    time.sleep(seconds)
    return entries(folder)


class Asker:
    """A thread of short requests, a third of which do not end as they were meant to."""

    def __init__(self, model: syncyte.Model, seed: int, count: int) -> None:
        self.model, self.count = model, count
        self.draw = random.Random(seed)
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self) -> None:
        try:
            for _ in range(self.count // 10):
                # Prompts that were never there before: the tree of beginnings takes and drops all the time.
                self.ten([self.draw.randrange(300, 600) for _ in range(self.draw.randint(1, 12))])
        except BaseException as error:
            self.failure = error

    def ten(self, prompt: list[int]) -> None:
        model, draw = self.model, self.draw
        salt = str(draw.randrange(10**9))
        model.generate(prompt, max_tokens=2, cache_salt=salt)
        model.generate_n(prompt, 2, max_tokens=2, temperature=0, logprobs=3, stop=["e", "zz"])
        grammar = f'root ::= "{draw.randrange(10**6)}" [a-z]*'
        model.generate(prompt, max_tokens=2, grammar=grammar, priority=draw.randint(-2, 2))
        list(model.stream(prompt, max_tokens=2))
        stream = model.stream(prompt, max_tokens=30, ignore_eos=True)
        next(stream)
        if draw.random() < 0.5:
            stream.close()
        del stream
        model.generate(prompt, max_tokens=2, deadline=0.0001)
        asyncio.run(self.cancelled(prompt))
        with pytest.raises(ValueError, match="the context 100"):
            model.generate(prompt * 100)
        with pytest.raises(ValueError, match="keyword 'type'"):
            model.generate(prompt, json_schema={"type": salt})
        session = model.session(max_tokens=1)
        session.send("the")
        session.fork().send("word")

    async def cancelled(self, prompt: list[int]) -> None:
        task = asyncio.create_task(self.model.agenerate(prompt, max_tokens=30, ignore_eos=True))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def ask(model: syncyte.Model, seed: int, count: int) -> None:
    askers = [Asker(model, seed * THREADS + index, count // THREADS) for index in range(THREADS)]
    for asker in askers:
        asker.thread.join()
    assert [asker.failure for asker in askers if asker.failure] == []


def test_nothing_grows(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", context_length=512)
    with syncyte.Model(path, threads=1, max_sequences=4, context_length=100) as model:
        # Until the cache and the arenas of all threads have been full once.
        ask(model, 0, max(1000, REQUESTS // 10))
        samples: list[tuple[int, int, int]] = []
        threads = min(entries_after("/proc/self/task", 0.01) for _ in range(50))
        for sample in range(SAMPLES):
            ask(model, sample + 1, REQUESTS // SAMPLES)
            gc.collect()
            wait_until_idle(model)
            # A thread that was joined is listed a moment longer.
            wait_until(lambda: entries("/proc/self/task") <= threads)
            samples.append((resident_bytes(), entries("/proc/self/task"), entries("/proc/self/fd")))
        print([(memory // 1024, threads, files) for memory, threads, files in samples])
        memory = [sample[0] for sample in samples]
        # The later half against the earlier: 100 bytes a request would show in a full run.
        assert sum(memory[5:]) / 5 - sum(memory[:5]) / 5 < 2e6 + REQUESTS * 20
        assert len({sample[1:] for sample in samples}) == 1
        assert model._stats()["reserved_cells"] == 0


def wait_until_idle(model: syncyte.Model) -> None:
    end = time.monotonic() + 10
    while (stats := model.stats()).running + stats.waiting + stats.paused and time.monotonic() < end:
        time.sleep(0.01)
    assert (stats.running, stats.waiting, stats.paused) == (0, 0, 0)
