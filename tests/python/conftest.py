"""Fixtures for every Python test."""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tiny_gguf import write_tiny_gguf

# The tests look at plain text of the usual width, whatever the machine is set to.
for _name in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "PYTHON_COLORS", "COLUMNS", "LINES"):
    os.environ.pop(_name, None)

# Who starts the tests in the background may ignore Ctrl-C, and every child would.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time, and no limit to how long they take: a run does not fail by chance.
# SYNCYTE_TEST_RANDOM=1 draws new ones.
settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
if "SYNCYTE_TEST_RANDOM" not in os.environ:
    settings.load_profile("steady")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a tiny random-weight GGUF: llama architecture, trained context of 512 tokens, a chat template.

    Open it with threads=1: on a busy machine more threads only wait for each other.
    """
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of extensions/*.c compiled."""
    folder = tmp_path_factory.mktemp("extensions")
    include = sysconfig.get_path("include")
    compiler = os.environ.get("CC", "gcc-16")
    compilers = []
    for source in sorted(Path(__file__).with_name("extensions").glob("*.c")):
        target = folder / (source.stem + sysconfig.get_config_var("EXT_SUFFIX"))
        words = [
            compiler,
            "-shared",
            "-fPIC",
            "-O1",
            "-Wall",
            "-Werror",
            f"-I{include}",
            str(source),
            "-o",
            str(target),
        ]
        compilers.append(subprocess.Popen(words))
    assert [compiler.wait() for compiler in compilers] == [0] * len(compilers)
    return folder
