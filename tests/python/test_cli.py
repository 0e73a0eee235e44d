"""The command line as a whole: which command, help, what is said about a mistyped word."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from syncyte import cli


def status_of(*arguments: str) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        return int(str(stop.code))


def test_no_command_shows_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of() == 2
    assert "commands:" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_lists_every_command(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(word) == 0
    text = capsys.readouterr().out
    assert all(f"  {name}" in text for name in cli.commands)


@pytest.mark.parametrize("name", list(cli.commands))
@pytest.mark.parametrize("form", [("{}", "--help"), ("help", "{}")])
def test_every_command_has_help_worth_reading(
    name: str, form: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*(word.format(name) for word in form)) == 0
    text = capsys.readouterr().out
    for part in ("usage: syncyte " + name, "examples:", "exit status:", "--help"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rum"], "unknown command 'rum': did you mean 'run'?"),
        (["--verison"], "unknown option '--verison': did you mean '--version'?"),
        (["xyzzy"], "unknown command 'xyzzy'\n"),
        (["run", "hello", "--max-tokn", "3"], "unknown option '--max-tokn': did you mean '--max-tokens'?"),
        (["run", "hello", "--workres=3"], "unknown option '--workres': did you mean '--workers'?"),
        (["run", "hello", "--max-tokens", "0"], "max_tokens has to be at least 1, not 0"),
        (["run", "hello", "--max-tokens", "many"], "'many' is not a whole number"),
        (["run", "hello", "--top-p", "1.5"], "top_p has to be from 0 to 1, not 1.5"),
        (["run", "hello", "--temperature", "nan"], "temperature has to be at least 0"),
        (["run", "hello", "--workers", "0"], "it has to be at least 1"),
        (["run", "hello", "--timeout", "0"], "it has to be above 0"),
        (["run", "hello", "--stop", ""], "would stop every answer at once"),
        (["run", "-prompt"], "a prompt that starts with '-' goes after `--`"),
        (["run", "hello", "--resume"], "--resume needs --output FILE"),
        (["run", "hello", "--raw", "--system", "be kind"], "leave out --system or --raw"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_standard_output_leaves_no_traceback(unbuffered: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "syncyte.cli", "run", "--help"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        timeout=60,
        check=False,
    )
    os.close(write_end)
    assert done.stderr == b""
    assert done.returncode in (0, 141)
