"""Answers as plain text, for standard output that is no live terminal."""

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncyte.cli._output import Record


class PlainText:
    """Prints each answer as it finishes, under its prompt if `titles`; failures go to standard error.

    A terminal gets printable text; a file or a pipe gets the text as it is.
    """

    def __init__(self, *, titles: bool) -> None:
        self._titles = titles
        self._safe = printable if sys.stdout.isatty() else str

    def write(self, record: Record) -> None:
        prompt = " ".join(str(record["prompt"]).split())
        if "error" in record:
            print(printable(f"{prompt:.80}: {failure(record)}"), file=sys.stderr)
            return
        if self._titles:
            print(f"==> {self._safe(prompt)} <==")
        print(self._safe(body(record)) + "\n" * self._titles, flush=True)


class Discard:
    """Takes records and does nothing with them: the display has shown them."""

    def write(self, record: Record) -> None:
        pass


def failure(record: Record) -> str:
    """`ValueError: what was wrong` of a failed record."""
    error = record["error"]
    return f"{error['type']}: {error['message']}"


def body(record: Record) -> str:
    """An answer's text without empty lines around it, or its value as JSON."""
    text = record.get("text")
    if text is None:
        return json.dumps(record.get("result"), ensure_ascii=False, indent=2)
    return str(text).strip("\n")


def printable(text: str) -> str:
    """The text with characters that could steer a terminal made visible."""
    return text.translate(_CONTROLS)


_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160)) if chr(code) not in "\n\t"
}
