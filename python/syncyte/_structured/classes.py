"""JSON Schema of dataclasses, TypedDicts, enums and the types of their fields."""

import dataclasses
import datetime
import enum
import types
import typing
import uuid
from collections import abc
from typing import Any

_PLAIN: dict[object, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    None: {"type": "null"},
    type(None): {"type": "null"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.time: {"type": "string", "format": "time"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    dict: {"type": "object"},
    list: {"type": "array"},
}


def schema_of(kind: object) -> dict[str, Any]:
    """The schema of a class or a type. TypeError names what has none."""
    ask = getattr(kind, "model_json_schema", None)
    if callable(ask):
        found = ask()
        if not isinstance(found, dict):
            raise TypeError(f"model_json_schema() of {kind!r} must give a dict, not {type(found).__name__}")
        return found
    definitions: dict[str, Any] = {}
    schema = _schema(kind, definitions)
    return {**schema, "$defs": definitions} if definitions else schema


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind is Any or kind is object:
        return {}
    try:
        if kind in _PLAIN:
            return dict(_PLAIN[kind])
    except TypeError:  # not hashable
        pass
    if isinstance(kind, typing.TypeAliasType):
        return _schema(kind.__value__, definitions)
    if isinstance(kind, type) and not typing.get_origin(kind):
        if issubclass(kind, enum.Enum):
            return {"enum": [member.value for member in kind]}
        if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
            return _reference(kind, definitions)
        if callable(getattr(kind, "model_json_schema", None)):
            raise TypeError(f"{kind.__name__} within another kind of class is not supported")
    return _generic(kind, definitions)


def _generic(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing.ReadOnly):
        return _schema(inner[0], definitions)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(part, definitions) for part in inner]}
    if origin is typing.Literal:
        return {"enum": [part.value if isinstance(part, enum.Enum) else part for part in inner]}
    if origin in (list, abc.Sequence, abc.Iterable):
        return {"type": "array", "items": _schema(inner[0], definitions)}
    if origin is tuple:
        if len(inner) == 2 and inner[1] is Ellipsis:
            return {"type": "array", "items": _schema(inner[0], definitions)}
        parts = [_schema(part, definitions) for part in inner]
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
    if origin in (dict, abc.Mapping) and inner[0] is str:
        return {"type": "object", "additionalProperties": _schema(inner[1], definitions)}
    raise TypeError(f"json_schema cannot be made of {kind!r}")


def _reference(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    name = kind.__qualname__.replace("~", "-").replace("/", "-").replace("%", "-")
    if name not in definitions:
        definitions[name] = {}
        hints = typing.get_type_hints(kind, include_extras=True)
        if dataclasses.is_dataclass(kind):
            fields = [field for field in dataclasses.fields(kind) if field.init]
            names = [field.name for field in fields]
            missing = dataclasses.MISSING
            required = [f.name for f in fields if f.default is missing and f.default_factory is missing]
        else:
            names = list(hints)
            required = [name for name in names if name in kind.__required_keys__]  # type: ignore[attr-defined]
        definitions[name] = {
            "type": "object",
            "properties": {field: _schema(hints[field], definitions) for field in names},
            "required": required,
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}
