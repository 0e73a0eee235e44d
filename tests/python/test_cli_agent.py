"""Agent files: loading them, calling them, and what a user reads when they go wrong."""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING, Any

import pytest

from syncyte.cli import _agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Writes an agent file; its traces in the interpreter are removed afterwards."""
    path, modules = sys.path[:], set(sys.modules)

    def write_agent(source: str) -> str:
        file = tmp_path / "agent.py"
        file.write_text(source)
        return str(file)

    yield write_agent
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def load(path: str) -> object:
    return _agent.load(path, path)


def failure_of(agent: object) -> dict[str, str]:
    with pytest.raises(BaseException) as caught:
        _agent.call(agent, "p", None)
    return _agent.describe(caught.value)


def test_an_agent_can_use_files_beside_it(write: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "beside_agent.py").write_text("def shout(text): return text.upper()\n")
    agent = load(write("from beside_agent import shout\ndef agent(prompt, model): return shout(prompt)\n"))
    assert _agent.call(agent, "hello", None) == "HELLO"


def test_main_guards_do_not_run(write: Callable[[str], str]) -> None:
    load(write("def agent(p, m): ...\nif __name__ == '__main__': raise SystemExit\n"))


def test_dataclasses_find_their_module(write: Callable[[str], str]) -> None:
    source = (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: 'int'\ndef agent(p, m): return A(3).x\n"
    )
    assert _agent.call(load(write(source)), "", None) == 3


def test_async_agents_are_run(write: Callable[[str], str]) -> None:
    source = "import asyncio\nasync def agent(p, m):\n    await asyncio.sleep(0)\n    return p * 2\n"
    assert _agent.call(load(write(source)), "ab", None) == "abab"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "x = 1\nx.nothing\ndef agent(p, m): ...\n",
            ["does not run", 'agent.py", line 2', "AttributeError: "],
        ),
        ("import no_such_module_at_all\n", ["line 1", "No module named 'no_such_module_at_all'"]),
        ("import sys\nsys.exit(3)\n", ["line 2", "SystemExit: the agent called sys.exit(3)"]),
        ("def agnet(p, m): ...\n", ["has no function agent(prompt, model); it has agnet"]),
        ("agent = 3\n", ["is an int; it has to be a function agent(prompt, model)"]),
        ("def agent(:\n", ["SyntaxError: ", "line 1"]),
    ],
)
def test_a_file_that_is_no_agent_says_why(write: Callable[[str], str], source: str, said: list[str]) -> None:
    with pytest.raises(_agent.AgentFileError) as caught:
        load(write(source))
    text = str(caught.value)
    for part in said:
        assert part in text
    assert "syncyte/cli" not in text


def test_a_failing_agent_shows_its_own_lines_only(write: Callable[[str], str]) -> None:
    source = "def inner(p):\n    return {}[p]\n\ndef agent(p, m):\n    return inner(p)\n"
    found = failure_of(load(write(source)))
    assert (found["type"], found["message"]) == ("KeyError", "'p'")
    assert "line 5, in agent" in found["traceback"]
    assert "line 2, in inner" in found["traceback"]
    assert "    return {}[p]" in found["traceback"]
    assert "syncyte/cli" not in found["traceback"]


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("import sys; sys.exit()", "SystemExit", "the agent called sys.exit()"),
        ("return agent(p, m)", "RecursionError", "maximum recursion depth exceeded"),
        ("raise ValueError", "ValueError", "(a ValueError without a message)"),
        ("raise type('Odd', (Exception,), {'__str__': lambda s: 1 / 0})", "Odd", "cannot be shown"),
        (
            "raise ImportError('module x.y does not support loading in subinterpreters', name='x.y')",
            "ImportError",
            "x (its part x.y) cannot be imported by an agent",
        ),
    ],
)
def test_every_way_to_fail_is_described(write: Callable[[str], str], body: str, kind: str, said: str) -> None:
    found = failure_of(load(write(f"def agent(p, m):\n    {body}\n")))
    assert found["type"] == kind
    assert said in found["message"]
    assert len(found["traceback"]) < 5000


def test_a_refusal_is_found_behind_other_errors() -> None:
    refusal = "module deep._part does not support loading in subinterpreters"
    error = ImportError("deep is broken: 40 lines of advice")
    error.__cause__ = ImportError(refusal, name="deep._part")
    message = _agent.describe(error)["message"]
    assert "deep (its part deep._part) cannot be imported" in message
    assert "keep deep in the main program or in a process of its own" in message


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None),
        (True, True),
        ({"a": [1, 2.5, ("x",)]}, {"a": [1, 2.5, ["x"]]}),
        (Level.HIGH, 3),
        (Name("n"), "n"),
        (10**400, 10**400),
    ],
)
def test_plain_values_pass(value: object, wanted: object) -> None:
    found = _agent.plain(value)
    assert found == wanted
    assert type(found) is type(wanted)


def endless() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "the agent's result is an object, which cannot leave its interpreter"),
        ({"a": [0, {1, 2}]}, "the agent's result['a'][1] is a set"),
        ((n for n in ()), "is a generator"),
        ({1: 2}, "has the key 1; keys have to be strings"),
        ([float("nan")], "the agent's result[0] is nan"),
        ("\ud800", "lone surrogate U+D800"),
        ({"\ud800": 1}, "lone surrogate U+D800"),
        (endless(), "nested more than 200 deep, or holds itself"),
        (b"bytes", "is a bytes"),
    ],
)
def test_what_cannot_travel_is_named(value: object, said: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        _agent.plain(value)
    assert said in str(caught.value)
