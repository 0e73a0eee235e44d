"""Attention of our own beside ggml's: the same model, the same texts, in a process of its own each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from plain_gguf import write_plain_gguf

import syncyte

if TYPE_CHECKING:
    from pathlib import Path

ASK = """
import json, sys, threading, syncyte

words = "Once upon a time there was a little girl who had a red ball. ".split()
prompts = [" ".join((words * 30)[first : first + length]) for first in range(5) for length in (3, 40, 300)]
answers = [None] * len(prompts)

def ask(model, i):
    answer = model.generate(prompts[i], max_tokens=6, temperature=0, logprobs=1, ignore_eos=True)
    answers[i] = [one.logprob for one in answer.logprobs]

with syncyte.Model(sys.argv[1], context_length=512, max_sequences=8, **json.loads(sys.argv[2])) as model:
    threads = [threading.Thread(target=ask, args=(model, i)) for i in range(len(prompts))]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(json.dumps([syncyte.versions()["attention"], answers]))
"""


@pytest.fixture(scope="module")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration model without quantised weights, which make much of little differences."""
    return write_plain_gguf(syncyte.embedded_model_path(), tmp_path_factory.mktemp("models") / "plain.gguf")


def ask(attention: str | None, path: Path, options: dict[str, object]) -> tuple[str, list[list[float]]]:
    environment = {name: value for name, value in os.environ.items() if name != "SYNCYTE_ATTENTION"}
    if attention is not None:
        environment["SYNCYTE_ATTENTION"] = attention
    command = [sys.executable, "-c", ASK, str(path), json.dumps(options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    kind, answers = json.loads(done.stdout)
    return kind, answers


@pytest.mark.parametrize(
    "options",
    [
        {"threads": 1},
        {"threads": 2},
        {"threads": 1, "kv_unified": False},
        {"threads": 1, "kv_type": "q8_0"},  # stays ggml's
        {"threads": 1, "flash_attention": False},
    ],
    ids=str,
)
def test_the_same_comes_of_it(plain_model: Path, options: dict[str, object]) -> None:
    kind, ours = ask(None, plain_model, options)
    if kind == "ggml":
        pytest.skip("this processor has no vector instructions for it")
    assert kind in ("AVX-512", "AVX2")
    other, theirs = ask("ggml", plain_model, options)
    assert other == "ggml"
    same = sum(
        abs(a - b) < 0.02
        for mine, plain in zip(ours, theirs, strict=True)
        for a, b in zip(mine, plain, strict=True)
    )
    # First tokens are of the same text for sure; later ones only while no choice was close.
    assert [mine[0] for mine in ours] == pytest.approx([plain[0] for plain in theirs], abs=0.02)
    assert same > 60  # of 90
