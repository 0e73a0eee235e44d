"""Ranges of numbers as GBNF."""

from contextlib import suppress
from math import ceil, floor

from syncyte._structured import gbnf

# Beyond what a bound demands, a whole number has at most so many digits: the doubles of most readers of JSON
# keep those exactly.
_DIGITS = 16
_FRACTION = '"." [0-9]{0,5} [1-9]'
# Up to here a double tells a number with such a fraction from the whole number beside it.
_MOST_EXACT = 10**8
_MOST_BOUND = 10**100


class EmptyRangeError(ValueError):
    """No number lies between the bounds, or none that can be expressed."""


def integers(low: int | None, high: int | None) -> str:
    """Whole numbers from low to high, both included; None: no bound."""
    if low is not None and high is not None and low > high:
        raise EmptyRangeError
    if any(bound is not None and abs(bound) > _MOST_BOUND for bound in (low, high)):
        raise EmptyRangeError
    parts: list[str] = []
    if low is None or low < 0:
        least = 1 if high is None else max(1, -high)
        parts.append(f'"-" {gbnf.either(_counting(least, None if low is None else -low))}')
    if high is None or high >= 0:
        parts += _counting(max(0, low or 0), high)
    return gbnf.either(parts)


def numbers(low: float | None, high: float | None, above: float | None, below: float | None) -> str:
    """Numbers, whole and with fractions, from low to high, and strictly above and below the others.

    Those with a fraction lie between whole numbers that the bounds include.
    """
    first = _lowest(low, above)
    last = _highest(high, below)
    parts: list[str] = []
    with suppress(EmptyRangeError):
        parts.append(integers(first[0], last[0]))
    # From k to k + 1, both left out: allowed where both are within the bounds, or are bounds left out.
    least, most = first[1], last[1]
    if any(bound is not None and abs(bound) > _MOST_EXACT for bound in (least, most)):
        if not parts:
            raise EmptyRangeError
        return gbnf.either(parts)
    if least is None or least < 0:
        nearest = 0 if most is None else max(0, -most)
        farthest = None if least is None else -least - 1
        if farthest is None or farthest >= nearest:
            parts.append(f'"-" {gbnf.either(_counting(nearest, farthest))} {_FRACTION}')
    if most is None or most > 0:
        start, end = max(0, least or 0), None if most is None else most - 1
        if end is None or end >= start:
            parts.append(f"{gbnf.either(_counting(start, end))} {_FRACTION}")
    if not parts:
        raise EmptyRangeError
    return gbnf.either(parts)


def _lowest(low: float | None, above: float | None) -> tuple[int | None, int | None]:
    """The lowest whole number allowed, and the lowest that numbers with a fraction may follow on."""
    wholes = [] if low is None else [ceil(low)]
    fractions = list(wholes)
    if above is not None:
        wholes.append(floor(above) + 1)
        fractions.append(ceil(above))
    return max(wholes, default=None), max(fractions, default=None)


def _highest(high: float | None, below: float | None) -> tuple[int | None, int | None]:
    wholes = [] if high is None else [floor(high)]
    fractions = list(wholes)
    if below is not None:
        wholes.append(ceil(below) - 1)
        fractions.append(floor(below))
    return min(wholes, default=None), min(fractions, default=None)


def _counting(low: int, high: int | None) -> list[str]:
    """Alternatives for low to high, neither below 0, without leading zeros."""
    if high is None:
        length = len(str(low))
        top = 10**length - 1
        more = max(_DIGITS - 1, length)
        return [*_counting(low, top), f"[1-9] {gbnf.repeated('[0-9]', length, more)}"]
    parts: list[str] = []
    for length in range(len(str(low)), len(str(high)) + 1):
        least = max(low, 0 if length == 1 else 10 ** (length - 1))
        most = min(high, 10**length - 1)
        parts += _same_length(str(least), str(most))
    return parts


def _same_length(low: str, high: str) -> list[str]:
    if low == high:
        return [gbnf.literal(low)]
    rest = len(low) - 1
    if low[1:] == "0" * rest and high[1:] == "9" * rest:
        digit = gbnf.one_of([(ord(low[0]), ord(high[0]))])
        return [f"{digit} {gbnf.repeated('[0-9]', rest, rest)}" if rest else digit]
    if low[0] == high[0]:
        return [f"{gbnf.literal(low[0])} {gbnf.either(_same_length(low[1:], high[1:]))}"]
    parts: list[str] = []
    first, last = low[0], high[0]
    if low[1:] != "0" * rest:
        parts.append(f"{gbnf.literal(first)} {gbnf.either(_same_length(low[1:], '9' * rest))}")
        first = chr(ord(first) + 1)
    tail: list[str] = []
    if high[1:] != "9" * rest:
        tail.append(f"{gbnf.literal(last)} {gbnf.either(_same_length('0' * rest, high[1:]))}")
        last = chr(ord(last) - 1)
    if first <= last:
        digit = gbnf.one_of([(ord(first), ord(last))])
        parts.append(f"{digit} {gbnf.repeated('[0-9]', rest, rest)}")
    return parts + tail
