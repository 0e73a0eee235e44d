"""Guessing tokens ahead, from texts and by a draft model: one sequence, plain and speculative."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import syncyte
from benchmarks.harness import Bench, Contestant, Goal
from benchmarks.llama_server import llama_server
from benchmarks.models import model_with_progress
from benchmarks.prompts import words

PLAIN = "plain"
SPECULATIVE = "speculative"
SERVER = "llama-server"
CONTEXT = 2048


class Text:
    """A kind of text; each sample is the speed after the first token of one answer, in tokens/s.

    The answers of one round are of the same prompt and length: by the turn of the side that asks.
    """

    def __init__(self, model: syncyte.Model, tokens: int, options: dict[str, Any]) -> None:
        self._model = model
        self._tokens = tokens
        self._options = options
        self._turns = {PLAIN: 0, SPECULATIVE: 0}
        self.drafted = self.accepted = self.generated = 0

    def sample(self, side: str) -> float:
        turn = self._turns[side]
        self._turns[side] += 1
        made = self._model.generate(
            self.prompt(turn),
            max_tokens=self._tokens,
            seed=turn,
            cache_salt=f"{side} {turn}",
            speculate=side == SPECULATIVE,  # True: automatic, though there is a seed
            **self.options(turn),
        )
        self.drafted += made.usage.drafted_tokens
        self.accepted += made.usage.accepted_tokens
        self.generated += made.usage.completion_tokens if side == SPECULATIVE else 0
        return made.timings.tokens_per_second

    def prompt(self, turn: int) -> str:
        return words(48, seed=turn + 1)

    def options(self, _turn: int) -> dict[str, Any]:
        return {**self._options, "ignore_eos": True}

    def contestants(self) -> list[Contestant]:
        return [Contestant(side, partial(self.sample, side), ours=True) for side in (PLAIN, SPECULATIVE)]


class Edited(Text):
    """The answer is the prompt again with every 16th word changed, as an edit or a quotation is.

    Random weights would not say so by themselves: a grammar allows this text only, and biases its tokens.
    """

    def prompt(self, turn: int) -> str:
        return words(self._tokens, seed=turn + 1)

    def options(self, _turn: int) -> dict[str, Any]:
        said = self.prompt(_turn).split()
        new = words(self._tokens, seed=_turn + 1_000_000).split()
        text = "".join(f" {new[i] if i % 16 == 15 else word}" for i, word in enumerate(said))
        tokens = self._model.tokenize(text, add_special=False)
        # The longest piece wins, so that the answer is cut into tokens as the prompt is.
        bias = {token: 30.0 + 5.0 * len(self._model.detokenize([token])) for token in tokens}
        return {**self._options, "grammar": f'root ::= "{text}"', "logit_bias": bias}


def _json_list(turn: int) -> str:
    names = ["Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald"]
    rows = [
        f'{{"id": {index}, "name": "{names[(turn + index) % 6]}", "active": true, "tags": ["a", "b"]}}'
        for index in range(1, 9)
    ]
    return "[\n  " + ",\n  ".join(rows) + ",\n  "


class JsonList(Text):
    """A JSON list that the shipped model, which is trained, goes on with."""

    def prompt(self, turn: int) -> str:
        return _json_list(turn)


def run(bench: Bench) -> None:
    tokens = 24 if bench.quick else 256
    path = model_with_progress("tiny" if bench.quick else "0.3b", "q4_0")
    bench.fact("model", path.name)
    bench.fact("threads", bench.threads)
    bench.fact("tokens", tokens)
    _random_weights(bench, path, tokens)
    _trained(bench, tokens)
    _draft_model(bench, tokens)


def _random_weights(bench: Bench, path: Path, tokens: int) -> None:
    with (
        Bench(bench.name, quick=bench.quick) as sides,
        syncyte.Model(path, context_length=CONTEXT, max_sequences=4, threads=bench.threads) as model,
    ):
        server = sides.enter(llama_server(path, sequences=1, threads=bench.threads, context=CONTEXT))
        edited = Edited(model, tokens, {"temperature": 0.0})

        turns = iter(range(1_000_000))

        def plain_server() -> float:
            stream = server.stream(words(tokens, seed=next(turns)), tokens)
            next(stream)
            started = time.perf_counter()
            count = max(stream, default=2)
            return (count - 1) / (time.perf_counter() - started)

        _compare(bench, "edit", edited, "the prompt again with every 16th word changed", 1.5, plain_server)
        fresh = Text(model, tokens, {"temperature": 1.0})
        _compare(bench, "new", fresh, "a text that does not repeat itself", 0.97)


def _trained(bench: Bench, tokens: int) -> None:
    path = syncyte.embedded_model_path()
    with syncyte.Model(path, context_length=1024, threads=bench.threads) as model:
        _compare(bench, "json", JsonList(model, tokens, {"temperature": 0.0}), "a JSON list, shipped model")


def _draft_model(bench: Bench, tokens: int) -> None:
    """A model and a smaller one that guesses for it, here and in llama-server.

    Both have random weights; they share their first layers, and what the others add is made small, so that
    the small model is right about as often as trained pairs are: how often is a fact of the result.
    """
    path = model_with_progress("tiny" if bench.quick else "1b-echo", "q4_0")
    draft = model_with_progress("tiny" if bench.quick else "1b-echo-draft", "q4_0")
    bench.fact("draft_model", draft.name)
    with (
        Bench(bench.name, quick=bench.quick) as sides,
        syncyte.Model(
            path, context_length=CONTEXT, max_sequences=4, threads=bench.threads, draft_model=draft
        ) as model,
    ):
        text = Text(model, tokens, {"temperature": 0.0})
        setup: dict[str, Any] = {"sequences": 1, "threads": bench.threads, "context": CONTEXT}
        servers = {
            SERVER: sides.enter(llama_server(path, **setup)),
            f"{SERVER}, draft model": sides.enter(
                llama_server(path, flags=["--spec-type", "draft-simple", "-md", str(draft)], **setup)
            ),
        }
        counts = {SERVER: 0, f"{SERVER}, draft model": 0}

        def answered(name: str) -> float:
            counts[name] += 1
            said = servers[name].answer(words(48, seed=counts[name]), tokens)
            speed: float = said["timings"]["predicted_per_second"]
            return speed

        bench.compare(
            "draft",
            [*text.contestants(), *(Contestant(name, partial(answered, name)) for name in servers)],
            title=f"1 sequence, a draft model guesses ({path.stem}, {draft.stem})",
            unit="tok/s",
            better="higher",
            reference=PLAIN,
            rounds=7,
            goals=[
                Goal(SPECULATIVE, at_least=1.2, of=PLAIN),
                Goal(SPECULATIVE, at_least=1.0, of=f"{SERVER}, draft model"),
            ],
        )
        bench.fact("accepted_of_drafted_draft", [text.accepted, text.drafted])


def _compare(
    bench: Bench, name: str, text: Text, title: str, least: float | None = None, extra: Any = None
) -> None:
    contestants = text.contestants()
    if extra is not None:
        contestants.append(Contestant(SERVER, extra))
    bench.compare(
        name,
        contestants,
        title=f"1 sequence, {title}",
        unit="tok/s",
        better="higher",
        reference=PLAIN,
        rounds=7,
        goals=[] if least is None else [Goal(SPECULATIVE, at_least=least, of=PLAIN)],
    )
    if text.generated:
        bench.fact(f"accepted_of_drafted_{name}", [text.accepted, text.drafted])
