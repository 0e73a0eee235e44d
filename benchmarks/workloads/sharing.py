"""Cores shared: 8 sequences decode while interpreters compute, here and in llama-server."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import syncyte
from benchmarks import agents
from benchmarks.decoding import speed, together
from benchmarks.harness import Bench, Contestant, Goal, Outcome
from benchmarks.llama_server import llama_server
from benchmarks.models import model_with_progress
from benchmarks.prompts import words
from benchmarks.streams import Stream, our_stream

OURS = "syncyte"
SERVER = "llama-server"
SEQUENCES = 8
PROMPT = 16
CONTEXT = 4096


def run(bench: Bench) -> None:
    path = model_with_progress("tiny" if bench.quick else "0.3b", "q4_0")
    tokens = 8 if bench.quick else 96
    bench.fact("model", path.name)
    bench.fact("threads", bench.threads)
    model = bench.enter(
        syncyte.Model(path, context_length=CONTEXT, max_sequences=SEQUENCES, threads=bench.threads)
    )
    server = bench.enter(llama_server(path, sequences=SEQUENCES, threads=bench.threads, context=CONTEXT))

    for computing in (1, 2):
        Sharing(bench, computing, tokens).compare(our_stream(model), server.stream)


class Sharing:
    """One comparison: so many interpreters compute while the sequences decode."""

    def __init__(self, bench: Bench, computing: int, tokens: int) -> None:
        self._bench = bench
        self._computing = computing
        self._tokens = tokens
        self._turn = 0
        self._pool = bench.enter(syncyte.InterpreterPool(computing))

    def compare(self, ours: Stream, server: Stream) -> None:
        bench, computing = self._bench, self._computing
        beside = f"while {computing} interpreter{'s compute' if computing > 1 else ' computes'}"
        fixed = {f"{OURS}, {threads} threads fixed": threads for threads in range(1, bench.threads + 1)}
        decoding = bench.compare(
            f"decoding_beside_{computing}",
            [
                Contestant(OURS, partial(self._decode, ours, None), ours=True),
                *(Contestant(name, partial(self._decode, ours, count)) for name, count in fixed.items()),
                Contestant(SERVER, partial(self._decode, server, None)),
            ],
            title=f"{SEQUENCES} sequences decoding {beside}",
            unit="tok/s",
            better="higher",
            rounds=5,
        )
        best = max(fixed, key=lambda name: decoding.contestants[name].median)
        decoding.goals.append(decoding.judge(Goal(OURS, at_least=0.9, of=best)))
        compared = bench.compare(
            f"computing_beside_{computing}",
            [
                Contestant(f"beside {OURS}", partial(self._compute, ours), ours=True),
                Contestant(f"beside {SERVER}", partial(self._compute, server)),
                Contestant("alone", partial(self._compute, None)),
            ],
            title=f"Turns of {computing} computing interpreter{'s' * (computing > 1)}, each",
            unit="k/s",
            better="higher",
            rounds=5,
        )
        share = compared.quotient(f"beside {OURS}", "alone")
        compared.goals.append(Outcome("beside syncyte ≥ 0.9 × alone", share, share >= 0.9))

    @contextmanager
    def _computing_agents(self) -> Iterator[list[float]]:
        """Interpreters that compute within the block; after it, the list has how fast each was."""
        stop = syncyte.Queue[None]()
        futures = [self._pool.submit(agents.compute, stop) for _ in range(self._computing)]
        rates: list[float] = []
        time.sleep(0.05)
        try:
            yield rates
        finally:
            stop.put(None)
            rates += [future.result(60) for future in futures]

    def _stream(self, stream: Stream) -> float:
        self._turn += 1
        prompts = [words(PROMPT, seed=self._turn * 1000 + index) for index in range(SEQUENCES)]
        started = time.perf_counter()
        arrivals = together([partial(stream, prompt, self._tokens) for prompt in prompts])
        return speed(arrivals, self._tokens, started, quick=self._bench.quick)

    def _decode(self, stream: Stream, threads: int | None) -> float:
        syncyte.set_core_budget(engine=threads)
        try:
            with self._computing_agents():
                return self._stream(stream)
        finally:
            syncyte.set_core_budget()

    def _compute(self, stream: Stream | None) -> float:
        with self._computing_agents() as rates:
            if stream is None:
                time.sleep(0.05 if self._bench.quick else 1.0)
            else:
                self._stream(stream)
        return min(rates) / 1e3
