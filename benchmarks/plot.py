"""One design for all pictures: a panel per comparison, a bar per contestant, ours in colour.

The pictures are SVG without a background. Text follows the reader's light or dark scheme where the viewer
supports it and is a grey legible on both where it does not.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import number

OURS = "#e8590c"
PEER = "#8a94a0"
INK = "#010203"
"""Stands for the text colour until the file is written."""
WIDTH, HEADING, TITLE, BAR, GAP, FOOTER, LETTER = 9.2, 0.5, 0.3, 0.28, 0.15, 0.3, 0.083
"""Inches: the picture, its heading, a panel's title, a bar, the room between panels, the foot, a letter."""
LOG_FROM = 30.0
"""Ratio of the longest to the shortest bar from which the scale is logarithmic."""

_SCHEMES = "<style>svg{--ink:#1f2328}@media (prefers-color-scheme:dark){svg{--ink:#e6edf3}}</style>"


@dataclass(frozen=True)
class Bar:
    name: str
    value: float
    ours: bool


@dataclass(frozen=True)
class Panel:
    """One comparison as a picture shows it."""

    title: str
    unit: str
    better: str
    bars: Sequence[Bar]


def panel_of(comparison: dict[str, Any], title: str | None = None) -> Panel:
    bars = [
        Bar(name, summary["median"], name in comparison["ours"])
        for name, summary in comparison["contestants"].items()
    ]
    return Panel(title or comparison["title"], comparison["unit"], comparison["better"], bars)


def machine_line(data: dict[str, Any]) -> str:
    machine = data["machine"]
    versions = f"CPython {machine['python']}"
    if machine.get("libllama"):
        versions += f", libllama {re.sub(r'^[0-9]+:|[+-].*$', '', machine['libllama'])}"
    processor = machine["cpu"]
    if machine.get("vector_instructions"):
        processor += f" ({machine['vector_instructions']})"
    return f"{processor}, {machine['cores']} cores, {versions}, {data['date'][:10]}, medians"


def draw(panels: Sequence[Panel], path: Path, *, heading: str = "", footer: str = "") -> None:
    """Draws the panels one below the other into an SVG (or, by suffix, a PNG) at `path`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third-party modules warn about their own syntax when first compiled
        import matplotlib as mpl

        mpl.use("agg")
        import matplotlib.pyplot as plt

    style = {"font.size": 10, "text.color": INK, "ytick.color": INK, "svg.hashsalt": "syncyte"}
    top = HEADING if heading else 0.05
    height = top + sum(_height(panel) for panel in panels) + (FOOTER if footer else 0.05)
    left = 0.25 + max(len(bar.name) for panel in panels for bar in panel.bars) * LETTER
    with mpl.rc_context(style):
        figure = plt.figure(figsize=(WIDTH, height))
        if heading:
            size = _fitting(heading, 13, 1.42)  # bold
            figure.text(0.1 / WIDTH, 1 - 0.3 / height, heading, fontsize=size, fontweight="bold")
        for panel in panels:
            bars = len(panel.bars) * BAR
            bottom = height - top - TITLE - bars
            box = (left / WIDTH, bottom / height, (WIDTH - left - 0.1) / WIDTH, bars / height)
            log = _draw_panel(figure.add_axes(box), panel, WIDTH - left - 0.1)
            scale = ", log scale" if log else ""
            title = f"{panel.title}  ({panel.better} is better{scale})"
            size = _fitting(title, 10.5, 1)
            figure.text(0.1 / WIDTH, (bottom + bars + 0.08) / height, title, fontsize=size)
            top += _height(panel)
        if footer:
            figure.text(0.1 / WIDTH, 0.08 / height, footer, fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, transparent=True, dpi=144, metadata=metadata)
        plt.close(figure)
    if path.suffix == ".svg":
        _follow_scheme(path)


def _fitting(text: str, size: float, letter: float) -> float:
    """That font size, or less, so that the text fits the picture; a letter takes so many LETTERs."""
    return min(size, size * (WIDTH - 0.2) / (len(text) * LETTER * letter))


def _height(panel: Panel) -> float:
    return TITLE + len(panel.bars) * BAR + GAP


def _draw_panel(axes: Any, panel: Panel, width: float) -> bool:
    """Bars and their values, on `width` inches. Whether the scale is logarithmic."""
    labels = [f"{number(bar.value)} {panel.unit}" for bar in panel.bars]
    values = [bar.value for bar in panel.bars]
    positive = [value for value in values if value > 0]
    places = range(len(panel.bars))
    log = bool(positive) and max(positive) / min(positive) >= LOG_FROM
    axes.barh(places, values, color=[OURS if bar.ours else PEER for bar in panel.bars], height=0.66)
    longest = 1 - (0.1 + max(len(label) for label in labels) * LETTER) / width  # bar, of the axis
    if log:
        axes.set_xscale("log")
        least = min(positive) / 3
        axes.set_xlim(least, least * (max(positive) / least) ** (1 / longest))
    else:
        axes.set_xlim(0, max([*positive, 1e-9]) / longest)
    axes.set_yticks(places, [bar.name for bar in panel.bars])
    for label, bar in zip(axes.get_yticklabels(), panel.bars, strict=True):
        label.set_fontweight("bold" if bar.ours else "normal")
    axes.set_ylim(len(panel.bars) - 0.5, -0.5)
    for place, bar, label in zip(places, panel.bars, labels, strict=True):
        axes.annotate(
            label,
            (bar.value, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight="bold" if bar.ours else "normal",
        )
    axes.xaxis.set_visible(False)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)
    return log


def _follow_scheme(path: Path) -> None:
    """Puts the reader's text colour in place of INK; viewers without variables take the first declaration."""
    text = path.read_text()
    text = re.sub(rf"(fill|stroke): {INK}", r"\1: #768390; \1: var(--ink)", text)
    path.write_text(text.replace("<defs>", f"{_SCHEMES}<defs>", 1))
