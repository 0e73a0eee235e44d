"""Files that are no usable model: a clear ModelError, and the process lives on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest
from tiny_bert import write_tiny_bert
from tiny_gguf import write_tiny_gguf

import syncyte

HERE = Path(__file__).parent


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not\.gguf: no such file"):
        syncyte.Model(tmp_path / "not.gguf")
    with pytest.raises(FileNotFoundError):
        syncyte.Model("")
    with pytest.raises(TypeError):
        syncyte.Model(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="null"):
        syncyte.Model("a\0b")


def test_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(syncyte.ModelError, match="is a directory"):
        syncyte.Model(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(syncyte.ModelError, match="not a regular file"):
        syncyte.Model(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "secret.gguf"
    copy.write_bytes(tiny_model.read_bytes())
    copy.chmod(0)
    with pytest.raises(OSError, match="Permission denied"):
        syncyte.Model(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"G", "not a GGUF"),
        (b"Hello, this is no model at all", "not a GGUF"),
        (b"GGUF", "truncated"),
        (b"GGUF" + bytes(60), "version 0 is not supported"),
        (b"GGUF\x01\0\0\0" + bytes(60), "version 1 is not supported"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 60, "claims"),
        (b"GGUF\x03\0\0\0" + bytes(60), "no architecture"),
    ],
)
def test_not_a_model(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(content)
    with pytest.raises(syncyte.ModelError, match=message):
        syncyte.Model(path)


def test_truncated_anywhere(tiny_model: Path, tmp_path: Path) -> None:
    data = tiny_model.read_bytes()
    for part in range(20):
        path = tmp_path / f"{part}.gguf"
        path.write_bytes(data[: len(data) * part // 20])
        with pytest.raises(syncyte.ModelError, match=r"truncated|empty"):
            syncyte.Model(path)
    for size in (*range(1, 200, 7), 10_000, 15_000, len(data) - 1):
        path = tmp_path / "cut.gguf"
        path.write_bytes(data[:size])
        with pytest.raises(syncyte.ModelError, match=r"truncated|damaged|not a GGUF"):
            syncyte.Model(path)


def test_unsupported_architecture(tmp_path: Path) -> None:
    with pytest.raises(syncyte.ModelError, match="unknown model architecture: 'made-up'"):
        syncyte.Model(write_tiny_gguf(tmp_path / "a.gguf", architecture="made-up"))


def test_vocabulary_only(tmp_path: Path) -> None:
    with pytest.raises(syncyte.ModelError, match="vocabulary only"):
        syncyte.Model(write_tiny_gguf(tmp_path / "v.gguf", with_tensors=False))


def test_layer_count(tmp_path: Path, tiny_model: Path) -> None:
    data = bytearray(tiny_model.read_bytes())
    at = data.index(b"llama.block_count") + len("llama.block_count") + 4
    for layers in (0, 1, 3, 511, 512, 513, 2**32 - 1):
        data[at : at + 4] = layers.to_bytes(4, "little")
        (tmp_path / "layers.gguf").write_bytes(data)
        with pytest.raises(syncyte.ModelError):
            syncyte.Model(tmp_path / "layers.gguf")


def test_duplicate_token(tmp_path: Path, tiny_model: Path) -> None:
    data = tiny_model.read_bytes().replace(b"<0x41>", b"<0x42>")
    (tmp_path / "twice.gguf").write_bytes(data)
    with pytest.raises(syncyte.ModelError, match="token '<0x42>' is in the vocabulary twice"):
        syncyte.Model(tmp_path / "twice.gguf")


def test_a_message_may_quote_bytes_that_are_no_text(tmp_path: Path, tiny_model: Path) -> None:
    data = tiny_model.read_bytes().replace(b"<0x41>", b"\xff\xfe0x42").replace(b"<0x42>", b"\xff\xfe0x42")
    (tmp_path / "bytes.gguf").write_bytes(data)
    with pytest.raises(syncyte.ModelError, match="twice"):
        syncyte.Model(tmp_path / "bytes.gguf")


def test_good_models_open_after_bad_ones(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(tiny_model.read_bytes()[:20_000])
    for _ in range(5):
        with pytest.raises(syncyte.ModelError):
            syncyte.Model(tmp_path / "x.gguf")
    with syncyte.Model(tiny_model, threads=1) as model:
        assert model.generate("the", max_tokens=3, ignore_eos=True).tokens


def without_numbers(path: Path, tensor: str) -> Path:
    """The model with NaN for all values of one tensor."""
    reader = gguf.GGUFReader(path, "r+")
    (found,) = [one for one in reader.tensors if one.name == tensor]
    found.data[:] = float("nan")
    reader.data.flush()
    return path


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    path = without_numbers(write_tiny_gguf(tmp_path / "m.gguf"), "output_norm.weight")
    with syncyte.Model(path, threads=1) as model:
        options: list[dict[str, Any]] = [{}, {"temperature": 0}, {"choices": ["a", "b"]}, {"logprobs": 2}]
        for each in options:
            with pytest.raises(syncyte.ModelError, match=r"no numbers .*damaged"):
                model.generate("the", **each)
        with pytest.raises(syncyte.ModelError, match=r"no numbers .*damaged"):
            model.embed(["the", "word"])
        assert model.stats().running == 0
        assert model.tokenize("the")
    path = without_numbers(write_tiny_bert(tmp_path / "b.gguf"), "token_embd.weight")
    with syncyte.Model(path, threads=1) as model, pytest.raises(syncyte.ModelError, match="no numbers"):
        model.embed(["the", "word"])


@pytest.mark.parametrize(("kind", "count"), [("tiny", 1000), ("embedding", 300), ("ranking", 300)])
def test_hundreds_of_mutations_and_the_process_lives(
    tiny_model: Path, tmp_path: Path, kind: str, count: int
) -> None:
    sound = tiny_model
    if kind != "tiny":
        pooling = gguf.PoolingType.CLS if kind == "embedding" else gguf.PoolingType.RANK
        sound = write_tiny_bert(tmp_path / "sound.gguf", pooling=pooling)
    command = [sys.executable, str(HERE / "gguf_mutations.py"), str(sound), str(tmp_path), "0", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"died at {done.stdout[-300:]}\n{done.stderr[-2000:]}"
    assert done.stdout.endswith("all done\n")
    outcomes = re.findall(r"^  (.*)$", done.stdout, re.MULTILINE)
    assert len(outcomes) == count
    assert 0 < sum(outcome == "works" for outcome in outcomes) < count / 2
    assert not done.stderr
