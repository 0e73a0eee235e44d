"""Schemas without references, allOf and annotations: several that hold at once made one."""

from typing import Any

from syncyte._structured.problem import SchemaError

_ANNOTATIONS = frozenset(
    "title description default examples example deprecated readOnly writeOnly discriminator nullable "
    "$schema $id $comment $anchor $defs definitions contentMediaType contentEncoding".split()
)
# Which type a keyword is about. Those about another type than a schema's mean nothing to it.
_ABOUT = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "minProperties": "object",
    "maxProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "maxItems": "array",
    "uniqueItems": "array",
    "minLength": "string",
    "maxLength": "string",
    "pattern": "string",
    "format": "string",
    "minimum": "number",
    "maximum": "number",
    "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
    "multipleOf": "number",
}
_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_LARGER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_SMALLER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_DEEPEST = 60


def types_of(plain: dict[str, Any]) -> list[str] | None:
    """The types of a simplified schema, by its keywords where it does not say; None: any."""
    if "type" in plain:
        found: list[str] = plain["type"]
        return found
    about = dict.fromkeys(_ABOUT[keyword] for keyword in plain if keyword in _ABOUT)
    return list(about) or None


class Merger:
    """Works on parts of one schema, in which references point."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._depth = 0

    def lone_reference(self, schema: dict[str, Any]) -> str | None:
        """Where the schema points, if that is all it does."""
        pointer = schema.get("$ref")
        if not isinstance(pointer, str) or not all(key == "$ref" or _is_annotation(key) for key in schema):
            return None
        return pointer

    def resolve(self, pointer: str, path: str) -> object:
        """The part that a local JSON pointer names."""
        if not isinstance(pointer, str) or not (pointer == "#" or pointer.startswith("#/")):
            raise SchemaError(path, f"$ref {pointer!r} cannot be followed: it must begin with #/")
        found = self._root
        for step in pointer.split("/")[1:]:
            if "%" in step:
                from urllib.parse import unquote

                step = unquote(step)
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            else:
                raise SchemaError(path, f"$ref {pointer!r} points to nothing")
        return found

    def simplified(self, schema: object, path: str) -> dict[str, Any]:
        """The schema as one level of keywords that it asserts: `type` a list, `const` as `enum`."""
        found = self._simplified(schema, path)
        if found is False:
            raise SchemaError(path, "nothing satisfies all of it")
        assert isinstance(found, dict)
        return found

    def _simplified(self, schema: object, path: str) -> dict[str, Any] | bool:
        if schema is True:
            return {}
        if schema is False:
            return False
        if not isinstance(schema, dict):
            raise SchemaError(path, f"a schema must be an object or a boolean, not {type(schema).__name__}")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise SchemaError(path, "is nested too deeply, or refers to itself before it says anything")
        try:
            own = self._own_keywords(schema, path)
            result: dict[str, Any] | bool = own
            if "$ref" in schema:
                result = self._merge(result, self._simplified(self.resolve(schema["$ref"], path), path), path)
            if "allOf" in schema:
                for index, part in enumerate(_listed(schema, "allOf", path)):
                    place = f"{path}/allOf/{index}"
                    result = self._merge(result, self._simplified(part, place), place)
            return result
        finally:
            self._depth -= 1

    def _own_keywords(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        own: dict[str, Any] = {}
        for key, value in schema.items():
            if not isinstance(key, str):
                raise SchemaError(path, f"a keyword must be a string, not {key!r}")
            if key == "const":
                own["enum"] = _common([value], _listed(schema, "enum", path)) if "enum" in schema else [value]
            elif key == "type":
                own["type"] = _checked_types(value, path)
            elif key in ("enum", "anyOf", "oneOf"):
                own.setdefault(key, _listed(schema, key, path))
            elif key in _ABOUT:
                if value is None:
                    raise SchemaError(path, f"keyword {key!r} is null")
                own[key] = value
            elif key == "additionalItems" or key in ("$ref", "allOf") or _is_annotation(key):
                pass
            else:
                raise SchemaError(path, f"keyword {key!r} cannot be expressed")
        if isinstance(own.get("items"), list):  # as in older drafts
            own["prefixItems"] = own.pop("items")
            if "additionalItems" in schema:
                own["items"] = schema["additionalItems"]
        _check_shapes(own, path)
        if "anyOf" in own and "oneOf" in own:
            raise SchemaError(path, "keyword 'oneOf' beside 'anyOf' cannot be expressed")
        return own

    def merged(self, one: object, other: object, path: str) -> dict[str, Any] | bool:
        """What satisfies both; False: nothing does."""
        return self._merge(self._simplified(one, path), self._simplified(other, path), path)

    def _merge(
        self, one: dict[str, Any] | bool, other: dict[str, Any] | bool, path: str
    ) -> dict[str, Any] | bool:
        if not isinstance(one, dict) or not isinstance(other, dict):
            return False
        if not one or not other:
            return one or other
        result: dict[str, Any] = {}
        for key in dict.fromkeys((*one, *other)):
            if key in ("properties", "additionalProperties"):
                continue
            if key not in one or key not in other:
                result[key] = one[key] if key in one else other[key]
            else:
                result[key] = self._both(key, one[key], other[key], path)
        if not result.get("type", True) or not result.get("enum", True):
            return False
        for key in ("properties", "additionalProperties"):
            if key in one or key in other:
                self._merge_properties(one, other, result, path)
                break
        return result

    def _both(self, key: str, one: Any, other: Any, path: str) -> Any:
        if key == "enum":
            return _common(one, other)
        if key == "type":
            both = [name for name in one if name in other]
            if "integer" in one + other and "number" in one + other and "integer" not in both:
                both.append("integer")
            return both
        if _same(one, other):
            return one
        if key in _LARGER + _SMALLER and _is_number(one) and _is_number(other):
            return max(one, other) if key in _LARGER else min(one, other)
        if key == "required":
            return [*one, *(name for name in other if name not in one)]
        if key == "uniqueItems":
            return bool(one or other)
        if key == "items":
            return self.merged(one, other, f"{path}/items")
        raise SchemaError(
            path, f"keyword {key!r} in several parts of an allOf or beside one cannot be expressed"
        )

    def _merge_properties(
        self, one: dict[str, Any], other: dict[str, Any], result: dict[str, Any], path: str
    ) -> None:
        sides = []
        for side in (one, other):
            sides.append((side.get("properties", {}), side.get("additionalProperties", True)))
        (mine, rest), (theirs, their_rest) = sides
        result["properties"] = {
            name: self.merged(mine.get(name, rest), theirs.get(name, their_rest), f"{path}/properties/{name}")
            if name not in mine or name not in theirs or not _same(mine[name], theirs[name])
            else mine[name]
            for name in dict.fromkeys((*mine, *theirs))
        }
        if "additionalProperties" in one or "additionalProperties" in other:
            result["additionalProperties"] = (
                rest
                if _same(rest, their_rest)
                else self.merged(rest, their_rest, f"{path}/additionalProperties")
            )
            if result["additionalProperties"] == {}:
                result["additionalProperties"] = True

    # Values

    def enumerated(self, schema: dict[str, Any], path: str) -> list[Any]:
        """The values of `enum` that satisfy the rest too."""
        rest = {key: value for key, value in schema.items() if key != "enum"}
        kept = []
        for value in schema["enum"]:
            holds = self.holds(value, rest, path)
            if holds is None:
                names = ", ".join(repr(key) for key in rest if key != "type")
                raise SchemaError(path, f"enum or const beside {names} cannot be expressed")
            if holds:
                kept.append(value)
        if not kept:
            raise SchemaError(path, "no value of enum or const satisfies the rest")
        return kept

    def holds(self, value: object, schema: object, path: str) -> bool | None:
        """Whether the value satisfies the schema; None: that is not easily said."""
        found = self._simplified(schema, path)
        if isinstance(found, bool):
            return found
        answer: bool | None = True
        for key, wanted in found.items():
            one = _holds_keyword(value, key, wanted)
            if one is False:
                return False
            if one is None:
                answer = None
        return answer

    # oneOf

    def check_apart(self, parts: list[object], path: str) -> None:
        """SchemaError where two alternatives of a oneOf may both accept a text made for one of them."""
        for i, one in enumerate(parts):
            for j, other in enumerate(parts[:i]):
                if not (self._never(one, other, path, 0) and self._never(other, one, path, 0)):
                    raise SchemaError(
                        path, f"alternatives {j} and {i} of oneOf may both be satisfied; anyOf says that"
                    )

    def _never(self, made: object, asked: object, path: str, depth: int) -> bool:
        """That nothing which the grammar makes of `made` satisfies `asked`."""
        if depth > 4:
            return False
        one, other = self._simplified(made, path), self._simplified(asked, path)
        if not isinstance(one, dict) or not isinstance(other, dict):
            return True
        for keyword in ("anyOf", "oneOf"):
            if keyword in one:
                rest = {key: value for key, value in one.items() if key != keyword}
                return all(
                    self._never(self.merged(rest, part, path), other, path, depth + 1)
                    for part in one[keyword]
                )
        if "enum" in one:
            return all(self.holds(value, other, path) is False for value in one["enum"])
        makes, takes = types_of(one), other.get("type")
        if makes and takes and not _share_a_type(makes, takes):
            return True
        if "enum" in other:
            kinds = {kind for value in other["enum"] for kind in _kinds(value)}
            return bool(makes) and not _share_a_type(makes or [], list(kinds))
        for keyword in ("anyOf", "oneOf"):
            if keyword in other:
                return all(self._never(one, part, path, depth + 1) for part in other[keyword])
        if makes == ["object"]:
            return self._never_object(one, other, path, depth)
        return makes in (["integer"], ["number"]) and _bounds_apart(one, other)

    def _never_object(self, one: dict[str, Any], other: dict[str, Any], path: str, depth: int) -> bool:
        mine, theirs = one.get("properties", {}), other.get("properties", {})
        needed = one.get("required", [])
        closed = not one.get("additionalProperties", not mine and not needed)
        for name in other.get("required", []):
            if closed and name not in mine and name not in needed:
                return True
        for name in needed:
            if name not in theirs and other.get("additionalProperties") is False:
                return True
            if name in mine and name in theirs and self._never(mine[name], theirs[name], path, depth + 1):
                return True
        return False


def _is_annotation(key: object) -> bool:
    return isinstance(key, str) and (key in _ANNOTATIONS or key.startswith("x-"))


def _listed(schema: dict[str, Any], key: str, path: str) -> list[Any]:
    value = schema[key]
    if not isinstance(value, list) or not value:
        raise SchemaError(path, f"keyword {key!r} must be a list that is not empty")
    return value


def _check_shapes(own: dict[str, Any], path: str) -> None:
    properties, required = own.get("properties", {}), own.get("required", [])
    if not isinstance(properties, dict) or not all(isinstance(name, str) for name in properties):
        raise SchemaError(path, "keyword 'properties' must be an object")
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise SchemaError(path, "keyword 'required' must be a list of strings")
    for name in (*properties, *required):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise SchemaError(path, f"the property name {name!r} is not text") from None
    if not isinstance(own.get("prefixItems", []), list):
        raise SchemaError(path, "keyword 'prefixItems' must be a list")


def _checked_types(value: object, path: str) -> list[str]:
    names = value if isinstance(value, list) else [value]
    for name in names:
        if name not in _TYPES:
            raise SchemaError(path, f"keyword 'type' has {name!r}; known are {', '.join(_TYPES)}")
    found: list[str] = list(dict.fromkeys(map(str, names)))
    return [name for name in found if name != "integer" or "number" not in found]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _same(one: object, other: object) -> bool:
    """Equality of JSON: 1 is 1.0, true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other, strict=True))
    return (type(one) is type(other) or (_is_number(one) and _is_number(other))) and one == other


def _common(one: Any, other: Any) -> list[Any]:
    return [value for value in one if any(_same(value, twin) for twin in other)]


def _kinds(value: object) -> tuple[str, ...]:
    if value is None:
        return ("null",)
    if isinstance(value, bool):
        return ("boolean",)
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return ("integer", "number")
    for kind, name in ((float, "number"), (str, "string"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return (name,)
    return ()


def _share_a_type(one: list[str], other: list[str]) -> bool:
    def wide(names: list[str]) -> set[str]:
        return {"number" if name == "integer" else name for name in names}

    return bool(wide(one) & wide(other))


def _holds_keyword(value: object, key: str, wanted: Any) -> bool | None:
    if key == "type":
        return any(kind in wanted for kind in _kinds(value))
    if key == "enum":
        return any(_same(value, one) for one in wanted)
    if key not in _ABOUT:
        return None
    if _ABOUT[key] not in _kinds(value):
        return True
    if key in ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"):
        if not _is_number(wanted):
            return None
        size = len(value)  # type: ignore[arg-type]
        return bool(size >= wanted if key.startswith("min") else size <= wanted)
    if _ABOUT[key] == "number" and key != "multipleOf" and _is_number(wanted):
        number: Any = value
        answers = {
            "minimum": number >= wanted,
            "maximum": number <= wanted,
            "exclusiveMinimum": number > wanted,
            "exclusiveMaximum": number < wanted,
        }
        return bool(answers[key])
    if key == "required":
        return all(name in value for name in wanted)  # type: ignore[operator]
    return None


def _bounds_apart(one: dict[str, Any], other: dict[str, Any]) -> bool:
    for mine, theirs in ((one, other), (other, one)):
        high: Any = mine.get("maximum")
        low: Any = theirs.get("minimum")
        if _is_number(high) and _is_number(low) and high < low:
            return True
    return False
