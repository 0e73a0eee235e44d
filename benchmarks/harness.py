"""Runs contestants side by side: round-robin within one run, after a warm-up, each round sampling everyone.

A workload describes comparisons; this module takes the samples and sums them up. Contestants take turns, so a
machine that drifts slows all of them alike, and ratios are taken between neighbours in time.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from benchmarks.summary import Better, Summary, median, paired_quotient, summarise

Sample = Callable[[], float | Sequence[float]]


@dataclass(frozen=True)
class Contestant:
    """One side of a comparison: `sample()` does one round and returns its samples in the unit compared."""

    name: str
    sample: Sample
    ours: bool = False
    note: str = ""


@dataclass(frozen=True)
class Goal:
    """What the project promises of one contestant; exactly one bound, in one of three forms.

    Alone, the bound is about the contestant's median in the comparison's unit. With `of`, about its median
    as a multiple of that contestant's ("at_least=0.8, of=..."). With `better_than`, about how many times
    better it is, whichever way the unit improves ("at_least=100, better_than=...").
    """

    who: str
    at_least: float | None = None
    at_most: float | None = None
    of: str | None = None
    better_than: str | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a goal has one bound: at_least or at_most")
        if self.of is not None and self.better_than is not None:
            raise ValueError("a goal is about a multiple (of) or a lead (better_than), not both")


@dataclass(frozen=True)
class Outcome:
    """A goal beside what was measured."""

    text: str
    value: float
    met: bool


@dataclass
class Comparison:
    """One comparison's result; `ratios` says how many times better than `reference` each contestant is."""

    name: str
    title: str
    unit: str
    better: Better
    reference: str
    rounds: int
    contestants: dict[str, Summary]
    ours: list[str]
    ratios: dict[str, float]
    notes: dict[str, str] = field(default_factory=dict)
    goals: list[Outcome] = field(default_factory=list)

    def quotient(self, who: str, against: str) -> float:
        return paired_quotient(self.contestants[who].rounds, self.contestants[against].rounds)

    def lead(self, who: str, against: str) -> float:
        """How many times better `who` is than `against`."""
        return self.quotient(against, who) if self.better == "lower" else self.quotient(who, against)

    def judge(self, goal: Goal) -> Outcome:
        if goal.of is not None:
            value, suffix = self.quotient(goal.who, goal.of), f" × {goal.of}"
        elif goal.better_than is not None:
            value, suffix = self.lead(goal.who, goal.better_than), f" × better than {goal.better_than}"
        else:
            value, suffix = self.contestants[goal.who].median, f" {self.unit}"
        if goal.at_least is not None:
            return Outcome(f"{goal.who} ≥ {goal.at_least:g}{suffix}", value, value >= goal.at_least)
        assert goal.at_most is not None
        return Outcome(f"{goal.who} ≤ {goal.at_most:g}{suffix}", value, value <= goal.at_most)

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


class Bench:
    """One run of one workload: takes samples, reports progress, collects comparisons.

    `quick` asks workloads for the smallest sizes that still go all the way through. `enter()` keeps something
    open (a server, a pool) until the run ends; things are closed in reverse order. `threads` is how many
    threads each engine may compute with: the usable cores, or one when quick.
    """

    def __init__(
        self,
        name: str,
        *,
        quick: bool = False,
        rounds: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.quick = quick
        self.comparisons: list[Comparison] = []
        self.facts: dict[str, Any] = {}
        self.threads = 1 if quick else len(os.sched_getaffinity(0))
        self._rounds = rounds
        self._progress = progress or (lambda _what, _done, _total: None)
        self._log = log or (lambda _line: None)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def enter[T](self, resource: AbstractContextManager[T]) -> T:
        """Opens a resource that stays open until the run ends."""
        return self._stack.enter_context(resource)

    def note(self, line: str) -> None:
        """Tells the user something in passing."""
        self._log(line)

    def fact(self, key: str, value: object) -> None:
        """Records a fact (a size, a setting) in the result file; plain data only."""
        self.facts[key] = value

    def compare(
        self,
        name: str,
        contestants: Sequence[Contestant],
        *,
        title: str,
        unit: str,
        better: Better,
        reference: str | None = None,
        rounds: int = 7,
        warmup: int = 1,
        pause: float = 0.0,
        goals: Sequence[Goal] = (),
    ) -> Comparison:
        """Samples all contestants round-robin and records the comparison.

        `reference` is the contestant that ratios are against (by default the last). `warmup` rounds are
        thrown away. `pause` is the rest between two samples, in seconds. With `quick`, two rounds are taken.
        """
        reference = reference or contestants[-1].name
        names = [contestant.name for contestant in contestants]
        if len(set(names)) != len(names) or reference not in names:
            raise ValueError(f"{name}: contestants need unique names and a reference among them, not {names}")
        rounds = 2 if self.quick else (self._rounds or rounds)
        samples = self._sample(title, contestants, rounds, warmup, pause)
        summaries = {key: summarise(values, better) for key, values in samples.items()}
        comparison = Comparison(
            name=name,
            title=title,
            unit=unit,
            better=better,
            reference=reference,
            rounds=rounds,
            contestants=summaries,
            ours=[contestant.name for contestant in contestants if contestant.ours],
            ratios={},
            notes={contestant.name: contestant.note for contestant in contestants if contestant.note},
        )
        comparison.ratios = {key: comparison.lead(key, reference) for key in names}
        comparison.goals = [comparison.judge(goal) for goal in goals]
        self.comparisons.append(comparison)
        return comparison

    def _sample(
        self, title: str, contestants: Sequence[Contestant], rounds: int, warmup: int, pause: float
    ) -> dict[str, list[list[float]]]:
        samples: dict[str, list[list[float]]] = {contestant.name: [] for contestant in contestants}
        total = (rounds + warmup) * len(contestants)
        for index in range(rounds + warmup):
            # Every other round runs backwards, so that nobody always follows the same neighbour.
            order = contestants if index % 2 == 0 else contestants[::-1]
            for place, contestant in enumerate(order):
                self._progress(f"{title}: {contestant.name}", index * len(contestants) + place, total)
                taken = contestant.sample()
                values = [float(value) for value in ([taken] if isinstance(taken, (int, float)) else taken)]
                if not values:
                    raise ValueError(f"{contestant.name} returned no samples")
                if index >= warmup:
                    samples[contestant.name].append(values)
                if pause:
                    time.sleep(pause)
        self._progress(title, total, total)
        return samples


def time_each(call: Callable[[], object], count: int, scale: float = 1e6) -> list[float]:
    """Times `count` calls one by one; by default in microseconds."""
    clock = time.perf_counter_ns
    times = []
    for _ in range(count):
        started = clock()
        call()
        times.append((clock() - started) * 1e-9 * scale)
    return times


def rate(call: Callable[[], object], items: int) -> float:
    """Items per second when one call handles `items` of them."""
    started = time.perf_counter()
    call()
    return items / (time.perf_counter() - started)


__all__ = [
    "Bench",
    "Comparison",
    "Contestant",
    "Goal",
    "Outcome",
    "Summary",
    "median",
    "rate",
    "time_each",
]
