"""Tools in a chat: what is asked, what the model may say, and how it is read."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from tiny_gguf import IM_END, write_tiny_gguf

import syncyte
from syncyte._tools import Tools

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"$ref": "#/$defs/days"}},
            "required": ["city"],
            "$defs": {"days": {"type": "integer", "minimum": 1, "maximum": 9}},
        },
    },
}
STOP: dict[str, Any] = {"type": "function", "function": {"name": "stop-all"}}
HELLO = [{"role": "user", "content": "hello"}]
KNOWING = (
    "{% if tools %}TOOLS {% for tool in tools %}{{ tool | tojson }}{% endfor %}<tool_call>{% endif %}"
    "{% for m in messages %}{{ m.role }}:{{ m.content }}"
    "{% for call in m.tool_calls %}<tool_call>{{ call.function.arguments | tojson }}{% endfor %};{% endfor %}"
)


@pytest.fixture
def model(tmp_path: Path) -> Iterator[syncyte.Model]:
    path = write_tiny_gguf(tmp_path / "long.gguf", context_length=2048)
    with syncyte.Model(path, threads=1, max_sequences=2) as opened:
        yield opened


def check_calls(made: syncyte.Completion, names: set[str]) -> None:
    assert made.finish_reason == "tool_calls"
    assert made.text == ""
    for call in made.tool_calls:
        assert call.name in names
        if call.name == "get_weather":
            jsonschema.validate(call.arguments, WEATHER["function"]["parameters"])
        else:
            assert call.arguments == {}


def test_a_call_that_is_required_comes(model: syncyte.Model) -> None:
    seen: set[str] = set()
    counts = set()
    for seed in range(30):
        made = model.chat(
            HELLO, tools=[WEATHER, STOP], tool_choice="required", seed=seed, temperature=3.0, max_tokens=1500
        )
        check_calls(made, {"get_weather", "stop-all"})
        seen |= {call.name for call in made.tool_calls}
        counts.add(len(made.tool_calls))
        assert len({call.id for call in made.tool_calls}) == len(made.tool_calls)
    assert seen == {"get_weather", "stop-all"}
    assert len(counts) > 1
    one = model.chat(
        HELLO, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, max_tokens=200
    )
    assert len(one.tool_calls) == 1
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.as_dict()["tool_calls"][0]["name"] == "get_weather"  # type: ignore[index]


def test_a_named_tool_is_called_once(model: syncyte.Model) -> None:
    choice = {"type": "function", "function": {"name": "stop-all"}}
    made = model.chat(HELLO, tools=[WEATHER, STOP], tool_choice=choice, max_tokens=200)
    check_calls(made, {"stop-all"})
    assert len(made.tool_calls) == 1


def test_the_model_decides(model: syncyte.Model) -> None:
    made = model.chat(HELLO, tools=[WEATHER], max_tokens=30, seed=1)
    assert made.tool_calls == []
    assert made.text
    plain = model.chat(HELLO, tools=[WEATHER], tool_choice="none", max_tokens=30, seed=1)
    assert plain.text == model.chat(HELLO, max_tokens=30, seed=1).text


def test_streams_have_their_calls_read_at_the_end(model: syncyte.Model) -> None:
    stream = model.stream_chat(HELLO, tools=[STOP], tool_choice="required", max_tokens=300, seed=3)
    text = "".join(stream)
    assert text.startswith("<tool_call>")
    check_calls(stream.completion, {"stop-all"})


def test_a_call_and_its_result_go_on_in_the_chat(model: syncyte.Model) -> None:
    made = model.chat(HELLO, tools=[STOP], tool_choice="required", parallel_tool_calls=False, max_tokens=100)
    message = made.as_message()
    assert message["tool_calls"] == [
        {"id": "call_0", "type": "function", "function": {"name": "stop-all", "arguments": "{}"}}
    ]
    result = {"role": "tool", "tool_call_id": "call_0", "content": "stopped <|im_end|>"}
    tokens = model.chat_tokens([*HELLO, message, result])
    text = model.detokenize(tokens)
    assert '{"name": "stop-all", "arguments": {}}' in text
    assert "<tool_response>" in text
    assert tokens.count(IM_END) == 3  # ends of messages alone
    assert model.chat([*HELLO, message, result], max_tokens=3).text is not None


def test_templates_that_know_tools_get_them(tmp_path: Path) -> None:
    with syncyte.Model(
        write_tiny_gguf(tmp_path / "tools.gguf", context_length=2048, chat_template=KNOWING), threads=1
    ) as model:
        calls = [{"function": {"name": "f", "arguments": '{"a": "<|im_end|>"}'}}]
        chat: list[dict[str, Any]] = [*HELLO, {"role": "assistant", "content": None, "tool_calls": calls}]
        tokens = model.chat_tokens(chat)
        assert '<tool_call>{"a": "' in model.detokenize(tokens)
        assert IM_END not in tokens
        made = model.chat(HELLO, tools=[WEATHER], tool_choice="required", max_tokens=400, seed=4)
        assert made.usage.prompt_tokens > len(model.chat_tokens(HELLO)) + 50


def test_reading() -> None:
    tools = Tools([WEATHER, STOP], None)
    text = (
        'Sure.\n<tool_call>\n{"name": "get_weather", '
        '"arguments": {"city": "</tool_call><tool_call>"}}\n</tool_call>'
        '\n<tool_call>{"name":"stop-all","arguments":{}}</tool_call>'
    )
    rest, calls = tools.read(text)
    assert rest == "Sure."
    assert [(call.name, call.arguments) for call in calls] == [
        ("get_weather", {"city": "</tool_call><tool_call>"}),
        ("stop-all", {}),
    ]
    cut = text[: text.index("stop-all")]
    rest, calls = tools.read(cut)
    assert len(calls) == 1
    assert '<tool_call>{"name":"' in rest
    assert tools.read("no <tool_call") == ("no <tool_call", [])
    for odd in ("<tool_call>[1]</tool_call>", "<tool_call>" + "[" * 100_000, "<tool_call>{}</tool_call>"):
        assert tools.read(odd) == (odd, [])
    assert json.loads(calls[0].as_message()["function"]["arguments"]) == calls[0].arguments  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tools": []}, ValueError, "tools is empty"),
        ({"tools": "weather"}, TypeError, "tools must be a list"),
        ({"tools": [{}]}, ValueError, "tool 0 must be like"),
        ({"tools": [{"type": "code", "function": {"name": "x"}}]}, ValueError, "only functions"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, ValueError, "letters, digits"),
        ({"tools": [STOP, STOP]}, ValueError, "same name"),
        ({"tools": [STOP], "tool_choice": "any"}, ValueError, "tool_choice must be"),
        (
            {"tools": [STOP], "tool_choice": {"function": {"name": "x"}}},
            ValueError,
            "none of the tools: stop-all",
        ),
        ({"tool_choice": "required"}, ValueError, "tool_choice without tools"),
        ({"tools": [STOP], "json_object": True}, ValueError, "tools and json_object"),
        (
            {"tools": [{"type": "function", "function": {"name": "x", "parameters": {"not": {}}}}]},
            ValueError,
            "keyword 'not' cannot be expressed",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "x", "parameters": {"type": "string"}}}]},
            ValueError,
            "have the type 'string'; they must be an object's",
        ),
        ({"tools": [STOP], "max_token": 3}, TypeError, "max_tokens"),
    ],
)
def test_what_is_wrong_is_said(model: syncyte.Model, options, error, message) -> None:
    for method in (model.chat, model.stream_chat):
        with pytest.raises(error, match=message):
            method(HELLO, **options)


@pytest.mark.parametrize(
    "calls", [3, [3], [{"function": {}}], [{"function": {"name": "x", "arguments": "["}}]]
)
def test_odd_calls_in_messages(model: syncyte.Model, calls: object) -> None:
    with pytest.raises(ValueError, match="tool_calls of message 0"):
        model.chat([{"role": "assistant", "tool_calls": calls}])
