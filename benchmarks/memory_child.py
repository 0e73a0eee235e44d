"""The program whose memory is measured: `python -m benchmarks.memory_child WAY MODEL OPTIONS WORKERS`.

It sets up the workers in one of several ways, lets each give an answer, says "ready" and waits for its
standard input to end. OPTIONS are Model's, as JSON.
"""

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

from benchmarks.prompts import words

PROMPT, TOKENS = 32, 32


def interpreters(path: str, options: dict[str, Any], workers: int) -> None:
    """One process, an interpreter per worker, one model."""
    import syncyte

    with syncyte.InferencePool(size=workers, model=syncyte.Model(path, **options)) as pool:
        prompts = [words(PROMPT, seed) for seed in range(workers)]
        futures = [
            pool.submit(prompt, max_tokens=TOKENS, temperature=0.0, ignore_eos=True) for prompt in prompts
        ]
        for future in futures:
            future.result(120)
        _measure_now()


def _own_model(path: str, options: dict[str, Any], seed: int, done: object, end: object) -> None:
    import syncyte

    model = syncyte.Model(path, **options)
    model.generate(words(PROMPT, seed), max_tokens=TOKENS, temperature=0.0, ignore_eos=True)
    done.release()  # type: ignore[attr-defined]
    end.wait()  # type: ignore[attr-defined]


def processes(path: str, options: dict[str, Any], workers: int) -> None:
    """A spawned process per worker, each with a model of its own."""
    _spawn(_own_model, [(path, options, seed) for seed in range(workers)])


def _ask_server(port: int, pid: int, seed: int, done: object, end: object) -> None:
    from benchmarks.llama_server import Server

    Server(port, pid).generate(words(PROMPT, seed), TOKENS)
    done.release()  # type: ignore[attr-defined]
    end.wait()  # type: ignore[attr-defined]


def server(path: str, options: dict[str, Any], workers: int) -> None:
    """llama-server, and a spawned process per worker that asks it over HTTP."""
    from benchmarks.llama_server import llama_server

    with llama_server(
        Path(path), sequences=workers, threads=options["threads"], context=options["context_length"]
    ) as running:
        _spawn(_ask_server, [(running.port, running.pid, seed) for seed in range(workers)])


def _spawn(target: object, arguments: list[tuple[object, ...]]) -> None:
    context = multiprocessing.get_context("spawn")
    done, end = context.Semaphore(0), context.Event()
    running = [context.Process(target=target, args=(*each, done, end)) for each in arguments]  # type: ignore[arg-type]
    for process in running:
        process.start()
    try:
        for _ in running:
            if not done.acquire(timeout=120):
                raise TimeoutError("a worker did not answer within 120 s")
        _measure_now()
    finally:
        end.set()
        for process in running:
            process.join(10)


def _measure_now() -> None:
    print("ready", flush=True)
    sys.stdin.read()


def main() -> None:
    way, path, options, workers = sys.argv[1:]
    ways = {"interpreters": interpreters, "processes": processes, "server": server}
    ways[way](path, json.loads(options), int(workers))


if __name__ == "__main__":
    main()
