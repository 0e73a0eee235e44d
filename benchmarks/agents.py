"""What runs inside interpreters and processes of the workloads: importable by name, light to import."""

import time
from typing import Any, NamedTuple

from benchmarks.prompts import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Talk(NamedTuple):
    """What one agent does: turns, each of so many words said, tokens answered and seconds thought.

    Its first turn begins with the system prompt.
    """

    system: str
    seed: int
    turns: int
    said: int
    tokens: int
    thought: float


_kept: dict[str, Any] = {}


def stream_arrivals(
    path: str, options: dict[str, Any], prompt: str, tokens: int
) -> list[tuple[float, float]]:
    """Streams one greedy answer of exactly `tokens` tokens; returns when pieces came and how many by then."""
    import syncyte

    model = syncyte.Model(path, **options)
    arrivals: list[tuple[float, float]] = []
    for _ in model.stream(prompt, max_tokens=tokens, temperature=0.0, ignore_eos=True):
        arrivals.append((time.perf_counter(), len(arrivals) + 1.0))
    return arrivals


def keep_model(path: str, options: dict[str, Any]) -> None:
    """Opens a model that ask_kept() will use, and warms it."""
    import syncyte

    _kept["model"] = syncyte.Model(path, **options)
    ask_kept("ba be bi", 4)


def ask_kept(prompt: str, tokens: int) -> int:
    """One greedy answer of exactly `tokens` tokens; returns how many came."""
    answer = _kept["model"].generate(prompt, max_tokens=tokens, temperature=0.0, ignore_eos=True)
    count: int = answer.usage.completion_tokens
    return count


def converse(path: str, options: dict[str, Any], talk: Talk) -> int:
    """One agent: turns with the model in this interpreter, and thought between them; returns its turns.

    What was said stays as tokens, here and over HTTP: written out, the answers of random weights tokenise to
    others, which everybody would have to compute again.
    """
    import syncyte

    model = syncyte.Model(path, **options)
    history: list[int] = []

    def answer(said: str) -> None:
        history.extend(model.tokenize(said, add_special=not history))
        made = model.generate(history, max_tokens=talk.tokens, temperature=0.0, ignore_eos=True)
        history.extend(made.tokens)

    return _turns(answer, talk)


def converse_over_http(port: int, talk: Talk) -> int:
    """The same agent as a client of llama-server on that port of this machine."""
    from benchmarks.llama_server import Server

    server = Server(port, 0, cache_prompt=True)
    history: list[str | int] = []  # it takes both in one prompt

    def answer(said: str) -> None:
        history.append(said)
        history.extend(server.answer(history, talk.tokens, return_tokens=True)["tokens"])

    return _turns(answer, talk)


def _turns(answer: Callable[[str], None], talk: Talk) -> int:
    for turn in range(talk.turns):
        said = " " + words(talk.said, talk.seed * 100 + turn)
        answer(talk.system + said if turn == 0 else said)
        until = time.perf_counter() + talk.thought
        while time.perf_counter() < until:  # what an agent does with an answer: Python
            sum(range(100))
    return talk.turns


def compute(stop: Any) -> float:
    """Python that keeps a core busy until there is something in the queue `stop`; its turns a second."""
    turns = 0
    started = time.perf_counter()
    while turns == 0 or stop.empty():
        for _ in range(1000):
            sum(range(100))
        turns += 1000
    return turns / (time.perf_counter() - started)
