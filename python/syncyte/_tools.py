"""Tools in a chat, as OpenAI defines them: what the model may call, how it says so, and what it said."""

from typing import TYPE_CHECKING, Any

from syncyte._completion import ToolCall

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MARK, _END = "<tool_call>", "</tool_call>"
_MOST_CALLS = 8

_TELL = """\
You can call these functions:
<tools>
{tools}
</tools>
For each call, answer with a JSON object within <tool_call> tags:
<tool_call>
{{"name": <function name>, "arguments": <object of arguments>}}
</tool_call>"""


class Tools:
    """The tools of one request, checked.

    ``choice``: "auto" (the model decides), "none", "required" (at least one call), or the name of a function
    that has to be called. Raises TypeError and ValueError for what is not as OpenAI defines it, and for
    parameters that cannot be expressed as a grammar.
    """

    def __init__(self, tools: Sequence[Mapping[str, Any]], choice: object, parallel: bool = True) -> None:
        if isinstance(tools, (str, bytes)) or not hasattr(tools, "__iter__"):
            raise TypeError('tools must be a list like [{"type": "function", "function": {"name": ...}}]')
        self.listed = [_checked(index, tool) for index, tool in enumerate(tools)]
        self.names = [tool["function"]["name"] for tool in self.listed]
        if not self.listed:
            raise ValueError("tools is empty; leave it out instead")
        if len(set(self.names)) < len(self.names):
            raise ValueError("two of the tools have the same name")
        self.choice = _checked_choice(choice, self.names)
        self._most = _MOST_CALLS if parallel and self.choice in ("auto", "required") else 1

    def grammar(self) -> str | None:
        """What the answer has to be; None: anything."""
        if self.choice == "none":
            return None
        from syncyte._structured import gbnf
        from syncyte._structured.schema import convert_part

        rules: dict[str, str] = {}
        calls = []
        for index, tool in enumerate(self.listed):
            function = tool["function"]
            if self.choice not in ("auto", "required", function["name"]):
                continue
            import json

            arguments = convert_part(function["parameters"], f"-{index}-", rules)
            name = gbnf.literal(json.dumps(function["name"]))
            calls.append(f'"{{\\"name\\":" " "? {name} "," " "? "\\"arguments\\":" " "? ({arguments}) "}}"')
        rules["call"] = gbnf.either(calls)
        rules["rest"] = f'"\\n"? call "\\n"? {gbnf.literal(_END)}'
        rules["more"] = f'("\\n" {gbnf.literal(_MARK)} rest){{0,{self._most - 1}}}'
        if self.choice == "auto":
            rules |= _free_text()
            rules["root"] = "free-0"
        else:
            rules["root"] = f"{gbnf.literal(_MARK)} rest more"
        return "".join(f"{name} ::= {text}\n" for name, text in rules.items())

    def read(self, text: str, first: int = 0) -> tuple[str, list[ToolCall]]:
        """The text beside the calls, and the calls that are whole. Their ids count from ``first``."""
        import json

        decoder = json.JSONDecoder()
        kept: list[str] = []
        calls: list[ToolCall] = []
        at = 0
        while (mark := text.find(_MARK, at)) >= 0:
            kept.append(text[at:mark])
            start = mark + len(_MARK)
            start += len(text[start:]) - len(text[start:].lstrip())
            try:
                found, end = decoder.raw_decode(text, start)
                call = ToolCall(f"call_{first + len(calls)}", found["name"], {**found["arguments"]})
                calls.append(call)
            except ValueError, TypeError, KeyError, RecursionError:
                at = mark  # cut off in the middle: it stays text
                break
            close = text.find(_END, end)
            at = len(text) if close < 0 else close + len(_END)
        kept.append(text[at:])
        return ("".join(kept).strip() if calls else text), calls

    def tell(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The messages for a template that knows nothing of tools: told at the beginning."""
        import json

        text = _TELL.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in self.listed))
        if messages and messages[0]["role"] == "system":
            first = {**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}
            return [first, *messages[1:]]
        return [{"role": "system", "content": text}, *messages]


def known_to(template: str) -> bool:
    """Whether a chat template tells of tools itself, in the way that calls are read here."""
    return "tools" in template and _MARK in template


def as_text(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with calls and their results as plain text, for templates that know neither."""
    import json

    plain = []
    for message in messages:
        calls = message.get("tool_calls", ())
        if message["role"] == "tool":
            plain.append(
                {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
            )
        elif calls:
            parts = [message["content"]] if message["content"] else []
            for call in calls:
                said = {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
                parts.append(f"{_MARK}\n{json.dumps(said, ensure_ascii=False)}\n{_END}")
            plain.append({"role": message["role"], "content": "\n".join(parts)})
        else:
            plain.append(message)
    return plain


def checked_calls(index: int, calls: object) -> list[dict[str, Any]]:
    """The calls of an assistant's message: arguments as objects, however they were given."""
    import json

    checked = []
    try:
        for call in calls:  # type: ignore[attr-defined]
            function = call["function"]
            name, arguments = function["name"], function["arguments"]
            if isinstance(arguments, str):
                arguments = json.loads(arguments)
            said = {"name": name, "arguments": dict(arguments)}
            checked.append({"id": call.get("id"), "type": "function", "function": said})
    except TypeError, KeyError, AttributeError, ValueError:
        raise ValueError(
            f'tool_calls of message {index} must be like [{{"function": {{"name": ..., "arguments": ...}}}}]'
        ) from None
    return checked


def _checked(index: int, tool: object) -> dict[str, Any]:
    try:
        kind, function = tool["type"], tool["function"]  # type: ignore[index]
        name = function["name"]
    except KeyError, TypeError, IndexError:
        raise ValueError(
            f"tool {index} must be like "
            '{"type": "function", "function": {"name": ..., "parameters": ...}}'
        ) from None
    if kind != "function":
        raise ValueError(f"tool {index} has the type {kind!r}; only functions can be called")
    if not isinstance(name, str) or not name or len(name) > 64 or not _plain(name):
        raise ValueError(
            f"tool {index} has the name {name!r}; letters, digits, _ and - are allowed, 64 at most"
        )
    parameters = _parameters(name, function.get("parameters"))
    return {"type": "function", "function": {**function, "parameters": parameters}}


def _parameters(name: str, schema: object) -> dict[str, Any]:
    """The schema of an object: arguments are given by name. Nothing, or an empty one, takes none."""
    if schema is None or schema == {}:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    if not isinstance(schema, dict):
        raise TypeError(f"parameters of the tool {name} must be a JSON Schema")
    kinds = schema.get("type", "object")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        raise ValueError(f"parameters of the tool {name} have the type {kinds!r}; they must be an object's")
    return {**schema, "type": "object"}


def _plain(name: str) -> bool:
    return name.isascii() and all(character.isalnum() or character in "_-" for character in name)


def _checked_choice(choice: object, names: list[str]) -> str:
    if choice is None:
        return "auto"
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            raise ValueError(f'tool_choice must be "auto", "none", "required" or a function, not {choice!r}')
        return choice
    try:
        name = choice["function"]["name"]  # type: ignore[index]
    except KeyError, TypeError, IndexError:
        raise ValueError(
            'tool_choice must be "auto", "none", "required" or '
            '{"type": "function", "function": {"name": ...}}'
        ) from None
    if name not in names:
        raise ValueError(f"tool_choice names {name!r}, which is none of the tools: {', '.join(names)}")
    return str(name)


def _free_text() -> dict[str, str]:
    """Rules for any text, in which the mark of a call can only begin one."""
    from syncyte._structured import gbnf

    # free-N: the last N characters are the mark's first. Only its first character is like none after it.
    rules = {}
    for count, character in enumerate(_MARK):
        following = f"free-{count + 1}" if count + 1 < len(_MARK) else "rest more"
        parts = ['""', f"{gbnf.literal(character)} {following}"]
        others = [(ord(character), ord(character))]
        if count > 0:
            parts.append(f"{gbnf.literal(_MARK[0])} free-1")
            others.append((ord(_MARK[0]), ord(_MARK[0])))
        parts.append(f"{gbnf.one_of(gbnf.without([(0, gbnf.LAST)], others))} free-0")
        rules[f"free-{count}"] = " | ".join(parts)
    return rules
