"""Grammars: what constrained decoding costs, here and in llama-server."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import syncyte
from benchmarks.harness import Bench, Contestant, Goal
from benchmarks.llama_server import llama_server
from benchmarks.models import model_with_progress
from benchmarks.prompts import words

OURS = "syncyte"
SERVER = "llama-server"

GRAMMARS = {
    "text": 'root ::= ([a-z] | " ")*',
    "JSON": r"""
root ::= "[" (value ", ")*
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" (string ": " value (", " string ": " value)*)? "}"
array ::= "[" (value (", " value)*)? "]"
string ::= "\"" [a-zA-Z0-9 ]* "\""
number ::= "-"? [0-9]+ ("." [0-9]+)?
""",
}
"""None of them ever comes to an end by itself."""


def run(bench: Bench) -> None:
    path = model_with_progress("tiny" if bench.quick else "0.3b", "q4_0")
    tokens = 8 if bench.quick else 96
    bench.fact("model", path.name)
    bench.fact("threads", bench.threads)
    model = bench.enter(syncyte.Model(path, context_length=4096, max_sequences=8, threads=bench.threads))
    server = bench.enter(llama_server(path, sequences=8, threads=bench.threads, context=4096))
    turn = iter(range(1_000_000))

    def rate(generate: Callable[[str], int], count: int) -> float:
        seed = next(turn) * 1000
        prompts = [words(16, seed + index) for index in range(count)]
        started = time.perf_counter()
        with ThreadPoolExecutor(count) as threads:
            done = sum(threads.map(generate, prompts))
        return done / (time.perf_counter() - started)

    def ours(options: dict[str, Any], prompt: str) -> int:
        answer = model.generate(prompt, max_tokens=tokens, temperature=0.0, ignore_eos=True, **options)
        return answer.usage.completion_tokens

    def theirs(options: dict[str, Any], prompt: str) -> int:
        return int(server.answer(prompt, tokens, **options)["tokens_predicted"])

    for count in (1, 8):
        contestants = []
        for name, generate in ((OURS, ours), (SERVER, theirs)):
            free = partial(rate, partial(generate, {}), count)
            contestants.append(Contestant(name, free, ours=name == OURS))
            for kind, grammar in GRAMMARS.items():
                bound = partial(rate, partial(generate, {"grammar": grammar}), count)
                contestants.append(Contestant(f"{name}, grammar of {kind}", bound, ours=name == OURS))
        bench.compare(
            f"grammar_{count}",
            contestants,
            title=f"{count} sequence{'s' * (count > 1)} decoding with and without a grammar",
            unit="tok/s",
            better="higher",
            reference=SERVER,
            rounds=5,
            goals=[Goal(f"{OURS}, grammar of {kind}", at_least=0.9, of=OURS) for kind in GRAMMARS],
        )
