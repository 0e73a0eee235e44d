"""Regular expressions of JSON Schema as GBNF, for the inside of a JSON string.

What comes out matches a part of what the expression matches, never more, under ECMAScript's rules and under
Python's: shorthands mean their ASCII characters, `.` no kind of line end.
"""

from syncyte._structured import gbnf
from syncyte._structured.gbnf import LAST, Ranges, normalised, without

_DIGITS: Ranges = [(0x30, 0x39)]
_WORD: Ranges = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
_SPACE: Ranges = [(0x09, 0x0D), (0x20, 0x20)]
_ASCII: Ranges = [(0, 0x7F)]
_SHORTHANDS: dict[str, Ranges] = {
    "d": _DIGITS,
    "w": _WORD,
    "s": _SPACE,
    "D": without(_ASCII, _DIGITS),
    "W": without(_ASCII, _WORD),
    "S": without(_ASCII, [*_SPACE, (0x1C, 0x1F)]),
}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_DOT: Ranges = without([(0, LAST)], [(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)])
_DEEPEST = 50


class PatternError(ValueError):
    """The expression is wrong, or says what a grammar cannot."""


def convert(pattern: str, anything: str) -> str:
    """GBNF of the strings, without their quotes, in which the expression is found.

    ``anything``: the name of a rule for one character of a JSON string.
    """
    return _Parser(pattern, anything).whole()


class _Parser:
    def __init__(self, pattern: str, anything: str) -> None:
        self._text = pattern
        self._at = 0
        self._anything = anything

    def whole(self) -> str:
        alternatives = [self._anchored()]
        while self._take("|"):
            alternatives.append(self._anchored())
        if self._at < len(self._text):
            raise self._error("unmatched )")
        return gbnf.either(alternatives)

    def _anchored(self) -> str:
        start = "" if self._take("^") else f"{self._anything}*"
        inner = self._sequence(0)
        end = "" if self._take("$") else f"{self._anything}*"
        if self._peek() not in ("", "|", ")"):
            raise self._error("$ before the end of an alternative")
        return " ".join(part for part in (start, inner, end) if part) or '""'

    def _alternatives(self, depth: int) -> str:
        alternatives = [self._sequence(depth) or '""']
        while self._take("|"):
            alternatives.append(self._sequence(depth) or '""')
        return f"({' | '.join(alternatives)})"

    def _sequence(self, depth: int) -> str:
        parts: list[str] = []
        while (here := self._peek()) not in ("", "|", ")"):
            if here == "$" and depth == 0:
                break
            parts.append(self._quantified(self._item(depth)))
        return " ".join(parts)

    def _item(self, depth: int) -> str:
        here = self._peek()
        if here == "(":
            return self._group(depth)
        if here == "[":
            return gbnf.in_json(self._class())
        if here == "\\":
            return gbnf.in_json(self._escape()[0])
        if here in ("^", "$"):
            raise self._error(f"{here} inside a group or an alternative")
        if here in ("*", "+", "?"):
            raise self._error(f"nothing before {here}")
        if here in ("{", "}", "]"):
            raise self._error(f"{here} that is not escaped")
        self._at += 1
        return gbnf.in_json(_DOT if here == "." else [(ord(here), ord(here))])

    def _group(self, depth: int) -> str:
        if depth >= _DEEPEST:
            raise self._error("groups nested too deeply")
        self._at += 1
        if self._take("?"):
            if self._take(":"):
                pass
            elif self._take("<") or self._take("P<"):
                if self._peek() in ("=", "!"):
                    raise self._error("look-behind, which cannot be expressed")
                end = self._text.find(">", self._at)
                if end < 0:
                    raise self._error("a group's name without >")
                self._at = end + 1
            else:
                kind = "look-ahead" if self._peek() in ("=", "!") else f"(?{self._peek()}"
                raise self._error(f"{kind}, which cannot be expressed")
        inner = self._alternatives(depth + 1)
        if not self._take(")"):
            raise self._error("a group without )")
        return inner

    def _quantified(self, item: str) -> str:
        here = self._peek()
        if here in ("*", "+", "?"):
            self._at += 1
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[here]
        elif here == "{":
            self._at += 1
            least = self._number()
            most = least
            if self._take(","):
                most = None if self._peek() == "}" else self._number()
            if not self._take("}"):
                raise self._error("a repetition that is not {n}, {n,} or {n,m}")
            if most is not None and most < least:
                raise self._error("a repetition {n,m} with n above m")
        else:
            return item
        self._take("?")  # lazy: the same strings
        if self._peek() in ("*", "+", "{", "?"):
            raise self._error("a repetition of a repetition")
        return f"({gbnf.repeated(item, least, most)})"

    def _number(self) -> int:
        start = self._at
        while self._peek().isascii() and self._peek().isdigit():
            self._at += 1
        digits = self._text[start : self._at]
        if not digits or len(digits) > 6 or int(digits) > gbnf.MOST_REPEATS:
            raise self._error(f"a repetition that is not a number up to {gbnf.MOST_REPEATS}")
        return int(digits)

    def _class(self) -> Ranges:
        self._at += 1
        negated = self._take("^")
        ranges: Ranges = []
        shorthand = False
        if self._peek() == "]":
            raise self._error("an empty class")
        while not self._take("]"):
            low, several = self._member()
            shorthand = shorthand or several
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high, several_too = self._member()
                if several or several_too or high[0][1] < low[0][0]:
                    raise self._error("a range that is none")
                low = [(low[0][0], high[0][1])]
            ranges += low
        ranges = normalised(ranges)
        if negated:
            # What is a digit, a letter or a space beyond ASCII, nobody agrees on.
            ranges = without(_ASCII if shorthand else [(0, LAST)], ranges)
        if not ranges:
            raise self._error("a class without characters")
        return ranges

    def _member(self) -> tuple[Ranges, bool]:
        here = self._peek()
        if not here:
            raise self._error("a class without ]")
        if here == "\\":
            return self._escape(in_class=True)
        self._at += 1
        return [(ord(here), ord(here))], False

    def _escape(self, *, in_class: bool = False) -> tuple[Ranges, bool]:
        """The characters of an escape, and whether it is one of the shorthands."""
        name = self._text[self._at + 1 : self._at + 2]
        if name in _SHORTHANDS:
            self._at += 2
            return _SHORTHANDS[name], True
        if name in ("x", "u"):
            digits = self._text[self._at + 2 : self._at + (4 if name == "x" else 6)]
            if len(digits) < (2 if name == "x" else 4) or not all(
                c in "0123456789abcdefABCDEF" for c in digits
            ):
                raise self._error(f"\\{name} without its digits")
            self._at += 2 + len(digits)
            code = int(digits, 16)
        elif name in _CONTROLS:
            self._at += 2
            code = _CONTROLS[name]
        elif name == "b" and in_class:
            self._at += 2
            code = 8
        elif not name or name.isalnum():
            raise self._error(f"\\{name}, which cannot be expressed")
        else:
            self._at += 2
            code = ord(name)
        if 0xD800 <= code <= 0xDFFF:
            raise self._error("half a surrogate pair")
        return [(code, code)], False

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, wanted: str) -> bool:
        found = self._text.startswith(wanted, self._at)
        if found:
            self._at += len(wanted)
        return found

    def _error(self, what: str) -> PatternError:
        return PatternError(f"at character {self._at + 1}: {what}")
