"""`syncyte audit`: which packages can live in own-GIL interpreters."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from syncyte._audit.report import Audited, Extension, Package, Verdict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_DESCRIPTION = """\
Tries whether packages can live in interpreters with their own GIL. Each extension module is imported in
one such interpreter, in a second and a third, after others were closed, and in four at once, in child
processes that may crash. A package of pure Python is judged by what it imports.

verdicts:
  safe       imports, shares and closes well
  unknown    could not be decided, or interpreters write to globals they share
  leaks      works, but closed interpreters leave memory behind
  main only  works in the main interpreter, fails in others by itself
  refuses    CPython does not load it in an interpreter with its own GIL
  crashes    ends or hangs the process
"""
_EPILOG = """\
exit status: 0 all safe, 1 something is not safe, 2 the command line is wrong

examples:
  syncyte audit numpy requests
  syncyte audit build/mymodule.cpython-314-x86_64-linux-gnu.so
  syncyte audit --environment --json > audit.json
"""

_COLORS = {
    Verdict.SAFE: "green",
    Verdict.UNKNOWN: "yellow",
    Verdict.LEAKS: "yellow",
    Verdict.MAIN_ONLY: "magenta",
    Verdict.REFUSES: "red",
    Verdict.CRASHES: "bold red",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="syncyte audit",
        usage="syncyte audit [PACKAGE... | FILE.so... | --environment] [--all] [--json] [--timeout SECONDS]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a package as it is imported or installed, or an extension file",
    )
    parser.add_argument(
        "--environment", action="store_true", help="all that is installed, and the standard library"
    )
    parser.add_argument("--all", action="store_true", help="list each extension module, the safe ones too")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="limit for each child process (default 60)",
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="child processes at a time (default: one per CPU)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 all safe, 1 something is not, 2 wrong usage."""
    try:
        given = _parser().parse_args(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 2
    if not given.names and not given.environment:
        return _usage("name packages or extension files, or give --environment")
    if not given.timeout > 0:
        return _usage(f"--timeout has to be above 0, not {given.timeout:g}")
    if given.jobs is not None and given.jobs < 1:
        return _usage(f"--jobs has to be at least 1, not {given.jobs}")
    try:
        reports = _audit(given)
    except LookupError as error:
        return _usage(str(error))
    if given.json:
        from syncyte._audit.report import as_json

        json.dump([as_json(report) for report in reports], sys.stdout, indent=2)
        print()
    else:
        _show(reports, every_module=given.all)
    return int(any(report.verdict is not Verdict.SAFE for report in reports))


def _usage(message: str) -> int:
    print(f"syncyte audit: {message}\n`syncyte audit --help` explains the command.", file=sys.stderr)
    return 2


def _audit(given: argparse.Namespace) -> list[Audited]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from syncyte._audit.audit import audit

    console = Console(stderr=True)
    columns = (
        TextColumn("auditing"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def progress(name: str, done: int, known: int) -> None:
            bar.update(task, description=name, completed=done, total=known)

        return audit(
            *given.names,
            environment=given.environment,
            timeout=given.timeout,
            jobs=given.jobs,
            progress=progress,
        )


# --- the table ------------------------------------------------------------------------------------------


def _show(reports: Sequence[Audited], *, every_module: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("package or module", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("declares")
    table.add_column("memory", justify="right", no_wrap=True)
    table.add_column("why", ratio=1)
    for report in reports:
        table.add_row(*_row(report, indent=""))
        for module in _modules_to_show(report, every_module=every_module):
            table.add_row(*_row(module, indent="  "))
    console.print(table)
    _show_advice(console, reports)


def _modules_to_show(report: Audited, *, every_module: bool) -> Sequence[Extension]:
    if isinstance(report, Extension):
        return ()
    modules = (*report.extensions, *report.uses)
    if every_module:
        return modules
    # One of each kind of trouble says enough; the package's own reason counts the others.
    first: dict[Verdict, Extension] = {}
    for module in modules:
        if module.verdict is not Verdict.SAFE:
            first.setdefault(module.verdict, module)
    return list(first.values())


def _row(report: Audited, indent: str) -> list[Text | str]:
    from rich.text import Text

    name = Text(indent + report.name, style="" if indent else "bold")
    declares = ""
    if isinstance(report, Package):
        name.append(f" {report.version}" if report.version else "", style="dim")
        count = len(report.extensions)
        declares = "pure Python" if count == 0 else f"{count} extension module{'s' if count > 1 else ''}"
    elif report.declaration is not None:
        declares = str(report.declaration)
    return [
        name,
        Text(report.verdict, style=_COLORS[report.verdict]),
        Text(declares, style="dim"),
        "" if report.memory_kb is None else _amount(report.memory_kb),
        Text(report.reason),
    ]


def _amount(kilobytes: int) -> str:
    return f"{kilobytes / 1024:.1f} MB" if kilobytes >= 1000 else f"{kilobytes} kB"


def _show_advice(console: Console, reports: Sequence[Audited]) -> None:
    from rich.text import Text

    from syncyte._audit.report import ADVICE

    counts = {verdict: sum(report.verdict is verdict for report in reports) for verdict in Verdict}
    for verdict, count in counts.items():
        if count:
            line = Text(f"{count:5} ")
            line.append(verdict, style=_COLORS[verdict])
            line.append(f": {ADVICE[verdict]}")
            console.print(line)


if __name__ == "__main__":
    raise SystemExit(main())
