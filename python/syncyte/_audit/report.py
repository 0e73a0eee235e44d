"""What an audit says: verdicts, and the facts they rest on."""

import enum
from dataclasses import asdict, dataclass


class Verdict(enum.StrEnum):
    """The outcome for one extension module or package, from harmless to worst."""

    SAFE = "safe"
    UNKNOWN = "unknown"
    LEAKS = "leaks"
    MAIN_ONLY = "main only"
    REFUSES = "refuses"
    CRASHES = "crashes"

    @property
    def severity(self) -> int:
        """0 for safe, growing with the harm."""
        return list(Verdict).index(self)


ADVICE = {
    Verdict.SAFE: "use it in any interpreter",
    Verdict.UNKNOWN: "see why; test your own use of it before trusting it to several interpreters",
    Verdict.LEAKS: "keep interpreters alive and reuse them; do not create one per task",
    Verdict.MAIN_ONLY: 'call it with syncyte.on_main(), or InterpreterPool(fallback="process")',
    Verdict.REFUSES: 'call it with syncyte.on_main(), or InterpreterPool(fallback="process")',
    Verdict.CRASHES: 'keep it out of interpreters: syncyte.on_main(), or InterpreterPool(fallback="process")',
}


@dataclass(frozen=True, slots=True)
class Declaration:
    """What an extension module says of itself; None stands for a slot that it does not have."""

    init: str  # "single" or "multi"
    interpreters: str | None  # "not supported", "shared GIL only", "own GIL"
    gil: str | None  # "used", "not used"

    def __str__(self) -> str:
        if self.init == "single":
            return "single-phase"
        return f"multi-phase, {self.interpreters or 'no interpreters slot'}"


@dataclass(frozen=True, slots=True)
class Extension:
    """The verdict on one extension module. Memory in kB of private memory for each interpreter."""

    name: str
    path: str | None  # None: built into the interpreter
    declaration: Declaration | None
    verdict: Verdict
    reason: str
    memory_kb: int | None = None
    leaked_kb: int | None = None
    shared_globals: tuple[str, ...] = ()  # changed while other interpreters imported the module
    writable_globals: tuple[str, ...] = ()  # a hint: named in the file's symbols

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.verdict]


@dataclass(frozen=True, slots=True)
class Package:
    """The verdict on one package: that on its import as a whole, and on the extension modules behind it."""

    name: str  # as it is imported
    distribution: str | None
    version: str | None
    verdict: Verdict
    reason: str
    memory_kb: int | None
    leaked_kb: int | None
    extensions: tuple[Extension, ...]  # its own
    uses: tuple[
        Extension, ...
    ]  # those of other packages that importing it loads, the standard library's aside

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.verdict]


type Audited = Package | Extension


def as_json(audited: Audited) -> dict[str, object]:
    """Plain data for a report: the fields, and the advice; nested reports alike."""
    data: dict[str, object] = {
        "kind": type(audited).__name__.lower(),
        **asdict(audited),
        "advice": audited.advice,
    }
    if isinstance(audited, Package):
        data["extensions"] = [as_json(extension) for extension in audited.extensions]
        data["uses"] = [as_json(extension) for extension in audited.uses]
    return data
