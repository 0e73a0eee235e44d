"""Chat messages into prompt text, by the model's own template."""

from typing import TYPE_CHECKING, Any

from syncyte import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import jinja2

    from syncyte._tools import Tools


# The template used last, compiled. An interpreter rarely chats with more than one model.
_compiled: dict[str, jinja2.Template] = {}


def checked_messages(messages: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
    """The messages as role, content and calls of tools, or an error that says which one is wrong."""
    if isinstance(messages, str):
        raise TypeError('messages must be a list like [{"role": "user", "content": "..."}], not str')
    checked: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        try:
            role = message["role"]
            calls = message.get("tool_calls")
            content = (message.get("content") or "") if calls else message["content"]
        except KeyError, TypeError, IndexError, AttributeError:
            raise ValueError(f'message {index} must be a mapping with "role" and "content"') from None
        if not isinstance(role, str) or not isinstance(content, str):
            raise TypeError(f"role and content of message {index} must be str")
        one: dict[str, Any] = {"role": role, "content": content}
        if calls:
            from syncyte import _tools

            one["tool_calls"] = _tools.checked_calls(index, calls)
        for name in ("tool_call_id", "name"):
            if isinstance(message.get(name), str):
                one[name] = message[name]
        for text in _texts(one):
            if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
                raise ValueError(f"message {index} holds a lone surrogate, which is not text")
        checked.append(one)
    if not checked:
        raise ValueError("messages is empty")
    return checked


def _texts(value: object) -> Iterator[str]:
    """All texts inside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The same with every text changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_mapped(key, change): _mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mapped(inner, change) for inner in value]
    return value


def copied(message: dict[str, Any]) -> dict[str, Any]:
    """A copy that shares nothing that can be changed."""
    return {key: _mapped(inner, str) for key, inner in message.items()}


def chat_tokens(
    model: _core.Model,
    messages: list[dict[str, Any]],
    info: Mapping[str, object],
    tools: Tools | None = None,
) -> list[int]:
    """Tokens of the rendered messages. Control tokens come from the template only, never from a message."""
    template = str(info["chat_template"])
    if not template:
        raise ValueError("the model has no chat template; give generate() a prompt instead")
    bos = str(info["bos_text"])
    messages, listed = _with_tools(messages, template, tools)
    messages, marker = break_control_texts(model, messages, template)
    text = _render(model, template, messages, bos, str(info["eos_text"]), listed)
    # A template may write the begin-of-sequence token itself.
    add_special = not (bos and text.startswith(bos))
    tokens: list[int] = []
    for index, part in enumerate(text.split(marker) if marker else [text]):
        tokens += model._tokenize(part, add_special and index == 0, True)
    return tokens


def _with_tools(
    messages: list[dict[str, Any]], template: str, tools: Tools | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """The messages as the template understands them, and the tools that it is to tell of itself."""
    telling = tools is not None and tools.choice != "none"
    if not telling and not any("tool_calls" in one or one["role"] == "tool" for one in messages):
        return messages, None
    from syncyte import _tools

    if _tools.known_to(template):
        return messages, tools.listed if tools is not None and telling else None
    messages = _tools.as_text(messages)
    return (tools.tell(messages) if tools is not None and telling else messages), None


def tokens_after(
    model: _core.Model,
    messages: list[dict[str, Any]],
    info: Mapping[str, object],
    answer: int,
    tools: Tools | None = None,
) -> list[int] | None:
    """Tokens of what the template writes after the answer that is ``messages[answer]``, with no calls.

    None where the template writes what came before otherwise when the chat goes on, or changes the answer.
    """
    template = str(info["chat_template"])
    bos, eos = str(info["bos_text"]), str(info["eos_text"])
    count = len(messages)
    messages, listed = _with_tools(messages, template, tools)
    answer += len(messages) - count  # the tools may be a message of their own
    messages, marker = break_control_texts(model, messages, template)
    before = _render(model, template, messages[:answer], bos, eos, listed)
    told = before + messages[answer]["content"]
    whole = _render(model, template, messages, bos, eos, listed)
    if not whole.startswith(told):
        return None
    rest = whole[len(told) :]
    tokens: list[int] = []
    for part in rest.split(marker) if marker else [rest]:
        tokens += model._tokenize(part, False, True)
    return tokens


def break_control_texts(
    model: _core.Model, messages: list[dict[str, Any]], template: str
) -> tuple[list[dict[str, Any]], str]:
    """Puts a marker into every control token's text inside a message: there the rendered text is cut."""
    everything = "\0".join(_texts(messages))
    present = [text for text in model._control_texts(everything) if len(text) > 1]
    if not present:
        return messages, ""
    candidates = map(chr, range(0xE000, 0xF8FF))  # private use: nobody's text needs all of them
    marker = next(c for c in candidates if c not in everything and c not in template)

    def broken(text: str) -> str:
        for control in present:
            text = text.replace(control, control[0] + marker + control[1:])
        return text

    return [_mapped(message, broken) for message in messages], marker


def _render(
    model: _core.Model,
    template: str,
    messages: list[dict[str, Any]],
    bos: str,
    eos: str,
    tools: list[dict[str, Any]] | None,
) -> str:
    try:
        compiled = _compile(template)
    except ImportError:
        roles, contents = [m["role"] for m in messages], [m["content"] for m in messages]
        return model._apply_template(template, roles, contents, True)
    import jinja2

    try:
        return compiled.render(
            messages=messages, tools=tools, add_generation_prompt=True, bos_token=bos, eos_token=eos
        )
    except jinja2.TemplateError as error:
        raise ValueError(f"the chat template refuses these messages: {error}") from None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise _core.ModelError(f"the model's chat template fails: {type(error).__name__}: {error}") from None


def _compile(template: str) -> jinja2.Template:
    compiled = _compiled.get(template)
    if compiled is not None:
        return compiled
    import json

    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def to_json(value: object, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    def strftime_now(form: str) -> str:
        from datetime import datetime

        return datetime.now().astimezone().strftime(form)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    functions: dict[str, Callable[..., object]] = {
        "raise_exception": raise_exception,
        "strftime_now": strftime_now,
    }
    environment.globals.update(functions)
    environment.filters["tojson"] = to_json
    try:
        compiled = environment.from_string(template)
    except jinja2.TemplateError as error:
        raise _core.ModelError(f"the model's chat template is broken: {error}") from None
    _compiled.clear()
    _compiled[template] = compiled
    return compiled
