"""Paired tests that hold however often one looks: e-processes, and confidence sequences without replacement."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaln, logsumexp

from .statistics import Interval

__all__ = ["Alternative", "betting_e_values", "confidence_sequence", "e_threshold", "mcnemar_e_values"]

Array = NDArray[np.float64]

Alternative = Literal["less", "greater", "two-sided"]
"""What is claimed of the mean difference, or of wins against losses."""

_BETS = np.array([0.03, 0.06, 0.12, 0.25, 0.5, 0.8])
"""Shares of the most that may be bet; capital is divided evenly, so that the best of them is known afterwards."""

_GRID = 401  # means that a confidence sequence tries


def e_threshold(alpha: float, candidates: int = 1) -> float:
    """The evidence that it takes to drop one of so many candidates: m/α (Bonferroni, by Ville's inequality).

    Raises:
        ValueError: α is not between 0 and 1, or there is no candidate.

    >>> e_threshold(0.05, candidates=20)
    400.0
    """
    if not 0 < alpha < 1 or candidates < 1:
        raise ValueError(f"α is between 0 and 1, and candidates are one or more: {alpha}, {candidates}")
    return candidates / alpha


def mcnemar_e_values(
    wins: ArrayLike, losses: ArrayLike, *, alternative: Alternative = "two-sided", prior: float = 0.5
) -> Array:
    """The evidence of 0/1 scores against "wins are as likely as losses", whenever one looks.

    Examples on which both score alike tell nothing (McNemar); each of the others is a toss of a coin that is fair under
    the null. The likelihood of the tosses is averaged over a Beta prior of the coin (its half that the alternative
    names), and divided by that of a fair coin: a martingale under the null, so that E ≥ 1/α is ever reached with
    probability α at most (Ville). Under a one-sided alternative the null is "not less" ("not more") likely.
    `Robbins 1970 <https://doi.org/10.1214/aoms/1177696786>`_; e-processes: `Ramdas et al. 2023
    <https://arxiv.org/abs/2210.01948>`_. It speaks of the distribution that the examples were drawn from, not of the
    finite set that they are in; for that see :func:`betting_e_values`.

    Args:
        wins: How often the first scored and the second did not; a number, or an array of them.
        losses: How often it was the other way round.
        alternative: ``less``: the first wins less often than it loses.
        prior: Of the Beta, on both sides: ½ (Jeffreys') also for coins that are far from fair.

    >>> mcnemar_e_values(2, 12, alternative="less").round(1)
    np.float64(21.7)
    >>> mcnemar_e_values([0, 5], [0, 5]).round(2).tolist()
    [1.0, 0.25]
    """
    won, lost = np.asarray(wins, np.float64), np.asarray(losses, np.float64)
    log_e = (won + lost) * np.log(2.0) + betaln(prior + won, prior + lost) - betaln(prior, prior)
    if alternative != "two-sided":
        first, second = (won, lost) if alternative == "less" else (lost, won)
        with np.errstate(divide="ignore"):
            log_e = log_e + np.log(betainc(prior + first, prior + second, 0.5)) + np.log(2.0)
    evidence: Array = np.exp(np.minimum(log_e, 700.0))
    return evidence


def betting_e_values(
    differences: ArrayLike,
    population: int,
    *,
    null: float = 0.0,
    alternative: Alternative = "less",
    bound: float = 1.0,
) -> Array:
    """The evidence against "the mean difference of the whole set is ``null`` or more", after each example drawn.

    For bounded scores, and drawing without replacement from a finite set: bets on the next paired difference, at odds
    that are fair if the mean is as the null says. What has been drawn is not drawn again, so that the mean of what is
    left moves, and the odds with it (`Waudby-Smith & Ramdas 2020 <https://arxiv.org/abs/2006.04347>`_, `2024
    <https://arxiv.org/abs/2010.09686>`_). The wealth, divided over bets of several sizes, is a supermartingale under
    the null: it ever reaches 1/α with probability α at most. Examples must come in random order.

    Args:
        differences: In the order of drawing, each between −``bound`` and ``bound``; NaN, for an example on which one of
            the two has no score, counts as a tie.
        population: Examples in the whole set.
        null: The mean difference at the border of the null.
        alternative: ``less``: the mean is below the null's.
        bound: The largest difference possible: the range of the scores.

    Returns:
        Evidence after each difference.

    Raises:
        ValueError: There are more differences than examples, or one is out of bounds.

    >>> betting_e_values([-1, -1, 0, -1, -1, -1, -1], population=50).round(1).tolist()
    [1.3, 1.8, 1.8, 2.6, 4.1, 6.8, 12.0]
    """
    drawn = _checked(differences, population, bound)
    if alternative == "two-sided":
        both = np.stack([_log_wealth(drawn, population, np.array([null]), side, bound) for side in (-1.0, 1.0)])
        log_e = logsumexp(both, axis=0)[:, 0] - np.log(2)
    else:
        log_e = _log_wealth(drawn, population, np.array([null]), -1.0 if alternative == "less" else 1.0, bound)[:, 0]
    evidence: Array = np.exp(np.minimum(log_e, 700.0))
    return evidence


def confidence_sequence(
    differences: ArrayLike, population: int, *, level: float = 0.95, bound: float = 1.0
) -> list[Interval]:
    """Intervals of the whole set's mean difference after each example drawn, all of which hold it at once.

    Means that :func:`betting_e_values` has ever found too much evidence against (half of the error on either side), or
    that what is left can no longer lead to, are ruled out. When everything is drawn the interval is the mean itself.

    Args:
        differences: As for :func:`betting_e_values`.
        population: Examples in the whole set.
        level: The probability that no interval misses.
        bound: The largest difference possible.

    Raises:
        ValueError: As for :func:`betting_e_values`, or the level is not between 0 and 1.

    >>> last = confidence_sequence([-1, 0, -1, -1, 0, -1, -1, -1, -1, 0, -1, -1], population=14)[-1]
    >>> round(last.low, 2), round(last.high, 2)
    (-0.79, -0.5)
    """
    if not 0 < level < 1:
        raise ValueError(f"a level is between 0 and 1, not {level}")
    drawn = _checked(differences, population, bound)
    means = np.linspace(-bound, bound, _GRID)
    threshold = np.log(2 / (1 - level))
    against_less, against_more = (  # evidence falls, or rises, with the mean: what lies beyond one ruled out is, too
        np.maximum.accumulate(_log_wealth(drawn, population, means, side, bound) >= threshold, axis=0)
        for side in (1.0, -1.0)
    )
    total, left = np.cumsum(drawn), population - np.arange(1, drawn.size + 1)
    lowest = np.maximum.accumulate((total - bound * left) / population)
    highest = np.minimum.accumulate((total + bound * left) / population)
    lows = np.maximum(lowest, np.where(against_less, means, -bound).max(axis=1))
    highs = np.minimum(highest, np.where(against_more, means, bound).min(axis=1))
    none = lows > highs  # no mean is left: they came in no random order, or it misses
    lows, highs = np.where(none, lowest, lows), np.where(none, highest, highs)
    return [
        Interval(float(min(low, high)), float(max(low, high)), level, "betting without replacement")
        for low, high in zip(lows, highs, strict=True)
    ]


def _checked(differences: ArrayLike, population: int, bound: float) -> Array:
    drawn = np.asarray(differences, np.float64)
    if drawn.ndim != 1:
        raise ValueError(f"differences are a flat list, not of shape {drawn.shape}")
    if drawn.size > population:
        raise ValueError(f"{drawn.size} differences cannot be drawn from {population} examples without replacement")
    drawn = np.nan_to_num(drawn, nan=0.0)
    if (np.abs(drawn) > bound * (1 + 1e-9)).any():
        raise ValueError(f"a difference lies beyond ±{bound}: give the range of the scores as the bound")
    return drawn


def _log_wealth(drawn: Array, population: int, means: Array, side: float, bound: float) -> Array:
    """Log wealth, draws × means, of bets that the mean is below (side −1) or above (+1) each of some means."""
    values, border = -side * drawn, -side * means  # as if all bets were on "below"
    before = np.concatenate([[0.0], np.cumsum(values)[:-1]]) if values.size else values
    left = population - np.arange(values.size)
    # What the mean of those that are left has to be at the border of the null; the null is false where it cannot be.
    needed = (population * border[None, :] - before[:, None]) / left[:, None]
    impossible = needed > bound * (1 + 1e-9)
    needed = np.clip(needed, -bound, bound)
    lost = (values[:, None] - needed) / np.maximum(bound - needed, 1e-9)
    wealth: Array = np.full(lost.shape, -np.inf)
    for bet in _BETS:
        wealth = np.logaddexp(wealth, np.cumsum(np.log1p(-bet * np.minimum(lost, 1.0)), axis=0))
    wealth = wealth - np.log(_BETS.size)
    wealth[impossible] = np.inf
    return wealth
