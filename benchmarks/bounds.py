"""How much could a better model spare a race? The default race, with a model that is told what it would have to learn.

``python -m progspace.benchmarks.replay --bounds`` replays it. How candidates go together over examples is read off the
full matrix, and how far candidates of a kind are apart from the quality model's fit to it; the race buys as ever, and
chooses by the expected dev mean given all that. What it loses is what the buying loses, and 0/1 scores.

- ``told correlations``: of every two candidates' scores over the examples. Noise is the same for all.
- ``told covariances``: their variances as well. That is too much, and so a bound: the variance of a 0/1 score tells its
  mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..evaluation.quality import Quality, Spread, posterior
from ..optimizers.board import Board
from ..optimizers.races.posterior_halving import PosteriorHalving

__all__ = ["BOUNDS", "Told", "expected"]

Array = NDArray[np.float64]

BOUNDS = ("told correlations", "told covariances")

_FLOOR = 1e-4  # of a variance: many candidates answer alike


class Told(PosteriorHalving):
    """Posterior halving whose model is told the truth about everything but the candidates' means.

    Args:
        seed: As of every race.
        scores: The full matrix that is raced on, candidates × examples.
        groups: Candidates × features, as of a board.
        what: One of ``BOUNDS``.
    """

    def __init__(self, seed: int, scores: Array, groups: NDArray[np.int64], what: str) -> None:
        super().__init__(seed)
        size = len(scores)
        full = Board(scores, np.full(size, scores.shape[1]), np.zeros(size), groups)
        self._told = posterior(full).spread
        self._level = float(scores.mean())
        self._prior = self._told.own * np.eye(size) + 4.0  # a flat prior of the common level
        for variance, column in zip(self._told.shared, groups.T, strict=True):
            self._prior += variance * (column[:, None] == column)
        self._within = np.cov(scores) + _FLOOR * np.eye(size)
        if what == "told correlations":
            deviations = np.sqrt(self._within.diagonal())
            self._within *= float((deviations**2).mean()) / np.outer(deviations, deviations)

    def _fitted(self, board: Board) -> Quality:
        """What the board tells about each candidate's mean over the examples at hand."""
        return expected(board, self._prior, self._within, self._level, self._told)


def expected(board: Board, prior: Array, within: Array, level: float, spread: Spread) -> Quality:
    """Gives the means over all examples of the board, those not bought included, where all variances are known.

    A column of the matrix is normal with covariance ``within`` about the candidates' true means, which are normal with
    covariance ``prior`` about one level.

    >>> scores = np.array([[1.0, 0.0, 1.0], [1.0, np.nan, np.nan]])
    >>> board = Board(scores, np.array([3, 1]), np.zeros(2))
    >>> found = expected(board, np.eye(2), np.eye(2), 0.5, Spread(1.0, 0.0, (), 1.0))
    >>> found.mean.round(3).tolist(), found.covariance.diagonal().round(3).tolist()
    ([0.667, 0.833], [0.0, 0.444])
    """
    known, examples = np.nan_to_num(board.scores) - level, board.examples
    precision = np.linalg.inv(prior)
    right = np.zeros(board.candidates)
    # Of a column's candidates that were not bought, the mean given those that were is what `weights` makes of these.
    seen, unseen = np.zeros(board.candidates), np.zeros_like(prior)
    residual, start = np.zeros_like(prior), 0
    for stop in [*np.unique(board.bought[board.bought > 0]).tolist(), examples]:
        count = stop - start
        if not count:
            continue
        there = board.bought >= stop
        inverse = np.zeros_like(prior)
        inverse[np.ix_(there, there)] = np.linalg.inv(within[np.ix_(there, there)])
        total = np.where(there, known[:, start:stop].sum(axis=1), 0.0)
        precision += count * inverse
        right += inverse @ total
        weights = within @ inverse  # the identity for those that are there
        seen += weights @ total
        unseen += count * (np.eye(len(prior)) - weights)
        residual += count * (within - weights @ within)
        start = stop
    covariance = np.linalg.inv(precision)
    mean = level + (seen + unseen @ (covariance @ right)) / examples
    variance = (unseen @ covariance @ unseen.T + residual) / examples**2
    return Quality(mean, (variance + variance.T) / 2, spread)
