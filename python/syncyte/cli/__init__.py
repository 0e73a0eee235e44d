"""The `syncyte` command: finds the command that was asked for and loads only that one.

Workers import their side of a run from this package too, so nothing heavy is imported here.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Command -> the module with its `main(arguments)`, and the line that --help shows.
commands: dict[str, tuple[str, str]] = {
    "run": ("syncyte.cli._run", "put prompts through an agent in a pool of warm interpreters (the main job)"),
    "chat": ("syncyte.cli._chat", "talk with a model in the terminal"),
    "audit": ("syncyte.cli._audit", "tell which packages can live in interpreters with their own GIL"),
}

_HELP = """\
usage: syncyte COMMAND ...
       syncyte --version | --help

Many Python AI agents in one process: each in an interpreter with its own GIL, all on one shared
model in GGUF format.

commands:
{commands}

examples:
  syncyte run "Tell me a joke" "Explain quantum physics"
  syncyte run agent.py --input prompts.jsonl --output answers.jsonl --resume
  syncyte chat --model model.gguf

`syncyte COMMAND --help` explains a command and its options.
"""


def help_text() -> str:
    """The text of `syncyte --help`."""
    width = max(map(len, commands))
    return _HELP.format(
        commands="\n".join(f"  {name:{width}}  {line}" for name, (_, line) in commands.items())
    )


def version_text() -> str:
    """The text of `syncyte --version`: the versions of the parts that decide what a run does."""
    import syncyte

    found = syncyte.versions()
    names = {"syncyte": "syncyte", "cpython": "CPython", "libllama": "libllama", "ggml": "ggml"}
    return "\n".join(f"{shown} {found[name]}" for name, shown in names.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status.

    0: all went well, 1: something failed, 2: the command line is wrong, 130: stopped by Ctrl-C,
    141: whoever read standard output has left.
    """
    import sys

    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        try:
            status = _dispatch(given)
        finally:  # --help leaves by SystemExit
            sys.stdout.flush()
    except BrokenPipeError:
        return reader_left()
    except KeyboardInterrupt:
        print("syncyte: interrupted", file=sys.stderr)
        return 130
    if arguments is None:
        _expect_to_end()
    return status


def _expect_to_end() -> None:
    """From here on, the process only has to end: Ctrl-C may stop it at once, and a long wait is explained.

    What can still take time are threads that an agent has left running.
    """
    import signal
    import sys
    import threading
    import time

    def explain() -> None:
        time.sleep(1)
        print("syncyte: waiting for threads that agents left running; Ctrl-C ends at once", file=sys.stderr)

    if "syncyte._pool" in sys.modules:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        threading.Thread(target=explain, name="syncyte-end", daemon=True).start()


def _dispatch(given: list[str]) -> int:
    import sys

    if not given:
        print(help_text(), end="", file=sys.stderr)
        return 2
    first = given[0]
    if first in ("-h", "--help", "help"):
        if first == "help" and len(given) > 1:
            return _dispatch([given[1], "--help"])
        print(help_text(), end="")
        return 0
    if first in ("-V", "--version", "version"):
        print(version_text())
        return 0
    if first in commands:
        import importlib

        status: int = importlib.import_module(commands[first][0]).main(given[1:])
        return status
    from syncyte.cli._arguments import did_you_mean

    kind = "option" if first.startswith("-") else "command"
    known = ["--help", "--version"] if kind == "option" else list(commands)
    print(
        f"syncyte: unknown {kind} {first!r}{did_you_mean(first, known)}\n"
        "`syncyte --help` lists the commands.",
        file=sys.stderr,
    )
    return 2


def reader_left() -> int:
    """For when nobody reads standard output any more: silences it and returns the exit status.

    Standard output then leads nowhere, so that the last flush at exit cannot fail again.
    """
    import os

    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
    return 141
