"""A run from command line to records, with an executor that only pretends to ask a model."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import syncyte
from syncyte import cli
from syncyte.cli import _loop, _run
from syncyte.cli._inputs import Input
from syncyte.cli._output import Answered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from syncyte.cli._output import Record


class FakeExecutor:
    """Threads that answer `re: PROMPT`; prompts that start with "fail" fail, "wait" waits to be stopped."""

    def __init__(self, workers: int = 2, **setup: Any) -> None:
        self.setup = setup
        self.most_in_flight = 0
        self._queue: queue.SimpleQueue[Input | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(workers)]
        self._in_flight = 0
        self._lock = threading.Lock()

    def start(self, post: Callable[[_loop.Event], None]) -> None:
        self._post = post
        for thread in self._threads:
            thread.start()

    def submit(self, one: Input) -> None:
        with self._lock:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        self._queue.put(one)

    def stop(self) -> None:
        self._stopped.set()

    def close(self, seconds: float) -> bool:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(seconds)
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, number: int) -> None:
        while (one := self._queue.get()) is not None:
            if self._stopped.is_set():
                continue
            self._post(("started", 10 + number, one.index))
            assert one.prompt is not None
            outcome = self._answer(one.prompt)
            with self._lock:
                self._in_flight -= 1
            if outcome is not None:
                self._post(("finished", one.index, outcome | {"interpreter_id": 10 + number}))

    def _answer(self, prompt: str) -> dict[str, Any] | None:
        if prompt == "wait":
            os.kill(os.getpid(), signal.SIGINT)
            self._stopped.wait(20)
            return None
        if prompt.startswith("fail"):
            return {"error": {"type": "ValueError", "message": prompt}}
        if prompt == "odd":
            return {"text": None, "result": float("inf")}
        if prompt == "broken":
            return {"broken": "the agent file has no agent"}
        return {"text": f"re: {prompt}", "finish_reason": "stop", "usage": {"completion_tokens": 3}}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeExecutor]]:
    """The executors that a command made."""
    executors: list[FakeExecutor] = []

    def make(workers: int, **setup: Any) -> FakeExecutor:
        executors.append(FakeExecutor(workers, **setup))
        return executors[-1]

    monkeypatch.setattr(_run, "make_executor", make)
    yield executors
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def run(*arguments: str) -> int:
    try:
        return cli.main(["run", "--model", "m.gguf", *arguments])
    except SystemExit as stop:
        return int(str(stop.code))


def records(text: str) -> list[Record]:
    return sorted(map(json.loads, text.splitlines()), key=lambda record: record["index"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def test_arguments_become_records(made: list[FakeExecutor], capfd: pytest.CaptureFixture[str]) -> None:
    assert run("a", "--max-tokens", "9", "b", "--stop", "x", "--stop", "y", "--threads", "1") == 0
    captured = capfd.readouterr()
    found = records(captured.out)
    assert [record["text"] for record in found] == ["re: a", "re: b"]
    assert list(found[0]) == ["index", "prompt", "text", "finish_reason", "usage", "worker", "interpreter_id"]
    assert {record["interpreter_id"] - record["worker"] for record in found} <= {9, 10, 11}
    assert made[0].setup["sampling"] == {"max_tokens": 9, "stop": ("x", "y")}
    assert made[0].setup["model_options"] == {"threads": 1}
    assert "2 answers in" in captured.err


def test_failures_are_records_and_change_the_status(
    made: list[FakeExecutor], out: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a", "id": "x"}\n{broken\n{"prompt": "fail 2"}\n{"prompt": "odd"}\n')
    assert run("--input", str(source), "--output", str(out)) == 1
    found = records(out.read_text())
    assert [record.get("text") for record in found] == ["re: a", None, None, None]
    assert found[0]["id"] == "x"
    assert found[1]["error"]["type"] == "InputError"
    assert found[1]["line"] == 2
    assert found[2]["error"] == {"type": "ValueError", "message": "fail 2"}
    assert "cannot be JSON" in found[3]["error"]["message"]
    assert "1 answer, 3 failed" in capfd.readouterr().err
    assert len(made) == 1


def test_resume_asks_only_for_what_is_missing(made: list[FakeExecutor], out: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("a\nfail\nb\n")
    arguments = ("--input", str(source), "--output", str(out))
    assert run(*arguments) == 1
    assert run(*arguments) == 2  # answers are not overwritten unasked
    source.write_text("a\nfail\nb\nc\n")
    assert run(*arguments, "--resume") == 1
    assert [(record["index"], "error" in record) for record in records(out.read_text())] == [
        (0, False),
        (1, True),
        (2, False),
        (3, False),
    ]
    source.write_text("a\ngood\nb\nc\n")
    assert run(*arguments, "--resume") == 0
    before = out.read_bytes()
    assert run(*arguments, "--resume") == 0
    assert out.read_bytes() == before
    assert len(made) == 4


def test_a_thousand_inputs_are_never_in_flight_together(
    made: list[FakeExecutor], out: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.txt"
    source.write_text("".join(f"{'fail' if n % 20 == 0 else 'p'} {n}\n" for n in range(1000)))
    assert run("--input", str(source), "--output", str(out), "--workers", "3") == 1
    found = records(out.read_text())
    assert [record["index"] for record in found] == list(range(1000))
    assert sum("error" in record for record in found) == 50
    assert made[0].most_in_flight <= 6


def test_inputs_are_read_only_as_room_appears() -> None:
    read = 0

    def endless() -> Iterator[Input]:
        nonlocal read
        while read < 500:
            read += 1
            yield Input(read, "p")

    class Slow(FakeExecutor):
        def submit(self, one: Input) -> None:
            assert read <= one.index + 4
            super().submit(one)

    class Sink:
        def write(self, record: Record) -> None:
            pass

    executor = Slow()
    summary = _loop.Run(endless(), executor, Sink(), _loop.Display(), Answered(), window=4).go()
    assert executor.close(5)
    assert summary.answered == 500


def test_an_interrupt_keeps_what_is_done_and_says_how_to_go_on(
    made: list[FakeExecutor], out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("a", "b", "wait", "c", "--output", str(out), "--workers", "1") == 130
    assert [record["text"] for record in records(out.read_text())] == ["re: a", "re: b"]
    said = capfd.readouterr().err
    assert "stopped: 2 answers" in said
    assert f"syncyte run --resume --model m.gguf a b wait c --output {out} --workers 1" in said
    assert len(made) == 1


def test_an_agent_that_cannot_be_used_ends_the_run_at_once(
    made: list[FakeExecutor], out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("broken", "--output", str(out)) == 2
    assert "syncyte run: the agent file has no agent" in capfd.readouterr().err
    assert out.read_bytes() == b""
    assert len(made) == 1


def test_a_full_disk_ends_the_run_and_says_so(
    made: list[FakeExecutor], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("a", "b", "--output", "/dev/full") == 1
    assert "syncyte run: cannot write to /dev/full: the disk is full" in capfd.readouterr().err
    assert len(made) == 1


@pytest.mark.parametrize("data", ["", "\n \n"])
def test_an_input_without_prompts_is_no_failure(
    made: list[FakeExecutor], tmp_path: Path, data: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text(data)
    assert run("--input", str(tmp_path / "in.txt")) == 0
    assert "no prompts in the input" in capfd.readouterr().err
    assert len(made) == 1


def test_text_can_be_asked_for(made: list[FakeExecutor], capfd: pytest.CaptureFixture[str]) -> None:
    assert run("a", "--format", "text") == 0
    assert capfd.readouterr().out == "re: a\n"
    assert run("a\x1b[2J", "fail b", "--format", "text", "--quiet") == 1
    captured = capfd.readouterr()
    assert captured.out == "==> a\x1b[2J <==\nre: a\x1b[2J\n\n"
    assert captured.err == "fail b: ValueError: fail b\n"
    assert len(made) == 2


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def agent(prompt, model:\n    pass\n", ["is not Python", "line 1", "SyntaxError: "]),
        ("x = '\udcff'", ["is not Python"]),
        ("x = 1\x00", ["is not Python", "null bytes"]),
    ],
)
def test_a_file_that_is_not_python_is_refused_early(
    made: list[FakeExecutor], tmp_path: Path, source: str, said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    agent = tmp_path / "agent.py"
    agent.write_bytes(source.encode(errors="surrogateescape"))
    assert run(str(agent), "a") == 2
    text = capfd.readouterr().err
    assert all(part in text for part in said)
    assert made == []


def test_the_model_that_comes_along_is_used_when_none_is_named(
    made: list[FakeExecutor], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(syncyte, "embedded_model_path", lambda: "/embedded.gguf", raising=False)
    assert cli.main(["run", "a"]) == 0
    assert made[0].setup["model_path"] == "/embedded.gguf"

    def lacking() -> str:
        raise FileNotFoundError("it is not installed")

    monkeypatch.setattr(syncyte, "embedded_model_path", lacking)
    assert cli.main(["run", "a"]) == 2
    assert "no model: name a GGUF file with --model (it is not installed)" in capfd.readouterr().err


def test_signals_between_events_are_not_lost() -> None:
    with _loop._Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)
        with pytest.raises(_loop._StopSignal):
            signals.wait(lambda: pytest.fail("it waited"))
        assert signals.caught == signal.SIGTERM
