"""`syncyte run` and `syncyte chat` as a user starts them: processes, signals, kills, full disks."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = [sys.executable, "-m", "syncyte.cli"]
LIMIT = 120  # seconds; nothing here takes more than a few on an idle machine

type Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Run:
    """Runs `syncyte run` with the tiny model, in a folder of its own."""

    def start(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        model = ["--model", str(tiny_model), "--threads", "1", "--max-tokens", "4"]
        return subprocess.run(
            [*COMMAND, "run", *map(str, arguments), *model],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            cwd=tmp_path,
            **{"stdin": subprocess.DEVNULL} | options,
        )

    return start


@pytest.fixture
def agent(tmp_path: Path) -> Callable[[str], Path]:
    """Writes agent.py with the given body of agent(prompt, model), or a whole file."""

    def write(source: str) -> Path:
        file = tmp_path / "agent.py"
        if "def agent" not in source:
            source = "def agent(prompt, model):\n" + "".join(f"    {line}\n" for line in source.split("\n"))
        file.write_text(source)
        return file

    return write


def records(text: str) -> list[dict[str, Any]]:
    return sorted(map(json.loads, text.splitlines()), key=lambda record: record["index"])


def test_prompts_go_through_several_interpreters_of_one_process(run: Run) -> None:
    done = run(*(f"prompt {n}" for n in range(12)), "--workers", "4", "--temperature", "0")
    assert done.returncode == 0, done.stderr
    found = records(done.stdout)
    assert [record["prompt"] for record in found] == [f"prompt {n}" for n in range(12)]
    for record in found:
        assert record["finish_reason"] in ("stop", "length")
        assert record["usage"]["prompt_tokens"] > 0
        assert 0 <= record["usage"]["completion_tokens"] <= 4
        assert record["timings"]["total"] > 0
    assert len({record["interpreter_id"] for record in found}) == len({record["worker"] for record in found})
    assert all(record["interpreter_id"] != 0 for record in found)


def test_answers_that_have_to_be_something(run: Run, tmp_path: Path) -> None:
    done = run("one", "two", "--choices", "yes,no")
    assert done.returncode == 0, done.stderr
    assert {record["text"] for record in records(done.stdout)} <= {"yes", "no"}
    (tmp_path / "schema.json").write_text('{"enum": [7]}')
    (tmp_path / "words.gbnf").write_text('root ::= "word"')
    assert records(run("one", "--json-schema", "schema.json").stdout)[0]["text"] == "7"
    (tmp_path / "in.jsonl").write_text('{"prompt": "a", "choices": ["mine"]}\n{"prompt": "b"}\n')
    done = run("--input", "in.jsonl", "--grammar", "words.gbnf")
    assert [record["text"] for record in records(done.stdout)] == ["mine", "word"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"type": 3}', "keyword 'type' has 3"),
        ("{", "Expecting property name"),
        ('{"not": {}}', "keyword 'not' cannot be expressed"),
    ],
)
def test_a_schema_that_cannot_be_used_is_a_wrong_command_line(
    run: Run, tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "schema.json").write_text(content)
    done = run("one", "--json-schema", "schema.json")
    assert done.returncode == 2
    assert said in done.stderr
    assert run("one", "--grammar", "schema.json").returncode == 2
    assert run("one", "--grammar", "no such file").returncode == 2


def test_greedy_answers_do_not_depend_on_the_workers(run: Run) -> None:
    prompts = [f"prompt {n}" for n in range(6)]
    texts = []
    for workers in ("1", "3"):
        done = run(*prompts, "--workers", workers, "--temperature", "0")
        texts.append([record["text"] for record in records(done.stdout)])
    assert texts[0] == texts[1]


def test_an_agent_returns_what_it_likes_and_prints_where_it_does_no_harm(
    run: Run, agent: Callable[[str], Path]
) -> None:
    source = (
        "print('noise from', prompt)\n"
        "if prompt == 'text': return 'plain'\n"
        "if prompt == 'value': return {'n': [1, 2.5], 'model': type(model).__name__}\n"
        "if prompt == 'twice': model.generate('a'); return model.generate('b')\n"
        "return ''.join(model.stream('c', max_tokens=2))"
    )
    done = run(agent(source), "text", "value", "twice", "stream")
    assert done.returncode == 0, done.stderr
    text, value, twice, stream = records(done.stdout)
    assert (text["text"], text["usage"], text["finish_reason"]) == ("plain", None, None)
    assert value["result"]["n"] == [1, 2.5]
    assert value["text"] is None
    assert twice["usage"]["completion_tokens"] >= 0
    assert twice["usage"]["prompt_tokens"] == 2 * stream["usage"]["prompt_tokens"]
    assert "noise from text" in done.stderr


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("raise KeyError(prompt)", "KeyError", "'p'"),
        ("import sys; sys.exit(3)", "SystemExit", "the agent called sys.exit(3)"),
        ("return agent(prompt, model)", "RecursionError", "maximum recursion depth exceeded"),
        ("return lambda: 1", "TypeError", "is a function, which cannot leave its interpreter"),
        ("return model.generate('x ' * 5000)", "ValueError", "context"),
        ("return model.generate('x', max_tokens=0)", "ValueError", "max_tokens"),
        ("import _tracemalloc", "ImportError", "_tracemalloc cannot be imported by an agent"),
    ],
)
def test_a_failing_agent_is_an_error_line_with_its_own_lines(
    run: Run, agent: Callable[[str], Path], body: str, kind: str, said: str
) -> None:
    done = run(agent(f"if prompt == 'ok': return 'fine'\n{body}"), "p", "ok")
    assert done.returncode == 1
    failed, fine = records(done.stdout)
    assert fine["text"] == "fine"
    assert failed["error"]["type"] == kind
    assert said in failed["error"]["message"]
    if kind != "TypeError":
        assert 'agent.py", line ' in failed["error"]["traceback"]
    assert "syncyte/cli" not in done.stdout + done.stderr
    assert "first failure: input 0" in done.stderr


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_of_this_name\ndef agent(p, m): ...\n", "No module named 'nothing_of_this_name'"),
        ("def agents(p, m): ...\n", "has no function agent(prompt, model)"),
        ("1 / 0\ndef agent(p, m): ...\n", "ZeroDivisionError: division by zero"),
    ],
)
def test_an_agent_file_that_cannot_be_used_stops_the_run(
    run: Run, tmp_path: Path, source: str, said: str
) -> None:
    (tmp_path / "agent.py").write_text(source)
    done = run("agent.py", "a", "b", "c", "--output", "out.jsonl")
    assert done.returncode == 2
    assert said in done.stderr
    assert "syncyte/" not in done.stderr
    assert (tmp_path / "out.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hello", "--model", "gone.gguf"], "gone.gguf"),
        (["hello", "--model", "."], "."),
        (["gone.py"], "'gone.py' does not exist"),
        (["--input", "gone.txt"], "there is no input file 'gone.txt'"),
        (["hello", "--output", "gone/out.jsonl"], "the folder gone does not exist"),
    ],
)
def test_what_is_missing_is_named(tiny_model: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    if "--model" not in arguments:
        arguments = [*arguments, "--model", str(tiny_model)]
    done = subprocess.run(
        [*COMMAND, "run", *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_long_prompt_names_both_lengths(run: Run) -> None:
    done = run("word " * 3000, "short", "--raw")
    assert done.returncode == 1
    failed, fine = records(done.stdout)
    assert "context" in failed["error"]["message"]
    assert any(character.isdigit() for character in failed["error"]["message"])
    assert "text" in fine


def test_a_thousand_prompts_one_in_twenty_failing(
    run: Run, agent: Callable[[str], Path], tmp_path: Path
) -> None:
    source = "if int(prompt) % 20 == 7: raise ValueError(prompt)\nreturn model.generate(prompt)"
    (tmp_path / "in.txt").write_text("".join(f"{n}\n" for n in range(1000)))
    done = run(agent(source), "--input", "in.txt", "--output", "out.jsonl", "--workers", "4")
    assert done.returncode == 1
    found = records((tmp_path / "out.jsonl").read_text())
    assert [record["index"] for record in found] == list(range(1000))
    assert sum("error" in record for record in found) == 50
    assert "950 answers, 50 failed" in done.stderr


@pytest.mark.parametrize("stuck", ["pass", "import time; time.sleep(60)"])
def test_an_agent_that_takes_too_long_fails_its_input_alone(
    run: Run, agent: Callable[[str], Path], stuck: str
) -> None:
    source = agent(f"while prompt == 'stuck': {stuck}\nreturn prompt")
    begin = time.monotonic()
    done = run(source, "a", "stuck", "b", "c", "--timeout", "1", "--workers", "1")
    assert time.monotonic() - begin < 30
    assert done.returncode == 1, done.stderr
    found = records(done.stdout)
    assert [record.get("text") for record in found] == ["a", None, "b", "c"]
    assert found[1]["error"]["type"] == "TimeoutError"
    assert found[1]["interpreter_id"] == found[0]["interpreter_id"]


def test_the_example_agent_works_out_sums(run: Run) -> None:
    example = Path(__file__).parents[2] / "examples" / "agent.py"
    done = run(example, "What is 17 * 23?", "Tell me a joke")
    assert done.returncode == 0, done.stderr
    figures, joke = (record["result"] for record in records(done.stdout))
    assert figures == {"answer": 391, "by": "arithmetic"}
    assert joke["by"] == "model"


def test_an_agent_may_change_the_working_directory(run: Run, agent: Callable[[str], Path]) -> None:
    source = "import os\nos.chdir('/')\ndef agent(prompt, model): return prompt\n"
    agent(source)
    done = run("agent.py", *"abcdef", "--workers", "4")
    assert done.returncode == 0, done.stderr


def test_threads_that_an_agent_leaves_are_waited_for(run: Run, agent: Callable[[str], Path]) -> None:
    source = "import threading, time\nthreading.Thread(target=time.sleep, args=(4,)).start()\nreturn prompt"
    done = run(agent(source), "a")
    assert done.returncode == 0
    assert records(done.stdout)[0]["text"] == "a"
    assert "waiting for threads that agents left running" in done.stderr


def start(tmp_path: Path, model: Path, *arguments: str) -> subprocess.Popen[str]:
    options = ["--model", str(model), "--threads", "1", "--workers", "2", "--output", "out.jsonl"]
    return subprocess.Popen(
        [*COMMAND, "run", *arguments, *options],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )


def wait_for_lines(path: Path, count: int) -> None:
    end = time.monotonic() + LIMIT
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < end, "no answers came"
        time.sleep(0.01)


ENDLESS = "import time\ndef agent(p, m):\n    {}\n    return p\n"


@pytest.mark.parametrize(
    "busy", ["while p == '5': pass", "while p == '5': m.generate('x', max_tokens=400, ignore_eos=True)"]
)
def test_ctrl_c_keeps_what_is_done_and_ends_soon(
    agent: Callable[[str], Path], tiny_model: Path, tmp_path: Path, busy: str
) -> None:
    agent(ENDLESS.format(busy))
    process = start(tmp_path, tiny_model, "agent.py", *map(str, range(9)))
    out = tmp_path / "out.jsonl"
    wait_for_lines(out, 8)
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    _, said = process.communicate(timeout=LIMIT)
    assert time.monotonic() - begin < 10
    assert process.returncode == 130
    assert "stopped: 8 answers" in said
    assert "syncyte run --resume agent.py 0 1" in said
    assert "Traceback" not in said
    assert [record["index"] for record in records(out.read_text())] == [0, 1, 2, 3, 4, 6, 7, 8]


def test_a_killed_run_is_taken_up_where_it_ended(
    run: Run, agent: Callable[[str], Path], tiny_model: Path, tmp_path: Path
) -> None:
    agent("import time; time.sleep(0.02)\nreturn prompt")
    (tmp_path / "in.txt").write_text("".join(f"{n}\n" for n in range(100)))
    process = start(tmp_path, tiny_model, "agent.py", "--input", "in.txt")
    out = tmp_path / "out.jsonl"
    wait_for_lines(out, 10)
    process.kill()
    process.communicate(timeout=LIMIT)
    kept = out.read_bytes()
    out.write_bytes(kept[:-9])  # as if the kill had come in the middle of a line
    done = run("agent.py", "--input", "in.txt", "--output", "out.jsonl", "--resume")
    assert done.returncode == 0, done.stderr
    found = records(out.read_text())
    assert [record["index"] for record in found] == list(range(100))
    assert out.read_bytes().startswith(kept[: kept[:-9].rindex(b"\n") + 1])
    assert "answered before" in done.stderr


def test_input_from_a_pipe_is_answered_as_it_comes(tiny_model: Path, tmp_path: Path) -> None:
    process = start(tmp_path, tiny_model, "--max-tokens", "2")
    assert process.stdin is not None
    out = tmp_path / "out.jsonl"
    for count in (1, 2, 3):
        process.stdin.write(f"line {count}\n")
        process.stdin.flush()
        wait_for_lines(out, count)
    process.communicate(timeout=LIMIT)
    assert process.returncode == 0


def test_a_full_disk_ends_the_run_with_what_was_written(run: Run) -> None:
    done = run("a", "b", "--output", "/dev/full")
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr


def test_whoever_reads_may_leave_early(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("".join(f"{n}\n" for n in range(2000)))
    command = [*COMMAND, "run", "--input", "in.txt", "--model", str(tiny_model), "--threads", "1"]
    with subprocess.Popen(
        [*command, "--max-tokens", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["finish_reason"]
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=LIMIT) == 141


# Its standard input becomes the terminal that Ctrl-C comes from.
ON_THIS_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def terminal(arguments: list[str], steps: list[tuple[str, bytes]], cwd: Path) -> tuple[str, int]:
    """Runs Python on a terminal; sends each step's bytes once its pattern has appeared since the last."""
    descriptor, its_end = pty.openpty()
    # Not pty.fork(), which Python warns of beside threads, such as other tests may have left for a moment.
    child = subprocess.Popen(
        [sys.executable, "-c", ON_THIS_TERMINAL, *arguments],
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        cwd=cwd,
        env={**os.environ, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(its_end)
    shown, seen, sent, when = b"", 0, b"", 0.0
    end = time.monotonic() + LIMIT
    pending = list(steps)
    while True:
        if time.monotonic() > end:
            child.kill()
            child.wait()
            os.close(descriptor)
            pytest.fail(shown.decode(errors="replace"))
        if select.select([descriptor], [], [], 0.1)[0]:
            try:
                part = os.read(descriptor, 4096)
            except OSError:
                break
            if not part:
                break
            shown += part
        if pending and re.search(pending[0][0].encode(), shown[seen:], re.DOTALL):
            seen = len(shown)
            sent, when = pending.pop(0)[1], time.monotonic()
            os.write(descriptor, sent)
        elif pending and sent == b"\x03" and time.monotonic() > when + 2:
            # Python's input() misses a Ctrl-C that comes between its prompt and its wait for a key.
            when = time.monotonic()
            os.write(descriptor, sent)
    status = child.wait(LIMIT)
    os.close(descriptor)
    assert not pending, (pending, shown.decode(errors="replace"))
    return shown.decode(errors="replace"), status


def test_a_terminal_shows_answers_with_their_prompts(
    agent: Callable[[str], Path], tiny_model: Path, tmp_path: Path
) -> None:
    agent("print('a note')\nmodel.generate(prompt)\nreturn prompt.upper()")
    arguments = [
        "-m",
        "syncyte.cli",
        "run",
        "agent.py",
        "one",
        "two",
        "--model",
        str(tiny_model),
        "--threads",
        "1",
    ]
    shown, status = terminal(arguments, [], tmp_path)
    assert status == 0, shown
    for part in ("ONE", "TWO", "a note", "worker 0", "interpreter"):
        assert part in shown
    assert "2 answers in" in shown


def test_chat_on_a_terminal(tiny_model: Path, tmp_path: Path) -> None:
    steps = [
        ("you>", b"hello\r"),
        ("you>", b"/stats\r"),
        ("context.*you>", b"/hepl\r"),
        ("did you mean '/help'.*you>", b"/reset\r"),
        ("a new conversation.*you>", b"\x03"),
        ("Ctrl-D or /exit leaves.*you>", b"\x04"),  # before line editing is on, it would be lost
    ]
    arguments = [
        "-m",
        "syncyte.cli",
        "chat",
        "--model",
        str(tiny_model),
        "--threads",
        "1",
        "--max-tokens",
        "3",
    ]
    shown, status = terminal(arguments, steps, tmp_path)
    assert status == 0, shown
    assert "512 tokens of context" in shown
    assert "Traceback" not in shown


SLOW_CHAT = """\
import sys, time
from types import SimpleNamespace
from syncyte import cli
from syncyte.cli import _models

class Stream:
    def __init__(self): self.words = iter("word" for _ in range(10_000))
    def __iter__(self): return self
    def __next__(self): time.sleep(0.01); return next(self.words)
    def close(self): pass

class Model:
    info = SimpleNamespace(context_length=512, architecture="slow", has_chat_template=True)
    def tokenize(self, text, add_special=True): return [1]
    def chat_tokens(self, messages): return [1] * len(messages)
    def stream_chat(self, messages, **options): return Stream()

_models.load = lambda path, options: Model()
sys.exit(cli.main(["chat", "--model", "slow.gguf"]))
"""


def test_ctrl_c_stops_an_answer_and_not_the_chat(tmp_path: Path) -> None:
    (tmp_path / "slow_chat.py").write_text(SLOW_CHAT)
    steps = [
        ("you>", b"hello\r"),
        ("wordword", b"\x03"),
        (r"\(stopped\).*you>", b"/stats\r"),
        (r"\(2 messages\).*you>", b"/exit\r"),
    ]
    shown, status = terminal([str(tmp_path / "slow_chat.py")], steps, tmp_path)
    assert status == 0, shown


def test_chat_from_a_pipe_prints_answers_alone(tiny_model: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "chat", "--model", str(tiny_model), "--threads", "1", "--max-tokens", "2"],
        input="hello\nand now\n",
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "you>" not in done.stdout
    assert done.stderr == ""


def test_version_names_the_parts() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, timeout=LIMIT, check=True)
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["syncyte", "CPython", "libllama", "ggml"]
    assert all(line.split()[1][0].isdigit() for line in done.stdout.splitlines())
