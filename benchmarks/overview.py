"""The README's picture: headline figures of the stored results in one place."""

from pathlib import Path

from benchmarks import plot, results

HEADLINES = (
    ("channels", "round_trip_str", "A 5-character message there and back between interpreters"),
    ("pool", "submit", "submit().result() of a trivial task"),
    ("engine", "decode_8", "8 sequences decoding together, 0.3 B model"),
    ("memory", "pss", "Memory of 4 workers that share a 0.3 B model"),
)
"""Workload, comparison and the panel's title, from top to bottom; what has no result yet is left out."""


def draw(folder: Path) -> Path | None:
    """Draws overview.svg beside the results; None when there are no results to draw."""
    panels, machine = [], ""
    for workload, name, title in HEADLINES:
        data = results.load(workload, folder)
        comparison = results.comparison_of(data, name)
        if data is None or comparison is None:
            continue
        panels.append(plot.panel_of(comparison, title))
        machine = plot.machine_line(data)
    if not panels:
        return None
    path = folder / "overview.svg"
    plot.draw(panels, path, footer=machine)
    return path
