"""The model that comes with the package: what it is, and whether it is any good."""

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import syncyte

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
HAS_TORCH = not subprocess.run(
    ["/usr/bin/python3", "-c", "import importlib.util, sys; sys.exit(not importlib.util.find_spec('torch'))"],
    check=False,
).returncode


def loaded(name):
    """A module of models/, which is no part of the package."""
    spec = importlib.util.spec_from_file_location(f"embedded_{name}", MODELS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def corpus():
    return loaded("corpus")


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


@pytest.fixture(scope="module")
def tokenizer():
    """The one that training encodes with, made from the shipped file's vocabulary."""
    gguf = pytest.importorskip("gguf", reason="python3-gguf is not installed")
    tokens = gguf.GGUFReader(syncyte.embedded_model_path()).get_field("tokenizer.ggml.tokens").contents()
    module = loaded("tokenizer")
    made = module.Tokenizer(tokens[len(module.SPECIAL) + 256 :])
    assert made.tokens == tokens
    return made


@given(text=st.text() | st.text("abehinost .,'?-0123456789\n"))
@example(text="How to bake a cake? 12.5 km -- 日本 \u2581 x")
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_training_reads_a_text_as_libllama_does(model, tokenizer, text):
    assert model.tokenize(text, add_special=False) == tokenizer.encode(text)


def test_training_reads_the_corpus_as_libllama_does(model, tokenizer, corpus):
    import random

    rng = random.Random(3)
    for block in corpus.read_blocks():
        for question, said in corpus.expand(block, rng):
            for text in (question, said):
                assert model.tokenize(text, add_special=False) == tokenizer.encode(text)


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


def action_of(text):
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "action" in found else None


def test_held_out_drone_orders_become_actions(model, corpus):
    items = [item for item in corpus.read_held_out() if item.field == "drone"]
    actions = [action_of(answer(model, item.question)) for item in items]
    assert sum(action is not None for action in actions) / len(items) >= 0.95
    right = sum(action == json.loads(item.answer) for action, item in zip(actions, items, strict=True))
    assert right / len(items) >= 0.9


def test_drone_orders_worded_as_in_the_corpus_become_json(model, corpus):
    import random

    blocks = [block for block in corpus.read_blocks() if block.field == "drone"]
    rng = random.Random(5)
    turns = [turn for _ in range(8) for block in blocks for turn in corpus.expand(block, rng)]
    assert len(turns) >= 200
    texts = [answer(model, question) for question, _ in turns]
    assert [text for text in texts if action_of(text) is None] == []
    pairs = zip(texts, turns, strict=True)
    right = sum(json.loads(text) == json.loads(wanted) for text, (_, wanted) in pairs)
    assert right / len(turns) >= 0.9


def test_held_out_drone_orders_are_always_json_when_it_is_asked_for(model, corpus):
    items = [item for item in corpus.read_held_out() if item.field == "drone"]
    asked = [[{"role": "user", "content": item.question}] for item in items]
    texts = [model.chat(each, temperature=0, max_tokens=128, json_object=True).text for each in asked]
    assert all(isinstance(json.loads(text), dict) for text in texts)


def test_held_out_requests_reach_their_specialist(model, corpus):
    items = [item for item in corpus.read_held_out() if item.field == "routing"]
    assert share_right(model, items) >= 0.9


def test_training_never_sees_a_held_out_question(monkeypatch):
    import random

    monkeypatch.syspath_prepend(MODELS)
    names = ("corpus", "rephrase", "tokenizer", "examples")
    corpus, _, _, examples = (importlib.import_module(name) for name in names)
    try:
        held_out = {corpus.normalised(item.question) for item in corpus.read_held_out()}
        drawn, rng = examples.Examples(), random.Random(1)
        seen = {corpus.normalised(asked) for _ in range(8000) for asked, _ in drawn.turns(rng)[1]}
    finally:
        for name in names:
            del sys.modules[name]
    assert len(seen) > 5000
    assert not seen & held_out


@pytest.mark.skipif(not HAS_TORCH, reason="python3-torch comes with ./dev model only")
def test_training_repeats_itself(tmp_path):
    results = []
    for name in ("one", "two"):
        out = tmp_path / name
        command = ["/usr/bin/python3", MODELS / "train.py", "--steps", "2", "--threads", "2", "--out", out]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        vocabulary = (out / "vocabulary.json").read_bytes()
        losses = [loss for _, loss, _ in json.loads((out / "loss.json").read_text())]
        results.append((vocabulary, losses, (out / "weights.pt").read_bytes()))
    assert results[0] == results[1]


def test_missing_file_is_said(tmp_path, monkeypatch):
    from syncyte import _embedded

    monkeypatch.setattr(_embedded, "__file__", str(tmp_path / "_embedded.py"))
    with pytest.raises(FileNotFoundError, match="demonstration model"):
        _embedded.embedded_model_path()
