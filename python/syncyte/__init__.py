"""Many Python AI agents in one process: own-GIL interpreters, one shared model, microsecond channels."""

from syncyte._core import CancelledError, ClosedError, Error, ModelError, OverloadedError, __version__

__all__ = ["CancelledError", "ClosedError", "Error", "ModelError", "OverloadedError", "__version__"]
