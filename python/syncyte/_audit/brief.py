"""A short audit: whether a package can be imported by own-GIL interpreters at all."""

import os
from concurrent.futures import ThreadPoolExecutor

from syncyte._audit import judge, targets
from syncyte._audit.child import MARK, Children
from syncyte._audit.report import Verdict

_TIMEOUT_SECONDS = 60.0
# Of this process: what was found about a name on an import path.
_found: dict[tuple[str, tuple[str, ...]], tuple[str, str]] = {}


def check(names: list[str], path: list[str]) -> list[tuple[str, str, str]]:
    """Return name, verdict and reason for each: fit, unfit, broken (nowhere importable) or missing.

    Imports each package in two interpreters of a child process, which may crash. What was found is kept.
    """
    if MARK in os.environ:
        raise RuntimeError("an audited module opens a pool with requires= when it is imported: not done")
    children = Children(_TIMEOUT_SECONDS)

    def find(name: str) -> tuple[str, str, str]:
        key = name, tuple(path)
        if key not in _found:
            verdict, reason = _check(name, path, children)
            if verdict == "missing":  # may be installed meanwhile
                return name, verdict, reason
            _found[key] = verdict, reason
        return name, *_found[key]

    with ThreadPoolExecutor(
        max(1, os.process_cpu_count() or 1), thread_name_prefix="syncyte-requires"
    ) as threads:
        try:
            return list(threads.map(find, names))
        except BaseException:
            children.close()
            raise


def _check(name: str, path: list[str], children: Children) -> tuple[str, str]:
    try:
        found = targets.resolve(name)
    except LookupError as error:
        return "missing", str(error)
    for target in found:
        task: dict[str, object] = {"name": target.name, "file": None, "library": None, "sys_path": path}
        task |= {"sections": [], "first_address": 0}
        trial = children.run({**task, "kind": "brief"})
        opinion = judge.of_trial(target.name, None, trial)
        if opinion is None and (failed := trial.get("error")) is not None:
            opinion = judge.of_first_import(str(failed), children.run({**task, "kind": "main"}))
        elif trial.timed_out:
            opinion = judge.of_hang(trial, children.run({**task, "kind": "main"}))
        if opinion is not None:
            return ("broken" if opinion[0] is Verdict.UNKNOWN else "unfit"), opinion[1]
    return "fit", ""
