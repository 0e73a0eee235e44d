"""Result files: benchmarks/results/NAME.json, written whole or not at all."""

import datetime
import json
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench
from benchmarks.machine import describe

FOLDER = Path(__file__).parent / "results"
QUICK_FOLDER = Path(__file__).parent.parent / "build" / "benchmarks"
"""Quick runs prove that a workload runs; their figures mean nothing and are kept out of git."""


def as_data(bench: Bench, title: str, busy: dict[str, float], seconds: float) -> dict[str, Any]:
    return {
        "workload": bench.name,
        "title": title,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "quick": bench.quick,
        "machine": describe(),
        "others_used_cores": busy,
        "facts": bench.facts,
        "comparisons": [comparison.as_data() for comparison in bench.comparisons],
    }


def _rounded(value: Any) -> Any:
    """Six significant digits: more would be noise in every diff."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def save(data: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{data['workload']}.json"
    partial = path.with_suffix(".json.partial")
    partial.write_text(json.dumps(_rounded(data), indent=1, ensure_ascii=False) + "\n")
    return partial.replace(path)


def load(name: str, folder: Path = FOLDER) -> dict[str, Any] | None:
    """The stored result of a workload; None when there is none."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def comparison_of(data: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
    """One comparison of a stored result by its name."""
    for comparison in (data or {}).get("comparisons", []):
        if comparison["name"] == name:
            found: dict[str, Any] = comparison
            return found
    return None
