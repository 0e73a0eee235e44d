"""JSON Schema as GBNF: every finished answer is JSON that the schema accepts.

The grammar gives a part of what a schema allows. Properties come in the order in which the schema lists
them; others only where `additionalProperties` says so itself; likewise items beyond `prefixItems`. Between
tokens of JSON there is at most one space: a model that is left to fill lines fills them for long.
"""

from typing import TYPE_CHECKING, Any

from syncyte._structured import formats, gbnf, numbers, pattern
from syncyte._structured.merge import Merger, types_of
from syncyte._structured.problem import SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_DEEPEST = 100
_MOST_RULES = 100_000

_COMMON: dict[str, str] = {
    "ws": '" "?',
    "sp": '" "?',
    "value": "object | array | string | number | boolean | null",
    "object": '"{" ws (member ("," ws member)*)? ws "}"',
    "member": 'string ":" sp value',
    "array": '"[" ws (value ("," ws value)*)? ws "]"',
    "string": '"\\"" char* "\\""',
    "char": '[^\\x22\\x5C\\x00-\\x1F\\x7F] | "\\\\" (["\\x5C/bfnrt] | "u" code)',
    # Not half of a surrogate pair, which is no text.
    "code": "[0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}",
    "keychar": "[^\\x22\\x5C\\x00-\\x1F\\x7F]",
    "number": 'integer ("." [0-9]{1,15})? ([eE] [\\x2B\\x2D]? [0-9]{1,2})?',
    "integer": '"0" | "-"? [1-9] [0-9]{0,15}',
    "boolean": '"true" | "false"',
    "null": '"null"',
}
_NEEDS: dict[str, tuple[str, ...]] = {
    "value": ("object", "array", "string", "number", "boolean", "null"),
    "object": ("ws", "member"),
    "member": ("string", "sp", "value"),
    "array": ("ws", "value"),
    "string": ("char",),
    "char": ("code",),
    "number": ("integer",),
}


def any_json() -> str:
    """The grammar of any JSON object."""
    return _Converter(True).grammar("object")


def convert(schema: object) -> str:
    """The grammar of a schema. SchemaError names what cannot be expressed, and where it stands."""
    try:
        return _Converter(schema).grammar(None)
    except RecursionError:
        raise SchemaError("#", "is nested too deeply") from None


def convert_part(schema: object, prefix: str, rules: dict[str, str]) -> str:
    """An expression for a schema within a larger grammar, to whose ``rules`` it adds its own.

    ``prefix``: of the names of rules, another one for each part.
    """
    try:
        converter = _Converter(schema, prefix)
        body = converter.body()
    except RecursionError:
        raise SchemaError("#", "is nested too deeply") from None
    rules.update(converter.rules)
    return body


class _Converter:
    def __init__(self, schema: object, prefix: str = "") -> None:
        self._schema = schema
        self._prefix = prefix
        self._merger = Merger(schema)
        self._rules: dict[str, str] = {}
        self._references: dict[str, str] = {}
        self._depth = 0
        self._opening: list[str] = []  # references whose first character may still be anything
        self._by_type: dict[str, Callable[[dict[str, Any], str], str]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda _, __: self._common("boolean"),
            "null": lambda _, __: self._common("null"),
        }

    @property
    def rules(self) -> dict[str, str]:
        return self._rules

    def body(self) -> str:
        return self._convert(self._schema, "#")

    def grammar(self, root: str | None) -> str:
        body = self.body() if root is None else self._common(root)
        rules = {"root": body, **self._rules}
        return "".join(f"{name} ::= {text}\n" for name, text in rules.items())

    def _common(self, name: str) -> str:
        if name not in self._rules:
            self._rules[name] = _COMMON[name]
            for other in _NEEDS.get(name, ()):
                self._common(other)
        return name

    def _new_rule(self, body: str, kind: str = "r") -> str:
        if len(self._rules) > _MOST_RULES:
            raise SchemaError("#", "is too large")
        name = f"{kind}{self._prefix}{len(self._rules)}"
        self._rules[name] = body
        return name

    def _convert(self, schema: object, path: str) -> str:
        """An expression that may stand anywhere in a sequence."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise SchemaError(path, "is nested too deeply")
        try:
            return self._converted(schema, path)
        finally:
            self._depth -= 1

    def _converted(self, schema: object, path: str) -> str:
        if schema is False:
            raise SchemaError(path, "is false, which nothing satisfies")
        if isinstance(schema, dict) and (pointer := self._merger.lone_reference(schema)) is not None:
            return self._reference(pointer, path)
        plain = self._merger.simplified(schema, path)
        if not plain:
            return self._common("value")
        for keyword in ("anyOf", "oneOf"):
            if keyword in plain:
                return self._alternatives(plain, keyword, path)
        if "enum" in plain:
            return self._values(plain, path)
        found = types_of(plain)
        if found is None:
            return self._common("value")
        if not found:
            raise SchemaError(path, "has no type that satisfies all of it")
        opening, self._opening = self._opening, []  # what is within them comes after a bracket
        body = gbnf.either(self._by_type[name](plain, path) for name in found)
        self._opening = opening
        return body

    def _reference(self, pointer: str, path: str) -> str:
        if pointer in self._opening:
            raise SchemaError(path, f"$ref to {pointer!r} leads back to itself before any value begins")
        name = self._references.get(pointer)
        if name is None:
            target = self._merger.resolve(pointer, path)
            name = self._references[pointer] = self._new_rule("", "ref")
            self._opening.append(pointer)
            self._rules[name] = self._convert(target, pointer)
            self._opening.pop()
        return name

    def _alternatives(self, schema: dict[str, Any], keyword: str, path: str) -> str:
        rest = {key: value for key, value in schema.items() if key != keyword}
        parts: list[object] = [
            self._merger.merged(rest, part, f"{path}/{keyword}/{index}") if rest else part
            for index, part in enumerate(schema[keyword])
        ]
        # What nothing satisfies is no alternative.
        possible = [(i, part) for i, part in enumerate(parts) if part is not False]
        if not possible:
            raise SchemaError(path, f"{keyword} has no alternative that can be satisfied")
        if keyword == "oneOf":
            self._merger.check_apart([part for _, part in possible], path)
        return gbnf.either(self._convert(part, f"{path}/{keyword}/{index}") for index, part in possible)

    def _values(self, schema: dict[str, Any], path: str) -> str:
        import json

        values = self._merger.enumerated(schema, path)
        try:
            texts = [json.dumps(value, ensure_ascii=False, allow_nan=False) for value in values]
            "".join(texts).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise SchemaError(path, f"enum or const has a value that is not JSON: {error}") from None
        return gbnf.either(map(gbnf.literal, texts))

    # Strings

    def _string(self, schema: dict[str, Any], path: str) -> str:
        given: list[str] = [name for name in ("pattern", "format") if name in schema]
        least, most = _bounds(schema, "minLength", "maxLength", path)
        if least or most is not None:
            given.append("minLength" if least else "maxLength")
        if len(given) > 1:
            raise SchemaError(path, f"keywords {given[0]!r} and {given[1]!r} together cannot be expressed")
        if "pattern" in schema:
            return self._pattern(schema["pattern"], path)
        if "format" in schema:
            name = schema["format"]
            if not isinstance(name, str) or name not in formats.rules:
                known = ", ".join(formats.rules)
                raise SchemaError(
                    path, f"keyword 'format' cannot be expressed for {name!r}; known are {known}"
                )
            return f'"\\"" {formats.add_to(self._rules, name)} "\\""'
        if not given:
            return self._common("string")
        return f'"\\"" {gbnf.repeated(self._common("char"), least, most)} "\\""'

    def _pattern(self, expression: object, path: str) -> str:
        if not isinstance(expression, str):
            raise SchemaError(path, "keyword 'pattern' must be a string")
        try:
            inner = pattern.convert(expression, self._common("char"))
        except pattern.PatternError as error:
            raise SchemaError(path, f"keyword 'pattern' cannot be expressed: {error}") from None
        return self._new_rule(f'"\\"" {inner} "\\""', "pattern")

    # Numbers

    def _integer(self, schema: dict[str, Any], path: str) -> str:
        low, high, above, below = _number_bounds(schema, path)
        if schema.get("multipleOf", 1) != 1:
            raise SchemaError(path, "keyword 'multipleOf' cannot be expressed")
        if low is high is above is below is None:
            return self._common("integer")
        try:
            first = numbers._lowest(low, above)[0]
            last = numbers._highest(high, below)[0]
            return self._new_rule(numbers.integers(first, last), "integer")
        except numbers.EmptyRangeError:
            raise SchemaError(
                path, "minimum and maximum leave no whole number that can be expressed"
            ) from None

    def _number(self, schema: dict[str, Any], path: str) -> str:
        low, high, above, below = _number_bounds(schema, path)
        if "multipleOf" in schema:
            raise SchemaError(path, "keyword 'multipleOf' cannot be expressed")
        if low is high is above is below is None:
            return self._common("number")
        try:
            return self._new_rule(numbers.numbers(low, high, above, below), "number")
        except numbers.EmptyRangeError:
            raise SchemaError(path, "minimum and maximum leave no number that can be expressed") from None

    # Arrays

    def _array(self, schema: dict[str, Any], path: str) -> str:
        least, most = _bounds(schema, "minItems", "maxItems", path)
        if schema.get("uniqueItems") and (most is None or most > 1):
            raise SchemaError(path, "keyword 'uniqueItems' cannot be expressed")
        prefix = schema.get("prefixItems", [])
        items = schema.get("items", None if "prefixItems" in schema else True)
        if items is None:  # as additionalProperties: beyond the known ones, only what has to be there
            items = True
            most = max(least, len(prefix)) if most is None else min(most, max(least, len(prefix)))
        if most is not None:
            prefix = prefix[:most]
        fixed = [self._convert(part, f"{path}/prefixItems/{i}") for i, part in enumerate(prefix)]
        least = max(0, least - len(fixed))
        most = None if most is None else most - len(fixed)
        if items is False:
            if least > 0:
                raise SchemaError(path, "minItems demands more items than there may be")
            most = 0
        ws = self._common("ws")
        start = f' "," {ws} '.join(f"({part})" for part in fixed)
        if most == 0:
            return f'"[" {ws} {start} {ws} "]"'
        item = self._new_rule(self._convert(items, f"{path}/items"), "item")
        more = f'("," {ws} {item})'
        if fixed:
            return f'"[" {ws} {start} {gbnf.repeated(more, least, most)} {ws} "]"'
        listed = f"{item} {gbnf.repeated(more, max(0, least - 1), None if most is None else most - 1)}"
        return f'"[" {ws} {listed if least > 0 else f"({listed})?"} {ws} "]"'

    # Objects

    def _object(self, schema: dict[str, Any], path: str) -> str:
        properties: dict[str, Any] = dict(schema.get("properties", {}))
        required: list[str] = list(dict.fromkeys(schema.get("required", [])))
        additional = schema.get("additionalProperties", not properties and not required)
        for name in required:
            if name not in properties:
                extra = schema.get("additionalProperties", True)
                if extra is False:
                    raise SchemaError(path, f"required names {name!r}, which additionalProperties forbids")
                properties[name] = extra
        least, most = _bounds(schema, "minProperties", "maxProperties", path)
        if not properties and additional is not False:
            return self._map(additional, least, most, path)
        if least > len(required):
            raise SchemaError(path, "keyword 'minProperties' cannot be expressed")
        if most is not None and (most < len(properties) or additional is not False):
            raise SchemaError(path, "keyword 'maxProperties' cannot be expressed")
        ws = self._common("ws")
        pair = None
        if additional is not False:
            pair = self._additional_pair(additional, list(properties), path)
        # What may follow, from the last property to the first: with something in front, and with nothing.
        after = self._new_rule(f'("," {ws} {pair})*', "after") if pair else '""'
        first = f"({pair} {after})?" if pair else '""'
        for name, part in reversed(properties.items()):
            member = self._member(name, part, required, path)
            if member is None:
                continue
            if name in required:
                first = f"{member} {after}"
                after = self._new_rule(f'"," {ws} {member} {after}', "after")
            else:
                first = self._new_rule(f"{member} {after} | {first}", "first")
                after = self._new_rule(f'"," {ws} {member} {after} | {after}', "after")
        return f'"{{" {ws} {self._new_rule(first, "members")} {ws} "}}"'

    def _member(self, name: str, part: object, required: Iterable[str], path: str) -> str | None:
        import json

        if part is False:
            if name in required:
                raise SchemaError(path, f"requires {name!r}, which nothing satisfies")
            return None
        key = gbnf.literal(json.dumps(name, ensure_ascii=False))
        inner = self._convert(part, f"{path}/properties/{name}")
        return self._new_rule(f'{key} ":" {self._common("sp")} ({inner})', "member")

    def _map(self, additional: object, least: int, most: int | None, path: str) -> str:
        if least > 1:
            # The same key twice is one property only.
            raise SchemaError(path, "keyword 'minProperties' cannot be expressed")
        ws = self._common("ws")
        if most == 0:
            return f'"{{" {ws} "}}"'
        if additional is True and not least and most is None:
            return self._common("object")
        value = self._convert(additional, f"{path}/additionalProperties")
        pair = self._new_rule(f'{self._common("string")} ":" {self._common("sp")} ({value})', "pair")
        more = gbnf.repeated(f'("," {ws} {pair})', 0, None if most is None else most - 1)
        listed = f"{pair} {more}"
        return f'"{{" {ws} {listed if least else f"({listed})?"} {ws} "}}"'

    def _additional_pair(self, additional: object, names: list[str], path: str) -> str:
        value = self._convert(additional, f"{path}/additionalProperties")
        key = self._other_than(names)
        return self._new_rule(f'"\\"" {key} "\\"" ":" {self._common("sp")} ({value})', "pair")

    def _other_than(self, names: list[str]) -> str:
        """Keys, without their quotes, that are none of the names. They have no escapes to hide one in."""
        tree: dict[str, Any] = {}
        for name in names:
            node = tree
            for character in name:
                node = node.setdefault(character, {})
            node[""] = {}
        rest = self._common("keychar")

        def rule_of(node: dict[str, Any]) -> str:
            taken = [character for character in node if character]
            forbidden = [
                (0, 0x1F),
                (0x22, 0x22),
                (0x5C, 0x5C),
                (0x7F, 0x7F),
                *((ord(c), ord(c)) for c in taken),
            ]
            parts = [f"{gbnf.one_of(gbnf.without([(0, gbnf.LAST)], forbidden))} {rest}*"]
            for character in taken:
                if character >= " " and character not in '"\\\x7f':
                    parts.append(f"{gbnf.literal(character)} {rules[id(node[character])]}")
            if "" not in node:
                parts.append('""')
            return self._new_rule(" | ".join(parts), "key")

        # Longest names first: a node's rule names those below it.
        order: list[dict[str, Any]] = []
        todo = [tree]
        while todo:
            node = todo.pop()
            order.append(node)
            todo += [below for character, below in node.items() if character]
        rules: dict[int, str] = {}
        for node in reversed(order):
            rules[id(node)] = rule_of(node)
        return rules[id(tree)]


def _bounds(schema: dict[str, Any], low: str, high: str, path: str) -> tuple[int, int | None]:
    found: list[int | None] = []
    for name in (low, high):
        value = schema.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise SchemaError(path, f"keyword {name!r} must be a whole number from 0 on")
        if value is not None and value > gbnf.MOST_REPEATS:
            if name == low:
                raise SchemaError(path, f"keyword {name!r} above {gbnf.MOST_REPEATS} cannot be expressed")
            value = gbnf.MOST_REPEATS
        found.append(value)
    least, most = found[0] or 0, found[1]
    if most is not None and least > most:
        raise SchemaError(path, f"{low} is above {high}")
    return least, most


type _Bound = float | None


def _number_bounds(schema: dict[str, Any], path: str) -> tuple[_Bound, _Bound, _Bound, _Bound]:
    from math import isfinite

    found: list[float | None] = []
    for bound, strict in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        values: dict[str, Any] = {bound: schema.get(bound), strict: schema.get(strict)}
        if isinstance(values[strict], bool):  # as in older drafts: says how the bound is meant
            values = {bound: None, strict: values[bound]} if values[strict] else {**values, strict: None}
        for name, value in values.items():
            if value is not None and (
                not isinstance(value, (int, float)) or isinstance(value, bool) or not isfinite(value)
            ):
                raise SchemaError(path, f"keyword {name!r} must be a number")
        found += [values[bound], values[strict]]
    return found[0], found[2], found[1], found[3]
