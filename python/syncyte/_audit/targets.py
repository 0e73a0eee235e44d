"""Finds what a user meant by a name: extension modules and packages, without importing any of them."""

import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path

# CPython's own test modules: some crash on purpose.
_STDLIB_TESTS = ("_test", "_xx", "xx", "_ctypes_test")


@dataclass(frozen=True, slots=True)
class Module:
    """One extension module: a file, or built into the interpreter (path None)."""

    name: str
    path: str | None
    # A file that no import would find is loaded by its path; `root` is where its package lies.
    by_path: bool = False
    root: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A package, or a top-level module, as it is imported."""

    name: str
    distribution: str | None
    version: str | None
    modules: tuple[Module, ...]
    is_extension: bool = False  # then the one module is the target itself


class NotFoundError(LookupError):
    """Nothing of that name is installed."""


def resolve(name: str) -> list[Target]:
    """The targets of a command-line word: an import name, a distribution's name, or a path of a file.

    Raises NotFoundError with what was looked for, and what may have been meant.
    """
    if ("/" in name or not name.strip(".")) and Path(name).is_dir():
        raise NotFoundError(_about_folder(name, Path(name)))
    if "/" in name or name.endswith(tuple(EXTENSION_SUFFIXES)):
        return [_file_target(Path(name))]
    spec = _find(name)
    if spec is not None:
        return [_package_target(name, spec)]
    tops = _tops_of(name)
    if not tops:
        raise NotFoundError(
            f"no module and no distribution named {name!r} is installed for {sys.executable}"
            + _suggestion(name)
        )
    return [_package_target(top, spec) for top in tops if (spec := _find(top)) is not None]


def _about_folder(name: str, folder: Path) -> str:
    folder = folder.resolve()
    said = f"{name!r} is a folder: name a package as it is imported, or an extension file"
    files = sorted(file.name for file in folder.glob("*.so") if _module_name(file) is not None)
    if files:
        return f"{said}, such as {folder / files[0]}"
    if (folder / "__init__.py").exists():
        return f"{said}; with PYTHONPATH={folder.parent} this one is imported as {folder.name}"
    return said


def _suggestion(name: str) -> str:
    """What is installed and spelled alike, as the end of a sentence."""
    from difflib import get_close_matches

    installed = {*_distributions(), *sys.stdlib_module_names}
    installed |= {distribution for found in _distributions().values() for distribution in found}
    folders = {str(Path(entry).resolve()) for entry in sys.path if entry.endswith("-packages")}
    installed |= {found for folder in folders for found in _names_in(Path(folder))}
    spelled = {candidate.casefold(): candidate for candidate in installed}
    bare = re.split(r"[^\w.-]", name)[0]  # without a version
    close = get_close_matches(bare.casefold(), spelled, 1, 0.75)
    return f"; did you mean {spelled[close[0]]!r}?" if close else ""


def environment() -> list[Target]:
    """The standard library's extension modules, then what is installed in the site folders.

    Not what lies in the working directory or beside a script: importing those runs them.
    """
    import site

    builtin = sorted(set(sys.builtin_module_names) - {"builtins", "sys"})
    targets = [_package_target(name, None) for name in builtin]
    sites = {Path(folder).resolve() for folder in [*site.getsitepackages(), site.getusersitepackages()]}
    # A virtual environment that lets the system's packages through names their folders in sys.path only.
    names = {"site-packages", "dist-packages"}
    seen = set(sys.builtin_module_names)
    for folder in dict.fromkeys(Path(entry).resolve() for entry in sys.path if entry):
        if folder.name == "lib-dynload":
            found = [name for name in _names_in(folder) if not name.startswith(_STDLIB_TESTS)]
        elif folder in sites or folder.name in names:
            found = _names_in(folder)
        else:
            continue
        for name in found:
            if name not in seen and (spec := _find(name)) is not None:
                seen.add(name)
                targets.append(_package_target(name, spec))
    return targets


def is_stdlib(name: str) -> bool:
    """Whether the top-level module of this name belongs to the standard library."""
    return name.partition(".")[0] in sys.stdlib_module_names


def _names_in(folder: Path) -> list[str]:
    import pkgutil

    return sorted(found.name for found in pkgutil.iter_modules([str(folder)]))


def _find(name: str) -> ModuleSpec | None:
    """The spec of a dotted name, its parents not imported."""
    if name in sys.builtin_module_names:
        return ModuleSpec(name, None, origin="built-in")
    path: list[str] | None = None
    spec = None
    whole = ""
    for part in name.split("."):
        if not part.isidentifier() and path is None and "-" in part:
            return None
        whole = f"{whole}.{part}" if whole else part
        spec = PathFinder.find_spec(whole, path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return spec


def _package_target(name: str, spec: ModuleSpec | None) -> Target:
    distribution, version = _distribution_of(name.partition(".")[0])
    if spec is None or spec.origin == "built-in":
        return Target(name, None, None, (Module(name, None),), is_extension=True)
    if spec.submodule_search_locations is None:
        if spec.origin is not None and spec.origin.endswith(tuple(EXTENSION_SUFFIXES)):
            return Target(name, distribution, version, (Module(name, spec.origin),), is_extension=True)
        return Target(name, distribution, version, ())
    modules: dict[str, Module] = {}
    for location in spec.submodule_search_locations:
        for module in _modules_under(Path(location), name):
            modules.setdefault(module.name, module)
    return Target(name, distribution, version, tuple(modules[name] for name in sorted(modules)))


def _module_name(file: Path) -> str | None:
    """The module's name by its file's: what stands before a suffix that this interpreter loads."""
    for suffix in sorted(EXTENSION_SUFFIXES, key=len, reverse=True):
        if file.name.endswith(suffix):
            stem = file.name.removesuffix(suffix)
            return stem if "." not in stem else None
    return None


def _modules_under(folder: Path, package: str) -> list[Module]:
    found = []
    for file in sorted(folder.rglob("*.so")):
        stem = _module_name(file)
        parents = file.relative_to(folder).parts[:-1]
        if stem is None or not all(part.isidentifier() for part in parents):
            continue
        inner = [*parents] if stem == "__init__" else [*parents, stem]
        found.append(Module(".".join([package, *inner]), str(file)))
    return found


def _file_target(file: Path) -> Target:
    if not file.is_file():
        raise NotFoundError(f"no such file: {file}")
    stem = _module_name(file)
    if stem is None:
        raise NotFoundError(
            f"not named like an extension module of this Python ({', '.join(EXTENSION_SUFFIXES)}): {file}"
        )
    file = file.resolve()
    parts, folder = [stem], file.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    name = ".".join(parts)
    in_package = len(parts) > 1
    root = str(folder) if in_package and str(folder) not in sys.path else None
    module = Module(name, str(file), by_path=not in_package, root=root)
    return Target(name, None, None, (module,), is_extension=True)


@cache
def _distributions() -> dict[str, list[str]]:
    return {name: list(found) for name, found in metadata.packages_distributions().items()}


def _distribution_of(top: str) -> tuple[str | None, str | None]:
    """Distribution and version behind an import name; where an install does not say, of the same name."""
    for name in [*_distributions().get(top, []), top]:
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None, None


def _normal(name: str) -> str:
    return name.replace("_", "-").replace(".", "-").casefold()


def _tops_of(distribution: str) -> list[str]:
    wanted = _normal(distribution)
    return sorted(
        top for top, found in _distributions().items() if any(_normal(name) == wanted for name in found)
    )
