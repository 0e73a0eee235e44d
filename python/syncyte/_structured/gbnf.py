"""Pieces of GBNF text: literals, character classes, repetitions, and sets of code points."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

type Ranges = list[tuple[int, int]]

LAST = 0x10FFFF

# What the engine takes in {n,m}.
MOST_REPEATS = 100_000

# As JSON writes what cannot stand in its strings as it is.
_SHORT = {0x22: '\\"', 0x5C: "\\\\", 0x08: "\\b", 0x0C: "\\f", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}


def literal(text: str) -> str:
    """The text itself."""
    return '"' + "".join(map(_escaped, map(ord, text))) + '"'


def _escaped(code: int) -> str:
    character = chr(code)
    if code < 0x80:
        return character if character.isalnum() or character in " :,.{}_/=<>" else f"\\x{code:02X}"
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def _in_class(code: int) -> str:
    character = chr(code)
    if code < 0x80:
        return character if character.isalnum() else f"\\x{code:02X}"
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def one_of(ranges: Iterable[tuple[int, int]]) -> str:
    """A character class. Surrogates are no characters: ranges over them are cut."""
    parts: list[str] = []
    for first, last in ranges:
        for low, high in ((first, min(last, 0xD7FF)), (max(first, 0xE000), last)):
            if low <= high and not 0xD800 <= low <= 0xDFFF:
                parts.append(_in_class(low) if low == high else f"{_in_class(low)}-{_in_class(high)}")
    return f"[{''.join(parts)}]"


def either(parts: Iterable[str]) -> str:
    """Alternatives, in parentheses where there are several."""
    listed = list(dict.fromkeys(parts))
    return listed[0] if len(listed) == 1 else f"({' | '.join(listed)})"


def repeated(part: str, least: int, most: int | None) -> str:
    """The part, several times. It must be one item: a class, a literal, a rule or in parentheses."""
    if most == 0:
        return '""'
    if (least, most) == (1, 1):
        return part
    return f"{part}{{{least},{'' if most is None else most}}}"


def normalised(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted, and joined where they touch."""
    result: Ranges = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], high))
        else:
            result.append((low, high))
    return result


def without(ranges: Iterable[tuple[int, int]], removed: Iterable[tuple[int, int]]) -> Ranges:
    """The code points of the first that are not of the second."""
    result = normalised(ranges)
    for low, high in removed:
        halves = [half for a, b in result for half in ((a, min(b, low - 1)), (max(a, high + 1), b))]
        result = [(a, b) for a, b in halves if a <= b]
    return result


def in_json(ranges: Ranges) -> str:
    """One character of the set as it stands inside a JSON string, escaped where it has to be."""
    parts: list[str] = []
    plain = without(ranges, [(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)])
    if plain:
        parts.append(one_of(plain))
    for code in (*range(0x20), 0x22, 0x5C):
        if any(low <= code <= high for low, high in ranges):
            parts.append(literal(_SHORT.get(code, f"\\u{code:04x}")))
    return either(parts) if parts else "[]"
