"""What the races on the model of candidates and examples have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...evaluation.quality import Quality, Spread, posterior
from ..board import Board
from .purchases import cheapest_of_best

__all__ = ["Modelled"]

ENOUGH = 0.0005
"""A race ends when more cells are expected to gain less than this much of a score."""

_DRAWS = 256

_USUAL, _LEAST_OWN = 0.02, 0.06
"""As of :func:`~progspace.evaluation.quality.posterior`; the second was chosen on the recording ``movie-sentiment`` and
on made-up matrices, of 0, 0.03, 0.06 and 0.12. Both are more than what is told of the winner is based on: to take
candidates for equals too early costs a race more than to see differences that are luck."""


class Modelled:
    """Fits the model to the board, once for each state of it; chooses by posterior mean; knows when it is settled.

    Args:
        seed: Of all draws.
        enough: The race is over when the best candidate is expected to be better than the chosen one by no more.
    """

    def __init__(self, seed: int = 0, *, enough: float = ENOUGH) -> None:
        self.generator = np.random.default_rng(seed)
        self.enough = enough
        self._state: tuple[int, ...] | None = None
        self._quality: Quality | None = None
        self._spread: Spread | None = None

    def quality(self, board: Board) -> Quality:
        """What the board tells about each candidate's true mean."""
        state = (board.candidates, board.examples, int(board.bought.sum()))
        if self._quality is None or state != self._state:
            self._quality = self._fitted(board)
            self._state, self._spread = state, self._quality.spread
        return self._quality

    def _fitted(self, board: Board) -> Quality:
        return posterior(board, self._spread, usual=_USUAL, least_own=_LEAST_OWN, tastes=False)

    def best(self, board: Board) -> int:
        """The candidate of the highest posterior mean; of equals, the one of fewer tokens."""
        return cheapest_of_best(board, range(board.candidates), self.quality(board).mean)

    def draws(self, board: Board) -> NDArray[np.float64]:
        """True mean scores of all candidates as they may be: draws × candidates."""
        return self.quality(board).draws(_DRAWS, self.generator)

    def settled(self, board: Board, drawn: NDArray[np.float64]) -> bool:
        """Whether more cells are not worth it: nobody can be expected to beat the chosen candidate by ``enough``."""
        return float((drawn.max(axis=1) - drawn[:, self.best(board)]).mean()) < self.enough


def level_until(board: Board, rows: list[int], cells: float) -> int:
    """Up to which example so many cells bring these candidates, the ones with fewest examples first; one more at least.

    >>> board = Board(np.zeros((2, 9)), np.array([1, 4]), np.zeros(2))
    >>> level_until(board, [0, 1], 5), level_until(board, [0, 1], 0)
    (5, 2)
    """
    bought = np.sort(board.bought[rows])
    until = int(bought[0]) + 1
    while until < board.examples and float(np.maximum(until + 1 - bought, 0).sum()) <= cells:
        until += 1
    return until
