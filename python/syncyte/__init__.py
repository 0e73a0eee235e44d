"""Many Python AI agents in one process: own-GIL interpreters, one shared model, microsecond channels.

Importing this package costs an interpreter little: a name's module is loaded when the name is first used.
"""

from syncyte._core import (
    CancelledError,
    ChannelClosed,
    ClosedError,
    Error,
    Lora,
    ModelError,
    OverloadedError,
    Queue,
    Receiver,
    Sender,
    SharedBuffer,
    __version__,
    create_channel,
    select,
    share,
)

TYPE_CHECKING = False  # typing itself would cost each interpreter milliseconds
if TYPE_CHECKING:
    from syncyte._async_model import AsyncStream
    from syncyte._async_session import AsyncSessionStream
    from syncyte._audit.audit import audit
    from syncyte._completion import Completion, ModelInfo, ModelStats, Timings, TokenLogprob, ToolCall, Usage
    from syncyte._core_budget import set_core_budget
    from syncyte._embedded import embedded_model_path
    from syncyte._generate_options import GenerateOptions
    from syncyte._how import how, is_shareable
    from syncyte._inference_pool import InferencePool, run_parallel
    from syncyte._isolate import isolate
    from syncyte._model import Model, Stream, versions
    from syncyte._on_main import on_main
    from syncyte._pool import InterpreterPool
    from syncyte._prefix import Prefix
    from syncyte._queue_empty import QueueEmpty
    from syncyte._queue_errors import QueueFull, QueueShutDown
    from syncyte._session import Session, SessionStream

# Public name -> the private module that defines it.
_modules: dict[str, str] = {
    "AsyncSessionStream": "_async_session",
    "AsyncStream": "_async_model",
    "Completion": "_completion",
    "GenerateOptions": "_generate_options",
    "InferencePool": "_inference_pool",
    "InterpreterPool": "_pool",
    "Model": "_model",
    "ModelInfo": "_completion",
    "ModelStats": "_completion",
    "Prefix": "_prefix",
    "QueueEmpty": "_queue_empty",
    "QueueFull": "_queue_errors",
    "QueueShutDown": "_queue_errors",
    "Stream": "_model",
    "Session": "_session",
    "SessionStream": "_session",
    "Timings": "_completion",
    "TokenLogprob": "_completion",
    "ToolCall": "_completion",
    "Usage": "_completion",
    "audit": "_audit.audit",
    "isolate": "_isolate",
    "on_main": "_on_main",
    "set_core_budget": "_core_budget",
    "run_parallel": "_inference_pool",
    "how": "_how",
    "is_shareable": "_how",
    "embedded_model_path": "_embedded",
    "versions": "_model",
}

__all__ = [
    "AsyncSessionStream",
    "AsyncStream",
    "CancelledError",
    "ChannelClosed",
    "ClosedError",
    "Completion",
    "Error",
    "GenerateOptions",
    "InferencePool",
    "InterpreterPool",
    "Lora",
    "Model",
    "ModelError",
    "ModelInfo",
    "ModelStats",
    "OverloadedError",
    "Prefix",
    "Queue",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "Receiver",
    "Sender",
    "Session",
    "SessionStream",
    "SharedBuffer",
    "Stream",
    "Timings",
    "TokenLogprob",
    "ToolCall",
    "Usage",
    "__version__",
    "audit",
    "create_channel",
    "embedded_model_path",
    "how",
    "is_shareable",
    "isolate",
    "on_main",
    "run_parallel",
    "select",
    "set_core_budget",
    "share",
    "versions",
]


def __getattr__(name: str) -> object:
    module = _modules.get(name)
    if module is None:
        raise AttributeError(f"module 'syncyte' has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(f"syncyte.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
