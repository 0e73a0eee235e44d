"""The options of a generation: one table for the command line and for the lines of a JSONL input."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncyte.cli._arguments import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Option:
    """One option: its name in Python, the type and limits of its value, its help line."""

    __slots__ = ("help", "high", "kind", "low", "metavar", "name")

    def __init__(
        self, name: str, kind: type, metavar: str, help: str, low: float = 0, high: float | None = None
    ) -> None:
        self.name = name
        self.kind = kind
        self.metavar = metavar
        self.help = help
        self.low = low
        self.high = high

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def check(self, value: object) -> object:
        """The value as this option takes it; ValueError says what it should have been."""
        if self.kind is bool:
            if not isinstance(value, bool):
                raise ValueError(f"{self.name} has to be true or false, not {value!r}")
            return value
        if self.kind is str:
            return self._check_strings(value)
        whole = self.kind is int
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            kind = "whole number" if whole else "number"
            raise ValueError(f"{self.name} has to be a {kind}, not {value!r}")  # noqa: TRY004
        if not self.low <= value or (self.high is not None and value > self.high):
            limits = f"at least {self.low:g}" if self.high is None else f"from {self.low:g} to {self.high:g}"
            raise ValueError(f"{self.name} has to be {limits}, not {value!r}")
        return value

    def _check_strings(self, value: object) -> tuple[str, ...]:
        strings = (value,) if isinstance(value, str) else value
        if not isinstance(strings, (list, tuple)) or not all(isinstance(one, str) for one in strings):
            raise ValueError(f"{self.name} has to be a string or a list of strings, not {value!r}")
        if "" in strings:
            raise ValueError(f"{self.name} has an empty string in it, which would stop every answer at once")
        return tuple(strings)

    def convert(self, text: str) -> object:
        """The value of a command line argument."""
        try:
            return self.check(text if self.kind is str else self.kind(text))
        except ValueError as error:
            reason = str(error)
            if not reason.startswith(self.name):
                reason = f"{text!r} is not a {'whole ' * (self.kind is int)}number"
            raise argparse.ArgumentTypeError(reason) from None


options: tuple[Option, ...] = (
    Option("max_tokens", int, "N", "at most N tokens in an answer (default 128)", low=1),
    Option("temperature", float, "T", "0 takes the likeliest token each time; higher is more varied"),
    Option("top_p", float, "P", "sample from the smallest set of tokens with probability P", high=1),
    Option("top_k", int, "K", "sample from the K likeliest tokens; 0 for all"),
    Option("min_p", float, "P", "drop tokens less likely than P times the likeliest", high=1),
    Option("repeat_penalty", float, "R", "above 1 makes repetition less likely (1: off)"),
    Option("frequency_penalty", float, "P", "from -2 to 2: lowers what was there, each time", low=-2, high=2),
    Option("presence_penalty", float, "P", "from -2 to 2: lowers what was there, once", low=-2, high=2),
    Option("typical_p", float, "P", "sample from the tokens about as likely as is to be expected", high=1),
    Option(
        "mirostat",
        int,
        "V",
        "1 or 2: keep the surprise of the text even, instead of by top-k and so on",
        high=2,
    ),
    Option("seed", int, "N", "the same seed gives the same answers", high=2**32 - 1),
    Option("speculate", int, "N", "guess at most N tokens ahead; 0: none (default)", high=64),
    Option("stop", str, "TEXT", "end an answer before TEXT; can be given more than once"),
    Option("ignore_eos", bool, "", "go on when the model says it is done, up to --max-tokens"),
)


class Shape(Option):
    """One option that says what an answer has to be. On the command line some are read from a file."""

    __slots__ = ("read",)

    def __init__(
        self, name: str, kind: type, metavar: str, help: str, read: Callable[[str], object] | None = None
    ) -> None:
        super().__init__(name, kind, metavar, help)
        self.read = read

    def check(self, value: object) -> object:
        """The value, once a grammar can be made of it."""
        from syncyte import _core
        from syncyte._structured.resolve import grammar_of

        try:
            grammar = grammar_of(self.name, value)
            if grammar is not None:
                _core._check_grammar(grammar)
        except TypeError as error:
            raise ValueError(str(error)) from None
        return value

    def convert(self, text: str) -> object:
        """The value of a command line argument."""
        try:
            return self.check(self.read(text) if self.read else text)
        except (ValueError, OSError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None


def _text_of_file(path: str) -> str:
    return Path(path).read_text("utf-8")


def _json_of_file(path: str) -> object:
    import json

    return json.loads(_text_of_file(path))


shapes: tuple[Shape, ...] = (
    Shape("json_schema", dict, "FILE", "answers are JSON that satisfies the schema in FILE", _json_of_file),
    Shape("json_object", bool, "", "answers are JSON objects"),
    Shape("grammar", str, "FILE", "answers follow the grammar in FILE (GBNF)", _text_of_file),
    Shape("choices", list, "A,B", "answers are one of these texts", lambda text: text.split(",")),
)

by_name: dict[str, Option] = {option.name: option for option in (*options, *shapes)}


def add_to(group: argparse._ArgumentGroup) -> None:
    """Adds all sampling options to a group of a parser."""
    for option in options:
        if option.kind is bool:
            group.add_argument(option.flag, action="store_true", default=None, help=option.help)
        elif option.kind is str:
            group.add_argument(
                option.flag, metavar=option.metavar, action="append", type=_not_empty, help=option.help
            )
        else:
            group.add_argument(option.flag, metavar=option.metavar, type=option.convert, help=option.help)


def add_shapes_to(group: argparse._ArgumentGroup) -> None:
    """Adds the options that say what an answer has to be; one of them can be given."""
    only_one = group.add_mutually_exclusive_group()
    for shape in shapes:
        if shape.kind is bool:
            only_one.add_argument(shape.flag, action="store_true", default=None, help=shape.help)
        else:
            only_one.add_argument(shape.flag, metavar=shape.metavar, type=shape.convert, help=shape.help)


def _not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("an empty string would stop every answer at once")
    return text


def chosen(arguments: argparse.Namespace) -> dict[str, Any]:
    """The sampling options the command line gave, ready to be keyword arguments of a generation."""
    given: dict[str, Any] = {}
    for option in by_name.values():
        value = getattr(arguments, option.name, None)
        if value is not None:
            given[option.name] = tuple(value) if option.name == "stop" else value
    return given


def from_line(line: Mapping[str, object]) -> dict[str, Any]:
    """The sampling options of one JSONL object.

    Other fields are none of ours and stay unread, except one that looks like a mistyped option:
    ValueError then names the right spelling, as it does for a value of the wrong type.
    """
    given: dict[str, Any] = {}
    for name, value in line.items():
        if name in ("id", "prompt"):
            continue
        option = by_name.get(name)
        if option is not None:
            if value is not None:
                given[name] = option.check(value)
        elif hint := _mistyped(name):
            raise ValueError(f"unknown option {name!r}{hint}")
    return given


def _mistyped(name: str) -> str:
    plain = name.replace("-", "_").lower()
    if plain in by_name:
        return f": did you mean {plain!r}?"
    return did_you_mean(plain, by_name) if "_" in plain else ""
