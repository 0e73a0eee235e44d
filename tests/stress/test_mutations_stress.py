"""Damaged models of both kinds, sessions, grammars, schemas: errors, never a death, a hang, endless memory.

SYNCYTE_STRESS_MUTATIONS: how many of each (default 120; a full run makes 10,000).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MUTATIONS = int(os.environ.get("SYNCYTE_STRESS_MUTATIONS", "120"))


@pytest.mark.parametrize("kind", ["gguf", "embedding", "session", "grammar", "schema"])
def test_damage_is_an_error(kind: str, tmp_path: Path) -> None:
    program = Path(__file__).with_name("mutations.py")
    command = [sys.executable, "-W", "error", str(program), kind, str(tmp_path), "0", str(MUTATIONS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300 + MUTATIONS * 0.3, check=False)
    assert done.returncode == 0, f"seed in {tmp_path}: {done.stdout[-300:]}\n{done.stderr[-4000:]}"
    assert not done.stderr
    report = json.loads(done.stdout)
    print(kind, report)
    assert report["unexpected"] == []
    endings = report["endings"]
    assert sum(endings.values()) == MUTATIONS
    # Neither so mild nor so rude that nothing is learned.
    assert MUTATIONS * 0.02 < endings["accepted"] < MUTATIONS * 0.7
    before, after = report["peak_kib"]
    assert after - before < 64 * 1024
