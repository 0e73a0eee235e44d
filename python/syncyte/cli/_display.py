"""A run on a terminal: finished answers above, what each worker is doing below."""

from time import monotonic
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.rule import Rule
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from syncyte.cli._loop import Display
from syncyte.cli._memory import private_megabytes
from syncyte.cli._text import body, failure, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from syncyte.cli._inputs import Input
    from syncyte.cli._loop import Summary
    from syncyte.cli._output import Record

_REDRAW_SECONDS = 0.08
_MEMORY_SECONDS = 1.0
_MAX_ROWS = 16
_MAX_SHOWN = 10_000  # characters of an unfinished answer
_WORKER_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "red")


class _Worker:
    """What one worker shows."""

    def __init__(self) -> None:
        self.prompt: str | None = None
        self.text = ""
        self.tokens = 0
        self.since = 0.0
        self.spinner = Spinner("dots")


class RichDisplay(Display):
    """Live rows for the workers and a line of totals; finished answers are printed above them.

    `show_answers` is off when the records go to a file. Used by the main thread alone.
    """

    live = True

    def __init__(self, console: Console, *, show_answers: bool, show_progress: bool = True) -> None:
        self._console = console
        self._show_answers = show_answers
        self._workers: list[_Worker] = []
        self._total: int | None = None
        self._summary: Summary | None = None
        self._memory: float | None = None
        self._next_memory = 0.0
        self._next_draw = 0.0
        self._rate = _Rate()
        self._live = (
            Live(
                console=console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            if show_progress
            else None
        )

    def begin(self, workers: int, total: int | None) -> None:
        self._workers = [_Worker() for _ in range(workers)]
        self._total = total
        if self._live is not None:
            self._live.start()
            self._draw()

    def started(self, worker: int, one: Input) -> None:
        shown = self._worker(worker)
        shown.prompt = _one_line(one.prompt or "")
        shown.text = ""
        shown.tokens = 0
        shown.since = monotonic()
        self._draw_when_due()

    def text(self, worker: int, text: str, tokens: int) -> None:
        shown = self._worker(worker)
        shown.text = (shown.text + text)[-_MAX_SHOWN:]
        shown.tokens += tokens
        self._rate.add(tokens)
        self._draw_when_due()

    def printed(self, worker: int, line: str) -> None:
        style = _style(worker)
        self._console.print(Text.assemble((f"worker {worker} │ ", style), (printable(line), "dim")))

    def finished(self, worker: int | None, record: Record) -> None:
        if worker is not None:
            self._worker(worker).prompt = None
        if self._show_answers:
            self._console.print(answer_block(record))
        elif "error" in record:
            self._console.print(_failure_line(record), overflow="ellipsis", no_wrap=True)
        self._draw_when_due()

    def tick(self, summary: Summary) -> None:
        self._summary = summary
        now = monotonic()
        if now >= self._next_memory:
            self._next_memory = now + _MEMORY_SECONDS
            self._memory = private_megabytes()
        self._draw_when_due()

    def end(self) -> None:
        if self._live is not None:
            self._live.update(Text(""))
            self._live.stop()

    def _worker(self, number: int) -> _Worker:
        while number >= len(self._workers):
            self._workers.append(_Worker())
        return self._workers[number]

    def _draw_when_due(self) -> None:
        if monotonic() >= self._next_draw:
            self._draw()

    def _draw(self) -> None:
        if self._live is None:
            return
        self._next_draw = monotonic() + _REDRAW_SECONDS
        self._live.update(Group(self._rows(), self._totals()), refresh=True)

    def _alone(self, worker: _Worker) -> RenderableType:
        """The only worker there is: its answer as a paragraph, the last lines of it if it is long."""
        if worker.prompt is None:
            return Text("")
        title = Rule(Text(worker.prompt, style="bold"), align="left", style="dim")
        if not worker.text:
            return Group(title, Padding(self._doing(worker, 20), (0, 0, 0, 2)))
        text = Text(printable(worker.text.lstrip("\n")))
        lines = text.wrap(self._console, max(10, self._console.width - 2))
        room = max(3, self._console.height - 4)
        return Group(title, *(Padding(line, (0, 0, 0, 2)) for line in lines[-room:]))

    def _rows(self) -> RenderableType:
        if len(self._workers) == 1:
            return self._alone(self._workers[0])
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, ratio=2, overflow="ellipsis")
        table.add_column(no_wrap=True, ratio=5)
        table.add_column(no_wrap=True, justify="right")
        room = max(20, (self._console.width - 26) * 5 // 7)
        for number, worker in enumerate(self._workers[:_MAX_ROWS]):
            name = Text(f"worker {number}", style=_style(number))
            if worker.prompt is None:
                table.add_row(name, Text("idle", style="dim"), "", "")
                continue
            table.add_row(name, Text(worker.prompt), self._doing(worker, room), _per_second(worker))
        hidden = len(self._workers) - _MAX_ROWS
        if hidden > 0:
            table.add_row("", Text(f"and {hidden} more workers", style="dim"), "", "")
        return table

    def _doing(self, worker: _Worker, room: int) -> RenderableType:
        line = _one_line(worker.text)
        if not line:
            worker.spinner.update(text=Text("thinking", style="dim"))
            return worker.spinner
        return Text(_tail(line, room), style="dim")

    def _totals(self) -> RenderableType:
        summary = self._summary
        if summary is None:
            return Text("loading the model and starting the workers", style="dim")
        done = summary.answered + summary.failed + summary.skipped
        parts = [f"{done} of {self._total} done" if self._total is not None else f"{done} done"]
        if summary.skipped:
            parts.append(f"{summary.skipped} skipped")
        if summary.failed:
            parts.append(f"{summary.failed} failed")
        waiting = max(0, summary.in_flight - sum(worker.prompt is not None for worker in self._workers))
        parts.append(f"{waiting} queued")
        parts.append(f"{self._rate.per_second():.0f} tokens/s")
        if self._memory is not None:
            parts.append(f"{self._memory:.0f} MB private")
        parts.append(duration(summary.seconds))
        return Text(" · ".join(parts), style="bold")


class _Rate:
    """Tokens a second over the last few seconds."""

    _WINDOW = 3.0

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []
        self._start = monotonic()

    def add(self, tokens: int) -> None:
        now = monotonic()
        self._marks.append((now, tokens))
        if len(self._marks) > 512:
            self._marks = [mark for mark in self._marks if mark[0] > now - self._WINDOW]

    def per_second(self) -> float:
        now = monotonic()
        recent = sum(tokens for when, tokens in self._marks if when > now - self._WINDOW)
        return recent / max(0.2, min(self._WINDOW, now - self._start))


def answer_block(record: Record) -> RenderableType:
    """One finished answer: its prompt, the text (or what failed), and a line of figures."""
    title = Text.assemble((_one_line(record.get("prompt") or f"input {record['index']}", 200), "bold"))
    title.truncate(160, overflow="ellipsis")
    parts: list[RenderableType] = [Rule(title, align="left", style="dim")]
    if "error" in record:
        error = record["error"]
        if error.get("traceback"):
            parts.append(Padding(Text(printable(error["traceback"]), style="dim"), (0, 0, 0, 2)))
        parts.append(Padding(Text(printable(failure(record)), style="red"), (0, 0, 0, 2)))
    else:
        parts.append(Padding(Text(printable(body(record))), (0, 0, 0, 2)))
        figures = figures_of(record)
        if figures:
            parts.append(Padding(Text(figures, style="dim"), (0, 0, 0, 2)))
    parts.append(Text(""))
    return Group(*parts)


def _failure_line(record: Record) -> Text:
    where = f"input {record['index']} " if "id" not in record else f"id {record['id']} "
    return Text.assemble((where, "bold"), (_one_line(failure(record)), "red"))


def figures_of(record: Record) -> str:
    """`stop · 42 tokens · 120 tokens/s · worker 0 · interpreter 3`, of what the record tells."""
    parts = []
    if record.get("finish_reason"):
        parts.append(str(record["finish_reason"]))
    usage = record.get("usage") or {}
    if "completion_tokens" in usage:
        parts.append(f"{usage['completion_tokens']} tokens")
    speed = (record.get("timings") or {}).get("tokens_per_second")
    if speed:
        parts.append(f"{speed:.0f} tokens/s")
    if "worker" in record:
        parts.append(f"worker {record['worker']}")
        parts.append(f"interpreter {record['interpreter_id']}")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """`4.2 s`, `3:07` or `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _per_second(worker: _Worker) -> str:
    spent = monotonic() - worker.since
    return f"{worker.tokens / spent:.0f} tok/s" if worker.tokens and spent > 0.1 else ""


def _one_line(text: str, limit: int = 1000) -> str:
    return printable(" ".join(text[-limit:].split()))


def _tail(line: str, room: int) -> str:
    """The end of a line, as much as fits into so many columns."""
    if cell_len(line) <= room:
        return line
    start, width = len(line), 1
    while width + cell_len(line[start - 1]) <= room:
        start -= 1
        width += cell_len(line[start])
    return "…" + line[start:]


def _style(worker: int) -> str:
    return _WORKER_STYLES[worker % len(_WORKER_STYLES)]
