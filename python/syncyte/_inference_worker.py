"""The worker's half of InferencePool: one model, one agent and its set-up in each interpreter."""

from time import monotonic

from syncyte import _worker
from syncyte._core import ChannelClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from syncyte._core import Sender
    from syncyte._model import Model

_model: Model | None = None
_agent: Callable[..., Any] | None = None
_chats = False


def prepare(model: Model, agent: bytes | None, setup: bytes | None, raw: bool) -> None:
    """Take the pool's model, load its agent, and run its set-up; once in each worker."""
    global _model, _agent, _chats
    _model = model
    _chats = not raw and model.info.has_chat_template
    _worker.at_leave.append(_forget)
    if agent is not None:
        _agent = _worker.load(agent)  # type: ignore[assignment]
    if setup is not None:
        _worker.load(setup)()  # type: ignore[operator]


def _forget() -> None:
    global _model, _agent
    _model = _agent = None


def _now(options: dict[str, Any]) -> dict[str, Any]:
    """The options with a deadline in seconds from now; it came as a time."""
    deadline = options.get("deadline")
    return options if deadline is None else {**options, "deadline": max(deadline - monotonic(), 0.0)}


def answer(prompt: Any, options: dict[str, Any]) -> Any:
    """Return what the agent, or the model alone, says to a prompt."""
    assert _model is not None
    options = _now(options)
    if _agent is not None:
        return _agent(prompt, _model, **options)
    if _chats:
        return _model.chat(_messages(prompt), **options)
    return _model.generate(prompt, **options)


def _messages(prompt: Any) -> Any:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _streamed(prompt: Any, options: dict[str, Any]) -> Any:
    assert _model is not None
    options = _now(options)
    if _agent is not None:
        return _agent(prompt, _model, **options)
    if _chats:
        return _model.stream_chat(_messages(prompt), **options)
    return _model.stream(prompt, **options)


def stream(pieces: Sender[str], prompt: Any, options: dict[str, Any]) -> None:
    """Send the pieces of the answer as they come; closing the channel tells that it is whole."""
    found = _streamed(prompt, options)
    if isinstance(found, str):
        found = (found,)
    elif hasattr(found, "finish_reason") and hasattr(found, "text"):
        found = (found.text,)
    try:
        with pieces:
            for piece in found:
                pieces.send(piece)
    except ChannelClosed:
        pass  # the caller has had enough
    finally:
        close = getattr(found, "close", None)
        if close is not None:
            close()
