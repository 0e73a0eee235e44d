"""Guessed tokens in requests with adapters: each has the text it has without guesses, and guesses from none
but its own adapter's texts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from ties import same_but_for_ties
from tiny_lora import write_tiny_lora
from waiting import wait_until

import syncyte

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROMPT = "word there about word there about the other word there about word there"


@pytest.fixture
def model(tiny_model: Path) -> Iterator[syncyte.Model]:
    with syncyte.Model(tiny_model, threads=1, max_sequences=8) as opened:
        yield opened


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters that each make another text of everything."""
    folder = tmp_path_factory.mktemp("loras")
    return [write_tiny_lora(folder / f"{seed}.gguf", seed=seed) for seed in (1, 2)]


def few_tokens(model: syncyte.Model) -> dict[int, float]:
    """Biases that leave three tokens to choose among: matches everywhere, and many a guess is wrong."""
    return dict.fromkeys(model.tokenize(" word there about", add_special=False)[-3:], 100.0)


def ask(model: syncyte.Model, lora: syncyte.Lora | None, speculate: int, salt: str) -> syncyte.Completion:
    """A greedy answer of few words. With a salt of its own it is as if nothing had been asked before."""
    options: dict[str, Any] = {"logit_bias": few_tokens(model), "max_tokens": 100, "ignore_eos": True}
    return model.generate(PROMPT, temperature=0, lora=lora, speculate=speculate, cache_salt=salt, **options)


def test_alone_the_text_is_that_of_plain_decoding(model: syncyte.Model, paths: list[Path]) -> None:
    one, two = (model.lora(path) for path in paths)
    texts = set()
    for number, lora in enumerate([None, one, two, model.lora(paths[0], 2.0)]):
        plain = ask(model, lora, 0, f"plain {number}")
        texts.add(plain.text)
        for most in (1, 3, 6, 16):
            # Once with its own text alone to guess from, once with all of the same answer.
            for _ in range(2):
                made = ask(model, lora, most, f"{most} {number}")
                assert made.tokens == plain.tokens
                assert made.text == plain.text
                assert made.usage.accepted_tokens > 0
            assert made.usage.accepted_tokens >= 60 * most / (most + 1)
    assert len(texts) == 4


def test_guesses_come_from_texts_of_the_same_adapter_alone(model: syncyte.Model, paths: list[Path]) -> None:
    """What others have said under the same salt changes neither a text nor what is guessed for it."""
    loras = [None, model.lora(paths[0]), model.lora(paths[1]), model.lora(paths[1], 0.5)]

    def run(others: list[int], asked: int) -> tuple[list[int], int, int]:
        salt = f"{asked} after {others}"
        for other in others:
            ask(model, loras[other], 6, salt)
        made = ask(model, loras[asked], 6, salt)
        return made.tokens, made.usage.drafted_tokens, made.usage.accepted_tokens

    for asked in range(4):
        alone = run([], asked)
        assert alone[1] > alone[2] > 0
        assert run([other for other in range(4) if other != asked], asked) == alone
        tokens, _, accepted = run([asked], asked)
        assert tokens == alone[0]
        assert accepted > alone[2]  # its own text tells


@pytest.mark.parametrize("speculate", [True, 5])
def test_all_at_once_say_what_each_says_alone(
    model: syncyte.Model, paths: list[Path], speculate: bool
) -> None:
    loras = [None, *(model.lora(path) for path in paths)]
    asked = [(lora, f"{PROMPT} {word}") for lora in loras for word in ("about", "word", "there", "the")]
    options: dict[str, Any] = {"max_tokens": 60, "temperature": 0, "ignore_eos": True, "logprobs": 2}

    def answer(one: tuple[syncyte.Lora | None, str], speculate: int = speculate) -> syncyte.Completion:
        return model.generate(one[1], lora=one[0], speculate=speculate, **options)

    alone = [answer(one, 0) for one in asked]
    before = model.stats()
    drafted = accepted = 0
    with ThreadPoolExecutor(len(asked)) as threads:
        for _ in range(3):
            for one, other in zip(alone, threads.map(answer, asked), strict=True):
                same_but_for_ties(one, other)
                drafted += other.usage.drafted_tokens
                accepted += other.usage.accepted_tokens

    def all_counted() -> bool:
        stats = model.stats()
        sums = (stats.drafted_tokens - before.drafted_tokens, stats.accepted_tokens - before.accepted_tokens)
        return (*sums, stats.running, stats.waiting, stats.paused) == (drafted, accepted, 0, 0, 0)

    assert wait_until(all_counted)
    assert drafted >= accepted
    assert accepted > 0 or speculate is True  # True: what pays, by the time steps take


def test_a_draft_model_guesses_beside_adapters(tiny_model: Path, paths: list[Path]) -> None:
    """It guesses as without them: what it is wrong about then, the text does not show."""
    options: dict[str, Any] = {"max_tokens": 60, "temperature": 0, "ignore_eos": True, "logprobs": 2}
    with syncyte.Model(tiny_model, threads=1, max_sequences=8, draft_model=tiny_model) as model:
        loras = [None, *(model.lora(path) for path in paths)]

        def answer(lora: syncyte.Lora | None, speculate: int, salt: str) -> syncyte.Completion:
            return model.generate(PROMPT, lora=lora, speculate=speculate, cache_salt=salt, **options)

        alone = [answer(lora, 0, "") for lora in loras]
        for number, (lora, plain) in enumerate(zip(loras, alone, strict=True)):
            made = answer(lora, 4, f"guessed {number}")
            same_but_for_ties(plain, made)
            assert made.usage.drafted_tokens > 0
            right = made.usage.accepted_tokens / made.usage.drafted_tokens
            assert right > 0.9 if lora is None else right < 0.9
        with ThreadPoolExecutor(9) as threads:
            made_together = list(threads.map(answer, loras * 3, [4] * 9, [""] * 9))
        for plain, made in zip(alone * 3, made_together, strict=True):
            same_but_for_ties(plain, made)
        assert model.stats().draft_error == ""


def test_who_leaves_in_the_middle_harms_nobody(tiny_model: Path, paths: list[Path]) -> None:
    """Adapters that come and go, and streams that are closed."""
    with syncyte.Model(tiny_model, threads=1, max_sequences=6) as model:
        options: dict[str, Any] = {"max_tokens": 80, "temperature": 0, "ignore_eos": True, "logprobs": 2}
        loras = [None, *(model.lora(path) for path in paths)]
        alone = [model.generate(PROMPT, lora=lora, **options) for lora in loras]
        failed: list[BaseException] = []

        def agent(number: int) -> None:
            try:
                for turn in range(4):
                    which = (number + turn) % 3
                    lora = model.lora(paths[which - 1]) if which else None
                    with model.stream(PROMPT, lora=lora, speculate=number % 7, **options) as stream:
                        if lora is not None:
                            lora.close()
                        if (number + turn) % 4 == 3:
                            next(stream)
                            continue
                        for _ in stream:
                            pass
                        same_but_for_ties(alone[which], stream.completion)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=agent, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in threads)
        assert not failed
        for lora, wanted in zip(loras, alone, strict=True):
            same_but_for_ties(wanted, model.generate(PROMPT, lora=lora, speculate=6, **options))
