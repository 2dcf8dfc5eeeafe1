"""Intervals, paired tests and shrinkage: the one place that says how sure a score is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = [
    "Interval",
    "PairedTest",
    "is_binary",
    "mean_interval",
    "paired_scores",
    "paired_test",
    "shrunken_means",
    "sign_flip",
    "span_of",
    "spread_of",
    "student_radius",
]

_RESAMPLES = 2000
_FLIPS = 9999
_FEW = 30  # examples below which resampling them gives intervals that are too narrow
_IN_MEMORY = 2_000_000  # numbers drawn at a time: all at once are gigabytes for a few thousand examples
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        level: Its confidence, 0.95 say.
        method: How it was made.
    """

    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two programs' scores on the same examples.

    Attributes:
        n: Examples.
        mean_a: The first program's mean.
        mean_b: The second program's mean.
        difference: The first mean minus the second.
        interval: Of the difference.
        p_value: Two-sided, of no difference.
        method: Of the test.
        wins_a: Examples on which the first scored higher.
        wins_b: Examples on which the second scored higher.
        ties: Examples on which they scored alike.
    """

    n: int
    mean_a: float
    mean_b: float
    difference: float
    interval: Interval
    p_value: float
    method: str
    wins_a: int
    wins_b: int
    ties: int


def _scores(values: Sequence[float]) -> NDArray[np.float64]:
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError("scores are a flat sequence of finite numbers; leave out examples that have no score")
    return scores


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, as 0.95 does; it is {level}")


def _constant(values: NDArray[np.float64]) -> bool:
    return bool(np.ptp(values) <= _ROUNDING * max(1.0, float(np.abs(values).max())))


def is_binary(scores: NDArray[np.float64]) -> bool:
    """Tells whether all scores are 0 or 1."""
    return bool(np.isin(scores, (0.0, 1.0)).all())


def mean_interval(scores: Sequence[float], *, level: float = 0.95, seed: int = 0) -> Interval:
    """Gives the confidence interval of a mean: Wilson's for 0/1 scores, else Student's t or the bootstrap.

    Wilson's keeps its level near 0 and 1 and for few examples (`Brown, Cai & DasGupta 2001
    <https://doi.org/10.1214/ss/1009213286>`_). The bootstrap resamples the examples 2,000 times. It is too narrow for
    fewer than 30, or where hardly one differs from the others: there it is Student's t, whose spread is at least the
    scores' range over n + 2, as for a gate. Neither tells anything of a sample whose scores are equal, or fewer than
    three: that gives Hoeffding's interval (`Hoeffding 1963 <https://doi.org/10.1080/01621459.1963.10500830>`_). The
    range is [0, 1], or, where a score lies outside, the shortest that holds 0, 1 and the scores.

    Raises:
        ValueError: There are no scores, one is not finite, or the level is not between 0 and 1.

    >>> interval = mean_interval([1.0] * 8 + [0.0] * 2)
    >>> round(interval.low, 3), round(interval.high, 3), interval.method
    (0.49, 0.943, 'Wilson')
    """
    values = _scores(scores)
    _check_level(level)
    if values.size == 0:
        raise ValueError("there are no scores to give an interval of")
    if is_binary(values):
        wilson = stats.binomtest(int(values.sum()), values.size).proportion_ci(level, "wilson")
        return Interval(float(wilson.low), float(wilson.high), level, "Wilson")
    return _graded_interval(values, span_of(values), 0.0, level, seed)


def span_of(scores: NDArray[np.float64]) -> float:
    """Gives the length of the shortest range that holds 0, 1 and the scores."""
    return max(1.0, float(scores.max())) - min(0.0, float(scores.min()))


def spread_of(values: NDArray[np.float64], span: float) -> float:
    """Gives the standard deviation of two values or more; one that is too small for so few is that of a rare value.

    Args:
        values: Scores, or differences of scores.
        span: The length of the range of scores.
    """
    return max(float(values.std(ddof=1)), span / (values.size + 2))


def student_radius(spread: float, n: int, level: float) -> float:
    """Gives half the width of Student's interval of a mean.

    Args:
        spread: The standard deviation of what it is the mean of.
        n: How many these are, two or more.
        level: Of the interval.
    """
    return spread / math.sqrt(n) * float(stats.t.ppf((1 + level) / 2, n - 1))


def _graded_interval(values: NDArray[np.float64], span: float, least: float, level: float, seed: int) -> Interval:
    """The interval of a mean of scores, or of differences.

    Args:
        values: The scores, or the differences.
        span: The length of the range of scores.
        least: The lowest mean, if scores are in [0, 1].
        level: Of the interval.
        seed: Of resampling.
    """
    n, mean = values.size, float(values.mean())
    if n < 3 or _constant(values):
        radius, method = (1 - least) * span * math.sqrt(math.log(2 / (1 - level)) / (2 * n)), "Hoeffding"
    else:
        spread = spread_of(values, span)
        if n >= _FEW and spread == float(values.std(ddof=1)):
            return _bootstrap(values, level, seed)
        radius, method = student_radius(spread, n, level), "Student's t"
    low, high = mean - radius, mean + radius
    if span <= 1:  # a known range bounds the mean as well; a guessed one does not
        low, high = min(mean, max(least, low)), max(mean, min(1.0, high))
    return Interval(low, high, level, method)


def _bootstrap(values: NDArray[np.float64], level: float, seed: int) -> Interval:
    found = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=level,
        n_resamples=_RESAMPLES,
        method="percentile",
        batch=max(1, _IN_MEMORY // values.size),
        rng=np.random.default_rng(seed),
    ).confidence_interval
    mean = float(values.mean())
    return Interval(min(float(found.low), mean), max(float(found.high), mean), level, "bootstrap")


def paired_scores(
    a: Sequence[float], b: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Gives two programs' scores on the same examples, and their differences, where 0.1 + 0.2 against 0.3 is a tie.

    Raises:
        ValueError: The numbers of scores differ, or are 0; a score is not finite.
    """
    first, second = _scores(a), _scores(b)
    if first.size != second.size or first.size == 0:
        raise ValueError(f"a paired test needs the same examples: {first.size} scores against {second.size}")
    return first, second, np.where(np.isclose(first, second, rtol=_ROUNDING, atol=_ROUNDING), 0.0, first - second)


def paired_test(a: Sequence[float], b: Sequence[float], *, level: float = 0.95, seed: int = 0) -> PairedTest:
    """Tests whether two programs differ, on the scores of both on the same examples.

    0/1 scores: the exact test of McNemar on the examples on which they disagree, and Newcombe's hybrid score interval
    of the difference (`Newcombe 1998 <https://doi.org/10.1002/(SICI)1097-0258(19981130)17:22%3C2635::AID-SIM954%3E3.0.CO;2-C>`_,
    method 10). Other scores: a sign-flip permutation test of the mean difference; an interval as `mean_interval` has.

    Args:
        a: Scores of the first program.
        b: Scores of the second program, in the same order of examples.
        level: Of the interval.
        seed: Of resampling.

    Raises:
        ValueError: The numbers of scores differ, or are 0; a score is not finite; the level is not between 0 and 1.

    >>> test = paired_test([1, 1, 1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1])
    >>> test.difference, test.p_value, test.wins_a, test.ties
    (0.75, 0.03125, 6, 2)
    """
    first, second, differences = paired_scores(a, b)
    _check_level(level)
    wins_a, wins_b = int((differences > 0).sum()), int((differences < 0).sum())
    if is_binary(first) and is_binary(second):
        interval = _newcombe(first, second, level)
        p_value = float(stats.binomtest(wins_a, wins_a + wins_b).pvalue) if wins_a + wins_b else 1.0
        method = "exact McNemar"
    else:
        interval = _graded_interval(differences, span_of(np.concatenate([first, second])), -1.0, level, seed)
        p_value, method = sign_flip(differences, seed), "sign-flip permutation"
    return PairedTest(
        n=int(first.size),
        mean_a=float(first.mean()),
        mean_b=float(second.mean()),
        difference=float(differences.mean()),
        interval=interval,
        p_value=p_value,
        method=method,
        wins_a=wins_a,
        wins_b=wins_b,
        ties=int(first.size) - wins_a - wins_b,
    )


def sign_flip(differences: NDArray[np.float64], seed: int = 0) -> float:
    """Gives the two-sided p-value of no difference, by flipping the signs of paired differences: all ways, or 9,999."""
    moved = differences[differences != 0]
    if moved.size < 2:  # one example tells nothing: either sign is as likely
        return 1.0
    return float(
        stats.permutation_test(
            (moved, np.zeros_like(moved)),
            lambda x, y, axis: np.mean(x - y, axis=axis),
            permutation_type="samples",
            n_resamples=_FLIPS,
            vectorized=True,
            batch=max(1, _IN_MEMORY // moved.size),
            rng=np.random.default_rng(seed),
        ).pvalue
    )


def _newcombe(a: NDArray[np.float64], b: NDArray[np.float64], level: float) -> Interval:
    """Squares and adds the two Wilson intervals, with the correlation of the paired outcomes."""
    n = a.size
    both, only_a = int((a * b).sum()), int((a * (1 - b)).sum())
    only_b, neither = int((b * (1 - a)).sum()), int(((1 - a) * (1 - b)).sum())
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    cross = float(both * neither - only_a * only_b)
    if cross > 0:
        cross = max(cross - n / 2, 0.0)  # Newcombe's correction for continuity
    phi = cross / math.sqrt(margins) if margins else 0.0
    one, two = mean_interval(a.tolist(), level=level), mean_interval(b.tolist(), level=level)
    p, q = float(a.mean()), float(b.mean())
    below = (p - one.low) ** 2 - 2 * phi * (p - one.low) * (two.high - q) + (two.high - q) ** 2
    above = (one.high - p) ** 2 - 2 * phi * (one.high - p) * (q - two.low) + (q - two.low) ** 2
    low, high = p - q - math.sqrt(max(below, 0.0)), p - q + math.sqrt(max(above, 0.0))
    return Interval(max(-1.0, low), min(1.0, high), level, "Newcombe's hybrid score")


def shrunken_means(means: Sequence[float], variances_of_means: Sequence[float]) -> list[float]:
    """Draws means towards their common mean, the more so the more of their spread is noise.

    The highest of many measured means is too high (the winner's curse). With a normal prior whose variance is
    estimated from the spread itself (`DerSimonian & Laird 1986 <https://doi.org/10.1016/0197-2456(86)90046-2>`_, by
    moments), the posterior means are not, on average. A mean of −∞, of a candidate without a score, stays as it is
    and moves no other.

    Args:
        means: Measured means.
        variances_of_means: The variance of each of these means: that of the scores over their number. Where all are 0,
            there is no noise to take out.

    Raises:
        ValueError: There are not as many variances as means, one is negative, or a number is NaN or ∞.

    >>> [round(mean, 3) for mean in shrunken_means([0.9, 0.8, 0.7], [0.002, 0.002, 0.002])]
    [0.88, 0.8, 0.72]
    >>> shrunken_means([0.9], [0.002])
    [0.9]
    """
    measured, noise = np.array(means, np.float64), np.asarray(variances_of_means, np.float64)
    if measured.shape != noise.shape:
        raise ValueError(f"each mean has one variance: {measured.size} means, {noise.size} variances")
    if not (np.isfinite(noise).all() and (noise >= 0).all()) or (np.isnan(measured) | np.isposinf(measured)).any():
        raise ValueError("means are numbers, and variances finite and not negative")
    scored = np.isfinite(measured)
    if scored.sum() >= 2 and noise[scored].any():
        measured[scored] = _posterior_means(measured[scored], noise[scored])
    return [float(mean) for mean in measured]


def _posterior_means(measured: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    noise = np.maximum(noise, 1e-9 * noise.max())  # a weight is finite, and does not drown the others' digits
    weights = 1 / noise
    common = float((weights * measured).sum() / weights.sum())
    excess = float((weights * (measured - common) ** 2).sum()) - (measured.size - 1)
    between = max(0.0, excess / float(weights.sum() - (weights**2).sum() / weights.sum()))
    centre_weights = 1 / (noise + between)
    centre = float((centre_weights * measured).sum() / centre_weights.sum())
    posterior: NDArray[np.float64] = centre + between / (between + noise) * (measured - centre)
    return posterior
