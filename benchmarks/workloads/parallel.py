"""The main job: 3 prompts one after another and at the same time, here, over HTTP and in 3 processes."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import syncyte
from benchmarks import agents
from benchmarks.harness import Bench, Contestant
from benchmarks.llama_server import llama_server
from benchmarks.models import model_with_progress
from benchmarks.prompts import words

PROMPT = 24
CONTEXT = 4096
PROMPTS = 3
SAMPLING = {"temperature": 0.0, "ignore_eos": True}


@contextmanager
def processes(path: Path, threads: int) -> Iterator[Executor]:
    """Spawned processes, each with a model of its own and its share of the threads, warm."""
    options: dict[str, Any] = {"context_length": CONTEXT, "max_sequences": 1, "threads": threads}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        PROMPTS, mp_context=context, initializer=agents.keep_model, initargs=(str(path), options)
    ) as pool:
        yield pool


def run(bench: Bench) -> None:
    size, tokens = ("tiny", 8) if bench.quick else ("0.3b", 64)
    path = model_with_progress(size, "q4_0")
    threads = bench.threads
    turn = 0

    def timed(ask_all: Callable[[Sequence[str]], Sequence[int]]) -> Callable[[], float]:
        """Seconds until all answers are there; the prompts are new each time."""

        def sample() -> float:
            nonlocal turn
            turn += 1
            prompts = [words(PROMPT, seed=turn * 1000 + index) for index in range(PROMPTS)]
            started = time.perf_counter()
            counts = ask_all(prompts)
            elapsed = time.perf_counter() - started
            if list(counts) != [tokens] * PROMPTS:
                raise RuntimeError(f"asked for {tokens} tokens each, got {counts}")
            return elapsed

        return sample

    options: dict[str, Any] = {"context_length": CONTEXT, "max_sequences": PROMPTS, "threads": threads}
    model = bench.enter(syncyte.Model(path, **options))
    pool = bench.enter(syncyte.InferencePool(size=PROMPTS, model=model))
    server = bench.enter(llama_server(path, sequences=PROMPTS, threads=threads, context=CONTEXT))
    clients = bench.enter(ThreadPoolExecutor(PROMPTS))
    own_models = bench.enter(processes(path, max(1, threads // PROMPTS)))

    def one_by_one(prompts: Sequence[str]) -> list[int]:
        answers = [pool.execute(prompt, max_tokens=tokens, **SAMPLING) for prompt in prompts]
        return [answer.usage.completion_tokens for answer in answers]

    def at_once(prompts: Sequence[str]) -> list[int]:
        answers = pool.map(prompts, max_tokens=tokens, **SAMPLING)
        return [answer.usage.completion_tokens for answer in answers]

    def ask_server(prompt: str) -> int:
        return server.generate(prompt, tokens)

    ours, sequential = "syncyte, at once", "syncyte, one after another"
    bench.compare(
        "three_prompts",
        [
            Contestant(ours, timed(at_once), ours=True),
            Contestant(sequential, timed(one_by_one), ours=True),
            Contestant(
                "llama-server, at once", timed(lambda prompts: list(clients.map(ask_server, prompts)))
            ),
            Contestant(
                "llama-server, one after another",
                timed(lambda prompts: [ask_server(prompt) for prompt in prompts]),
            ),
            Contestant(
                f"{PROMPTS} processes, a model each",
                timed(lambda prompts: list(own_models.map(agents.ask_kept, prompts, [tokens] * PROMPTS))),
            ),
        ],
        title=f"{PROMPTS} prompts of {PROMPT} tokens, {tokens} tokens each in answer",
        unit="s",
        better="lower",
        reference=sequential,
        rounds=9,
    )
    bench.fact("model", path.name)
    bench.fact("threads", threads)
