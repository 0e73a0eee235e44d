"""Where answers go: JSONL records, one line each, on disk as soon as they are there."""

import errno
import fcntl
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncyte.cli._arguments import CommandError, usage_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from syncyte.cli._inputs import Input

type Record = dict[str, Any]


def to_line(record: Record) -> bytes:
    """One line of JSON. A record that JSON cannot hold raises ValueError."""
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(record, allow_nan=False).encode() + b"\n"


class OutputError(CommandError):
    """Records cannot be written any more (disk full, device gone). What was written stays."""


class JsonlOutput:
    """Writes records to a file descriptor, a whole line at a time, with no buffer of its own.

    A process killed at any moment leaves at most one incomplete last line behind.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self.written = 0
        self._descriptor = descriptor
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)

    def write(self, record: Record) -> None:
        """Appends one record. OutputError when it cannot be; a part of it is taken back where possible."""
        line = to_line(record)
        start = os.fstat(self._descriptor).st_size if self._regular else 0
        done = 0
        try:
            while done < len(line):
                done += os.write(self._descriptor, line[done:])
        except BrokenPipeError:
            raise
        except OSError as error:
            if done and self._regular:
                os.ftruncate(self._descriptor, start)
            raise OutputError(self._explain(error)) from None
        self.written += 1

    def _explain(self, error: OSError) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full" if error.errno == errno.ENOSPC else "the disk quota is used up"
        else:
            reason = error.strerror or str(error)
        return f"cannot write to {self.name}: {reason}"

    def close(self) -> None:
        """Closes a file that this object opened; standard output stays open."""
        if self._descriptor != 1:
            os.close(self._descriptor)


def open_file(path: str, *, resume: bool, overwrite: bool) -> tuple[JsonlOutput, Answered]:
    """Opens an output file for appending and reads what it answers already.

    Without `resume` the file has to be new, empty or a device, or `overwrite` is given. With it, error
    lines and a torn last line are taken out, since their inputs are tried again.
    """
    existed = Path(path).exists()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise usage_error(_cannot_open(path, error)) from None
    about = os.fstat(descriptor)
    answered = Answered()
    if not stat.S_ISREG(about.st_mode):
        if resume:
            raise usage_error(f"--resume needs a regular file, and {path} is none")
        return JsonlOutput(descriptor, path), answered
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise usage_error(f"another run is writing to {path}") from None
    if resume:
        descriptor = _take_up(path, descriptor, answered)
    elif existed and about.st_size and not overwrite:
        os.close(descriptor)
        raise usage_error(
            f"{path} has answers in it: --resume goes on where it ends, --overwrite starts it anew"
        )
    elif overwrite:
        os.ftruncate(descriptor, 0)
    return JsonlOutput(descriptor, path), answered


def _cannot_open(path: str, error: OSError) -> str:
    folder = Path(path).parent
    if isinstance(error, FileNotFoundError) and not folder.is_dir():
        return f"cannot write {path}: the folder {folder} does not exist"
    if isinstance(error, IsADirectoryError):
        return f"cannot write {path}: it is a directory; --output takes the name of a file"
    if isinstance(error, NotADirectoryError):
        return f"cannot write {path}: {folder} is not a folder"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        what = "is on a read-only file system" if error.errno == errno.EROFS else "may not be written by you"
        return f"cannot write {path}: the {'file' if Path(path).exists() else 'folder'} {what}"
    if error.errno == errno.ENOSPC:
        return f"cannot write {path}: the disk is full"
    return f"cannot write {path}: {error.strerror}"


class Answered:
    """The inputs that an output answers already: by id, or by place and prompt. 16 bytes each."""

    def __init__(self) -> None:
        self._keys: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, one: Input) -> bool:
        return one.prompt is not None and self._key(one.id, one.index, one.prompt) in self._keys

    def add(self, record: Record) -> None:
        """Notes that this record answers its input."""
        self._keys.add(self._key(record.get("id"), record.get("index"), record.get("prompt")))

    @staticmethod
    def _key(id: object, index: object, prompt: object) -> bytes:
        import hashlib

        key = ("id", id) if id is not None else ("at", index, prompt)
        text = json.dumps(key).encode()
        return hashlib.blake2b(text, digest_size=16).digest()


def _take_up(path: str, descriptor: int, answered: Answered) -> int:
    """Reads the records of an output; returns the descriptor to append to, of a file with answers alone."""
    kept_end = 0  # where the answers end, as long as nothing else came before
    whole = True
    for start, line in _stored_lines(descriptor):
        record = _read_record(line)
        if record is None:
            if not line.endswith(b"\n"):
                whole = False  # the line that a killed run was writing
                continue
            os.close(descriptor)
            raise usage_error(
                f"{path} is no output of `syncyte run`: the line at byte {start} is not a record. "
                "Nothing was changed."
            )
        if "error" in record:
            whole = False
            continue
        answered.add(record)
        if not line.endswith(b"\n"):
            whole = False  # complete but for its end; written again below
        elif whole:
            kept_end = start + len(line)
    if whole:
        return descriptor
    size = os.fstat(descriptor).st_size
    if not any(True for start, line in _stored_lines(descriptor, kept_end) if _answer(line)):
        # Only the tail has to go: that needs no second copy of the file.
        if size > kept_end:
            os.ftruncate(descriptor, kept_end)
        return descriptor
    return _write_answers_anew(path, descriptor)


def _write_answers_anew(path: str, descriptor: int) -> int:
    import shutil

    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for _, line in _stored_lines(descriptor):
                if _answer(line):
                    file.write(line.rstrip(b"\n") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(target, temporary)
        fresh = os.open(temporary, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        fcntl.flock(fresh, fcntl.LOCK_EX)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CommandError(
            f"cannot tidy {path} before going on: {error.strerror}. Nothing was changed."
        ) from None
    os.close(descriptor)
    return fresh


def _stored_lines(descriptor: int, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of a stored output; blank lines are left out."""
    os.lseek(descriptor, start, os.SEEK_SET)
    with open(descriptor, "rb", closefd=False) as file:
        for line in file:
            if line.strip():
                yield start, line
            start += len(line)


def _read_record(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError, RecursionError:
        return None
    return record if isinstance(record, dict) and "prompt" in record else None


def _answer(line: bytes) -> bool:
    record = _read_record(line)
    return record is not None and "error" not in record
