"""The audit itself: what is tried, in which order, several children at a time."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from syncyte._audit import elf, judge, targets
from syncyte._audit.child import MARK, Children, Outcome
from syncyte._audit.report import Audited, Declaration, Extension, Package, Verdict

_DEFAULT_TIMEOUT = 60.0
# A module that fails by an error of its own may crash the next time: where it does, that is the verdict.
_ATTEMPTS = 4

type Progress = Callable[[str, int, int], None]


def audit(
    *names: str,
    environment: bool = False,
    timeout: float = _DEFAULT_TIMEOUT,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> list[Audited]:
    """Tries whether packages can live in own-GIL interpreters, in child processes that may crash.

    names: import names, distribution names, or paths of extension modules. environment: everything
    installed, and the standard library's extension modules. timeout: seconds for each child; a module has
    three or four. jobs: children at a time, the number of CPUs if None. progress: called from this thread
    with what was just finished, how much is done and how much is known to be to do.

    Returns one report per package or extension module named, in that order. Raises LookupError for a name
    that nothing installed has, ValueError for a timeout or number of jobs that is not positive,
    RuntimeError when an audited module calls it in turn.
    """
    if MARK in os.environ:
        raise RuntimeError("an audited module starts an audit of its own when it is imported: not done")
    if timeout <= 0:
        raise ValueError(f"timeout must be a positive number of seconds, got {timeout!r}")
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs!r}")
    found: list[targets.Target] = targets.environment() if environment else []
    for name in names:
        found.extend(targets.resolve(name))
    run = _Run(timeout, jobs or os.cpu_count() or 1, progress)
    return run.audit(list(dict.fromkeys(found)))


class _Run:
    """One call of audit. Modules asked for twice are tried once."""

    def __init__(self, timeout: float, jobs: int, progress: Progress | None) -> None:
        self._children = Children(timeout)
        self._jobs = jobs
        self._progress = progress
        self._done = self._known = 0

    def audit(self, found: Sequence[targets.Target]) -> list[Audited]:
        packages = [target for target in found if not target.is_extension]
        with ThreadPoolExecutor(self._jobs, thread_name_prefix="syncyte-audit") as pool:
            try:
                wholes = self._gather(pool, packages, lambda target: target.name, self._try_package)
                modules = dict.fromkeys(module for target in found for module in target.modules)
                for whole in wholes.values():
                    modules.update(dict.fromkeys(whole.uses))
                extensions = self._gather(pool, modules, lambda module: module.name, self._try_module)
            except BaseException:
                self._children.close()
                pool.shutdown(cancel_futures=True)
                raise
        return [self._report(target, wholes.get(target), extensions) for target in found]

    def _gather[T, R](
        self, pool: ThreadPoolExecutor, items: Iterable[T], name: Callable[[T], str], work: Callable[[T], R]
    ) -> dict[T, R]:
        futures: dict[Future[R], T] = {pool.submit(work, item): item for item in items}
        self._known += len(futures)
        results = {}
        for future in as_completed(futures):
            item = futures[future]
            results[item] = future.result()
            self._done += 1
            if self._progress is not None:
                self._progress(name(item), self._done, self._known)
        return results

    # --- one subject ---

    def _task(self, kind: str, name: str, module: targets.Module | None = None) -> dict[str, object]:
        root = None if module is None else module.root
        return {
            "kind": kind,
            "name": name,
            "file": module.path if module is not None and module.by_path else None,
            "library": None if module is None else module.path,
            "sys_path": _sys_path() + ([root] if root is not None else []),
        }

    def _try_module(self, module: targets.Module) -> Extension | None:
        inspected = self._children.run(self._task("inspect", module.name, module))
        if inspected.get("not_a_module") is not None:
            return None
        declaration = judge.declaration_of(inspected)
        layout = elf.Layout() if module.path is None else elf.read_layout(module.path)
        writable = tuple(item.name for item in layout.globals)
        tried = self._try(module.name, declaration, module, layout)
        return Extension(
            module.name,
            module.path,
            declaration,
            *tried.opinion,
            tried.memory_kb,
            tried.leaked_kb,
            tried.shared,
            writable,
        )

    def _try_package(self, target: targets.Target) -> _Whole:
        main = self._import_in_main(target.name, None)
        imported = main.get("imported")
        own = {module.path for module in target.modules}
        loaded: set[str] = set()
        uses: list[targets.Module] = []
        for name, path in imported if isinstance(imported, list) else []:
            loaded.add(name)
            if path not in own and not targets.is_stdlib(name):
                uses.append(targets.Module(name, path))
        tried = self._try(target.name, None, None, elf.Layout(), frozenset(loaded))
        return _Whole(tried, frozenset(loaded), tuple(uses))

    def _try(
        self,
        name: str,
        declaration: Declaration | None,
        module: targets.Module | None,
        layout: elf.Layout,
        loaded: frozenset[str] = frozenset(),
    ) -> _Tried:
        task = self._task("trial", name, module)
        task["sections"] = [[address, size] for _, address, size in layout.sections]
        task["first_address"] = layout.first_address
        for _ in range(_ATTEMPTS):
            trial = self._children.run(task)
            opinion = judge.of_trial(name, declaration, trial, loaded)
            if opinion is not None or trial.get("error") is None:
                break
        if opinion is None and (error := trial.get("error")) is not None:
            opinion = judge.of_first_import(str(error), self._import_in_main(name, module))
        elif trial.timed_out:
            opinion = judge.of_hang(trial, self._import_in_main(name, module))
        if opinion is not None:
            return _Tried(opinion)
        remembered, took, left = judge.of_memory(self._children.run(self._task("memory", name, module)))
        changed = trial.get("changed")
        shared = layout.names_of(changed) if isinstance(changed, list) else []
        opinion = remembered or judge.of_globals(shared) or (Verdict.SAFE, "imports, shares and closes well")
        return _Tried(opinion, took, left, tuple(shared))

    def _import_in_main(self, name: str, module: targets.Module | None) -> Outcome:
        return self._children.run(self._task("main", name, module))

    # --- reports ---

    def _report(
        self,
        target: targets.Target,
        whole: _Whole | None,
        extensions: dict[targets.Module, Extension | None],
    ) -> Audited:
        own = tuple(found for module in target.modules if (found := extensions[module]) is not None)
        if whole is None:
            return own[0] if own else _no_module(target)
        uses = tuple(found for module in whole.uses if (found := extensions[module]) is not None)
        tried = whole.tried
        verdict, reason = judge.of_package(tried.opinion, own + uses, whole.loaded)
        return Package(
            target.name,
            target.distribution,
            target.version,
            verdict,
            reason,
            tried.memory_kb,
            tried.leaked_kb,
            own,
            uses,
        )


def _no_module(target: targets.Target) -> Extension:
    path = target.modules[0].path
    if path is None:
        return Extension(target.name, None, None, Verdict.SAFE, "a part of every interpreter")
    reason = "a library without an init function of this name: no extension module"
    return Extension(target.name, path, None, Verdict.UNKNOWN, reason)


class _Tried:
    """What the trial of one subject came to."""

    __slots__ = ("leaked_kb", "memory_kb", "opinion", "shared")

    def __init__(
        self,
        opinion: judge.Opinion,
        memory_kb: int | None = None,
        leaked_kb: int | None = None,
        shared: tuple[str, ...] = (),
    ) -> None:
        self.opinion, self.memory_kb, self.leaked_kb, self.shared = opinion, memory_kb, leaked_kb, shared


class _Whole:
    """The trial of a package's import, and the extension modules it brings: all, and the foreign ones."""

    __slots__ = ("loaded", "tried", "uses")

    def __init__(self, tried: _Tried, loaded: frozenset[str], uses: tuple[targets.Module, ...]) -> None:
        self.tried, self.loaded, self.uses = tried, loaded, uses


def _sys_path() -> list[str]:
    """sys.path as the children need it: they start in a folder of their own."""
    return [str(Path(entry).absolute()) if entry else str(Path.cwd()) for entry in sys.path]
