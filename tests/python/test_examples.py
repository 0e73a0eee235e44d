"""The examples run as a reader would run them, and say what their text promises."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, *arguments):
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_parallel_answers():
    out = run("parallel_answers.py")
    assert len(set(re.findall(r"interpreter (\d+)", out))) > 1
    assert "Quantum physics describes the very small" in out


def test_router_agent():
    out = run("router_agent.py")
    assert "Where is my parcel?\n    logistics" in out
    assert "How many people are in this photo?\n    vision" in out


def test_drone_mission():
    actions = [json.loads(text)["action"] for text in re.findall(r"\{.*\}", run("drone_mission.py"))]
    assert actions[0] == "takeoff"
    assert actions[-1] == "land"
    assert len(actions) == 9


def test_log_classifier():
    share = re.search(r"300 lines, ([\d.]+)% as intended", run("log_classifier.py", "300"))
    assert float(share[1]) >= 80


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60
