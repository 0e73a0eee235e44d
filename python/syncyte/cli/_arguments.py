"""What all commands share in reading their command line."""

import argparse
import sys
from typing import TYPE_CHECKING, Never

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class CommandError(Exception):
    """Ends a command with a message for the user and an exit status.

    The message is the whole text a user sees: no traceback goes with it.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def usage_error(message: str) -> CommandError:
    """The error for a command line that cannot be obeyed: exit status 2."""
    return CommandError(message, status=2)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean 'x'?` for the nearest known word, or an empty string when none is near."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f": did you mean {near[0]!r}?" if near else ""


class Parser(argparse.ArgumentParser):
    """An argument parser that names the nearest option for a mistyped one, and takes options anywhere."""

    def __init__(self, command: str, *, usage: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=f"syncyte {command}",
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=_Formatter,
            allow_abbrev=False,
            add_help=False,
        )

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parses the arguments, options and prompts in any order; exits with status 2 when they are wrong."""
        found, unknown = self.parse_known_intermixed_args(list(arguments))
        if unknown:
            options = [option for action in self._actions for option in action.option_strings]
            word = unknown[0].partition("=")[0]
            hint = did_you_mean(word, options)
            if not hint and word.startswith("-"):
                hint = " (a prompt that starts with '-' goes after `--`)"
            kind = "unknown option" if word.startswith("-") else "unexpected argument"
            self.error(f"{kind} {word!r}{hint}")
        return found

    def error(self, message: str) -> Never:
        """Says what is wrong in one line, and where help is."""
        print(f"{self.prog}: {message}\n`{self.prog} --help` explains the options.", file=sys.stderr)
        raise SystemExit(2)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Plain help: option names in one column, paragraphs kept as they were written."""

    def __init__(self, prog: str, **options: object) -> None:
        super().__init__(prog, max_help_position=26, width=100, **options)  # type: ignore[arg-type]


def whole_number(low: int, high: int | None = None) -> object:
    """An argument type: an integer from `low` to `high`."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if number < low or (high is not None and number > high):
            limits = f"at least {low}" if high is None else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"{number} is out of range: it has to be {limits}")
        return number

    return convert


def positive_seconds(text: str) -> float:
    """An argument type: a number of seconds above zero."""
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range: it has to be above 0")
    return seconds
