"""The life of a run: inputs in, a bounded number of them in flight, records out as they finish."""

import signal
import threading
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, Self

from syncyte.cli._arguments import CommandError
from syncyte.cli._output import to_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from syncyte.cli._inputs import Input
    from syncyte.cli._output import Answered, Record
    from syncyte.cli._worker import Outcome

type Event = tuple[Any, ...]

# Finished inputs are asked for this often (seconds) even if none comes, so that a display can move.
_TICK = 0.1


class Executor(Protocol):
    """Answers inputs somewhere else. Each one submitted ends in one ("finished", index, outcome) event."""

    def start(self, post: Callable[[Event], None]) -> None:
        """Called once. `post` may be called from any thread of the main interpreter."""

    def submit(self, one: Input) -> None:
        """Takes an input; returns at once."""

    def stop(self) -> None:
        """Gives up what is waiting or running. Finished events may still come; no wait."""

    def close(self, seconds: float) -> bool:
        """Lets go of everything; False when some agent was still busy after `seconds`."""


class Sink(Protocol):
    """Takes finished records, one by one. JsonlOutput is one."""

    def write(self, record: Record) -> None: ...


class Display:
    """Shows a run while it goes. This one shows nothing."""

    live = False  # whether it wants to hear of "started", "text" and "printed"

    def begin(self, workers: int, total: int | None) -> None: ...
    def started(self, worker: int, one: Input) -> None: ...
    def text(self, worker: int, text: str, tokens: int) -> None: ...
    def printed(self, worker: int, line: str) -> None: ...
    def finished(self, worker: int | None, record: Record) -> None: ...
    def tick(self, summary: Summary) -> None: ...
    def end(self) -> None: ...


class Summary:
    """What a run has come to."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self.skipped = 0
        self.in_flight = 0
        self.tokens = 0
        self.started_at = monotonic()
        self.first_failure: Record | None = None
        self.stopped_by: int | None = None  # a signal's number

    @property
    def seconds(self) -> float:
        return monotonic() - self.started_at


class _StopSignal(Exception):  # noqa: N818
    """SIGINT or SIGTERM came."""


class _Signals:
    """SIGINT and SIGTERM end the wait for the next event, and nothing else: no record is cut in two."""

    def __init__(self) -> None:
        self.caught: int | None = None
        self._waiting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _catch(self, number: int, _: FrameType | None) -> None:
        self.caught = number
        if self._waiting:
            self._waiting = False
            raise _StopSignal

    def wait(self, get: Callable[[], Event]) -> Event:
        """The next event; raises when a signal came before or comes now."""
        try:
            self._waiting = True
            if self.caught is not None:
                raise _StopSignal
            return get()
        finally:
            self._waiting = False


class Run:
    """One run. `window` bounds the inputs in flight, read or submitted, at any time."""

    def __init__(
        self,
        inputs: Iterator[Input],
        executor: Executor,
        sink: Sink,
        display: Display,
        answered: Answered,
        window: int,
    ) -> None:
        self.summary = Summary()
        self._inputs = inputs
        self._executor = executor
        self._sink = sink
        self._display = display
        self._answered = answered
        self._room = threading.Semaphore(window)
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._in_flight: dict[int, Input] = {}
        self._inputs_ended = False
        self._workers: dict[int, int] = {}  # interpreter id -> number, in order of appearance
        self._next_tick = 0.0

    def go(self) -> Summary:
        """Runs to the end, or until a signal, which `summary.stopped_by` then names.

        Raises CommandError when no further record can be written or no agent can run.
        """
        self._executor.start(self._events.put)
        with _Signals() as signals:
            threading.Thread(target=self._feed, name="syncyte-inputs", daemon=True).start()
            try:
                while self._in_flight or not self._inputs_ended:
                    self._handle(signals.wait(self._next_event))
                    self._tick()
            except _StopSignal:
                self.summary.stopped_by = signals.caught
                self._executor.stop()
                self._keep_what_is_done()
            except BaseException:
                self._executor.stop()
                raise
        return self.summary

    def _feed(self) -> None:
        """Reads inputs as room appears for them, in a thread of its own: a read may wait for long."""
        failure: str | None = None
        try:
            for one in self._inputs:
                if one.error is None and one in self._answered:
                    self.summary.skipped += 1
                    continue
                self._room.acquire()
                self._events.put(("input", one))
        except OSError as error:
            failure = f"the input cannot be read any further: {error.strerror}"
        self._events.put(("inputs_ended", failure))

    def _next_event(self) -> Event:
        try:
            return self._events.get(timeout=_TICK)
        except Empty:
            return ("nothing",)

    def _handle(self, event: Event) -> None:
        match event:
            case ("input", one):
                self._take_in(one)
            case ("inputs_ended", failure):
                self._inputs_ended = True
                if failure:
                    self._executor.stop()
                    raise CommandError(failure)
            case ("finished", index, outcome):
                self._finish(self._in_flight.pop(index), outcome)
            case ("started", interpreter_id, index) if index in self._in_flight:
                self._display.started(self._number(interpreter_id), self._in_flight[index])
            case ("text", interpreter_id, text, tokens):
                self._display.text(self._number(interpreter_id), text, tokens)
            case ("printed", interpreter_id, line):
                self._display.printed(self._number(interpreter_id), line)

    def _take_in(self, one: Input) -> None:
        self._in_flight[one.index] = one
        self.summary.in_flight = len(self._in_flight)
        if one.error is not None:
            error = {"type": "InputError", "message": one.error}
            self._events.put(("finished", one.index, {"error": error}))
        else:
            self._executor.submit(one)

    def _finish(self, one: Input, outcome: Outcome) -> None:
        self._room.release()
        self.summary.in_flight = len(self._in_flight)
        if "broken" in outcome:
            raise CommandError(str(outcome["broken"]), status=2)
        worker = None
        if "interpreter_id" in outcome:
            worker = self._number(outcome["interpreter_id"])
        record = _record(one, outcome, worker)
        try:
            to_line(record)
        except (ValueError, RecursionError) as error:
            failed = {"type": type(error).__name__, "message": f"the agent's result cannot be JSON: {error}"}
            record = _record(one, {"error": failed, "interpreter_id": outcome["interpreter_id"]}, worker)
        self._sink.write(record)
        self._count(record)
        self._display.finished(worker, record)

    def _count(self, record: Record) -> None:
        if "error" in record:
            self.summary.failed += 1
            if self.summary.first_failure is None:
                self.summary.first_failure = record
            return
        self.summary.answered += 1
        usage = record.get("usage")
        if isinstance(usage, dict):
            self.summary.tokens += usage.get("completion_tokens", 0)

    def _keep_what_is_done(self) -> None:
        while True:
            try:
                event = self._events.get_nowait()
            except Empty:
                return
            match event:
                case ("finished", index, {"text": _} as outcome):
                    self._finish(self._in_flight.pop(index), outcome)

    def _number(self, interpreter_id: Any) -> int:
        return self._workers.setdefault(interpreter_id, len(self._workers))

    def _tick(self) -> None:
        now = monotonic()
        if now >= self._next_tick:
            self._next_tick = now + _TICK
            self._display.tick(self.summary)


def _record(one: Input, outcome: Outcome, worker: int | None) -> Record:
    record: Record = {"index": one.index}
    if one.id is not None:
        record["id"] = one.id
    if "error" in outcome and one.line is not None:
        record["line"] = one.line
    record["prompt"] = one.prompt
    for name, value in outcome.items():
        if name != "interpreter_id":
            record[name] = value
    if worker is not None:
        record["worker"] = worker
        record["interpreter_id"] = outcome["interpreter_id"]
    return record
