"""Answers by random schemas, sound ones and odd ones: each that is finished satisfies its schema.

SYNCYTE_STRESS_SCHEMAS: how many schemas of both sorts, two answers each (default 60; a full run: 2,000).
"""

from __future__ import annotations

import collections
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import syncyte

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
from mutations import damaged_value, sound_schemas
from schemas import CHECKER
from tiny_gguf import write_tiny_gguf

SCHEMAS = int(os.environ.get("SYNCYTE_STRESS_SCHEMAS", "60"))


def odd_schemas(count: int) -> list[Any]:
    """Damaged ones. Many are refused; what is not has to be obeyed as well."""
    sound = sound_schemas(max(60, count // 10))
    draws = [random.Random(seed) for seed in range(count)]
    return [damaged_value(draw.choice(sound), draw, sound) for draw in draws]


def check_texts(model: syncyte.Model, wanted: Any, seed: int, endings: collections.Counter[str]) -> None:
    """Two answers: what is finished satisfies the schema."""
    options: Any = {"max_tokens": 250, "temperature": 1.2, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    try:
        answers = model.generate_n("the word is", 2, json_schema=wanted, seed=seed, **options)
    except ValueError, TypeError:
        endings["refused"] += 1
        return
    endings["taken"] += 1
    try:
        jsonschema.Draft202012Validator.check_schema(wanted)
    except jsonschema.SchemaError as error:
        # Wrong in a place that an answer never comes to.
        endings["wrong"] += 1
        print("taken though wrong:", error.message[:200], list(error.path)[:12], wanted)
        return
    for made in answers:
        endings[made.finish_reason] += 1
        if made.finish_reason == "stop":
            validator = jsonschema.Draft202012Validator(wanted, format_checker=CHECKER)
            errors = [error.message for error in validator.iter_errors(json.loads(made.text))]
            assert errors == [], f"{made.text}\nby {wanted}"


@pytest.mark.parametrize(("make", "least"), [(sound_schemas, 0.8), (odd_schemas, 0.2)])
def test_finished_answers_satisfy_their_schemas(make: Any, least: float, tmp_path: Path) -> None:
    endings: collections.Counter[str] = collections.Counter()
    path = write_tiny_gguf(tmp_path / "tiny.gguf", seed=23)
    with syncyte.Model(path, threads=1, max_sequences=2) as model:
        for seed, wanted in enumerate(make(SCHEMAS)):
            check_texts(model, wanted, seed, endings)
    print(make.__name__, endings)
    assert endings["taken"] >= SCHEMAS * least
    assert endings["stop"] >= endings["taken"]
