"""`python -m benchmarks`: runs named workloads beside their peers and writes benchmarks/results."""

import argparse
import ast
import importlib
import pkgutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import machine, overview, plot, results, table, workloads
from benchmarks.harness import Bench

console = Console()


def workload_titles() -> dict[str, str]:
    """Every workload's name and the first line of its docstring, without importing it."""
    titles = {}
    for module in pkgutil.iter_modules(workloads.__path__):
        if module.name.startswith("_"):
            continue
        source = Path(workloads.__path__[0], f"{module.name}.py").read_text()
        titles[module.name] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0].rstrip(".")
    return titles


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=["all"], metavar="NAME", help="workloads; 'all', or 'list' to see them"
    )
    parser.add_argument(
        "--quick", action="store_true", help="smallest sizes, two rounds: proves that it runs"
    )
    parser.add_argument(
        "--rounds", type=int, help="rounds per comparison instead of the workload's own number"
    )
    parser.add_argument("--output", type=Path, help="folder for results (default: benchmarks/results)")
    parser.add_argument("--refuse-busy", action="store_true", help="fail when others use the machine")
    return parser


def _busy_check(refuse: bool) -> float:
    cores, names = machine.others()
    if cores >= machine.BUSY_CORES:
        message = f"other processes use {cores:.1f} cores ({', '.join(names)}): timings will be off"
        if refuse:
            raise SystemExit(f"bench: {message}; end them or leave out --refuse-busy")
        console.print(f"[yellow]warning:[/] {message}")
    return cores


def run_workload(
    name: str, run: Callable[[Bench], None], title: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Runs one workload with progress on the terminal; returns its result as plain data."""
    before = _busy_check(options.refuse_busy)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    started = time.monotonic()
    # Drawing takes time from what is measured: seldom is enough.
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, refresh_per_second=1
    ) as progress:
        task = progress.add_task(name)

        def update(what: str, done: int, total: int) -> None:
            progress.update(task, description=f"[bold]{name}[/] {what}", completed=done, total=total)

        with Bench(
            name, quick=options.quick, rounds=options.rounds, progress=update, log=progress.console.print
        ) as bench:
            run(bench)
    seconds = time.monotonic() - started
    busy = {"before": before, "after": machine.others(0.5)[0]}
    return results.as_data(bench, title, busy, seconds)


def _publish(data: dict[str, Any], folder: Path) -> None:
    path = results.save(data, folder)
    panels = [plot.panel_of(comparison) for comparison in data["comparisons"]]
    picture = path.with_suffix(".svg")
    if panels:
        plot.draw(panels, picture, heading=data["title"], footer=plot.machine_line(data))
    table.show(console, data)
    console.print(f"[dim]{data['seconds']:.0f} s; {path} and {picture.name}[/]\n")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    titles = workload_titles()
    if "list" in options.names:
        for name, title in titles.items():
            console.print(f"[bold]{name:10}[/] {title}", soft_wrap=True)
        console.print(
            f"[bold]{'overview':10}[/] the README's picture, drawn from the stored results", soft_wrap=True
        )
        return 0
    names = [*titles, "overview"] if "all" in options.names else options.names
    unknown = [name for name in names if name not in titles and name != "overview"]
    if unknown:
        console.print(f"bench: no workload named {', '.join(unknown)}; there are {', '.join(titles)}")
        return 2
    folder = options.output or (results.QUICK_FOLDER if options.quick else results.FOLDER)
    missed = 0
    for name in names:
        if name == "overview":
            overview.draw(folder)
            continue
        console.print(f"[bold]{name}[/]: {titles[name]}", soft_wrap=True)
        module = importlib.import_module(f"benchmarks.workloads.{name}")
        data = run_workload(name, module.run, titles[name], options)
        _publish(data, folder)
        missed += sum(not goal["met"] for comparison in data["comparisons"] for goal in comparison["goals"])
    if missed and not options.quick:
        console.print(f"[yellow]{missed} goals missed[/]")
    return 0


def _ended(number: int, _frame: object) -> None:
    """Ends as Ctrl-C does: the servers and processes that a workload has started end with it."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _ended)
    sys.exit(main())
