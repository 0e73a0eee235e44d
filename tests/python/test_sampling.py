"""Sampling options beyond the usual ones: penalties, biases, stop tokens, mirostat, log probabilities."""

from __future__ import annotations

import math
import pickle
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


def test_biases_force_and_forbid(model: syncyte.Model) -> None:
    free = model.generate("the", temperature=0, max_tokens=12, ignore_eos=True)
    (wanted,) = set(model.tokenize(" word", add_special=False)[-1:])
    made = model.generate("the", logit_bias={wanted: 100}, max_tokens=5, ignore_eos=True)
    assert made.tokens == [wanted] * 5
    banned = dict.fromkeys(free.tokens, -100)
    made = model.generate("the", temperature=0, logit_bias=banned, max_tokens=12, ignore_eos=True)
    assert not set(made.tokens) & set(free.tokens)


def test_stop_tokens_end_and_do_not_show(model: syncyte.Model) -> None:
    free = model.generate("the", temperature=0, max_tokens=12, ignore_eos=True)
    stop = free.tokens[5]
    first = free.tokens.index(stop)
    made = model.generate("the", temperature=0, max_tokens=12, ignore_eos=True, stop_tokens=[stop])
    assert made.tokens == free.tokens[:first]
    assert made.finish_reason == "stop"


def test_penalties_make_a_text_repeat_less(model: syncyte.Model) -> None:
    def variety(**options: Any) -> int:
        made = model.generate("the the the the", temperature=0, max_tokens=60, ignore_eos=True, **options)
        return len(set(made.tokens))

    assert variety(frequency_penalty=2.0, presence_penalty=2.0) > variety()


@pytest.mark.parametrize(
    "options", [{"mirostat": 1}, {"mirostat": 2, "mirostat_tau": 2.0}, {"typical_p": 0.5}]
)
def test_other_ways_to_choose(model: syncyte.Model, options: dict[str, Any]) -> None:
    texts = {model.generate("the", max_tokens=20, seed=4, ignore_eos=True, **options).text for _ in range(2)}
    assert len(texts) == 1
    assert texts != {model.generate("the", max_tokens=20, seed=4, ignore_eos=True).text}
    made = model.generate("the", choices=["yes", "no"], **options)
    assert made.text in ("yes", "no")


def test_dry_ends_loops(model: syncyte.Model) -> None:
    def longest_loop(tokens: list[int]) -> int:
        return max(
            (
                n
                for n in range(1, len(tokens) // 2)
                for i in range(len(tokens) - 2 * n)
                if tokens[i : i + n] == tokens[i + n : i + 2 * n]
            ),
            default=0,
        )

    bias = dict.fromkeys(range(3, 259), -100)  # bytes and marks are not all alike
    prompt = "the word the word the word the word"
    plain = model.generate(prompt, temperature=0, max_tokens=200, ignore_eos=True, logit_bias=bias)
    dry = model.generate(
        prompt,
        temperature=0,
        max_tokens=200,
        ignore_eos=True,
        logit_bias=bias,
        dry_multiplier=5.0,
        dry_breakers=(),
    )
    assert longest_loop(dry.tokens) < 4
    assert plain.tokens != dry.tokens or longest_loop(plain.tokens) < 4
    free = model.generate(prompt, temperature=0, max_tokens=50, dry_multiplier=5.0, dry_allowed_length=1000)
    assert free.tokens == model.generate(prompt, temperature=0, max_tokens=50).tokens


def test_logprobs(model: syncyte.Model) -> None:
    made = model.generate("the", temperature=0, max_tokens=9, ignore_eos=True, logprobs=3)
    assert [one.token for one in made.logprobs] == made.tokens
    assert "".join(one.text for one in made.logprobs if "\ufffd" not in one.text) in made.text or made.text
    for one in made.logprobs:
        assert one.logprob == one.top[0].logprob < 0
        assert one.token == one.top[0].token
        assert [t.logprob for t in one.top] == sorted((t.logprob for t in one.top), reverse=True)
        assert len(one.top) == 3
    assert pickle.loads(pickle.dumps(made)) == made
    whole = model.generate("the", max_tokens=1, temperature=0, logprobs=100, ignore_eos=True).logprobs[0]
    assert 0.1 < sum(math.exp(one.logprob) for one in whole.top) <= 1.001
    bare = model.stream("the", max_tokens=4, seed=1, ignore_eos=True, logprobs=0)
    list(bare)
    assert [len(one.top) for one in bare.completion.logprobs] == [0] * 4
    assert model.generate("the", max_tokens=3).logprobs == []
    same = model.generate("the", temperature=0, max_tokens=9, ignore_eos=True)
    assert same.tokens == made.tokens


def test_several_answers_compute_the_prompt_once(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "fresh.gguf"
    path.write_bytes(tiny_model.read_bytes())
    prompt = "the a an and or of to in is it that was for on are as with his they at be this have from " * 3
    with syncyte.Model(path, threads=1, max_sequences=4) as model:
        made = model.generate_n(prompt, 6, max_tokens=12, seed=5, ignore_eos=True)
        assert len({one.text for one in made}) > 3
        length = made[0].usage.prompt_tokens
        assert sorted(one.usage.reused_tokens for one in made) == [0] + [length - 1] * 5
        assert made[0].text == model.generate(prompt, max_tokens=12, seed=5, ignore_eos=True).text
        again = model.generate_n(prompt, 2, max_tokens=12, seed=5, ignore_eos=True)
        assert [one.text for one in again] == [one.text for one in made[:2]]
        with pytest.raises(ValueError, match="n must be 1 or more"):
            model.generate_n(prompt, 0)
        with pytest.raises(TypeError, match="n must be int"):
            model.generate_n(prompt, 1.5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"generate_n\(\) got an unexpected"):
            model.generate_n(prompt, 2, seeds=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"logit_bias": [3]}, TypeError, "logit_bias must be a dict"),
        ({"logit_bias": {"a": 1}}, TypeError, "a token of logit_bias must be int"),
        ({"logit_bias": {3: 101}}, ValueError, "a bias of logit_bias must be from -100 to 100"),
        (
            {"logit_bias": {99999: 1}},
            ValueError,
            "logit_bias has token 99999, which is not in the vocabulary",
        ),
        ({"logit_bias": {2**40: 1}}, ValueError, "a token of logit_bias"),
        ({"dry_base": 0.5}, ValueError, "dry_base must be from 1"),
        ({"dry_breakers": [""]}, ValueError, "a text of dry_breakers cannot be empty"),
        ({"stop_tokens": 3}, TypeError, "stop_tokens must be a list"),
        ({"stop_tokens": [99999]}, ValueError, "not in the vocabulary"),
        ({"stop_tokens": [-1]}, ValueError, "a token of stop_tokens"),
        ({"mirostat": 3}, ValueError, "mirostat must be from 0 to 2"),
        ({"typical_p": 2}, ValueError, "typical_p"),
        ({"frequency_penalty": float("nan")}, ValueError, "frequency_penalty"),
        ({"logprobs": 101}, ValueError, "logprobs must be from 0 to 100"),
        ({"logprobs": True}, TypeError, "logprobs must be int"),
    ],
)
def test_what_is_wrong_is_said(model: syncyte.Model, options, error, message) -> None:
    with pytest.raises(error, match=message):
        model.generate("the", **options)
