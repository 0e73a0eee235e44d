"""A draft model: the answer is the model's own, whatever the other one guesses."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny_bert import write_tiny_bert
from tiny_gguf import write_tiny_gguf

import syncyte
from syncyte import _core

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPT = "the other word that they have had"


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and another of the same vocabulary."""
    folder = tmp_path_factory.mktemp("models")
    return (
        write_tiny_gguf(folder / "large.gguf", layers=3, seed=1),
        write_tiny_gguf(folder / "small.gguf", layers=1, seed=2),
    )


@pytest.fixture(params=["itself", "another"])
def model(paths: tuple[Path, Path], request: pytest.FixtureRequest) -> Iterator[syncyte.Model]:
    draft = paths[0] if request.param == "itself" else paths[1]
    with syncyte.Model(paths[0], threads=1, draft_model=draft) as opened:
        yield opened


def test_a_model_that_guesses_for_itself_is_right(paths: tuple[Path, Path]) -> None:
    with syncyte.Model(paths[0], threads=1, draft_model=paths[0]) as model:
        assert model.info.draft_model == str(paths[0])
        options: dict[str, Any] = {"max_tokens": 100, "temperature": 0, "ignore_eos": True}
        plain = model.generate(PROMPT, **options)
        before = model.stats().steps
        made = model.generate(PROMPT, speculate=4, cache_salt="again", **options)
        steps = model.stats().steps - before
        assert made.tokens == plain.tokens
        # Its last bits may differ between one row and several.
        assert made.usage.accepted_tokens >= 0.9 * made.usage.drafted_tokens > 0
        assert steps < 60
        assert model.stats().draft_error == ""


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 0.0, "logprobs": 2},
        {"temperature": 1.0, "seed": 3, "repeat_penalty": 1.2},
        {"temperature": 0.7, "seed": 4, "stop": "the"},
        {"temperature": 1.0, "seed": 5, "grammar": 'root ::= (" "? "word" | " "? "there"){30}'},
    ],
)
def test_the_answer_is_that_of_plain_decoding(model: syncyte.Model, options: dict[str, Any]) -> None:
    options = {"max_tokens": 120, "ignore_eos": True, **options}
    for guessed in (1, 5, True):
        plain = model.generate(PROMPT, cache_salt=f"plain {guessed}", **options)
        made = model.generate(PROMPT, speculate=guessed, cache_salt=f"guessed {guessed}", **options)
        assert made.tokens == plain.tokens
        assert made.text == plain.text
        assert made.finish_reason == plain.finish_reason
        assert guessed is True or made.usage.drafted_tokens > 0 or len(made.tokens) < 20


def test_sessions_with_branches(model: syncyte.Model) -> None:
    def talk(speculate: int) -> list[list[int]]:
        session = model.session(
            system="You are kind.", max_tokens=30, ignore_eos=True, temperature=0.0, speculate=speculate
        )
        first = session.send("word there about word there")
        branch = session.fork()
        return [first.tokens, session.send("and then").tokens, branch.send("or else").tokens]

    assert talk(3) == talk(0)


def test_many_together_and_cancelled_ones(model: syncyte.Model) -> None:
    counts = [0] * 8

    def ask(index: int) -> None:
        stream = model.stream(f"word {index} there", speculate=4, seed=index, max_tokens=60, ignore_eos=True)
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
    assert model.stats().draft_error == ""


@pytest.fixture
def engines() -> int:
    """How many are open before the test."""
    gc.collect()
    return _core._open_models()


def test_other_vocabularies_are_refused(paths: tuple[Path, Path], tmp_path: Path, engines: int) -> None:
    with pytest.raises(ValueError, match=r"draft_model: .*vocabulary"):
        syncyte.Model(paths[0], threads=1, draft_model=syncyte.embedded_model_path())
    bert = write_tiny_bert(tmp_path / "bert.gguf")
    with pytest.raises(ValueError, match=r"draft_model: .*generates no text"):
        syncyte.Model(paths[0], threads=1, draft_model=bert)
    with pytest.raises(ValueError, match=r"draft_model: .*guess for generates no text"):
        syncyte.Model(bert, threads=1, draft_model=paths[0])
    gc.collect()
    assert _core._open_models() == engines


def test_bad_files_are_named(paths: tuple[Path, Path], tmp_path: Path, engines: int) -> None:
    with pytest.raises(FileNotFoundError, match=r"draft_model: .*missing\.gguf"):
        syncyte.Model(paths[0], draft_model=tmp_path / "missing.gguf")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(paths[1].read_bytes()[:5000])
    with pytest.raises(syncyte.ModelError, match=r"draft_model: .*broken\.gguf"):
        syncyte.Model(paths[0], threads=1, draft_model=broken)
    with pytest.raises(TypeError, match=r"draft_model must be str, os\.PathLike or None, not int"):
        syncyte.Model(paths[0], draft_model=3)  # type: ignore[arg-type]
    gc.collect()
    assert _core._open_models() == engines
    with syncyte.Model(paths[0], threads=1) as model:  # what failed left nothing behind
        assert model.info.draft_model is None


def test_engines_differ_by_their_draft_model(paths: tuple[Path, Path], engines: int) -> None:
    with syncyte.Model(paths[0], threads=1) as plain:
        with syncyte.Model(paths[0], threads=1, draft_model=paths[1]) as drafting:
            assert plain.info.draft_model is None
            assert drafting.info.draft_model == str(paths[1])
            with syncyte.Model(paths[0], draft_model=paths[1]) as joined:
                assert _core._open_models() == engines + 2
                assert joined.info.draft_model == str(paths[1])
            # The draft model's weights are there, for who wants it itself.
            with syncyte.Model(paths[1], threads=1) as small:
                assert small.generate("the", max_tokens=2, ignore_eos=True).usage.completion_tokens == 2
        gc.collect()
        assert _core._open_models() == engines + 1
        with syncyte.Model(paths[0]) as left_out:
            assert left_out.info.draft_model is None


def test_each_the_others_draft_model_at_once(paths: tuple[Path, Path], tmp_path: Path) -> None:
    copies = [Path(shutil.copy(path, tmp_path)) for path in paths]
    found: list[list[int]] = []

    def use(one: Path, other: Path) -> None:
        with syncyte.Model(one, threads=1, draft_model=other) as model:
            found.append(model.generate("the", max_tokens=9, speculate=3, ignore_eos=True).tokens)

    threads = [threading.Thread(target=use, args=pair) for pair in (copies, copies[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [len(tokens) for tokens in found] == [9, 9]


def test_the_command_line_takes_one(paths: tuple[Path, Path]) -> None:
    def run(*options: str) -> dict[str, Any]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "syncyte.cli", "run", "the word", "--model", str(paths[0])),
                *("--temperature", "0", "--max-tokens", "20", "--ignore-eos", *options),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        record: dict[str, Any] = json.loads(done.stdout)
        return record

    drafted = run("--draft-model", str(paths[0]), "--speculate", "4")
    assert drafted["usage"]["drafted_tokens"] > 0
    assert drafted["text"] == run()["text"]
