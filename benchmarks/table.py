"""A result as a table on the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table


def number(value: float) -> str:
    """Three significant digits, thousands grouped: 0.691, 12.3, 10,252."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def show(console: Console, data: dict[str, Any]) -> None:
    for comparison in data["comparisons"]:
        console.print(_table(comparison))
        for goal in comparison["goals"]:
            mark = "[green]met[/]" if goal["met"] else "[red]missed[/]"
            console.print(f"  {mark}  {goal['text']}: measured {number(goal['value'])}")
        if comparison["goals"]:
            console.print()


def _table(comparison: dict[str, Any]) -> Table:
    unit = comparison["unit"]
    table = Table(
        title=f"{comparison['title']} [dim]({unit}, {comparison['better']} is better)[/]",
        title_justify="left",
    )
    table.add_column("contestant")
    for heading in ("median", "p99", "best", "times better"):
        table.add_column(heading, justify="right")
    for name, summary in comparison["contestants"].items():
        ratio = "reference" if name == comparison["reference"] else f"{number(comparison['ratios'][name])} ×"
        table.add_row(
            name,
            *(number(summary[key]) for key in ("median", "p99", "best")),
            ratio,
            style="bold" if name in comparison["ours"] else "",
        )
    return table
