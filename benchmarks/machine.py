"""What machine this is, which versions run on it, and whether somebody else is using it."""

import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BUSY_CORES = 0.25
"""Processor time of others, in cores, from which timings are not to be believed."""

_ticks = os.sysconf("SC_CLK_TCK")


def _cpu_model() -> str:
    text = Path("/proc/cpuinfo").read_text()
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _vector_instructions() -> str | None:
    """The widest that ggml has kernels for: quantised models gain most from them. Of x86 alone."""
    flags = set(
        re.findall(r"\w+", Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0])
    )
    widest = [
        ("AMX", "amx_int8"),
        ("AVX-512 VNNI", "avx512_vnni"),
        ("AVX-512", "avx512f"),
        ("AVX-VNNI", "avx_vnni"),
        ("AVX2", "avx2"),
    ]
    return next((name for name, flag in widest if flag in flags), None)


def _package_version(name: str) -> str | None:
    try:
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", name],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except OSError, subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() or None


def describe() -> dict[str, Any]:
    """The machine and the versions a result depends on, as plain data for the result file."""
    import syncyte

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "vector_instructions": _vector_instructions(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9, 1),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "python": platform.python_version(),
        "syncyte": syncyte.__version__,
        "libllama": _package_version("libllama0"),
        "libggml": _package_version("libggml0"),
        "attention": syncyte.versions()["attention"],
    }


def _processor_times() -> dict[int, tuple[float, int, str]]:
    """Seconds used, parent and name of every process."""
    times: dict[int, tuple[float, int, str]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:
            continue  # ended meanwhile
        name = text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        times[int(entry.name)] = ((int(fields[11]) + int(fields[12])) / _ticks, int(fields[1]), name)
    return times


def _is_ours(pid: int, times: dict[int, tuple[float, int, str]]) -> bool:
    """Whether the process is this one or a descendant of it."""
    while pid in times:
        if pid == os.getpid():
            return True
        pid = times[pid][1]
    return False


def others(seconds: float = 1.0) -> tuple[float, list[str]]:
    """Cores that other processes use, measured over `seconds`, and the busiest of them by name."""
    before, started = _processor_times(), time.monotonic()
    time.sleep(seconds)
    after, elapsed = _processor_times(), time.monotonic() - started
    used = {
        pid: (spent - before.get(pid, (0.0, 0, ""))[0]) / elapsed
        for pid, (spent, _, _) in after.items()
        if not _is_ours(pid, after)
    }
    busiest = sorted((pid for pid in used if used[pid] > 0.05), key=lambda pid: -used[pid])[:3]
    return sum(used.values()), [f"{after[pid][2]} ({used[pid]:.1f})" for pid in busiest]


def interpreter_command() -> str:
    """The Python to start helper processes with: the one that runs now."""
    return sys.executable
