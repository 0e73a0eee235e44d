"""The small demonstration model that comes with the package."""

import os

_FILE = "syncyte-demo-q8_0.gguf"


def embedded_model_path() -> str:
    """Absolute path of the GGUF file that syncyte.Model() opens when no path is given.

    FileNotFoundError when the installation lacks it.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models", _FILE)  # noqa: PTH100, PTH118, PTH120
    if not os.path.exists(path):  # noqa: PTH110
        raise FileNotFoundError(f"this installation of syncyte lacks its demonstration model: {path}")
    return path
