"""Records on disk: whole lines only, taken up again after a kill, never lost by a mistake."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from syncyte.cli import _output
from syncyte.cli._arguments import CommandError
from syncyte.cli._inputs import Input


def answer(index: int, **more: Any) -> dict[str, Any]:
    return {"index": index, "prompt": f"p{index}", "text": f"t{index} ä"} | more


def failure(index: int) -> dict[str, Any]:
    return {"index": index, "prompt": f"p{index}", "error": {"type": "ValueError", "message": "no"}}


def lines(*records: dict[str, Any]) -> bytes:
    return b"".join(map(_output.to_line, records))


def take_up(path: Path) -> tuple[list[int], bytes]:
    """(indexes answered of 0 to 9, what the file holds then)."""
    output, answered = _output.open_file(str(path), resume=True, overwrite=False)
    output.close()
    return [index for index in range(10) if Input(index, f"p{index}") in answered], path.read_bytes()


def test_records_are_lines_of_utf8_json() -> None:
    assert _output.to_line({"text": "ä\n"}) == '{"text": "ä\\n"}\n'.encode()
    assert json.loads(_output.to_line({"text": "\udcff"})) == {"text": "\udcff"}
    with pytest.raises(ValueError, match="JSON"):
        _output.to_line({"result": float("nan")})


def test_every_record_is_on_disk_when_write_returns(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    output, _ = _output.open_file(str(path), resume=False, overwrite=False)
    for count in range(1, 4):
        output.write(answer(count))
        assert len(path.read_bytes().splitlines()) == count
    output.close()


def test_resume_of_nothing_starts_a_file(tmp_path: Path) -> None:
    assert take_up(tmp_path / "new.jsonl") == ([], b"")


def test_resume_keeps_answers_and_drops_failures(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(lines(answer(3), failure(1), answer(0), failure(2)))
    path.chmod(0o640)
    assert take_up(path) == ([0, 3], lines(answer(3), answer(0)))
    assert path.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]


def test_resume_survives_a_kill_at_any_byte(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    whole = lines(answer(0), answer(1))
    first = lines(answer(0))
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        found, kept = take_up(path)
        complete = [index for index, end in enumerate((len(first), len(whole))) if cut >= end - 1]
        assert found == complete
        assert kept == lines(*map(answer, complete))


def test_resume_follows_a_symbolic_link(tmp_path: Path) -> None:
    target = tmp_path / "real.jsonl"
    target.write_bytes(lines(failure(0), answer(1)))
    link = tmp_path / "link.jsonl"
    link.symlink_to(target)
    assert take_up(link) == ([1], lines(answer(1)))
    assert link.is_symlink()


def test_an_id_stands_for_its_input_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(lines(answer(0, id="a"), answer(1)))
    output, answered = _output.open_file(str(path), resume=True, overwrite=False)
    output.close()
    assert Input(5, "p0", id="a") in answered
    assert Input(0, "p0") not in answered
    assert Input(1, "p1") in answered
    assert Input(1, "other") not in answered
    assert Input(2, "p1") not in answered


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    text = lines(answer(0)) + b"my notes\n" + lines(answer(1))
    path.write_bytes(text)
    with pytest.raises(CommandError, match="no output of `syncyte run`") as caught:
        take_up(path)
    assert caught.value.status == 2
    assert path.read_bytes() == text


def test_answers_are_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(lines(answer(0)))
    with pytest.raises(CommandError, match="--resume goes on where it ends"):
        _output.open_file(str(path), resume=False, overwrite=False)
    output, answered = _output.open_file(str(path), resume=False, overwrite=True)
    output.close()
    assert (path.read_bytes(), len(answered)) == (b"", 0)


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    first, _ = _output.open_file(str(path), resume=False, overwrite=False)
    with pytest.raises(CommandError, match="another run is writing"):
        _output.open_file(str(path), resume=True, overwrite=False)
    first.close()
    second, _ = _output.open_file(str(path), resume=True, overwrite=False)
    second.close()


def test_a_resumed_file_is_locked_too(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(lines(failure(0), answer(1)))
    output, _ = _output.open_file(str(path), resume=True, overwrite=False)
    with path.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    output.close()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("gone/out.jsonl", "the folder .*gone does not exist"),
        ("", "it is a directory"),
        ("file/out.jsonl", "is not a folder"),
    ],
)
def test_a_place_that_takes_no_file_is_named(tmp_path: Path, place: str, said: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match=said) as caught:
        _output.open_file(str(tmp_path / place), resume=False, overwrite=False)
    assert caught.value.status == 2


def test_a_read_only_place_is_named() -> None:
    with pytest.raises(CommandError, match=r"cannot write /proc/out.jsonl"):
        _output.open_file("/proc/out.jsonl", resume=False, overwrite=False)


def test_a_full_disk_is_an_error_that_says_so() -> None:
    output, _ = _output.open_file("/dev/full", resume=False, overwrite=False)
    with pytest.raises(_output.OutputError, match="cannot write to /dev/full: the disk is full"):
        output.write(answer(0))
    output.close()


def test_a_record_half_written_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    output, _ = _output.open_file(str(path), resume=False, overwrite=False)
    output.write(answer(0))
    real_write = os.write
    calls = []

    def short_write(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return real_write(descriptor, data[:7])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_output.os, "write", short_write)
    with pytest.raises(_output.OutputError):
        output.write(answer(1))
    monkeypatch.undo()
    output.close()
    assert path.read_bytes() == lines(answer(0))


def test_a_device_is_written_but_not_resumed() -> None:
    output, _ = _output.open_file("/dev/null", resume=False, overwrite=False)
    output.write(answer(0))
    output.close()
    with pytest.raises(CommandError, match="needs a regular file"):
        _output.open_file("/dev/null", resume=True, overwrite=False)
