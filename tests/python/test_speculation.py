"""Guessed tokens: the answer is that of plain decoding, and the usage tells what was guessed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import syncyte

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def model(tiny_model: Path) -> Iterator[syncyte.Model]:
    with syncyte.Model(tiny_model, threads=1) as opened:
        yield opened


def few_tokens(model: syncyte.Model) -> dict[int, float]:
    """Biases that leave three tokens to choose among: matches everywhere, and many a guess is wrong."""
    return dict.fromkeys(model.tokenize(" word there about", add_special=False)[-3:], 100.0)


def test_a_text_that_repeats_itself_takes_few_steps(model: syncyte.Model) -> None:
    (wanted,) = set(model.tokenize(" word", add_special=False)[-1:])
    options: dict[str, Any] = {"logit_bias": {wanted: 100}, "max_tokens": 64, "ignore_eos": True}
    before = model.stats().steps
    made = model.generate("the", speculate=8, **options)
    steps = model.stats().steps - before
    assert made.tokens == [wanted] * 64
    assert made.usage.accepted_tokens == made.usage.drafted_tokens >= 50
    assert steps <= 14
    stats = model.stats()
    assert stats.accepted_tokens == made.usage.accepted_tokens
    assert stats.drafted_tokens == made.usage.drafted_tokens
    plain = model.generate("the", speculate=False, **options)
    assert plain.tokens == made.tokens
    assert (plain.usage.drafted_tokens, plain.usage.accepted_tokens) == (0, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 0.0, "logprobs": 2},
        {"temperature": 1.0, "seed": 3},
        {"temperature": 1.0, "seed": 4, "repeat_penalty": 1.2, "frequency_penalty": 0.1},
        {"temperature": 1.0, "seed": 5, "mirostat": 2},
        {"temperature": 1.0, "seed": 6, "stop": " there word there about"},
        {
            "temperature": 1.0,
            "seed": 7,
            "grammar": 'root ::= (" "? "word" | " "? "there" | " "? "about"){30}',
        },
    ],
)
def test_the_answer_is_that_of_plain_decoding(model: syncyte.Model, options: dict[str, Any]) -> None:
    options = {"logit_bias": few_tokens(model), "max_tokens": 120, "ignore_eos": True, **options}
    plain = model.generate("word there about", speculate=False, **options)
    made = model.generate("word there about", speculate=6, **options)
    assert made.tokens == plain.tokens
    assert made.text == plain.text
    assert made.finish_reason == plain.finish_reason
    assert made.usage.completion_tokens == plain.usage.completion_tokens
    assert made.usage.drafted_tokens > 0 or len(made.tokens) < 20
    assert [one.token for one in made.logprobs] == [one.token for one in plain.logprobs]
    for one, other in zip(made.logprobs, plain.logprobs, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)


def test_sessions_and_prefixes_go_on_after_rejected_guesses(model: syncyte.Model) -> None:
    def talk(speculate: int | bool) -> list[list[int]]:
        session = model.session(
            system="You are kind.",
            logit_bias=few_tokens(model),
            max_tokens=30,
            ignore_eos=True,
            temperature=1.0,
            seed=11,
            speculate=speculate,
        )
        first = session.send("word there about word there")
        branch = session.fork()
        return [first.tokens, session.send("and then").tokens, branch.send("or else").tokens]

    assert talk(8) == talk(False)


def test_many_together_and_cancelled_ones(model: syncyte.Model) -> None:
    options: dict[str, Any] = {"logit_bias": few_tokens(model), "max_tokens": 80, "ignore_eos": True}
    counts = [0] * 8

    def ask(index: int) -> None:
        stream = model.stream(f"word {index} there", speculate=4, seed=index, **options)
        for piece in stream:
            counts[index] += bool(piece)
            if index % 2:
                stream.close()
                break

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(count > 0 for count in counts)
    assert model.generate("word", max_tokens=3, ignore_eos=True).usage.completion_tokens == 3


def test_nobody_guesses_unasked(model: syncyte.Model) -> None:
    made = model.generate("the the the the the", temperature=0, max_tokens=40, ignore_eos=True)
    assert made.usage.drafted_tokens == 0
    model.generate("the", seed=1, speculate=True, max_tokens=40, ignore_eos=True)


@pytest.mark.parametrize(
    ("value", "error"), [("yes", TypeError), (1.5, TypeError), (-1, ValueError), (65, ValueError)]
)
def test_bad_values_are_named(model: syncyte.Model, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="speculate must be"):
        model.generate("the", speculate=value)
