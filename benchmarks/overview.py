"""The README's picture: headline figures of the stored results in one place."""

from dataclasses import replace
from pathlib import Path

from benchmarks import plot, results

HEADLINES = (
    ("channels", "round_trip_str", "A 5-character message to another interpreter and back"),
    ("pool", "dispatch", "A trivial task: submit() and result()"),
    ("engine", "decode_8", "8 agents decoding at once, 0.3 B model"),
    ("serving", "common_prefix", "32 agents with 1,000 tokens in common: last first token"),
    ("memory", "pss", "Memory with 4 workers, 0.3 B model"),
)
"""Workload, comparison and the panel's title, from top to bottom; what has no result yet is left out."""
LEFT_OUT = {"syncyte, 1 worker"}
"""Contestants of those comparisons that tell their own workload's reader more than the README's."""


def draw(folder: Path) -> Path | None:
    """Draws overview.svg beside the results; None when there are no results to draw."""
    panels, machine = [], ""
    for workload, name, title in HEADLINES:
        data = results.load(workload, folder)
        comparison = results.comparison_of(data, name)
        if data is None or comparison is None:
            continue
        panel = plot.panel_of(comparison, title)
        bars = [bar for bar in panel.bars if bar.name not in LEFT_OUT]
        panels.append(replace(panel, bars=bars))
        machine = plot.machine_line(data)
    if not panels:
        return None
    path = folder / "overview.svg"
    plot.draw(panels, path, footer=machine)
    return path
