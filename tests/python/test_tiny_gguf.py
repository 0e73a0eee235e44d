"""The generator itself: a model that the other tests can trust."""

from __future__ import annotations

import gguf
from tiny_gguf import vocabulary, write_tiny_gguf


def test_vocabulary_has_no_duplicates() -> None:
    tokens, scores, types = vocabulary()
    assert len(set(tokens)) == len(tokens) == len(scores) == len(types)
    assert [token for token in tokens if token.startswith("<0x")] == [f"<0x{b:02X}>" for b in range(256)]


def test_same_arguments_same_bytes(tmp_path) -> None:
    first = write_tiny_gguf(tmp_path / "a.gguf")
    assert first.read_bytes() == write_tiny_gguf(tmp_path / "b.gguf").read_bytes()
    assert first.read_bytes() != write_tiny_gguf(tmp_path / "c.gguf", seed=8).read_bytes()


def test_file_reads_back(tiny_model) -> None:
    reader = gguf.GGUFReader(tiny_model)
    assert reader.fields["general.architecture"].contents() == "llama"
    assert {tensor.name for tensor in reader.tensors} >= {"token_embd.weight", "output.weight"}
