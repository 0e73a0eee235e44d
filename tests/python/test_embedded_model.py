"""The model that comes with the package: what it is, and whether it is any good."""

import hashlib
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

import syncyte

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"


@pytest.fixture(scope="module")
def corpus():
    """models/corpus.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("embedded_corpus", MODELS / "corpus.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def model():
    with syncyte.Model(syncyte.embedded_model_path()) as model:
        yield model


def answer(model, question):
    return model.chat([{"role": "user", "content": question}], temperature=0, max_tokens=160).text


def test_file_is_small_and_the_one_the_readme_describes():
    data = Path(syncyte.embedded_model_path()).read_bytes()
    readme = (MODELS / "README.md").read_text(encoding="utf-8")
    assert data[:4] == b"GGUF"
    assert len(data) <= 8_000_000
    assert re.findall(r"\b[0-9a-f]{64}\b", readme) == [hashlib.sha256(data).hexdigest()]


def test_info(model):
    assert model.info.architecture == "llama"
    assert model.info.trained_context_length >= 512
    assert model.info.has_chat_template


@pytest.mark.parametrize(
    "text",
    [
        "Tell me a joke",
        "two  spaces ",
        "48.1372, -11.5",
        "a\n\nb\tc",
        "Ünïcödé 日本 😀",
        "<|im_end|> is plain text",
        "",
    ],
)
def test_any_text_survives_the_vocabulary(model, text):
    assert model.detokenize(model.tokenize(text, add_special=False)) == text


def test_numbers_are_read_digit_by_digit(model):
    tokens = model.tokenize("4815", add_special=False)
    assert [model.detokenize([token]) for token in tokens] == ["4", "8", "1", "5"]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Tell me a joke", "bear|bicycle|memory|halloween|beach|scarecrow|math|fish|tomato|penguin"),
        ("Explain quantum physics", "quanta|quantum"),
        ("How to bake a cake", "butter|flour"),
        ("Who are you?", "demonstration model"),
    ],
)
def test_demo_prompts_are_answered_on_topic(model, question, words):
    assert re.search(words, answer(model, question).lower())


def share_right(model, items):
    return sum(answer(model, item.question) == item.answer for item in items) / len(items)


def test_held_out_drone_orders_become_actions(model, corpus):
    items = [item for item in corpus.read_held_out() if item.field == "drone"][::3]
    answers = [answer(model, item.question) for item in items]
    actions = [json.loads(text) for text in answers]
    assert all("action" in action for action in actions)
    right = sum(action == json.loads(item.answer) for action, item in zip(actions, items, strict=True))
    assert right / len(items) >= 0.85


def test_held_out_requests_reach_their_specialist(model, corpus):
    items = [item for item in corpus.read_held_out() if item.field == "routing"][::3]
    assert share_right(model, items) >= 0.85


def test_training_never_sees_a_held_out_question(corpus):
    import random

    held_out = {corpus.normalised(item.question) for item in corpus.read_held_out()}
    rng = random.Random(1)
    fixed = [block for block in corpus.read_blocks() if block.field in {"chat", "howto", "physics"}]
    seen = {
        corpus.normalised(question) for b in fixed for _ in range(40) for question, _ in corpus.expand(b, rng)
    }
    assert not seen & held_out


def test_missing_file_is_said(tmp_path, monkeypatch):
    from syncyte import _embedded

    monkeypatch.setattr(_embedded, "__file__", str(tmp_path / "_embedded.py"))
    with pytest.raises(FileNotFoundError, match="demonstration model"):
        _embedded.embedded_model_path()
