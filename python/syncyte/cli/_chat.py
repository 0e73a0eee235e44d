"""`syncyte chat`: a conversation with a model in the terminal."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from syncyte.cli import _models, _sampling
from syncyte.cli._arguments import CommandError, Parser, did_you_mean
from syncyte.cli._conversation import Conversation
from syncyte.cli._memory import private_megabytes
from syncyte.cli._text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = "syncyte chat [--model M.gguf] [--system TEXT] [options]"

_DESCRIPTION = """\
Talks with a model. Answers appear as they are made; the model sees the whole conversation, and
when that no longer fits its context, the oldest turns are left out.

Ctrl-C stops an answer, not the program. A line that ends in \\ goes on in the next one. When
standard input is no terminal, each line is a turn, and only the answers are printed."""

_EPILOG = """\
in the conversation:
  /help    the commands      /reset   forget the conversation
  /stats   figures           /exit    leave (so does Ctrl-D)

examples:
  syncyte chat
  syncyte chat --model model.gguf --system "Answer in one sentence." --temperature 0.7
  echo "Tell me a joke" | syncyte chat

exit status:
  0 left by /exit, Ctrl-D or the end of the input
  1 the model cannot be used, or a turn from a pipe failed    2 wrong command line"""

_COMMANDS = {
    "/help": "these commands",
    "/reset": "forget the conversation and start a new one",
    "/stats": "tokens, speed, context and memory so far",
    "/exit": "leave; Ctrl-D does the same",
}


def parser() -> Parser:
    """The parser of this command."""
    result = Parser("chat", usage=_USAGE, description=_DESCRIPTION, epilog=_EPILOG)
    model = result.add_argument_group("model")
    _models.add_to(model)
    model.add_argument("--system", metavar="TEXT", help="what the model is told before the conversation")
    _sampling.add_to(result.add_argument_group("generation"))
    other = result.add_argument_group("other")
    other.add_argument("-h", "--help", action="help", help="show this text and exit")
    return result


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    options = parser().read(arguments)
    try:
        path = _models.path_of(options)
        model = _models.load(path, _models.settings(options))
        talk = Conversation(model, options.system, _sampling.chosen(options))
        return _Chat(talk, path).run()
    except CommandError as error:
        print(f"syncyte chat: {error}", file=sys.stderr)
        return error.status


class _Chat:
    """The terminal side of a conversation: lines in, pieces of answers out."""

    def __init__(self, talk: Conversation, path: str) -> None:
        self._talk = talk
        self._path = path
        self._terminal = sys.stdin.isatty() and sys.stdout.isatty()
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        self._colour = sys.stdout.isatty() and not plain
        self._failed = False

    def run(self) -> int:
        """Talks until the input ends or /exit; returns the exit status."""
        if not self._talk.model.info.has_chat_template:
            raise CommandError(f"{self._path} has no chat template: it is no model to talk with")
        if self._terminal:
            _line_editing()
            self._greet()
        while True:
            try:
                if not self._step():
                    break
            except EOFError:
                if self._terminal:
                    print()
                break
            except KeyboardInterrupt:
                if not self._terminal:
                    raise
                print(self._dim("\n(Ctrl-D or /exit leaves)"))
        return 1 if self._failed else 0

    def _step(self) -> bool:
        """Reads one line and does what it says; False ends the conversation, EOFError the input."""
        line = self._read()
        if line is None or not line.strip():
            return True
        if line.startswith("/") and self._terminal:
            return self._obey(line.strip())
        self._turn(line)
        return True

    def _greet(self) -> None:
        info = self._talk.model.info
        name = Path(self._path).name
        context = f"{self._talk.context_length:,} tokens of context"
        print(self._dim(f"{name} · {info.architecture} · {context}"))
        print(self._dim("/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves"))

    def _read(self) -> str | None:
        """The next turn; None for a line that is no text. EOFError at the end."""
        if self._terminal:
            lines = [input(self._prompt("you> "))]
            while lines[-1].endswith("\\"):
                lines[-1] = lines[-1][:-1]
                lines.append(input(self._prompt("...> ")))
            line = "\n".join(lines)
        else:
            line = sys.stdin.readline()
            if not line:
                raise EOFError
            line = line.rstrip("\r\n")
        try:
            line.encode()
        except UnicodeEncodeError:
            self._complain("that line is not valid UTF-8")
            return None
        return line

    def _turn(self, text: str) -> None:
        """Asks the model and prints the answer as it comes."""
        left_out = self._talk.say(text)
        if left_out and self._terminal:
            print(self._dim(f"(the conversation outgrew the context: {left_out} old messages left out)"))
        ended_line = said_something = False
        try:
            for piece in self._talk.answer():
                shown = printable(piece) if self._colour or self._terminal else piece
                print(shown, end="", flush=True)
                said_something = True
                ended_line = piece.endswith("\n")
        except KeyboardInterrupt:
            if not self._terminal:
                raise
            print(self._dim(" (stopped)"), end="")
            ended_line, said_something = False, True
        except _failures() as error:
            if said_something and not ended_line:
                print()
            self._complain(str(error))
            return
        if not said_something and self._terminal:
            print(self._dim("(the model said nothing)"), end="")
        if not ended_line:
            print(flush=True)
        if self._terminal:
            print()

    def _obey(self, line: str) -> bool:
        """Does what a /command says; False ends the conversation."""
        name = line.split()[0].lower()
        match name:
            case "/exit" | "/quit":
                return False
            case "/help":
                for command, meaning in _COMMANDS.items():
                    print(f"  {command:7} {self._dim(meaning)}")
            case "/reset":
                self._talk.reset()
                print(self._dim("(a new conversation)"))
            case "/stats":
                for label, value in self._talk.figures():
                    print(f"  {label:16} {value}")
                memory = private_megabytes()
                if memory is not None:
                    print(f"  {'memory':16} {memory:,.0f} MB private to this process")
            case _:
                print(f"there is no command {name}{did_you_mean(name, _COMMANDS)} (/help lists them)")
        return True

    def _complain(self, text: str) -> None:
        self._failed = self._failed or not self._terminal
        print(f"syncyte chat: {text}", file=sys.stderr)

    def _dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._colour else text

    def _prompt(self, text: str) -> str:
        # \x01 and \x02 tell readline which characters take no room on the line.
        return f"\x01\x1b[1;36m\x02{text}\x01\x1b[0m\x02" if self._colour else text


def _failures() -> tuple[type[Exception], ...]:
    import syncyte

    return (syncyte.Error, ValueError)


def _line_editing() -> None:
    """Arrow keys and history for input(); without readline it works all the same."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline

        readline.set_completer(_complete)
        readline.set_completer_delims("")
        readline.parse_and_bind("tab: complete")


def _complete(text: str, state: int) -> str | None:
    matching = [name for name in _COMMANDS if text and name.startswith(text)]
    return matching[state] if state < len(matching) else None
