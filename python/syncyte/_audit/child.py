"""Runs the child processes of an audit: one at a time for each caller, each within a time limit."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

# Set in every child. A module that starts an audit when it is imported would otherwise breed without end.
MARK = "SYNCYTE_AUDIT_CHILD"
_STDERR_TAIL = 16_384
# What would open a window, a browser or a debugger rather than fail.
_UNSET = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "PYTHONBREAKPOINT", "PYTHONSTARTUP")


@dataclass(slots=True)
class Outcome:
    """How a child ended and what it had said until then."""

    lines: list[dict[str, object]] = field(default_factory=list)
    status: int = 0  # negative: the signal that ended it
    timed_out: bool = False
    stderr: str = ""

    def get(self, key: str) -> object:
        """The value of the last line that has this key, or None."""
        return next((line[key] for line in reversed(self.lines) if key in line), None)

    @property
    def ended_well(self) -> bool:
        """Whether it ran to its end."""
        return not self.timed_out and self.status == 0

    def ending(self) -> str:
        """How it ended, in words."""
        if self.timed_out:
            return "hangs"
        if self.status < 0:
            name = signal.Signals(-self.status).name
            fatal = next(
                (line for line in self.stderr.splitlines() if line.startswith("Fatal Python error: ")), ""
            )
            words = fatal.removeprefix("Fatal Python error: ")
            return f"dies of {name}" + (f" ({words})" if words else "")
        return f"ends the process with status {self.status}"


class Children:
    """Starts children and ends them all when closed. Safe to use from several threads."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False
        self._environment = {name: value for name, value in os.environ.items() if name not in _UNSET} | {
            MARK: "1"
        }

    def run(self, task: dict[str, object]) -> Outcome:
        """Runs one task of trial.py to its end or its time limit."""
        # Should this process be killed, its children still end.
        task = {**task, "alarm": int(self._timeout) + 5}
        script = str(Path(__file__).with_name("trial.py"))
        with (
            tempfile.TemporaryFile() as stderr,
            tempfile.TemporaryDirectory(prefix="syncyte-audit-") as folder,
        ):
            with self._lock:
                if self._closed:
                    return Outcome(timed_out=True)
                child = subprocess.Popen(
                    [sys.executable, "-P", "-X", "faulthandler", script, json.dumps(task)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    cwd=folder,
                    env=self._environment,
                    start_new_session=True,
                )
                self._running.add(child)
            try:
                return self._wait(child, stderr)
            finally:
                with self._lock:
                    self._running.discard(child)
                child.wait()

    def _wait(self, child: subprocess.Popen[bytes], stderr: BinaryIO) -> Outcome:
        outcome = Outcome()
        try:
            said, _ = child.communicate(timeout=self._timeout)
        except subprocess.TimeoutExpired:
            outcome.timed_out = True
            _kill(child)
            said, _ = child.communicate()
        # The module may have left processes behind, in the child's session.
        _kill(child)
        outcome.status = child.returncode
        for line in said.splitlines():
            with contextlib.suppress(ValueError):
                outcome.lines.append(json.loads(line))
        stderr.seek(0, os.SEEK_END)
        stderr.seek(max(0, stderr.tell() - _STDERR_TAIL))
        outcome.stderr = stderr.read().decode(errors="replace")
        return outcome

    def close(self) -> None:
        """Ends what still runs; later calls of run return at once."""
        with self._lock:
            self._closed = True
            for child in self._running:
                _kill(child)


def _kill(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
