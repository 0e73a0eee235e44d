"""Tools within conversations: calls, their results, what is reused, forks and files."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from tiny_gguf import CHAT_TEMPLATE, write_tiny_gguf

import syncyte

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
STOP: dict[str, Any] = {"type": "function", "function": {"name": "stop"}}
# Tells of tools itself, and words calls otherwise than the model does.
KNOWING = (
    "{% if tools %}TOOLS {{ tools | tojson }}<tool_call>{% endif %}"
    "{% for m in messages %}{{ m.role }}:{{ m.content }}"
    "{% for call in m.tool_calls %}CALL {{ call.function | tojson }}{% endfor %};{% endfor %}assistant:"
)
# Wants results to come right after calls.
STRICT = KNOWING.replace(
    "{{ m.role }}",
    "{% set last = messages[loop.index0 - 1] %}"
    "{% if m.role == 'tool' and last.role != 'tool' and not last.tool_calls %}"
    "{{ raise_exception('no call') }}{% endif %}{{ m.role }}",
)


@pytest.fixture(params=[CHAT_TEMPLATE, KNOWING, STRICT], ids=["plain", "knowing", "strict"])
def model(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[syncyte.Model]:
    path = write_tiny_gguf(tmp_path / "m.gguf", context_length=4096, chat_template=request.param)
    with syncyte.Model(path, threads=1, max_sequences=4, context_length=4096) as opened:
        yield opened


def strict(model: syncyte.Model) -> bool:
    return "no call" in str(model._info()["chat_template"])


def call_and_answer(session: syncyte.Session, seed: int) -> tuple[syncyte.Completion, syncyte.Completion]:
    called = session.send("hello", tool_choice="required", seed=seed, max_tokens=300)
    assert called.finish_reason == "tool_calls"
    results = [call.result({"degrees": 20 + seed}) for call in called.tool_calls]
    answered = session.send(results, tool_choice="none", seed=seed, max_tokens=20, ignore_eos=True)
    return called, answered


def test_calls_and_results_and_what_is_reused(model: syncyte.Model) -> None:
    session = model.session(system="kind", tools=[WEATHER, STOP])
    assert [tool["function"]["name"] for tool in session.tools] == ["weather", "stop"]
    ids: list[str] = []
    for seed in range(3):
        called, answered = call_and_answer(session, seed)
        ids += [call.id for call in called.tool_calls]
        assert all(call.arguments["city"] in ("Rome", "Oslo") for call in called.tool_calls if call.arguments)
        assert answered.tool_calls == []
        if not strict(model):
            # All that was computed: the prompt and the calls as they were written, but for the last token.
            whole = called.usage.prompt_tokens + called.usage.completion_tokens
            assert answered.usage.reused_tokens >= whole - 1
            assert answered.usage.computed_tokens < answered.usage.prompt_tokens
    assert len(set(ids)) == len(ids)
    roles = [message["role"] for message in session.messages]
    assert roles[:3] == ["system", "user", "assistant"]
    assert roles.count("tool") == len(ids)
    assert len(session) == 6
    # The messages are those of a chat.
    assert model.chat(
        [*session.messages, {"role": "user", "content": "on"}], max_tokens=2, ignore_eos=True
    ).tokens
    session.messages[2]["tool_calls"][0]["id"] = "changed"
    assert session.messages[2]["tool_calls"][0]["id"] == ids[0]


def test_tools_stay_until_others_come(model: syncyte.Model) -> None:
    session = model.session(max_tokens=300)
    assert session.tools == []
    with pytest.raises(ValueError, match="tool_choice without tools"):
        session.send("hello", tool_choice="required")
    assert session.send("hello", tools=[STOP], tool_choice="required").tool_calls[0].name == "stop"
    assert session.send("hello", tool_choice="required").tool_calls[0].name == "stop"
    assert session.send("hello", tools=[WEATHER], tool_choice="required").tool_calls[0].name == "weather"
    assert session.send("hello", tools=[], max_tokens=5).tool_calls == []
    assert session.tools == []
    with pytest.raises(ValueError, match="tool_choice without tools"):
        session.send("hello", tool_choice="required")
    session.rewind(4)
    assert session.messages == []


def test_forks_and_files_know_tools(model: syncyte.Model, tmp_path: Path) -> None:
    session = model.session(tools=[WEATHER, STOP])
    call_and_answer(session, 1)
    called = session.send("more", tool_choice="required", seed=7, max_tokens=300)
    session.save(tmp_path / "talk.json")
    copies = [session, session.fork(), model.load_session(tmp_path / "talk.json")]
    results = [call.result("fine") for call in called.tool_calls]
    answers = [copy.send(results, temperature=0, tool_choice="none", max_tokens=12) for copy in copies]
    assert len({answer.text for answer in answers}) == 1
    assert copies[0].messages == copies[1].messages == copies[2].messages
    assert copies[2].tools == session.tools
    if not strict(model):
        whole = called.usage.prompt_tokens + called.usage.completion_tokens
        assert all(answer.usage.reused_tokens >= whole - 1 for answer in answers)
    session.rewind(3)
    assert call_and_answer(session, 2)[0].tool_calls


def test_streams_and_asyncio(model: syncyte.Model) -> None:
    options: dict[str, Any] = {"tool_choice": "required", "seed": 5, "max_tokens": 300}
    session = model.session(tools=[WEATHER])
    forks = [session.fork() for _ in range(3)]
    made = session.send("hello", **options)
    stream = forks[0].stream("hello", **options)
    assert "<tool_call>" in "".join(stream)
    assert stream.completion.tool_calls == made.tool_calls

    async def talk() -> None:
        assert (await forks[1].asend("hello", **options)).tool_calls == made.tool_calls
        pieces = forks[2].astream("hello", **options)
        assert "<tool_call>" in "".join([piece async for piece in pieces])
        assert pieces.completion.tool_calls == made.tool_calls
        result = made.tool_calls[0].result("sun")
        assert len((await forks[2].asend(result, max_tokens=4, ignore_eos=True)).tokens) == 4

    asyncio.run(talk())
    assert session.messages == forks[0].messages == forks[1].messages == forks[2].messages[:2]


def test_what_cannot_be_said(model: syncyte.Model) -> None:
    session = model.session(tools=[WEATHER], max_tokens=300)
    result = {"role": "tool", "tool_call_id": "call_0", "content": "sun"}
    with pytest.raises(ValueError, match="called no tool"):
        session.send(result)
    made = session.send("hello", tool_choice="required", parallel_tool_calls=False)
    before = session.messages
    with pytest.raises(ValueError, match="made no call 'call_9', only call_0"):
        session.send([{**result, "tool_call_id": "call_9"}])
    with pytest.raises(ValueError, match="not 'assistant'"):
        session.send([{"role": "assistant", "content": "I said so"}])
    with pytest.raises(ValueError, match="come from the model"):
        session.send([{"role": "user", "content": "x", "tool_calls": [made.tool_calls[0].as_message()]}])
    with pytest.raises(ValueError, match="messages is empty"):
        session.send([])
    with pytest.raises(TypeError, match="what is said must be str"):
        session.send(b"hello")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tools and json_object"):
        session.send(result, json_object=True)
    with pytest.raises(ValueError, match="none of the tools"):
        session.send(result, tool_choice={"function": {"name": "stop"}})
    with pytest.raises(ValueError, match="two of the tools"):
        session.send(result, tools=[STOP, STOP])
    with pytest.raises(TypeError, match="tools must be"):
        model.session(tools="weather")  # type: ignore[arg-type]
    assert session.messages == before
    assert [tool["function"]["name"] for tool in session.tools] == ["weather"]
    # Random weights may never end a free object: its beginning is looked at, and another one is said whole.
    begun = session.fork().send(result, tool_choice="none", json_object=True, max_tokens=8)
    assert begun.text.startswith("{")
    said = session.send(result, tool_choice="none", json_schema={"const": {"sky": "sun"}})
    assert json.loads(said.text) == {"sky": "sun"}
    assert len(session) == 2


def test_results_are_text_or_json() -> None:
    call = syncyte.ToolCall("call_3", "weather", {"city": "Rome"})
    assert call.result("sun") == {
        "role": "tool",
        "tool_call_id": "call_3",
        "name": "weather",
        "content": "sun",
    }
    assert call.result({"é": [1, None]})["content"] == '{"é": [1, null]}'
    with pytest.raises(TypeError, match="not JSON serializable"):
        call.result(object())


def test_answers_that_overlap_are_both_told(model: syncyte.Model) -> None:
    session = model.session(max_tokens=12, temperature=0, ignore_eos=True)
    stream = session.stream("one")
    first = next(stream)
    session.send("two")
    rest = "".join(stream)
    assert [message["content"] for message in session.messages if message["role"] == "user"] == ["two", "one"]
    assert session.messages[-1]["content"] == first + rest
    asked = session._question("three", None)
    assert asked.prompt == model.chat_tokens([*session.messages, {"role": "user", "content": "three"}])


class Failing:
    """A stream that fails after a piece."""

    def __init__(self) -> None:
        self.pieces = ["piece"]

    def __next__(self) -> str:
        if self.pieces:
            return self.pieces.pop()
        raise syncyte.OverloadedError("no room")

    async def __anext__(self) -> str:
        return self.__next__()

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def test_an_answer_that_fails_on_its_way_was_never_said(model: syncyte.Model) -> None:
    session = model.session(max_tokens=4, ignore_eos=True)
    session.send("hello")
    before = session.messages
    with session.stream("more") as stream:
        stream._stream.close()
        stream._stream = Failing()  # type: ignore[assignment]
        assert next(stream) == "piece"
        with pytest.raises(syncyte.OverloadedError):
            next(stream)
    assert session.messages == before

    async def talk() -> None:
        async with session.astream("more") as stream:
            await stream._stream.aclose()
            stream._stream = Failing()  # type: ignore[assignment]
            assert await anext(stream) == "piece"
            with pytest.raises(syncyte.OverloadedError):
                await anext(stream)

    asyncio.run(talk())
    assert session.messages == before
    assert session.send("on").tokens


def test_files_of_the_first_format_are_read(model: syncyte.Model, tmp_path: Path) -> None:
    session = model.session(max_tokens=6, ignore_eos=True)
    session.send("hello")
    made = session.send("more")
    path = tmp_path / "talk.json"
    session.save(path)
    content = json.loads(path.read_text("utf-8"))
    content["syncyte_session"] = 1
    del content["tools"], content["told"]
    content["turns"] = [[said[0]["content"], text, *last] for said, text, _, _, *last in content["turns"]]
    path.write_text(json.dumps(content), "utf-8")
    loaded = model.load_session(path, max_tokens=6)
    assert loaded.messages == session.messages
    assert loaded.send("on").usage.reused_tokens >= made.usage.prompt_tokens + 5


@pytest.mark.parametrize("parameters", [{}, {"properties": {}}, {"type": ["object", "null"]}])
def test_arguments_are_an_object_however_loose_the_schema(
    model: syncyte.Model, parameters: dict[str, Any], tmp_path: Path
) -> None:
    tool = {"type": "function", "function": {"name": "now", "parameters": parameters}}
    session = model.session(tools=[tool])
    for seed in range(3, 6):
        called = session.send("hello", tool_choice="required", seed=seed, max_tokens=300)
        assert all(isinstance(call.arguments, dict) for call in called.tool_calls)
        if called.tool_calls:
            session.send([call.result("12:00") for call in called.tool_calls], max_tokens=5)
    session.save(tmp_path / "s.json")
    assert len(model.load_session(tmp_path / "s.json")) == len(session)
