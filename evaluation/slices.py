"""Slices of the examples on which a program does worse than on the others, told from luck."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .statistics import Interval, is_binary, mean_interval, span_of

__all__ = ["FEWEST", "Slice", "find_slices"]

FEWEST = 10
"""Examples that a slice has at least, and that there are at least besides it."""

_RESAMPLES = 9999


@dataclass(frozen=True, slots=True)
class Slice:
    """Examples that have something in common, against all others.

    Attributes:
        by: What they have in common: ``length``, ``script``, a field.
        value: What it is for them.
        n: How many they are.
        score: Their mean.
        outside: The mean of the others.
        interval: Of the difference; all slices' intervals hold together, at their level.
        p_value: Two-sided, of no difference; times the number of slices that were looked at (Bonferroni).
        weak: Whether the program is shown to do worse on them.
    """

    by: str
    value: str
    n: int
    score: float
    outside: float
    interval: Interval
    p_value: float
    weak: bool

    @property
    def difference(self) -> float:
        """Their mean minus that of the others."""
        return self.score - self.outside


def find_slices(
    scores: Sequence[float], groups: Mapping[str, Sequence[str | None]], *, alpha: float = 0.05, seed: int = 0
) -> tuple[Slice, ...]:
    """Compares each slice with the rest of the examples, the weakest first; that many were looked at is accounted for.

    0/1 scores: Fisher's exact test, and Newcombe's hybrid score interval (`Newcombe 1998
    <https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8%3C873::AID-SIM779%3E3.0.CO;2-I>`_, method 10). Other scores:
    a permutation test of the difference of means, and Welch's t interval. p-values are multiplied by the number of
    slices, and intervals widened by it (Bonferroni): slices overlap, and this holds however they depend on each other.
    With nothing to find, any weak slice is told of with a probability of ``alpha`` at most. Of two slices that share
    all examples between them only the lower one is looked at; they are one question.

    Args:
        scores: Of the examples.
        groups: By what they are sliced: of each example its value, or None for none.
        alpha: How often slices are told of that are none.
        seed: Of permutations.

    >>> found = find_slices([1.0] * 40 + [0.0] * 20, {"kind": ["long"] * 40 + ["short"] * 20})
    >>> [(each.value, each.difference, each.weak) for each in found]
    [('short', -1.0, True)]
    """
    values = np.asarray(scores, np.float64)
    members = [
        (by, value, inside)
        for by, of in groups.items()
        for value, inside in _members(values, of)
        if FEWEST <= inside.sum() <= len(values) - FEWEST
    ]
    looked_at = len(members)
    found = [_slice(by, value, values, inside, alpha, looked_at, seed) for by, value, inside in members]
    return tuple(sorted(found, key=lambda each: (not each.weak, each.p_value, each.difference, each.by, each.value)))


def _members(scores: NDArray[np.float64], of: Sequence[str | None]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    counts = Counter(value for value in of if value is not None)
    inside = {value: np.array([each == value for each in of]) for value in counts}
    if len(inside) == 2 and sum(counts.values()) == len(of):
        lower = min(inside, key=lambda value: (scores[inside[value]].mean(), value))
        inside = {lower: inside[lower]}
    yield from inside.items()


def _slice(
    by: str,
    value: str,
    scores: NDArray[np.float64],
    inside: NDArray[np.bool_],
    alpha: float,
    looked_at: int,
    seed: int,
) -> Slice:
    within, outside = scores[inside], scores[~inside]
    test = _exact if is_binary(scores) else _graded
    p_value, interval = test(within, outside, 1 - alpha / looked_at, seed)
    p_value = min(1.0, looked_at * p_value)
    score, rest = float(within.mean()), float(outside.mean())
    return Slice(by, value, len(within), score, rest, interval, p_value, weak=p_value < alpha and score < rest)


def _exact(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    level: float,
    seed: int,  # noqa: ARG001 — nothing is drawn
) -> tuple[float, Interval]:
    table = np.array([[each.sum(), each.size - each.sum()] for each in (a, b)], np.int64)
    one, two = mean_interval(a.tolist(), level=level), mean_interval(b.tolist(), level=level)
    p, q = float(a.mean()), float(b.mean())
    low = p - q - float(np.hypot(p - one.low, two.high - q))
    high = p - q + float(np.hypot(one.high - p, q - two.low))
    told = Interval(max(-1.0, low), min(1.0, high), level, "Newcombe's hybrid score")
    return float(stats.fisher_exact(table).pvalue), told


def _graded(a: NDArray[np.float64], b: NDArray[np.float64], level: float, seed: int) -> tuple[float, Interval]:
    found = stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=max(1, 2_000_000 // (a.size + b.size)),
        rng=np.random.default_rng(seed),
    )
    difference, span = float(a.mean() - b.mean()), span_of(np.concatenate([a, b]))
    if max(np.ptp(a), np.ptp(b)) == 0:  # t has no spread to go by
        radius = span * float(np.sqrt(np.log(2 / (1 - level)) / 2 * (1 / a.size + 1 / b.size)))
        told = Interval(max(-span, difference - radius), min(span, difference + radius), level, "Hoeffding")
    else:
        welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval(level)
        told = Interval(float(welch.low), float(welch.high), level, "Welch's t")
    return float(found.pvalue), told
