"""Which grammar the options of a generation ask for."""

from typing import TYPE_CHECKING

from syncyte._structured import gbnf, schema
from syncyte._structured.classes import schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def grammar_of(name: str, value: object) -> str | None:
    """The text of the grammar for one of the options grammar, choices, json_object and json_schema."""
    return _makers[name](value)


def plain_schema(value: object) -> object:
    """A schema as it travels between interpreters: of a class, what it says."""
    return value if isinstance(value, (dict, bool)) else schema_of(value)


def _grammar(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"grammar must be str, in GBNF, not {type(value).__name__}")
    if not value.strip():
        raise ValueError("grammar is empty; it needs at least a rule root ::= ...")
    return value


def _choices(value: object) -> str:
    if isinstance(value, str):
        raise TypeError('choices must be a list like ["yes", "no"], not str')
    try:
        texts = list(value)  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(f"choices must be a list of str, not {type(value).__name__}") from None
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"choices must be a list of str, not of {type(text).__name__}")
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError("choices holds a lone surrogate, which is not text")
    if not texts:
        raise ValueError("choices is empty: there is nothing to choose from")
    return f"root ::= {gbnf.either(map(gbnf.literal, texts))}\n"


def _json_object(value: object) -> str | None:
    if not isinstance(value, bool):
        raise TypeError(f"json_object must be True or False, not {type(value).__name__}")
    return schema.any_json() if value else None


# The last schemas, as texts of JSON, and their grammars: agents ask for the same again and again.
_known: dict[str, str] = {}
_MOST_KNOWN = 16


def _json_schema(value: object) -> str:
    import json

    wanted = plain_schema(value)
    try:
        key = json.dumps(wanted)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"json_schema is not JSON: {error}") from None
    found = _known.pop(key, None)
    if found is None:
        found = schema.convert(wanted)
    _known[key] = found
    if len(_known) > _MOST_KNOWN:
        _known.pop(next(iter(_known)), None)
    return found


_makers: Mapping[str, Callable[[object], str | None]] = {
    "grammar": _grammar,
    "choices": _choices,
    "json_object": _json_object,
    "json_schema": _json_schema,
}
