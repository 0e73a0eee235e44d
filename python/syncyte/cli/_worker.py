"""The worker's side of a run: set up once in each interpreter, then one call for each prompt."""

import contextlib
import os
import sys
from io import TextIOBase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncyte import Model
    from syncyte.cli._agent_model import AgentModel

# What a call gives back: plain values only, as they cross interpreters.
type Outcome = dict[str, object]


class _State:
    """What `prepare` leaves for `answer`. One for each interpreter."""

    agent: object = None
    model: AgentModel | None = None
    broken: str | None = None
    events: object = None
    interpreter_id: int = -1


_state = _State()


def prepare(
    agent_file: tuple[str, str] | None,
    model: Model,
    sampling: dict[str, object],
    system: str | None,
    raw: bool,
    events: object,
) -> None:
    """Readies this interpreter. Never raises: what goes wrong is told by the first `answer`.

    `agent_file` is the path as the user gave it, and in full. `events` is a queue that takes
    (kind, interpreter id, ...) tuples while answers come, or None.
    """
    from concurrent import interpreters

    _state.interpreter_id = interpreters.get_current().id
    _state.events = events
    _redirect_prints()
    try:
        from syncyte.cli import _agent, _agent_model

        _state.model = _agent_model.AgentModel(model, sampling, _post if events is not None else None)
        if agent_file is None:
            _state.agent = _agent_model.just_answer(system=system, raw=raw)
        else:
            _state.agent = _agent.load(*agent_file)
    except _agent.AgentFileError as error:
        _state.broken = str(error)
    except Exception as error:
        _state.broken = f"a worker could not start: {_agent.describe_in_full(error)}"


def answer(index: int, prompt: str, options: dict[str, object]) -> Outcome:
    """What the agent makes of one prompt; its failure is an outcome too, not an exception."""
    if _state.broken is not None or _state.model is None:
        return {"broken": _state.broken or "a worker was not set up"}
    _post("started", index)
    outcome = _outcome(prompt, options)
    outcome["interpreter_id"] = _state.interpreter_id
    return outcome


def _outcome(prompt: str, options: dict[str, object]) -> Outcome:
    from syncyte.cli import _agent

    model = _state.model
    assert model is not None
    model.begin(options)
    try:
        value = _agent.call(_state.agent, prompt, model)
        return model.outcome(value)
    except BaseException as error:
        if _is_stop(error):
            raise
        return {"error": _agent.describe(error)}


def _is_stop(error: BaseException) -> bool:
    """True for what the pool itself throws into a task to end it."""
    from syncyte._worker import TaskInterrupted

    return isinstance(error, TaskInterrupted)


def _post(kind: str, *rest: object) -> None:
    if _state.events is not None:
        _state.events.put((kind, _state.interpreter_id, *rest))  # type: ignore[attr-defined]


def _redirect_prints() -> None:
    """Keeps standard output for answers: what agents print goes to the display, or to standard error."""
    sys.stdout = sys.stderr = _Printed()


class _Printed(TextIOBase):
    """A text stream that passes on whole lines, so that those of several workers do not mix."""

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if _state.events is not None:
                _post("printed", line)
            else:
                with contextlib.suppress(OSError):
                    os.write(2, line.encode(errors="backslashreplace") + b"\n")
        return len(text)
