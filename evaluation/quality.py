"""How good candidates are, as a hierarchical model: what they have in common, how hard examples are, and luck."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.optimize import nnls
from scipy.special import ndtr

__all__ = ["Quality", "Scored", "Spread", "posterior"]

Array = NDArray[np.float64]

_ROUNDS = 8  # at most, to find the variances; a race that hands on its spread goes on where it was, with
_MORE_ROUNDS = 2
_STILL = 0.02  # variances that change less than this share have been found
_WIDE = 0.02  # how sure the usual variance of effects is: as if it was this one, as a share, and seen once
_LEAST = 0.02  # of it: no kind of effect is ever taken to be nothing at all
_DIFFICULT, _TASTE = 0.25, 0.05  # shares of the scores' variance that are the examples', before any was seen
_PRIOR_EXAMPLES = 4.0  # what these shares are worth


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
        difficulty: Of the examples' effects on all candidates.
        tastes: Of an example's effects on those that share a part: for each column of the groups.
        own: Of what is a candidate's own.
        shared: Of the effects of each column of the groups.
    """

    noise: float
    difficulty: float
    tastes: tuple[float, ...]
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


def posterior(
    board: Scored, start: Spread | None = None, *, usual: float = 0.002, least_own: float = 0.0, tastes: bool = True
) -> Quality:
    """Fits the model to the scores bought so far.

    A score is a common level + what the candidate shares with others of its kind (its format, say) + what is its own +
    how easy the example is (for all, and for those of its kind) + noise, all normal. The examples' effects are
    integrated out, so that candidates are compared on the examples that they share, and one that was bought more of is
    not favoured for easy examples. The variances come from the scores: those of noise and examples by moments, the
    candidates' by likelihood (with a weak prior, as there may be few of them). What it gives is an empirical Bayes
    estimate (`Efron & Morris 1975 <https://doi.org/10.1080/01621459.1975.10479864>`_): the lucky are drawn towards
    their like, so that the highest of the means is not too high on average (the winner's curse), however unevenly
    cells were bought.

    Args:
        board: Scores and groups. Any order of buying will do, as long as it looked at nothing but scores.
        start: Variances of an earlier fit, to begin with: fewer rounds are needed then.
        usual: How much effects of each kind vary where little is known of it, as a share of the scores' variance.
        least_own: What is a candidate's own varies at least so much, as a share of the scores' variance. A race should
            not take candidates of a kind for equals too early; what is told of the winner should, if they seem to be.
        tastes: Whether examples are different things to different kinds of candidates. Leads within a kind are surer
            then, and leads of one kind over another less so.

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
    effects, kinds = _effects(board.groups, candidates)
    kinships = [effects[:, kinds == kind] @ effects[:, kinds == kind].T for kind in range(1, kinds[-1] + 1)]
    noise, difficulty, *by_kind = _cell_variances(centred, mask, counts, kinships if tastes else [], total)
    variances = np.full(kinds[-1] + 1, usual * total)
    if start is not None and len(start.shared) == variances.size - 1:
        variances = np.array([start.own, *start.shared])
    variances[0] = max(variances[0], least_own * total)
    bought = np.flatnonzero(counts)
    measured, uncertainty = _measured(centred[bought], mask[bought], counts[bought], noise, difficulty)
    # What examples are to those of a kind does not average out over candidates: of two rows, over the longer one.
    longer = np.maximum.outer(counts[bought], counts[bought])
    for taste, kinship in zip(by_kind, kinships, strict=False):
        uncertainty += taste * kinship[np.ix_(bought, bought)] / longer
    base = uncertainty + 4 * total  # a flat prior of the common level
    rounds = _ROUNDS if start is None else _MORE_ROUNDS
    for _ in range(rounds if measured.size else 0):
        before, variances = (
            variances,
            _updated(variances, effects[bought], kinds, measured, base, usual * total, _WIDE * total),
        )
        variances[0] = max(variances[0], least_own * total)
        if np.abs(variances - before).max() < _STILL * before.max():
            break
    prior = 4 * total + (effects * variances[kinds]) @ effects.T
    spread = Spread(noise, difficulty, tuple(by_kind), float(variances[0]), tuple(variances[1:].tolist()))
    if not measured.size:
        return Quality(np.full(candidates, centre), prior, spread)
    across = prior[:, bought]
    gain = across @ _inverse(uncertainty + across[bought])
    covariance = prior - gain @ across.T
    return Quality(centre + gain @ measured, (covariance + covariance.T) / 2, spread)


def _updated(
    variances: Array, effects: Array, kinds: NDArray[np.int64], measured: Array, base: Array, usual: float, wide: float
) -> Array:
    """One round of Fisher scoring towards the likeliest variances of the candidates' effects, none below 0.

    A prior as of one effect of the usual size stands for what few candidates, or few kinds, do not tell.
    """
    inverse = _inverse(base + (effects * variances[kinds]) @ effects.T)
    across = inverse @ effects
    weighed, inner = measured @ across, effects.T @ across
    count = variances.size
    by_kind = (kinds[:, None] == np.arange(count)).astype(np.float64)
    information = by_kind.T @ (inner**2) @ by_kind / 2
    slope = ((weighed**2 - inner.diagonal()) @ by_kind) / 2
    weight = 1 / (2 * wide**2)
    information[np.diag_indices(count)] += weight
    aim = information @ variances + slope + weight * (usual - variances)
    root = np.linalg.cholesky(information)
    found, _ = nnls(root.T, np.linalg.solve(root, aim))
    return np.maximum(found, _LEAST * wide)


def _cell_variances(
    centred: Array, mask: Array, counts: Array, kinships: list[Array], total: float
) -> tuple[float, ...]:
    """The variances of noise, of difficulty, and of what examples are to each kind: by moments (Haseman & Elston).

    They are told by the products of two candidates' deviations from their own means on one example.
    """
    means = centred.sum(axis=1) / np.maximum(counts, 1)
    rest = (centred - means[:, None]) * mask
    both = float((rest**2).sum() + 4 * total) / float(np.maximum(counts - 1, 0).sum() + 4)
    # Taking the means off takes off some of what is shared, too: of two rows, what the longer one's mean holds.
    longer = np.maximum.outer(counts, counts)
    pairs = np.minimum.outer(counts, counts) * (1 - 1 / np.maximum(longer, 1))
    np.fill_diagonal(pairs, 0.0)
    products = rest @ rest.T
    np.fill_diagonal(products, 0.0)
    shared = [np.ones_like(pairs), *kinships]
    normal = np.array([[float((pairs * a * b).sum()) for a in shared] for b in shared])
    right = np.array([float((products * a).sum()) for a in shared])
    usual = both * np.array([_DIFFICULT, *(_TASTE for _ in kinships)])
    # Products of one example hang together, so that many of them are worth little more than one.
    prior = _PRIOR_EXAMPLES * max(1.0, normal[0, 0] / max(1.0, float(mask.any(axis=0).sum())))
    normal[np.diag_indices(len(shared))] += prior
    root = np.linalg.cholesky(normal)
    found, _ = nnls(root.T, np.linalg.solve(root, right + prior * usual))
    found *= min(1.0, 0.9 * both / max(float(found.sum()), 1e-12))
    return (both - float(found.sum()), *found.tolist())


def _effects(groups: NDArray[np.int64], candidates: int) -> tuple[Array, NDArray[np.int64]]:
    """Candidates × effects, 1 where a candidate has it, and of which kind each effect is; kind 0 is one's own."""
    columns = groups.T if groups.size else np.zeros((0, candidates), np.int64)
    codes = [np.arange(candidates), *columns]
    each = [(column[:, None] == np.unique(column)).astype(np.float64) for column in codes]
    kinds = np.repeat(np.arange(len(each)), [block.shape[1] for block in each])
    return np.concatenate(each, axis=1), kinds


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
    lower, _ = dpotri(factor, lower=1)
    inverse: Array = np.where(np.tri(len(lower), dtype=bool), lower, lower.T)
    return inverse
