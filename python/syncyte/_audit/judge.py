"""From what the children saw to a verdict with its reason."""

import re

from syncyte._audit.child import Outcome
from syncyte._audit.report import Declaration, Extension, Package, Verdict

# Less than this for each interpreter is within what CPython itself loses now and then.
_LEAK_KB = 16
_REFUSAL = re.compile(r"module (\S+) does not support loading in subinterpreters")

_STEPS = {
    "first": "imported in an interpreter of its own",
    "second": "imported in a second interpreter",
    "third": "imported in a third interpreter",
    "closing": "interpreters that hold it are closed",
    "again": "imported again after interpreters were closed",
    "at once": "imported in four interpreters at once",
    "exit": "the process ends",
}

type Opinion = tuple[Verdict, str]


def declaration_of(inspected: Outcome) -> Declaration | None:
    """What the inspecting child read, if it did."""
    found = inspected.get("declaration")
    return Declaration(**found) if isinstance(found, dict) else None


def _declared_reason(declaration: Declaration | None) -> str:
    if declaration is None:
        return "CPython does not load it in an interpreter with its own GIL"
    if declaration.init == "single":
        return "single-phase init: CPython loads such a module in the main interpreter only"
    if declaration.interpreters is None:
        return (
            "multi-phase init without the Py_mod_multiple_interpreters slot: not declared fit for an own GIL"
        )
    return f"declares Py_mod_multiple_interpreters: {declaration.interpreters}"


def _one_line(text: object, limit: int = 160) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def of_trial(
    name: str, declaration: Declaration | None, trial: Outcome, loaded: frozenset[str] = frozenset()
) -> Opinion | None:
    """The verdict that the trial alone decides; None when it passed or failed at the first import.

    loaded: full names of the extension modules that this import brings in the main interpreter, where known.
    """
    step = str(trial.get("begin") or "start")
    error = trial.get("error")
    if error is not None:
        refusal = _REFUSAL.search(str(error))
        if refusal is not None:
            return Verdict.REFUSES, _refusal_reason(name, refusal[1], declaration, loaded)
        if step == "first":
            return None
        return Verdict.MAIN_ONLY, f"fails when {_STEPS[step]}: {_one_line(error)}"
    if step == "start":
        return Verdict.UNKNOWN, f"the trial {trial.ending()} before it began"
    if not trial.ended_well:
        return Verdict.CRASHES, f"{trial.ending()} when {_STEPS[step]}"
    if trial.get("done") is None:
        return Verdict.CRASHES, f"ends the process when {_STEPS[step]}"
    return None


def _refusal_reason(name: str, refusing: str, declaration: Declaration | None, loaded: frozenset[str]) -> str:
    # CPython names a single-phase module without its package.
    meant = [full for full in loaded if full.rpartition(".")[2] == refusing]
    if len(meant) == 1:
        refusing = meant[0]
    elif refusing == name.rpartition(".")[2]:
        refusing = name
    if refusing == name:
        return _declared_reason(declaration)
    return f"imports {refusing}, which cannot be loaded in an interpreter with its own GIL"


def of_first_import(error: str, main: Outcome) -> Opinion:
    """The verdict on a failed first import, with the main interpreter's attempt for comparison."""
    in_main = main.get("error")
    if in_main is not None:
        return Verdict.UNKNOWN, f"cannot be imported at all here: {_one_line(in_main)}"
    if main.get("imported") is None:
        return Verdict.UNKNOWN, f"cannot be imported at all here: {main.ending()}"
    return Verdict.MAIN_ONLY, f"works in the main interpreter, fails in another: {_one_line(error)}"


def of_hang(trial: Outcome, main: Outcome) -> Opinion:
    """The verdict on a trial that ran out of time: nobody's fault if the plain import does too."""
    if main.timed_out:
        return Verdict.UNKNOWN, "its import alone takes longer than the time limit"
    step = str(trial.get("begin") or "first")
    return Verdict.CRASHES, f"hangs when {_STEPS.get(step, step)}"


def of_memory(memory: Outcome) -> tuple[Opinion | None, int | None, int | None]:
    """The opinion on the memory figures, and the figures: kB taken and kB left by each interpreter."""
    took, left = memory.get("took_kb"), memory.get("left_kb")
    if memory.timed_out:
        reason = "passes, but its memory could not be measured within the time limit"
        return (Verdict.UNKNOWN, reason), None, None
    if not isinstance(took, int) or not isinstance(left, int):
        return (Verdict.CRASHES, f"{memory.ending()} when interpreters come and go"), None, None
    if left > _LEAK_KB:
        return (Verdict.LEAKS, f"each interpreter that closes leaves {left:,} kB behind"), took, left
    return None, took, left


def of_globals(shared: list[str]) -> Opinion | None:
    """The opinion on globals that changed while further interpreters imported the module."""
    if not shared:
        return None
    names = ", ".join(shared[:4]) + (f" and {len(shared) - 4} more" if len(shared) > 4 else "")
    return Verdict.UNKNOWN, f"passes, but each interpreter's import changes globals they all share: {names}"


def of_package(whole: Opinion, extensions: tuple[Extension, ...], loaded: frozenset[str]) -> Opinion:
    """The verdict on a package: on its import, or on its own and loaded modules if one of them is worse.

    loaded: the modules that its import brings in the main interpreter. Where it imports well although such
    a module is refused, it has something to put in the module's place.
    """
    missing: list[Extension] = []
    counted: list[Extension] = []
    for extension in extensions:
        refused = extension.verdict in (Verdict.REFUSES, Verdict.MAIN_ONLY)
        (missing if refused and extension.name in loaded else counted).append(extension)
    worst = max(counted, key=lambda extension: extension.verdict.severity, default=None)
    if worst is not None and worst.verdict.severity > whole[0].severity:
        alike = [extension for extension in counted if extension.verdict == worst.verdict]
        others = f" (and {len(alike) - 1} more modules)" if len(alike) > 1 else ""
        return worst.verdict, f"{worst.name}{others}: {worst.reason}"
    if whole[0] == Verdict.SAFE and missing:
        names = ", ".join(extension.name for extension in missing)
        return Verdict.SAFE, f"works there without {names}, which cannot be loaded in an own-GIL interpreter"
    return whole


def worst_of(audited: list[Package | Extension]) -> Verdict:
    """The worst verdict of a report; safe for an empty one."""
    return max((item.verdict for item in audited), key=lambda verdict: verdict.severity, default=Verdict.SAFE)
