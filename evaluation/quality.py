"""How good candidates are, as a hierarchical model: what they have in common, how hard examples are, and luck."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.special import ndtr

__all__ = ["Quality", "Scored", "Spread", "posterior"]

Array = NDArray[np.float64]

_ROUNDS = 20  # at most, to find the variances; a race that hands on its spread goes on where it was, with
_MORE_ROUNDS = 2
_STILL = 0.02  # variances that change less than this share have been found
_PRIOR_COUNT = 1.0  # how many effects each prior spread is worth
_PRIOR_SPREAD = 0.02  # of effects of each kind, as a share of the scores' variance
_DIFFICULT = 0.3  # share of the scores' variance that is the examples', before any was seen
_DRAWS = 512


class Scored(Protocol):
    """What the model is fitted to: a race's board is one."""

    @property
    def scores(self) -> Array:
        """Candidates × examples; NaN where there is none."""

    @property
    def groups(self) -> NDArray[np.int64]:
        """Candidates × features: those of equal code in a column share that part."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Variances of the model.

    Attributes:
        noise: Of a cell, given its candidate and its example.
        difficulty: Of the examples' effects.
        own: Of what is a candidate's own.
        shared: Of the effects of each column of the groups.
    """

    noise: float
    difficulty: float
    own: float
    shared: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Quality:
    """What is known of the candidates' true mean scores: a joint normal distribution.

    Attributes:
        mean: Expected true mean score of each candidate: its measured one, drawn towards those of its like.
        covariance: Candidates × candidates.
        spread: The variances that the scores led to.
    """

    mean: Array
    covariance: Array
    spread: Spread
    _root: list[Array] = field(default_factory=list, repr=False, compare=False)

    def draws(self, count: int, generator: np.random.Generator) -> Array:
        """Draws true mean scores of all candidates: count × candidates."""
        if not self._root:
            size = self.mean.size
            floor = 1e-10 * max(1e-6, float(self.covariance.diagonal().max(initial=0.0)))
            self._root.append(np.asarray(dpotrf(self.covariance + floor * np.eye(size), lower=1)[0]))
        drawn: Array = self.mean + generator.standard_normal((count, self.mean.size)) @ self._root[0].T
        return drawn

    def probability_best(self, generator: np.random.Generator, draws: int = _DRAWS) -> Array:
        """How probably each candidate is the best of all, by so many draws; they sum to 1."""
        best = self.draws(draws, generator).argmax(axis=1)
        shares: Array = np.bincount(best, minlength=self.mean.size) / draws
        return shares

    def probability_better(self, than: int = 0, by: float = 0.0) -> Array:
        """How probably each candidate is better than one of them, by more than a margin; its own entry is 0."""
        variance = self.variance_of_difference(than)
        gain = self.mean - self.mean[than] - by
        with np.errstate(divide="ignore", invalid="ignore"):
            probability: Array = np.where(variance > 0, ndtr(gain / np.sqrt(variance)), (gain > 0).astype(float))
        probability[than] = 0.0
        return probability

    def variance_of_difference(self, than: int) -> Array:
        """The variance of each candidate's lead over one of them."""
        diagonal = self.covariance.diagonal()
        lead: Array = np.maximum(diagonal + diagonal[than] - 2 * self.covariance[than], 0.0)
        return lead


def posterior(board: Scored, start: Spread | None = None) -> Quality:
    """Fits the model to the scores bought so far.

    A score is a common level + what the candidate shares with others of its kind (its format, say) + what is its own +
    how easy the example is + noise, all normal. The examples' effects are integrated out, so that candidates are
    compared on the examples that they share, and one that was bought more of is not favoured for easy examples. The
    variances come from the scores: those of noise and difficulty by moments, the candidates' by
    likelihood (with a weak prior, as there may be few of them). What it gives is an empirical Bayes estimate
    (`Efron & Morris 1975 <https://doi.org/10.1080/01621459.1975.10479864>`_): the lucky are drawn towards their like,
    so that the highest of the means is not too high on average (the winner's curse), however unevenly cells were
    bought.

    Args:
        board: Scores and groups. Any order of buying will do, as long as it looked at nothing but scores.
        start: Variances of an earlier fit, to begin with: fewer rounds are needed then.

    >>> from types import SimpleNamespace as Board
    >>> scores = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 1, np.nan]])
    >>> quality = posterior(Board(scores=scores, groups=np.zeros((3, 0), int)))
    >>> bool(quality.mean[0] > quality.mean[1] > quality.mean[2]), bool(quality.mean[0] < 0.75)
    (True, True)
    """
    known = ~np.isnan(board.scores)
    mask = known.astype(np.float64)
    counts = mask.sum(axis=1)
    candidates = counts.size
    cells = counts.sum()
    centre = float(np.nansum(board.scores) / cells) if cells else 0.5
    centred = np.where(known, board.scores - centre, 0.0)
    total = max(float((centred**2).sum() + 0.2) / (cells + 1), 1e-6)
    noise, difficulty = _cell_variances(centred, mask, counts, total)
    kinships = _kinships(board.groups, candidates)
    usual = _PRIOR_SPREAD * total
    variances = [usual] * len(kinships)
    if start is not None and len(start.shared) == len(kinships) - 1:
        variances = [start.own, *start.shared]
    bought = counts > 0
    everyone = bool(bought.all())
    rows = slice(None) if everyone else np.flatnonzero(bought)
    measured, uncertainty = _measured(centred[rows], mask[rows], counts[rows], noise, difficulty)
    level = np.full((candidates, candidates), 4 * total)  # a flat prior of the common level
    seen = [kinship if everyone else kinship[np.ix_(bought, bought)] for kinship in kinships]
    base = uncertainty + level[: measured.size, : measured.size]
    if measured.size:
        for _ in range(_ROUNDS if start is None else _MORE_ROUNDS):
            before = variances
            variances = _updated(before, seen, measured, base, usual)
            if max(abs(v - b) for v, b in zip(variances, before, strict=True)) < _STILL * max(before):
                break
    prior = level + sum(v * k for v, k in zip(variances, kinships, strict=True))
    spread = Spread(noise, difficulty, variances[0], tuple(variances[1:]))
    if not measured.size:
        return Quality(np.full(candidates, centre), prior, spread)
    across = prior[:, rows]
    inverse = _inverse(base + sum(v * k for v, k in zip(variances, seen, strict=True)))
    gain = across @ inverse
    covariance = prior - gain @ across.T
    return Quality(centre + gain @ measured, (covariance + covariance.T) / 2, spread)


def _updated(variances: list[float], kinships: list[Array], measured: Array, base: Array, usual: float) -> list[float]:
    """One round towards the likeliest variances of the candidates' effects (an MM algorithm).

    `Zhou et al. 2019 <https://doi.org/10.1080/10618600.2018.1529601>`_, with a few effects of the usual spread added.
    """
    inverse = _inverse(base + sum(v * k for v, k in zip(variances, kinships, strict=True)))
    weighed = inverse @ measured
    found = []
    for now, kinship in zip(variances, kinships, strict=True):
        fit = now**2 * float(weighed @ kinship @ weighed) + _PRIOR_COUNT * usual
        expected = now**2 * float((inverse * kinship).sum()) + _PRIOR_COUNT * now
        found.append(max(now * float(np.sqrt(fit / expected)), 1e-9))
    return found


def _cell_variances(centred: Array, mask: Array, counts: Array, total: float) -> tuple[float, float]:
    """The variance of noise and that of difficulty, from the cells' deviations from their candidates' means."""
    means = centred.sum(axis=1) / np.maximum(counts, 1)
    rest = (centred - means[:, None]) * mask
    both = float((rest**2).sum() + 4 * total) / float(np.maximum(counts - 1, 0).sum() + 4)
    by_example = rest.sum(axis=0)
    products = float((by_example**2).sum() - (rest**2).sum())
    # Taking the means off takes off some of the difficulty, too: of two rows, what the longer one's mean holds.
    longer = np.maximum.outer(counts, counts)
    pairs = np.minimum.outer(counts, counts) * (1 - 1 / np.maximum(longer, 1))
    np.fill_diagonal(pairs, 0.0)
    # Products of one example hang together, so that many of them are worth little more than one.
    prior = 4 * max(1.0, float(pairs.sum()) / max(1.0, float(mask.any(axis=0).sum())))
    difficulty = (products + prior * _DIFFICULT * both) / (float(pairs.sum()) + prior)
    difficulty = min(max(difficulty, 0.0), 0.95 * both)
    return both - difficulty, difficulty


def _kinships(groups: NDArray[np.int64], candidates: int) -> list[Array]:
    """For each kind of effect which candidates share it; the first is what is their own."""
    columns = groups.T if groups.size else np.zeros((0, candidates), np.int64)
    return [np.eye(candidates), *((column[:, None] == column[None, :]).astype(np.float64) for column in columns)]


def _measured(centred: Array, mask: Array, counts: Array, noise: float, difficulty: float) -> tuple[Array, Array]:
    """Each candidate's score as measured, freed of the examples' effects, and how uncertain: least squares."""
    shared = difficulty / (noise + difficulty * mask.sum(axis=0))  # by Woodbury, example by example
    precision = -(mask * shared) @ mask.T
    precision[np.diag_indices_from(precision)] += counts
    right = centred.sum(axis=1) - mask @ (shared * centred.sum(axis=0))
    inverse = _inverse(precision)
    return inverse @ right, noise * inverse


def _inverse(matrix: Array) -> Array:
    """Of a symmetric positive definite matrix."""
    if not matrix.size:
        return matrix
    factor, failed = dpotrf(matrix, lower=1)
    if failed:
        return np.asarray(np.linalg.pinv(matrix, hermitian=True))
    lower = np.tril(dpotri(factor, lower=1)[0])
    inverse: Array = lower + lower.T
    inverse[np.diag_indices_from(inverse)] /= 2
    return inverse
