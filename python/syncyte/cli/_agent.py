"""An agent file inside a worker: loading it, calling it, and saying what went wrong in its own lines.

Runs in worker interpreters, so everything costly is imported where it is needed.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import traceback

_OWN_FOLDER = __file__.rpartition("/cli/")[0] + "/"
_REFUSALS = ("does not support loading in subinterpreters", "cannot load module more than once per process")
_MAX_DEPTH = 200


class AgentFileError(Exception):
    """The agent file cannot be used at all. The text is for the user."""


def load(path: str, full: str) -> object:
    """Runs the file as `python path` would, but for `__name__`, and returns its function `agent`.

    `path` is how messages name it, `full` its absolute path: an agent may change the working directory.
    """
    import types

    sys.path.insert(0, full.rpartition("/")[0])
    module = types.ModuleType("syncyte_agent")
    module.__file__ = full
    sys.modules["syncyte_agent"] = module
    try:
        with open(full, "rb") as file:  # noqa: PTH123
            source = file.read()
        exec(compile(source, path, "exec"), module.__dict__)
    except BaseException as error:
        raise AgentFileError(f"the agent file {path} does not run\n{describe_in_full(error)}") from None
    agent = getattr(module, "agent", None)
    if agent is None:
        raise AgentFileError(f"{path} has no function agent(prompt, model){_nearest(module)}")
    if not callable(agent):
        raise AgentFileError(
            f"`agent` in {path} is {_a(agent)}; it has to be a function agent(prompt, model)"
        )
    return agent


def _nearest(module: object) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == "syncyte_agent"
    ]
    return f"; it has {', '.join(names)}" if names else ""


def call(agent: object, prompt: str, model: object) -> object:
    """The agent's value for one prompt; an async agent is run to its end."""
    value: object = agent(prompt, model)  # type: ignore[operator]
    if type(value).__name__ == "coroutine":
        import asyncio

        value = asyncio.run(value)  # type: ignore[arg-type]
    return value


def plain(value: object, where: str = "", depth: int = 0) -> object:
    """The value if JSON can hold it, tuples as lists; TypeError or ValueError names what it cannot."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _valid(str.__str__(value), where)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        if value - value != 0:
            raise ValueError(f"{_where(where)} is {value}, which JSON has no way to write")
        return float.__float__(value)
    if depth > _MAX_DEPTH:
        raise ValueError(f"the agent's result is nested more than {_MAX_DEPTH} deep, or holds itself")
    if isinstance(value, (list, tuple)):
        return [plain(part, f"{where}[{place}]", depth + 1) for place, part in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{_where(where)} has the key {key!r:.40}; keys have to be strings")
        return {
            _valid(key, where): plain(part, f"{where}[{key!r:.40}]", depth + 1) for key, part in value.items()
        }
    raise TypeError(
        f"{_where(where)} is {_a(value)}, which cannot leave its interpreter; "
        "return a str, a Completion, or a value that JSON can hold (dict, list, number, bool, None)"
    )


def _valid(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise ValueError(f"{_where(where)} is no valid Unicode: lone surrogate U+{code:04X}") from None
    return text


def _where(where: str) -> str:
    return f"the agent's result{where}" if where else "the agent's result"


def _a(value: object) -> str:
    name = type(value).__qualname__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def describe(error: BaseException) -> dict[str, str]:
    """{"type", "message", "traceback"} of an exception of the user's code; no line of ours is in it."""
    found = {"type": type(error).__name__, "message": _message(error)}
    trace = _traceback(error)
    if trace:
        found["traceback"] = trace
    return found


def describe_in_full(error: BaseException) -> str:
    """The traceback and the message as one text."""
    trace = _traceback(error)
    last = f"{type(error).__name__}: {_message(error)}"
    return f"{trace}\n{last}" if trace else last


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the agent called sys.exit({'' if error.code is None else repr(error.code)})"
    if refusal := _refusal(error):
        return refusal
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}, line {error.lineno})"
    try:
        text = str(error)
    except Exception:  # a user's __str__ may do anything
        text = "(its message cannot be shown)"
    return text or f"(a {type(error).__name__} without a message)"


def _traceback(error: BaseException) -> str:
    import traceback

    try:
        summary = traceback.extract_tb(error.__traceback__)
        frames = [frame for frame in summary if not _ours(frame.filename)]
        if _refusal(error):
            frames = _up_to_libraries(frames)
        if isinstance(error, SyntaxError):
            lines = traceback.format_exception_only(type(error), error)[:-1]
        else:
            lines = traceback.StackSummary.from_list(frames).format() if frames else []
    except Exception:  # reporting one failure must not become another
        return ""
    return "".join(lines).rstrip("\n")


def _ours(filename: str) -> bool:
    return filename.startswith((_OWN_FOLDER, "<frozen "))


def _up_to_libraries(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The user's frames before the first of an installed package, whose insides are no help here."""
    for place, frame in enumerate(frames):
        if place and ("/dist-packages/" in frame.filename or "/site-packages/" in frame.filename):
            return frames[:place]
    return frames


def _refusal(error: BaseException) -> str:
    """What to say when an extension module refuses to live in an interpreter with its own GIL."""
    seen: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or one in seen or len(seen) > 50:
            continue
        seen.append(one)
        if isinstance(one, ImportError) and any(text in str(one) for text in _REFUSALS):
            return _explain_refusal(one)
        pending += [one.__cause__, one.__context__]
    return ""


def _explain_refusal(error: ImportError) -> str:
    before, found, _ = str(error).partition(f" {_REFUSALS[0]}")
    name = error.name or (before.rpartition("module ")[2] if found else _importing(error))
    package = name.partition(".")[0]
    part = f" (its part {name})" if name != package else ""
    return (
        f"{package}{part} cannot be imported by an agent: it is an extension module that does not support "
        "interpreters with their own GIL, which is where agents run. Use a pure-Python module or one that "
        f"declares this support, or keep {package} in the main program or in a process of its own "
        f"and send it the data. `syncyte audit {package}` tells more"
    )


def _importing(error: ImportError) -> str:
    """The module whose import statement failed."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return str(trace.tb_frame.f_globals.get("__name__")) if trace is not None else "the module"
