"""Whether a program is no worse than another, within a margin: what a gate says, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from . import numbers
from .statistics import Interval, is_binary, paired_scores, sign_flip, span_of, spread_of, student_radius

__all__ = ["POWER", "GateVerdict", "NonInferiority", "check_margin", "noninferiority", "score_interval"]

GateVerdict = Literal["no worse", "worse", "cannot tell"]

POWER = 0.8
"""How often the rows that are said to be needed would tell."""
_EXACT = 1000  # rows up to which every table is summed; beyond, the score test's error is within a few thousandths
_NUISANCE = 60  # shares of disagreement that are tried for the least favourable one
_ROUNDING = 1e-12
_FEW = 10  # rows that differ, below which graded scores have no spread to trust

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """What paired scores say of a new program against an old one.

    Attributes:
        verdict: ``no worse``: the new program's mean is above the old one's less the margin. ``worse``: it is below the
            old one's. Either is said wrongly with a probability of alpha at most. Else ``cannot tell``.
        n: Rows.
        difference: The new program's mean less the old one's.
        wins: Rows on which the new program scored higher.
        losses: Rows on which the old one did.
        margin: The loss that is put up with, in units of the score.
        alpha: The error of each verdict.
        interval: Of the difference, at a level of 1 − 2·alpha.
        p_no_worse: One-sided, of a loss of the margin or more.
        p_worse: One-sided, of no loss.
        method: Of ``p_no_worse``.
        rows_if_alike: Rows with which it would tell 4 times in 5, if the two are equally good.
        rows_if_measured: The same, if the true difference is the one that was measured.
        reckoned: How these were reckoned.
        why: In one sentence.
    """

    verdict: GateVerdict
    n: int
    difference: float
    wins: int
    losses: int
    margin: float
    alpha: float
    interval: Interval
    p_no_worse: float
    p_worse: float
    method: str
    rows_if_alike: int
    rows_if_measured: int
    reckoned: str
    why: str


def noninferiority(
    new: Sequence[float], old: Sequence[float], *, margin: float = 0.01, alpha: float = 0.05, seed: int = 0
) -> NonInferiority:
    """Tells whether a new program is no worse than an old one, on the scores of both on the same examples.

    0/1 scores: the score test of `Tango 1998 <https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8%3C891::AID-SIM780%3E3.0.CO;2-B>`_
    of a loss of the margin; up to 1,000 rows its p-value is exact, that of the least favourable share of rows on which
    the two disagree (`Hsueh, Liu & Chen 2001 <https://doi.org/10.1111/j.0006-341X.2001.00478.x>`_). ``worse`` is the
    exact test of McNemar, one-sided. The interval inverts the score test.

    Other scores: Student's t of the paired differences, whose error is about alpha (more where all that differs are
    equal losses on few rows). Where fewer than 10 rows differ, each loss counts as the largest that there can be, and
    the share of losses is tested exactly; ``worse`` is then the sign-flip test. Where all rows differ by as much, both
    are tested exactly: rows that differ otherwise, none of which was met, count as the largest losses, or gains, that
    there can be.

    Args:
        new: Scores of the new program.
        old: Scores of the old program, in the same order of examples.
        margin: The loss that is put up with, in units of the score: 0.01 is a point.
        alpha: The error of each verdict.
        seed: Of resampling.

    Raises:
        ValueError: The numbers of scores differ, or are 0; a score is not finite; the margin or alpha is out of range.

    >>> told = noninferiority([1] * 90 + [0] * 10, [1] * 88 + [0] * 12, margin=0.05)
    >>> told.verdict, told.wins, round(told.interval.low, 3)
    ('no worse', 2, -0.007)
    >>> noninferiority([1] * 9 + [0], [1] * 9 + [0]).verdict
    'cannot tell'
    """
    check_margin(margin, alpha)
    first, second, differences = paired_scores(new, old)
    n, difference = int(differences.size), float(differences.mean())
    often = f"to tell {numbers.percent(POWER)} of the time"
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    if is_binary(first) and is_binary(second):
        p_no_worse, method = _loss_p_value(n, wins, losses, margin)
        p_worse = float(stats.binom.cdf(wins, wins + losses, 0.5))
        interval = score_interval(n, wins, losses, level=1 - 2 * alpha)
        share = (wins + losses + 1) / (n + 2)  # none seen is not none
        needed = [_binary_rows(true, share, margin, alpha) for true in (0.0, difference)]
        reckoned = (
            f"by the score test's normal approximation, with the two disagreeing on {numbers.percent(share)}, {often}"
        )
    else:
        span = span_of(np.concatenate([first, second]))
        if np.allclose(differences, difference, rtol=_ROUNDING, atol=_ROUNDING):
            p_no_worse, p_worse = (math.exp(-n * told) for told in _told_by_a_row(difference, margin, span))
            method, interval = "exact test of equal differences", _equal_interval(n, difference, span, alpha)
            needed = [_equal_rows(true, margin, span, alpha) for true in (0.0, difference)]
            reckoned = "by the exact test, if all rows differ by as much"
        else:
            spread = spread_of(differences, span)
            radius = student_radius(spread, n, 1 - 2 * alpha)
            interval = Interval(difference - radius, difference + radius, 1 - 2 * alpha, "Student's t")
            needed = [_graded_rows(true, spread, margin, alpha) for true in (0.0, difference)]
            if wins + losses < _FEW:
                p_no_worse, method = float(stats.binom.cdf(losses, n, margin / span)), "exact test of the losses"
                two_sided = sign_flip(differences, seed)
                p_worse = two_sided / 2 if difference < 0 else 1 - two_sided / 2
                share = (wins + losses + 1) / (n + 2)
                lost = (share / 2, (losses + 0.5) / (n + 2))
                needed = [
                    _few_rows(each, share, margin / span, alpha) or max(math.ceil(_FEW / share), rows)
                    for each, rows in zip(lost, needed, strict=True)
                ]
                reckoned = f"by the exact test of the losses, or Student's t where {_FEW} rows differ, {often}"
            else:
                p_no_worse, p_worse, method = *_student(differences, margin), "Student's t"
                reckoned = f"by the normal approximation, with differences that spread by {spread:.3f}, {often}"
    verdict: GateVerdict = "no worse" if p_no_worse <= alpha else "worse" if p_worse <= alpha else "cannot tell"
    return NonInferiority(
        verdict=verdict,
        n=n,
        difference=difference,
        wins=wins,
        losses=losses,
        margin=margin,
        alpha=alpha,
        interval=interval,
        p_no_worse=p_no_worse,
        p_worse=p_worse,
        method=method,
        rows_if_alike=needed[0],
        rows_if_measured=needed[1],
        reckoned=reckoned,
        why=_why(verdict, margin, alpha),
    )


def check_margin(margin: float, alpha: float) -> None:
    """Refuses a margin or an alpha that no verdict can be read with.

    Raises:
        ValueError: One of them is out of range.
    """
    if not 0 < margin < 1:
        raise ValueError(f"the margin is a loss of the score between 0 and 1, as 0.01 is; it is {margin}")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is the error of a verdict, between 0 and 0.5; it is {alpha}")


def _why(verdict: GateVerdict, margin: float, alpha: float) -> str:
    sure, lost = numbers.percent(1 - alpha), f"{100 * margin:.1f} points"
    return {
        "no worse": f"with {sure} confidence it loses less than {lost}",
        "worse": f"with {sure} confidence it loses, and that it loses less than {lost} is not shown",
        "cannot tell": f"neither a loss, nor that it is less than {lost}, is shown with {sure} confidence",
    }[verdict]


def _score(n: int, won: ArrayLike, missed: ArrayLike, difference: float) -> Array:
    """Tango's statistic of a true difference: about standard normal if it is that."""
    wins, losses = np.asarray(won, np.float64), np.asarray(missed, np.float64)
    b = -wins - losses + (2 * n - wins + losses) * difference
    root = np.sqrt(np.maximum(b * b + 8 * n * losses * difference * (1 - difference), 0.0))
    lost = (root - b) / (4 * n)  # the likeliest share of losses, if the difference is that
    variance = n * (2 * lost + difference * (1 - difference))
    off = wins - losses - n * difference
    statistic: Array = np.where(variance > 1e-12, off / np.sqrt(np.maximum(variance, 1e-12)), 0.0)
    return statistic


def score_interval(n: int, wins: int, losses: int, *, level: float = 0.95) -> Interval:
    """Gives Tango's score interval of the difference of two paired proportions.

    It keeps its level with few rows, and where the two never disagree (`Tango 1998
    <https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8%3C891::AID-SIM780%3E3.0.CO;2-B>`_).

    Args:
        n: Rows.
        wins: Rows on which only the first is right.
        losses: Rows on which only the second is right.
        level: Of the interval.

    >>> interval = score_interval(100, 12, 2)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.031, 0.182)
    """
    wanted = float(stats.norm.isf((1 - level) / 2))

    def off(difference: float, quantile: float) -> float:
        return float(_score(n, wins, losses, difference)) - quantile

    edge, measured = 1 - 1e-9, (wins - losses) / n
    low = -1.0 if measured <= -edge else float(optimize.brentq(off, -edge, measured, (wanted,)))
    high = 1.0 if measured >= edge else float(optimize.brentq(off, measured, edge, (-wanted,)))
    return Interval(low, high, level, "Tango's score")


def _loss_p_value(n: int, wins: int, losses: int, margin: float) -> tuple[float, str]:
    """The p-value of "the first loses the margin or more", for 0/1 scores."""
    statistic = float(_score(n, wins, losses, -margin))
    if n > _EXACT:
        return float(stats.norm.sf(statistic)), "Tango's score test"
    return _exact(n, wins, losses, margin), "exact score test"


@lru_cache(maxsize=65536)
def _exact(n: int, wins: int, losses: int, margin: float) -> float:
    """How probable so high a statistic is at most, over all shares of disagreement, if the loss is the margin."""
    table = _table(n, margin)
    as_high = (table >= table[wins + losses, wins] - 1e-9).sum(axis=1)
    # With so many disagreements, the statistic rises with the wins among them.
    disagreeing = np.arange(n + 1)
    fewest = disagreeing + 1 - as_high
    lost = margin + (1 - margin) / 2 * np.linspace(0, 1, _NUISANCE) ** 2
    share = np.minimum(2 * lost - margin, 1.0)  # rounding puts the last beyond 1
    chance = stats.binom.pmf(disagreeing, n, share[:, None])
    reached = stats.binom.sf(fewest - 1, disagreeing, ((lost - margin) / share)[:, None])
    found = np.asarray(chance * reached, np.float64).sum(axis=1)
    return min(1.0, float(found.max()))


@lru_cache(maxsize=8)
def _table(n: int, margin: float) -> Array:
    """The statistic by how many rows disagree, and how many of these are won; −∞ where there is no such table."""
    disagreeing, wins = np.meshgrid(np.arange(n + 1.0), np.arange(n + 1.0), indexing="ij")
    possible = wins <= disagreeing
    return np.where(possible, _score(n, wins, np.maximum(disagreeing - wins, 0.0), -margin), -np.inf)


def _binary_rows(true: float, share: float, margin: float, alpha: float) -> int:
    """Rows with which a verdict is reached, by the normal approximation."""
    share = max(share, abs(true))
    level, power = float(stats.norm.isf(alpha)), float(stats.norm.isf(1 - POWER))
    spread = math.sqrt(max(share - true * true, 0.0))
    if true < -margin / 2:  # to be seen as worse is nearer
        return math.ceil(((level * math.sqrt(share) + power * spread) / true) ** 2)
    b = -share - (2 - true) * margin
    lost = (math.sqrt(max(b * b - 4 * (share - true) * margin * (1 + margin), 0.0)) - b) / 4
    under = math.sqrt(max(2 * lost - margin * (1 + margin), 0.0))
    return math.ceil(((level * under + power * spread) / (true + margin)) ** 2)


def _graded_rows(true: float, spread: float, margin: float, alpha: float) -> int:
    quantiles = float(stats.norm.isf(alpha) + stats.norm.isf(1 - POWER))
    return math.ceil((quantiles * spread / max(true + margin, -true)) ** 2)


def _few_rows(lost: float, share: float, margin: float, alpha: float) -> int | None:
    """Rows with which the exact test of the losses tells; None where too many differ by then.

    Args:
        lost: The share of rows that are lost.
        share: The share of rows that differ.
        margin: The share of losses that it tests.
        alpha: Its error.
    """
    for losses in range(_FEW):  # with that many at most it tells: exact for none, else by Poisson's law
        rows = float(stats.chi2.isf(alpha, 2 * (losses + 1))) / 2 / -math.log1p(-margin)
        if rows * share > _FEW:
            break
        if stats.poisson.cdf(losses, rows * lost) >= POWER:
            return math.ceil(rows)
    return None


def _told_by_a_row(difference: float, margin: float, span: float) -> tuple[float, float]:
    """How much each of equal differences tells against a loss of the margin, and against no loss.

    It is −log of the largest share of such rows with which there can be that loss, or none, where each other row loses,
    or gains, the whole span.
    """
    return math.log1p(max(0.0, difference + margin) / (span - margin)), math.log1p(max(0.0, -difference) / span)


def _equal_rows(difference: float, margin: float, span: float, alpha: float) -> int:
    """Rows with which the exact test of equal differences tells."""
    return math.ceil(-math.log(alpha) / max(_told_by_a_row(difference, margin, span)))


def _equal_interval(n: int, difference: float, span: float, alpha: float) -> Interval:
    """Inverts the exact test of equal differences."""
    such = alpha ** (1 / n)  # the least share of rows that differ so
    mean, others = such * difference, (1 - such) * span
    return Interval(mean - others, mean + others, 1 - 2 * alpha, "exact")


def _student(differences: Array, margin: float) -> tuple[float, float]:
    """One-sided p-values of a loss of the margin, and of no loss."""
    kept = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    return float(kept), float(stats.ttest_1samp(differences, 0.0, alternative="less").pvalue)
