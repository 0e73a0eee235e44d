"""What a terminal shows of a run."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from syncyte.cli import _display, _text
from syncyte.cli._inputs import Input
from syncyte.cli._loop import Summary


def console(height: int = 20) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=80,
        height=height,
        color_system=None,
        legacy_windows=False,
    )


def screen(display: _display.RichDisplay) -> str:
    """What the live part shows now."""
    target = console()
    with target.capture() as capture:
        target.print(display._rows(), display._totals())
    return capture.get()


def printed(display: _display.RichDisplay) -> str:
    file = display._console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def record(**more: Any) -> dict[str, Any]:
    return {"index": 0, "prompt": "Tell me\na joke", "worker": 0, "interpreter_id": 4} | more


def test_each_worker_has_a_row_and_the_totals_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_display, "private_megabytes", lambda: 123.4)
    display = _display.RichDisplay(console(), show_answers=True)
    display.begin(3, 10)
    display.started(0, Input(0, "first prompt"))
    display.started(1, Input(1, "second\nprompt"))
    display.text(1, "some words\nof an answer", 5)
    summary = Summary()
    summary.answered, summary.failed, summary.skipped, summary.in_flight = 2, 1, 1, 6
    display.tick(summary)
    shown = screen(display).splitlines()
    display.end()
    assert shown[0].startswith("worker 0 first prompt")
    assert "thinking" in shown[0]
    assert "second prompt" in shown[1]
    assert "some words of an answer" in shown[1]
    assert "idle" in shown[2]
    for part in ("4 of 10 done", "1 skipped", "1 failed", "4 queued", "tokens/s", "123 MB private"):
        assert part in " ".join(shown[3:])


def test_long_answers_end_with_what_came_last_within_the_screen() -> None:
    display = _display.RichDisplay(console(), show_answers=True)
    display.begin(2, None)
    display.started(0, Input(0, "p" * 300))
    display.text(0, "日本語 " * 500 + "the end", 1)
    shown = screen(display)
    display.end()
    assert "the end" in shown
    assert "…" in shown
    assert len(shown.splitlines()) == 3


def test_a_single_worker_shows_the_end_of_its_answer_as_a_paragraph() -> None:
    display = _display.RichDisplay(console(height=10), show_answers=True)
    display.begin(1, 1)
    display.started(0, Input(0, "prompt"))
    display.text(0, "".join(f"line {n}\n" for n in range(30)) + "last", 31)
    shown = screen(display)
    display.end()
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[1:-1] == [*(f"line {n}" for n in range(25, 30)), "last"]
    assert len(shown.splitlines()) <= 9


def test_many_workers_do_not_fill_the_screen() -> None:
    display = _display.RichDisplay(console(), show_answers=True)
    display.begin(100, None)
    shown = screen(display)
    display.end()
    assert "and 84 more workers" in shown


def test_answers_are_blocks_with_their_prompt() -> None:
    display = _display.RichDisplay(console(), show_answers=True)
    usage = {"completion_tokens": 7}
    display.finished(0, record(text="Why?\n[bold]not markup[/]\x1b[2J", finish_reason="stop", usage=usage))
    shown = printed(display)
    assert "Tell me a joke ───" in shown
    assert "  Why?" in shown
    assert "[bold]not markup[/]\\x1b[2J" in shown
    assert "stop · 7 tokens · worker 0 · interpreter 4" in shown


def test_values_are_shown_as_json_and_errors_with_the_users_lines() -> None:
    display = _display.RichDisplay(console(), show_answers=True)
    display.finished(0, record(text=None, result={"a": [1]}))
    error = {"type": "KeyError", "message": "'x'", "traceback": '  File "a.py", line 3, in agent'}
    display.finished(1, record(error=error))
    shown = printed(display)
    assert '"a": [' in shown
    assert 'File "a.py", line 3, in agent' in shown
    assert "KeyError: 'x'" in shown


def test_with_a_file_only_failures_are_named() -> None:
    display = _display.RichDisplay(console(), show_answers=False)
    display.finished(0, record(text="secret"))
    display.finished(0, record(error={"type": "E", "message": "m", "traceback": "t"}, id="x9"))
    assert [line.strip() for line in printed(display).splitlines()] == ["id x9 E: m"]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(4.23, "4.2 s"), (187, "3:07"), (3723, "1:02:03"), (59.99, "60.0 s")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert _display.duration(seconds) == shown


def test_control_characters_cannot_steer_a_terminal() -> None:
    assert _text.printable("a\tb\nc\x1b]0;x\x07\x9bd\r") == "a\tb\nc\\x1b]0;x\\x07\\x9bd\\x0d"
