"""Where prompts come from: arguments, lines of text, lines of JSON. Read lazily, one line at a time."""

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncyte.cli import _sampling
from syncyte.cli._arguments import usage_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A longer line is no prompt; without a limit a file without line ends would be read whole.
MAX_LINE_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 16


class Input:
    """One input of a run. `error` says why it cannot be tried; its `prompt` may then be None."""

    __slots__ = ("error", "id", "index", "line", "options", "prompt")

    def __init__(
        self,
        index: int,
        prompt: str | None,
        *,
        id: str | int | None = None,
        options: dict[str, Any] | None = None,
        line: int | None = None,
        error: str | None = None,
    ) -> None:
        self.index = index  # its place in the run, from 0
        self.prompt = prompt
        self.id = id
        self.options = options or {}
        self.line = line  # its line in the input file, from 1
        self.error = error


class Source:
    """A file of prompts, opened now and read later. `path` "-" is standard input."""

    def __init__(self, path: str) -> None:
        self.name = "standard input" if path == "-" else path
        self.descriptor = 0
        self.jsonl: bool | None = None  # None: the first line that is not blank decides
        if path == "-":
            return
        if path.lower().endswith((".jsonl", ".ndjson")):
            self.jsonl = True
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise usage_error(f"there is no input file {path!r}") from None
        except OSError as error:
            raise usage_error(f"the input file {path!r} cannot be opened: {error.strerror}") from None
        if stat.S_ISDIR(os.fstat(self.descriptor).st_mode):
            os.close(self.descriptor)
            raise usage_error(f"the input {path!r} is a directory; it has to be a file of prompts")

    def close(self) -> None:
        """Closes the file. Standard input stays open."""
        if self.descriptor > 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def count(self) -> int | None:
        """How many prompts a regular file of up to 64 MB holds; None where counting is not cheap."""
        about = os.fstat(self.descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > 64 << 20 or self.descriptor == 0:
            return None
        with open(self.descriptor, "rb", closefd=False) as file:
            total = sum(1 for line in file if line.strip())
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        return total

    def read(self, first_index: int) -> Iterator[Input]:
        """The inputs of the file; a line that is none becomes an Input with an error."""
        index = first_index
        for number, line in enumerate(_lines(self.descriptor), 1):
            if number == 1 and line is not None:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line is not None and not line.strip():
                continue
            yield self._one(index, number, line)
            index += 1

    def _one(self, index: int, number: int, line: bytes | None) -> Input:
        if line is None:
            reason = f"line {number} of {self.name} is longer than {MAX_LINE_BYTES >> 20} MiB"
            return Input(index, None, line=number, error=reason)
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            what = f"byte 0x{line[error.start]:02x} at position {error.start + 1}"
            reason = f"line {number} of {self.name} is not UTF-8: {what}"
            return Input(index, line.decode(errors="replace"), line=number, error=reason)
        if self.jsonl is None:
            self.jsonl = _looks_like_jsonl(text)
        if not self.jsonl:
            return Input(index, text.strip("\r\n"), line=number)
        try:
            result = _from_json(index, number, text)
        except ValueError as error:
            result = Input(index, None, line=number, error=str(error))
        if result.error is not None:
            result.error = f"line {number} of {self.name}: {result.error}"
        return result


def _looks_like_jsonl(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        return "prompt" in json.loads(text)
    except ValueError, RecursionError:
        return False


def _from_json(index: int, number: int, text: str) -> Input:
    """The input of one JSONL line; ValueError when it is not even an object."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"malformed JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise ValueError("malformed JSON: nested too deeply") from None
    if isinstance(found, str):
        return Input(index, found, line=number)
    if not isinstance(found, dict):
        raise ValueError('it has to be an object such as {"prompt": "Tell me a joke"}')  # noqa: TRY004
    result = Input(index, None, line=number)
    try:
        result.id = _id_of(found)
        result.prompt = _prompt_of(found)
        result.options = _sampling.from_line(found)
    except ValueError as error:
        result.error = str(error)
    return result


def _id_of(found: dict[str, object]) -> str | int | None:
    given = found.get("id")
    if isinstance(given, bool) or not isinstance(given, (str, int, type(None))):
        raise ValueError(f'"id" has to be a string or a whole number, not {given!r:.80}')  # noqa: TRY004
    return given


def _prompt_of(found: dict[str, object]) -> str:
    if "prompt" not in found:
        raise ValueError('it has no "prompt"')
    prompt = found["prompt"]
    if not isinstance(prompt, str):
        raise ValueError(f'"prompt" has to be a string, not {prompt!r:.80}')  # noqa: TRY004
    return prompt


def _lines(descriptor: int) -> Iterator[bytes | None]:
    """The lines of a file descriptor without their ends, as soon as they are there; None for one too long.

    Reads the descriptor itself: a thread that sleeps in here holds no lock that the end of the process needs.
    """
    parts: list[bytes] = []  # of a line whose end has not come yet
    length = 0
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        *complete, rest = chunk.split(b"\n")
        for tail in complete:
            yield b"".join((*parts, tail)) if length <= MAX_LINE_BYTES else None
            parts.clear()
            length = 0
        if rest:
            length += len(rest)
            if length <= MAX_LINE_BYTES:
                parts.append(rest)
            else:
                parts.clear()
    if length:
        yield b"".join(parts) if length <= MAX_LINE_BYTES else None


def from_arguments(prompts: Sequence[str]) -> Iterator[Input]:
    """The prompts of the command line."""
    for index, prompt in enumerate(prompts):
        yield Input(index, prompt)


def all_inputs(prompts: Sequence[str], source: Source | None) -> Iterator[Input]:
    """The prompts of the command line, then those of the file, each checked for what no model takes."""
    from itertools import chain

    later = source.read(len(prompts)) if source is not None else ()
    for one in chain(from_arguments(prompts), later):
        if one.error is None and one.prompt is not None:
            one.error = _refuse(one.prompt)
        yield one


def _refuse(prompt: str) -> str | None:
    if not prompt.strip():
        return "the prompt is empty"
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        what = f"lone surrogate U+{ord(prompt[error.start]):04X} at position {error.start + 1}"
        return f"the prompt is not valid Unicode: {what}"
    return None


def split_positionals(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """(agent file or None, prompts). The first word is an agent file if it ends in .py and is no sentence."""
    if not words or not words[0].endswith(".py"):
        return None, list(words)
    first = words[0]
    if Path(first).is_file():
        return first, list(words[1:])
    if any(letter.isspace() for letter in first):
        return None, list(words)
    what = "is a directory" if Path(first).is_dir() else "does not exist"
    wanted = "a Python file with a function agent(prompt, model)"
    raise usage_error(f"the agent file {first!r} {what}; it has to be {wanted}")
