"""JSON Schemas made by hypothesis: all kinds that the converter takes, and damaged ones."""

from __future__ import annotations

import copy
import datetime
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jsonschema
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ["name", "a", "ab", "abc", "größe", 'qu"ote', "", "x y", "back\\slash"]
PATTERNS = [
    "^[a-z]{1,5}$",
    "^(foo|bar)+$",
    "^\\d{3}-\\d{4}$",
    "^[^a-z\\d]{2,4}$",
    "^a.c$|^x$",
    "^(?:[A-Z][a-z]*){1,3}$",
    "^\\w+@\\w{2}\\.(de|com)$",
    "^[\\s\\S]{0,3}$",
    "^\\S\\W\\D$",
    '^["\\\\/]{1,3}$',
    "^[^\\n]{1,3}\\t?$",
    "^\\u00e9\\x41*$",
]
FORMATS = ["date", "time", "date-time", "duration", "uuid", "email", "hostname", "ipv4", "ipv6", "uri"]

small = st.integers(0, 4)


def _bounds(draw: st.DrawFn, schema: dict[str, Any], low: str, high: str, most: int = 4) -> None:
    least = draw(st.none() | st.integers(0, most))
    if least is not None:
        schema[low] = least
    schema[high] = (least or 0) + draw(st.integers(0, 3))


@st.composite
def strings(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["length", "length", "pattern", "format"]))
    schema: dict[str, Any] = {"type": "string"}
    if kind == "length":
        _bounds(draw, schema, "minLength", "maxLength")
    elif kind == "pattern":
        schema["pattern"] = draw(st.sampled_from(PATTERNS))
    else:
        schema["format"] = draw(st.sampled_from(FORMATS))
    return schema


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": draw(st.sampled_from(["integer", "number"]))}
    bound = st.integers(-1200, 1200)
    if schema["type"] == "number":
        bound |= st.floats(-1200, 1200, allow_nan=False)
    if draw(st.booleans()):
        low = draw(bound)
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
        if draw(st.booleans()):
            high = low + 2 + draw(st.integers(0, 3000))
            schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = high
    elif draw(st.booleans()):
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = draw(bound)
    return schema


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
leaves = (
    strings()
    | numbers()
    | st.just({"type": "boolean"})
    | st.just({"type": "null"})
    | st.builds(lambda values: {"enum": values}, st.lists(json_values, min_size=1, max_size=4))
    | st.builds(lambda value: {"const": value}, json_values)
)


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array"}
    if draw(st.integers(0, 3)) == 0:
        schema["prefixItems"] = draw(st.lists(inner, min_size=1, max_size=3))
        if draw(st.booleans()):
            schema["items"] = draw(inner | st.just(False))
    else:
        schema["items"] = draw(inner)
    if draw(st.booleans()) and "prefixItems" not in schema:
        schema["minItems"] = draw(st.integers(0, 2))
    schema["maxItems"] = (
        schema.get("minItems", 0) + draw(st.integers(0, 2)) + len(schema.get("prefixItems", []))
    )
    return schema


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    if names:
        schema["properties"] = {name: draw(inner) for name in names}
        schema["required"] = draw(st.lists(st.sampled_from(names), unique=True))
    if draw(st.integers(0, 2)) == 0:
        schema["additionalProperties"] = draw(inner | st.booleans())
    if not names:
        schema["maxProperties"] = draw(small)
    return schema


@st.composite
def tagged(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    """oneOf with a tag that tells the alternatives apart, or with different types."""
    if draw(st.booleans()):
        return {
            "oneOf": [{"type": "boolean"}, {"type": "integer", "minimum": 0, "maximum": 9}, draw(strings())]
        }
    parts = []
    for tag in draw(st.lists(st.sampled_from("abcd"), unique=True, min_size=1, max_size=3)):
        properties = {"kind": {"const": tag}, "value": draw(inner)}
        parts.append({"type": "object", "properties": properties, "required": ["kind"]})
    return {"oneOf": parts}


@st.composite
def alls(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=2, max_size=4))
    half = len(names) // 2
    parts = [
        {"type": "object", "properties": {name: draw(inner) for name in some}, "required": some[:1]}
        for some in (names[:half], names[half:])
    ]
    if draw(st.booleans()):
        return {**parts[0], "anyOf": [parts[1], {"properties": {}}]}
    return {"allOf": parts}


schemas: st.SearchStrategy[dict[str, Any]] = st.recursive(
    leaves,
    lambda inner: (
        arrays(inner)
        | objects(inner)
        | tagged(inner)
        | alls(inner)
        | st.builds(lambda parts: {"anyOf": parts}, st.lists(inner, min_size=1, max_size=3))
    ),
    max_leaves=6,
)


@st.composite
def recursive_schemas(draw: st.DrawFn) -> dict[str, Any]:
    """Trees and lists: nodes that refer to themselves, and a definition that several places use."""
    leaf = draw(leaves)
    children = {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": draw(st.integers(0, 2))}
    node = {
        "type": "object",
        "properties": {"value": {"$ref": "#/$defs/a~1leaf"}, "children": children},
        "required": ["value"],
        "additionalProperties": False,
    }
    return {"$defs": {"node": node, "a/leaf": leaf}, "$ref": "#/$defs/node"}


@st.composite
def damaged(draw: st.DrawFn) -> object:
    """A schema with a part replaced by something that is wrong there, or may be."""
    schema: Any = copy.deepcopy(draw(schemas | recursive_schemas()))
    odd = draw(
        json_values
        | st.sampled_from(
            [{"$ref": "#"}, {"not": {}}, {"allOf": [{"$ref": "#"}]}, {"type": "strin"}, {}, [], True]
        )
        | st.builds(lambda key, value: {key: value}, st.sampled_from(KEYWORDS), json_values)
    )
    node: Any = schema
    while draw(st.integers(0, 3)):
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if not isinstance(node[key], (dict, list)) or draw(st.integers(0, 4)) == 0:
            node[key] = odd
            return schema
        node = node[key]
    if isinstance(node, dict):
        node[draw(st.sampled_from(KEYWORDS))] = draw(json_values | st.just(odd))
    return schema


KEYWORDS = (
    "type enum const properties required additionalProperties minProperties maxProperties items prefixItems "
    "minItems maxItems uniqueItems minLength maxLength pattern format minimum maximum exclusiveMinimum "
    "exclusiveMaximum multipleOf anyOf oneOf allOf $ref not if contains patternProperties $defs"
).split()

# What python3-jsonschema checks only with further packages. Values other than strings have no format.
CHECKER = jsonschema.FormatChecker(("date", "email", "ipv4", "ipv6", "uuid"))


def _checks(name: str) -> Callable[[Callable[[str], bool]], None]:
    def add(check: Callable[[str], bool]) -> None:
        CHECKER.checks(name, ValueError)(lambda value: not isinstance(value, str) or check(value))

    return add


_checks("time")(lambda text: datetime.time.fromisoformat(text).utcoffset() is not None)
_checks("date-time")(lambda text: datetime.datetime.fromisoformat(text).utcoffset() is not None)
_checks("uri")(lambda text: bool(urlsplit(text).hostname) and urlsplit(text).port != 0)
_checks("hostname")(
    lambda text: all(re.fullmatch("[a-z]([a-z0-9-]{0,61}[a-z0-9])?", part) for part in text.split("."))
)
_checks("duration")(
    lambda text: (
        re.fullmatch(r"P(?=.)(\d+W|(\d+Y(\d+M(\d+D)?)?|\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+S)?)?)", text)
        is not None
    )
)
