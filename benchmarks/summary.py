"""What a set of samples is summed up to: order statistics, nothing that an outlier can bend."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Better = Literal["lower", "higher"]
"""Which way a unit improves: "lower" for times and bytes, "higher" for rates."""


def quantile(samples: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the samples lie, interpolated between neighbours."""
    if not samples:
        raise ValueError("no samples to take a quantile of")
    ordered = sorted(samples)
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median(samples: Sequence[float]) -> float:
    return quantile(samples, 0.5)


@dataclass(frozen=True)
class Summary:
    """One contestant's samples, summed up in the comparison's unit.

    `p99` is the bad end: 99 in 100 samples are at least as good, whichever way the unit improves.
    `rounds` holds each round's median, in order, so that drift of the machine can be seen.
    """

    count: int
    median: float
    p99: float
    best: float
    worst: float
    rounds: list[float] = field(default_factory=list)


def summarise(rounds: Sequence[Sequence[float]], better: Better) -> Summary:
    """Sums up the samples of all rounds; an empty round is an error."""
    samples = [sample for samples in rounds for sample in samples]
    lower = better == "lower"
    return Summary(
        count=len(samples),
        median=median(samples),
        p99=quantile(samples, 0.99 if lower else 0.01),
        best=min(samples) if lower else max(samples),
        worst=max(samples) if lower else min(samples),
        rounds=[median(samples) for samples in rounds],
    )


def paired_quotient(these: Sequence[float], those: Sequence[float]) -> float:
    """The median over rounds of this / that: neighbours in time are compared, so slow drift cancels out."""
    return median([this / that if that else float("inf") for this, that in zip(these, those, strict=True)])
