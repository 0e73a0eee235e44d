"""Fixtures for every Python test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tiny_gguf import write_tiny_gguf

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a tiny random-weight GGUF: llama architecture, trained context of 512 tokens, a chat template.

    Open it with threads=1: on a busy machine more threads only wait for each other.
    """
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")
