"""Prompts from arguments, text and JSONL; what a line that is none is turned into."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncyte.cli import _inputs
from syncyte.cli._arguments import CommandError

if TYPE_CHECKING:
    from pathlib import Path


def inputs_of(path: Path, data: bytes, name: str = "in.txt") -> list[_inputs.Input]:
    file = path / name
    file.write_bytes(data)
    source = _inputs.Source(str(file))
    try:
        return list(_inputs.all_inputs([], source))
    finally:
        source.close()


def test_text_lines_are_prompts_and_blank_lines_are_not(tmp_path: Path) -> None:
    found = inputs_of(tmp_path, "\ufeffone\r\n\n  \nzwei ä\nlast".encode())
    assert [(one.index, one.line, one.prompt, one.error) for one in found] == [
        (0, 1, "one", None),
        (1, 4, "zwei ä", None),
        (2, 5, "last", None),
    ]


def test_jsonl_lines_carry_ids_and_options(tmp_path: Path) -> None:
    lines = [
        {"prompt": "a", "id": "x1", "max_tokens": 5, "stop": "END", "topic": "kept out"},
        {"prompt": "b", "id": 7, "temperature": 0, "seed": None, "ignore_eos": True},
    ]
    data = "\n".join(map(json.dumps, lines)) + '\n"just a string"\n'
    for name in ("in.jsonl", "in.txt"):  # the second is recognised by its first line
        found = inputs_of(tmp_path, data.encode(), name)
        assert [(one.id, one.prompt, one.options, one.error) for one in found] == [
            ("x1", "a", {"max_tokens": 5, "stop": ("END",)}, None),
            (7, "b", {"temperature": 0, "ignore_eos": True}, None),
            (None, "just a string", {}, None),
        ]


def test_the_first_readable_line_tells_whether_it_is_jsonl(tmp_path: Path) -> None:
    found = inputs_of(tmp_path, b'\xff\n{"prompt": "a", "id": 1}\n', "in.txt")
    assert [(one.id, one.prompt) for one in found] == [(None, "\ufffd"), (1, "a")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"prompt": "a"', "malformed JSON: Expecting ',' delimiter (column 15)"),
        pytest.param(b"[" * 100_000, "malformed JSON: nested too deeply", id="deep"),
        (b"[1]", 'it has to be an object such as {"prompt": "Tell me a joke"}'),
        (b'{"text": "a"}', 'it has no "prompt"'),
        (b'{"prompt": 3}', '"prompt" has to be a string, not 3'),
        (b'{"prompt": "a", "id": [1]}', '"id" has to be a string or a whole number, not [1]'),
        (b'{"prompt": "a", "max_token": 3}', "unknown option 'max_token': did you mean 'max_tokens'?"),
        (b'{"prompt": "a", "max-tokens": 3}', "unknown option 'max-tokens': did you mean 'max_tokens'?"),
        (b'{"prompt": "a", "max_tokens": 0}', "max_tokens has to be at least 1, not 0"),
        (b'{"prompt": "a", "max_tokens": "9"}', "max_tokens has to be a whole number, not '9'"),
        (b'{"prompt": "a", "top_p": true}', "top_p has to be a number, not True"),
        (b'{"prompt": "a", "ignore_eos": 1}', "ignore_eos has to be true or false, not 1"),
        (b'{"prompt": "a", "stop": ["x", 1]}', "stop has to be a string or a list of strings"),
        (b'{"prompt": "\xff"}', "is not UTF-8: byte 0xff at position 13"),
    ],
)
def test_a_line_that_is_no_input_is_named_and_the_rest_goes_on(
    tmp_path: Path, line: bytes, said: str
) -> None:
    found = inputs_of(tmp_path, b'{"prompt": "before"}\n\n' + line + b'\n{"prompt": "after"}\n', "in.jsonl")
    assert [one.index for one in found] == [0, 1, 2]
    assert (found[0].error, found[2].error, found[2].prompt) == (None, None, "after")
    assert found[1].error is not None
    assert "line 3 of " in found[1].error
    assert said in found[1].error


def test_prompts_no_model_takes_are_refused() -> None:
    found = list(_inputs.all_inputs(["", " \t", "ok", "bad \udcff"], None))
    assert [one.error for one in found] == [
        "the prompt is empty",
        "the prompt is empty",
        None,
        "the prompt is not valid Unicode: lone surrogate U+DCFF at position 5",
    ]


def test_a_line_without_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_inputs, "MAX_LINE_BYTES", 100_000)
    found = inputs_of(tmp_path, b"x" * 300_000 + b"\nshort\n" + b"y" * 100_001)
    assert [(one.prompt, one.error is None) for one in found] == [
        (None, False),
        ("short", True),
        (None, False),
    ]
    assert "line 1 of " in str(found[0].error)
    assert "is longer than" in str(found[0].error)


def test_lines_of_a_pipe_come_as_they_are_written() -> None:
    read_end, write_end = os.pipe()
    lines = _inputs._lines(read_end)
    os.write(write_end, b"one\ntw")
    assert next(lines) == b"one"
    threading.Timer(0.05, lambda: (os.write(write_end, b"o\n"), os.close(write_end))).start()
    assert list(lines) == [b"two"]
    os.close(read_end)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=20),
    st.integers(1, 9),
)
def test_lines_are_those_of_split_whatever_the_chunks(lines: list[bytes], chunk: int) -> None:
    read_end, write_end = os.pipe()
    data = b"\n".join(lines)
    os.write(write_end, data)
    os.close(write_end)
    before = _inputs._CHUNK_BYTES
    _inputs._CHUNK_BYTES = chunk
    try:
        found = list(_inputs._lines(read_end))
    finally:
        _inputs._CHUNK_BYTES = before
        os.close(read_end)
    wanted = data.split(b"\n")
    assert found == (wanted[:-1] if wanted[-1] == b"" else wanted)


def test_counting_reads_nothing_away(tmp_path: Path) -> None:
    file = tmp_path / "in.txt"
    file.write_text("a\n\nb\nc")
    source = _inputs.Source(str(file))
    assert source.count() == 3
    assert [one.prompt for one in source.read(5)] == ["a", "b", "c"]
    source.close()


@pytest.mark.parametrize(("name", "said"), [("gone.txt", "there is no input file"), ("", "is a directory")])
def test_an_input_that_is_no_file_is_a_usage_error(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(CommandError, match=said) as caught:
        _inputs.Source(str(tmp_path / name))
    assert caught.value.status == 2


def test_an_existing_py_file_is_the_agent_and_a_sentence_is_not(tmp_path: Path) -> None:
    agent = tmp_path / "my agent.py"
    agent.write_text("")
    assert _inputs.split_positionals([str(agent), "hello"]) == (str(agent), ["hello"])
    assert _inputs.split_positionals(["what is in setup.py"]) == (None, ["what is in setup.py"])
    assert _inputs.split_positionals(["hello", "x.py"]) == (None, ["hello", "x.py"])
    with pytest.raises(CommandError, match=r"'missing\.py' does not exist"):
        _inputs.split_positionals(["missing.py"])
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(CommandError, match="is a directory"):
        _inputs.split_positionals([str(tmp_path / "folder.py")])
