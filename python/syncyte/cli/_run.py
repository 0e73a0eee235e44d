"""`syncyte run`: prompts through an agent, in a pool of warm interpreters that share one model."""

import os
import sys
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any, cast

from syncyte import cli
from syncyte.cli import _models, _sampling
from syncyte.cli._arguments import CommandError, Parser, positive_seconds, usage_error, whole_number
from syncyte.cli._inputs import Source, all_inputs, split_positionals
from syncyte.cli._loop import Display, Run, Summary
from syncyte.cli._output import Answered, JsonlOutput, open_file
from syncyte.cli._text import Discard, PlainText

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from syncyte.cli._loop import Executor, Sink

_USAGE = """\
syncyte run PROMPT... [options]
       syncyte run [AGENT.py] --input FILE [--output FILE] [--resume] [options]"""

_DESCRIPTION = """\
Puts prompts through an agent in a pool of warm interpreters. Each worker is an interpreter
with its own GIL; all of them infer on one shared copy of the model.

The agent is the built-in one, which just answers, or the function agent(prompt, model) of
AGENT.py. It returns a str, what the model gave it, or any value that JSON can hold. The options
of a generation given here are the defaults of the model it gets.

Prompts are arguments, or lines of a file or of standard input. A line that is JSON is an object
with "prompt" and, if wanted, "id" and options of its own such as "max_tokens".

On a terminal, answers appear as they come. Piped, or with --output, each answer is one line of
JSON: index, prompt, text, finish_reason, usage, timings, worker, interpreter_id; or, for an input
that failed, error. Lines come in the order in which answers finish; index is the input's place."""

_EPILOG = """\
examples:
  syncyte run "Tell me a joke" "Explain quantum physics" --workers 4
  syncyte run --input questions.txt --model model.gguf --max-tokens 200 > answers.jsonl
  syncyte run agent.py --input prompts.jsonl --output answers.jsonl
  syncyte run agent.py --input prompts.jsonl --output answers.jsonl --resume
  printf 'one\\ntwo\\n' | syncyte run | jq -r .text

exit status:
  0 all inputs answered    1 some failed, or the run could not go on
  2 wrong command line     130 stopped by Ctrl-C; --resume goes on from there"""

# How long agents that are still busy are waited for: when a run is stopped, and when all is answered.
_STOP_SECONDS = 0.4
_CLOSE_SECONDS = 10.0


def parser() -> Parser:
    """The parser of this command."""
    number = cast("Any", whole_number(1))
    result = Parser("run", usage=_USAGE, description=_DESCRIPTION, epilog=_EPILOG)
    result.add_argument(
        "words", nargs="*", metavar="PROMPT | AGENT.py", help="prompts; an agent file comes first"
    )
    inputs = result.add_argument_group("input and output")
    inputs.add_argument(
        "-i", "--input", metavar="FILE", help="file of prompts, text or JSONL; - is standard input"
    )
    inputs.add_argument(
        "-o", "--output", metavar="FILE", help="write JSONL records to FILE as answers finish"
    )
    inputs.add_argument(
        "--resume", action="store_true", help="leave out what FILE answers, try what failed again"
    )
    inputs.add_argument("--overwrite", action="store_true", help="start FILE anew if it has answers already")
    inputs.add_argument("--format", choices=("text", "jsonl"), help="on standard output (text on a terminal)")
    inputs.add_argument("--quiet", action="store_true", help="no progress and no summary, errors alone")
    workers = result.add_argument_group("workers and model")
    workers.add_argument(
        "-w",
        "--workers",
        metavar="N",
        type=number,
        help=f"interpreters in the pool (default {_default_workers()})",
    )
    _models.add_to(workers)
    workers.add_argument(
        "--timeout",
        metavar="S",
        type=positive_seconds,
        help="fail an input that takes longer than S seconds",
    )
    workers.add_argument("--system", metavar="TEXT", help="system message for the built-in agent")
    workers.add_argument(
        "--raw", action="store_true", help="prompts as they are, without the model's chat format"
    )
    generation = result.add_argument_group("generation")
    _sampling.add_to(generation)
    _sampling.add_shapes_to(generation)
    other = result.add_argument_group("other")
    other.add_argument("-h", "--help", action="help", help="show this text and exit")
    return result


def _default_workers() -> int:
    return min(4, os.process_cpu_count() or 1)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    options = parser().read(arguments)
    job: _Job | None = None
    try:
        job = _Job(options, arguments)
        status = job.run()
    except CommandError as error:
        print(f"syncyte run: {error}", file=sys.stderr)
        status = error.status
    except BrokenPipeError:
        status = cli.reader_left()
    if job is not None and job.stuck:
        _leave_at_once(status)
    return status


class _Job:
    """One command line, checked as far as it can be before anything is loaded."""

    def __init__(self, options: argparse.Namespace, arguments: Sequence[str]) -> None:
        self.options = options
        self.arguments = arguments
        self.agent_path, self.prompts = split_positionals(options.words)
        if self.agent_path is not None:
            _check_syntax(self.agent_path)
        self._check_combinations()
        self.model_path = _models.path_of(options)
        self.source = _source(options, self.prompts)
        self.total = _count(self.prompts, self.source)
        self.workers = options.workers or min(_default_workers(), max(1, self.total or 1 << 30))
        self.stuck = False  # an agent was still busy when all else had ended
        self.output: JsonlOutput | None = None
        self.answered = Answered()
        if options.output is not None:
            self.output, self.answered = open_file(
                options.output, resume=options.resume, overwrite=options.overwrite
            )

    def _check_combinations(self) -> None:
        options = self.options
        if (options.resume or options.overwrite) and options.output is None:
            raise usage_error(f"--{'resume' if options.resume else 'overwrite'} needs --output FILE")
        if options.resume and options.overwrite:
            raise usage_error("--resume goes on and --overwrite starts anew: choose one")
        if options.raw and options.system is not None:
            raise usage_error("a --raw prompt has no system message: leave out --system or --raw")
        if self.agent_path is not None and (options.raw or options.system is not None):
            raise usage_error("--system and --raw are for the built-in agent, not for an agent file")

    def run(self) -> int:
        """Runs all inputs and says what came of them; returns the exit status."""
        display, sink = self._outlets()
        try:
            summary = self._answer_all(display, sink)
        except CommandError as error:
            raise CommandError(f"{error}{self._kept()}", error.status) from None
        finally:
            if self.output is not None:
                self.output.close()
        return self._report(summary)

    def _answer_all(self, display: Display, sink: Sink) -> Summary:
        display.begin(self.workers, self.total)
        try:
            executor = self._executor(display)
        except BaseException:
            display.end()
            raise
        inputs = all_inputs(self.prompts, self.source)
        run = Run(inputs, executor, sink, display, self.answered, window=2 * self.workers)
        patience = _STOP_SECONDS
        try:
            summary = run.go()
            if summary.stopped_by is None:
                patience = _CLOSE_SECONDS
            return summary
        finally:
            display.end()
            self.stuck = not executor.close(patience)

    def _executor(self, display: Display) -> Executor:
        return make_executor(
            self.workers,
            agent_path=self.agent_path,
            model_path=self.model_path,
            model_options=_models.settings(self.options),
            sampling=_sampling.chosen(self.options),
            system=self.options.system,
            raw=self.options.raw,
            timeout=self.options.timeout,
            live=display.live,
        )

    def _outlets(self) -> tuple[Display, Sink]:
        """Who shows the run, and who takes the records."""
        options = self.options
        if self.output is not None:
            shown = sys.stderr.isatty() and not options.quiet and not _dumb()
            return (_rich_display(answers=False) if shown else Display()), self.output
        form = options.format or ("text" if sys.stdout.isatty() else "jsonl")
        if form == "jsonl":
            return Display(), JsonlOutput(1, "standard output")
        if sys.stdout.isatty() and not options.quiet and not _dumb():
            return _rich_display(answers=True), Discard()
        return Display(), PlainText(titles=self.total != 1)

    def _kept(self) -> str:
        """What a run that could not go on has kept, and how to take it up again."""
        if self.output is None or not self.output.written:
            return ""
        return f"\n{_counted(self.output.written, 'record')} kept in {self.output.name}. {self._go_on()}"

    def _go_on(self) -> str:
        words = [word for word in self.arguments if word not in ("--resume", "--overwrite")]
        return f"To go on:\n  {join(['syncyte', 'run', '--resume', *words])}"

    def _report(self, summary: Summary) -> int:
        """Says on standard error how the run went; returns the exit status."""
        say = _say if not self.options.quiet else _nothing
        if summary.stopped_by is not None:
            _say(f"stopped: {_counts(summary)}")
            if self.output is not None:
                _say(f"What is done is kept in {self.output.name}. {self._go_on()}")
            return 128 + summary.stopped_by
        if not summary.answered and not summary.failed and not summary.skipped:
            _say("there were no prompts in the input: nothing to do")
            return 0
        if summary.failed and summary.first_failure is not None:
            record = summary.first_failure
            error = record["error"]
            where = f"input {record['index']}" + (f" (id {record['id']!r})" if "id" in record else "")
            say(f"{_counts(summary)}; first failure: {where}: {error['type']}: {error['message']}")
        elif self.total != 1 or self.output is not None:
            say(_counts(summary))
        return 1 if summary.failed else 0


def _say(text: str) -> None:
    print(f"syncyte run: {text}", file=sys.stderr)


def _nothing(text: str) -> None:
    """Says nothing, for --quiet."""


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _counts(summary: Summary) -> str:
    parts = [_counted(summary.answered, "answer")]
    if summary.failed:
        parts.append(f"{summary.failed:,} failed")
    if summary.skipped:
        parts.append(f"{summary.skipped:,} answered before")
    seconds = summary.seconds
    rate = f", {summary.tokens:,} tokens, {summary.tokens / seconds:,.0f} tokens/s" if summary.tokens else ""
    return f"{', '.join(parts)} in {seconds:.1f} s{rate}"


def _check_syntax(path: str) -> None:
    """Finds the plainest mistakes of an agent file before anything is loaded."""
    from syncyte.cli import _agent

    try:
        compile(Path(path).read_bytes(), path, "exec")
    except OSError as error:
        raise usage_error(f"the agent file {path} cannot be read: {error.strerror}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise usage_error(f"the agent file {path} is not Python\n{_agent.describe_in_full(error)}") from None


def _source(options: argparse.Namespace, prompts: list[str]) -> Source | None:
    if options.input is not None:
        return Source(options.input)
    if prompts:
        return None
    if sys.stdin is None or sys.stdin.isatty():
        raise usage_error(
            "no prompts: give some as arguments, a file of them with --input, or - to type them, one a line"
        )
    return Source("-")


def _count(prompts: list[str], source: Source | None) -> int | None:
    """How many inputs there are; None when that is not known before they are read."""
    if source is None:
        return len(prompts)
    counted = source.count()
    return None if counted is None else len(prompts) + counted


def _dumb() -> bool:
    return os.environ.get("TERM", "") in ("", "dumb")


def _rich_display(*, answers: bool) -> Display:
    from rich.console import Console

    from syncyte.cli._display import RichDisplay

    return RichDisplay(Console(stderr=not answers), show_answers=answers)


def make_executor(workers: int, **setup: Any) -> Executor:
    """The pool that answers. Tests put another in its place."""
    from syncyte.cli._executor import PoolExecutor

    return PoolExecutor(workers, **setup)


def _leave_at_once(status: int) -> None:
    """Ends the process although an agent is still busy: all answers are written."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
