"""Conversations: what the model is asked, what is kept, and what a pipe gets."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from syncyte import cli
from syncyte.cli import _chat, _models
from syncyte.cli._conversation import Conversation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class FakeStream:
    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self.closed = False

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def close(self) -> None:
        self.closed = True


class FakeModel:
    """Answers `re: WHAT WAS SAID` word by word; a token is a word."""

    def __init__(self, context_length: int = 100) -> None:
        self.info = SimpleNamespace(
            context_length=context_length, architecture="fake", has_chat_template=True, parameters=5
        )
        self.asked: list[list[str]] = []
        self.options: dict[str, Any] = {}
        self.streams: list[FakeStream] = []

    def tokenize(self, text: str, *, add_special: bool = True) -> list[int]:
        return [1] * (len(text.split()) + add_special)

    def chat_tokens(self, messages: list[dict[str, str]]) -> list[int]:
        return [token for message in messages for token in self.tokenize(message["content"])]

    def stream_chat(self, messages: list[dict[str, str]], **options: Any) -> FakeStream:
        self.asked.append([message["content"] for message in messages])
        self.options = options
        self.streams.append(FakeStream(self._pieces(messages[-1]["content"])))
        return self.streams[-1]

    def _pieces(self, said: str) -> Iterator[str]:
        if said == "too long":
            raise ValueError("the prompt is too long")
        if said == "silence":
            return
        yield "re:"
        if said == "stop me":
            raise KeyboardInterrupt
        for word in said.split(" "):
            yield " " + word


def ask(talk: Conversation, text: str) -> str:
    talk.say(text)
    return "".join(talk.answer())


def test_the_model_sees_the_whole_conversation() -> None:
    model = FakeModel()
    talk = Conversation(model, "be kind", {"temperature": 0})  # type: ignore[arg-type]
    assert ask(talk, "a b") == "re: a b"
    assert ask(talk, "c") == "re: c"
    assert model.asked == [["be kind", "a b"], ["be kind", "a b", "re: a b", "c"]]
    assert model.options == {"max_tokens": 33, "temperature": 0}
    talk.reset()
    ask(talk, "d")
    assert model.asked[-1] == ["be kind", "d"]
    figures = dict(talk.figures())
    assert figures["answers"] == "3 with 7 tokens"
    assert figures["context"] == "8 of 100 tokens used (3 messages)"


def test_the_oldest_turns_go_when_the_context_is_full() -> None:
    model = FakeModel(context_length=30)
    talk = Conversation(model, "be kind", {"max_tokens": 10})  # type: ignore[arg-type]
    for turn in range(3):
        assert talk.say(f"turn {turn} has words") == (2 if turn == 2 else 0)
        list(talk.answer())
    assert model.asked[-1] == [
        "be kind",
        "turn 1 has words",
        "re: turn 1 has words",
        "turn 2 has words",
    ]


def test_what_was_said_before_a_stop_is_kept_and_failures_are_taken_back() -> None:
    model = FakeModel()
    talk = Conversation(model, None, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="too long"):
        ask(talk, "too long")
    with pytest.raises(KeyboardInterrupt):
        ask(talk, "stop me")
    assert ask(talk, "silence") == ""
    ask(talk, "on")
    assert model.asked[-1] == ["stop me", "re:", "on"]
    assert all(stream.closed for stream in model.streams)


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, FakeModel]]:
    """Runs the command on lines of a pipe; gives its status and the model."""

    def run(lines: str, *arguments: str) -> tuple[int, FakeModel]:
        model = FakeModel()
        monkeypatch.setattr(_models, "load", lambda _path, _options: model)
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        return cli.main(["chat", "--model", "m.gguf", *arguments]), model

    return run


def test_a_pipe_gets_answers_alone(
    chat: Callable[..., tuple[int, FakeModel]], capsys: pytest.CaptureFixture[str]
) -> None:
    status, model = chat("hello\n\n/reset\nbye", "--system", "be kind", "--seed", "3")
    assert status == 0
    assert capsys.readouterr() == ("re: hello\nre: /reset\nre: bye\n", "")
    assert model.options["seed"] == 3
    assert model.asked[-1][0] == "be kind"


def test_a_failed_turn_does_not_end_a_pipe(
    chat: Callable[..., tuple[int, FakeModel]], capsys: pytest.CaptureFixture[str]
) -> None:
    status, _ = chat("a\ntoo long\nbad \udcff\nb\n")
    assert status == 1
    captured = capsys.readouterr()
    assert captured.out == "re: a\nre: b\n"
    assert captured.err == (
        "syncyte chat: the prompt is too long\nsyncyte chat: that line is not valid UTF-8\n"
    )


def test_commands_complete() -> None:
    assert [_chat._complete("/re", n) for n in range(2)] == ["/reset", None]
    assert _chat._complete("", 0) is None
