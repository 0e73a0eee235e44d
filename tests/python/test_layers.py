"""The layers of docs/architecture.md, held against every include line of src/."""

import re
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src"

# A layer may include itself and these.
BELOW = {
    "base": set(),
    "value": {"base"},
    "channel": {"base"},
    "engine": {"base"},
    "scheduler": {"base", "channel", "engine"},
    "python": {"base", "value", "channel", "engine", "scheduler"},
}
# Third-party headers, and the one layer that may see them.
OWNERS = {"Python.h": "python", "structmember.h": "python", "datetime.h": "python", "llama.h": "engine"}
OWNER_PREFIXES = {"ggml": "engine", "gguf": "engine"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def owner_of(header: str) -> str | None:
    if header in OWNERS:
        return OWNERS[header]
    return next((layer for prefix, layer in OWNER_PREFIXES.items() if header.startswith(prefix)), None)


def wrong_includes(layer: str, text: str) -> list[str]:
    wrong = []
    for kind, header in INCLUDE.findall(text):
        owner = owner_of(header)
        if owner is not None and owner != layer:
            wrong.append(header)
        if kind == '"':
            target = header.split("/")[0]
            if target != layer and target not in BELOW[layer]:
                wrong.append(header)
    return wrong


def test_every_folder_is_a_known_layer() -> None:
    assert {path.name for path in SOURCES.iterdir() if path.is_dir()} <= set(BELOW)


def test_no_layer_includes_what_is_not_below_it() -> None:
    found = {
        str(path.relative_to(SOURCES)): wrong
        for path in sorted(SOURCES.rglob("*.[ch]*"))
        if path.suffix in {".h", ".cpp"}
        and (wrong := wrong_includes(path.relative_to(SOURCES).parts[0], path.read_text()))
    }
    assert not found


def test_the_check_sees_a_wrong_include() -> None:
    sibling = '#include "channel/channel.h"\n#include <vector>\n'
    assert wrong_includes("value", sibling) == ["channel/channel.h"]
    assert wrong_includes("scheduler", "#include <Python.h>\n") == ["Python.h"]
    assert wrong_includes("scheduler", "#include <ggml-cpu.h>\n") == ["ggml-cpu.h"]
    assert wrong_includes("engine", '#include <llama.h>\n#include "base/error.h"\n') == []


def test_no_file_is_longer_than_800_lines() -> None:
    root = SOURCES.parent
    folders = ("src", "python", "tests", "benchmarks", "models", "examples")
    long = {
        str(path.relative_to(root)): lines
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.suffix in {".h", ".cpp", ".py"} and (lines := len(path.read_text().splitlines())) > 800
    }
    assert not long
