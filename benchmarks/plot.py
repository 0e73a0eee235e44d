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
    return f"{machine['cpu']}, {machine['cores']} cores, {versions}, {data['date'][:10]}, medians"


def draw(
    panels: Sequence[Panel], path: Path, *, heading: str = "", footer: str = "", columns: int = 1
) -> None:
    """Draws the panels into an SVG (or, by suffix, a PNG) at `path`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third-party modules warn about their own syntax when first compiled
        import matplotlib as mpl

        mpl.use("agg")
        import matplotlib.pyplot as plt

    style = {
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "svg.fonttype": "path",
        "svg.hashsalt": "syncyte",
    }
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [max(len(panel.bars) for panel in row) * 0.3 + 0.6 for row in rows]
    extra = (0.45 if heading else 0.0) + (0.3 if footer else 0.0)
    with mpl.rc_context(style):
        figure = plt.figure(figsize=(9.2, sum(heights) + extra), layout="constrained")
        grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
        for index, panel in enumerate(panels):
            _draw_panel(figure.add_subplot(grid[index // columns, index % columns]), panel)
        if heading:
            figure.suptitle(heading, x=0.01, ha="left", fontsize=13, fontweight="bold")
        if footer:
            figure.supxlabel(footer, x=0.01, ha="left", fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(
            path, transparent=True, dpi=144, metadata={"Date": None} if path.suffix == ".svg" else None
        )
        plt.close(figure)
    if path.suffix == ".svg":
        _follow_scheme(path)


def _draw_panel(axes: Any, panel: Panel) -> None:
    values = [bar.value for bar in panel.bars]
    positive = [value for value in values if value > 0]
    places = range(len(panel.bars))
    log = bool(positive) and max(positive) / min(positive) >= LOG_FROM
    axes.barh(places, values, color=[OURS if bar.ours else PEER for bar in panel.bars], height=0.66)
    if log:
        axes.set_xscale("log")
        axes.set_xlim(min(positive) / 3, max(positive) * 6)
    else:
        axes.set_xlim(0, max([*positive, 1e-9]) * 1.18)
    axes.set_yticks(places, [bar.name for bar in panel.bars])
    for label, bar in zip(axes.get_yticklabels(), panel.bars, strict=True):
        label.set_fontweight("bold" if bar.ours else "normal")
    axes.invert_yaxis()
    for place, bar in zip(places, panel.bars, strict=True):
        axes.annotate(
            f"{number(bar.value)} {panel.unit}",
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
    scale = ", log scale" if log else ""
    axes.set_title(f"{panel.title}  ({panel.better} is better{scale})", loc="left", fontsize=10.5)


def _follow_scheme(path: Path) -> None:
    """Puts the reader's text colour in place of INK; viewers without variables take the first declaration."""
    text = path.read_text()
    text = re.sub(rf"(fill|stroke): {INK}", r"\1: #768390; \1: var(--ink)", text)
    path.write_text(text.replace("<defs>", f"{_SCHEMES}<defs>", 1))
