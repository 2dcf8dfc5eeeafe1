"""Successive halving by posterior means, which learn from candidates of the same kind."""

from __future__ import annotations

import math

import numpy as np

from ..board import Board
from .base import Purchase
from .modelled import ENOUGH, Modelled, level_until
from .purchases import affordable_purchase

__all__ = ["PosteriorHalving"]


class PosteriorHalving(Modelled):
    """Halves the field again and again, as successive halving does, but ranks by the posterior of the quality model.

    Each candidate is seen once, on one example. From then on, each round shares its part of the cells among the better
    half of the last round's field. The rank is that of the posterior mean
    (:func:`~progspace.evaluation.quality.posterior`): a candidate's few scores are read together with those of its kind
    and with how hard its examples are, and one that was given up comes back when its like do well. When the field is
    down to two and cells are left, those next in rank follow. It ends early when no more is to be gained.

    The rounds are those of `Karnin et al. 2013 <https://proceedings.mlr.press/v28/karnin13.html>`_.

    Args:
        seed: Of all draws.
        enough: The race is over when the best candidate is expected to be better than the chosen one by no more.
    """

    def __init__(self, seed: int = 0, *, enough: float = ENOUGH) -> None:
        super().__init__(seed, enough=enough)
        self._known = 0
        self._field = 0.0
        self._given_up: set[int] = set()

    def step(self, board: Board) -> Purchase | None:
        """Gives the first example to all that are new, then the next round."""
        affordable = math.inf if board.affordable is None else board.affordable
        if affordable < 1 or board.candidates == 0:
            return None
        if board.candidates > self._known:
            joined = [row for row in range(self._known, board.candidates) if board.bought[row] == 0]
            self._field = min(board.candidates, self._field + board.candidates - self._known)
            self._known = board.candidates
            if joined:
                return affordable_purchase(board, self._first(joined, affordable), 1)
        if self.settled(board, self.draws(board)):
            return None
        return self._round(board, affordable)

    def _first(self, joined: list[int], affordable: float) -> list[int]:
        """All of them; where cells are scarce, as many as half of the cells reach, drawn by chance."""
        if affordable >= 2 * len(joined):
            return joined
        count = max(1, int(affordable / 2))
        return sorted(int(row) for row in self.generator.choice(joined, min(count, len(joined)), replace=False))

    def _round(self, board: Board, affordable: float) -> Purchase | None:
        ranked = [int(row) for row in np.argsort(-self.quality(board).mean, kind="stable")]
        field = ranked[: max(2, round(self._field))]
        self._field = max(2.0, self._field / 2)
        gone = tuple((row, f"not among the best {len(field)}") for row in ranked[len(field) :]
                     if row not in self._given_up and row != 0)  # fmt: skip
        self._given_up.update(row for row, _ in gone)
        racing = [row for row in field if board.bought[row] < board.examples]
        if not racing:  # the field has all examples
            racing = [row for row in ranked if board.bought[row] < board.examples][:2]
        if not racing:
            return None
        if math.isinf(affordable):
            cells = float(board.examples)
        else:
            cells = max(len(racing), affordable / (math.ceil(math.log2(max(2, len(racing)))) + 1))
        return affordable_purchase(board, racing, level_until(board, racing, cells), gone)
