"""Top-two Thompson sampling on the model of candidates and examples."""

from __future__ import annotations

import math

import numpy as np

from ..board import Board
from .base import Purchase
from .modelled import ENOUGH, Modelled, level_until
from .purchases import affordable_purchase

__all__ = ["TopTwo"]

_DRAWS = 256


class TopTwo(Modelled):
    """Draws true means from the posterior; the best of a draw, or as often its runner-up, earns the next examples.

    `Russo 2016 <https://proceedings.mlr.press/v49/russo16.html>`_ (the runner-up is asked for as often as the best),
    on the hierarchical model of :mod:`progspace.evaluation.quality`. Cells are bought in batches of several candidates,
    each of which grows with what is left to spend, so that an LM that batches is kept busy and the model is fitted some
    tens of times. A candidate whose probability to be the best is negligible is dropped.

    Args:
        seed: Of all draws.
        enough: The race is over when the best candidate is expected to be better than the chosen one by no more.
        steps: Into how many purchases what may be spent is divided.
        negligible: A candidate that was the best in fewer of the draws is dropped.
    """

    def __init__(
        self, seed: int = 0, *, enough: float = ENOUGH, steps: int = 6, negligible: float = 1 / _DRAWS
    ) -> None:
        super().__init__(seed, enough=enough)
        self.steps, self.negligible = steps, negligible
        self._known = 0
        self._dropped: set[int] = set()

    def step(self, board: Board) -> Purchase | None:
        """Gives the first example to all that are new, then a batch for the top of the draws."""
        affordable = math.inf if board.affordable is None else board.affordable
        if affordable < 1 or board.candidates == 0:
            return None
        if board.candidates > self._known:
            joined = [row for row in range(self._known, board.candidates) if board.bought[row] == 0]
            self._known = board.candidates
            if joined:
                return affordable_purchase(board, joined[: max(1, int(min(affordable, 2 * len(joined)) / 2))], 1)
        if self.settled(board):
            return None
        return self._batch(board, affordable)

    def _batch(self, board: Board, affordable: float) -> Purchase | None:
        drawn = self.quality(board).draws(_DRAWS, self.generator)
        top = np.argpartition(-drawn, 1, axis=1)[:, :2] if board.candidates > 2 else np.argsort(-drawn, axis=1)[:, :2]
        swap = np.take_along_axis(drawn, top[:, :1], 1) < np.take_along_axis(drawn, top[:, 1:], 1)
        top = np.where(swap, top[:, ::-1], top)
        chance = np.bincount(top[:, 0], minlength=board.candidates) / _DRAWS
        gone = [
            (row, f"the best with a probability under {self.negligible:.1%}")
            for row in range(1, board.candidates)
            if chance[row] < self.negligible and board.bought[row] > 3 and row not in self._dropped
        ]
        self._dropped.update(row for row, _ in gone)
        second = self.generator.random(_DRAWS) < 0.5
        wanted = [int(row) for row in np.where(second, top[:, 1], top[:, 0])]
        racing = list(dict.fromkeys(row for row in wanted if board.bought[row] < board.examples))
        racing = [row for row in racing if row not in self._dropped] or racing
        if not racing:
            racing = [int(row) for row in np.argsort(-chance) if board.bought[row] < board.examples][:2]
        if not racing:
            return None
        most = float(board.bought.sum()) if math.isinf(affordable) else affordable
        cells = max(4.0, most / self.steps)
        return affordable_purchase(
            board, racing[: max(2, int(cells // 2))], level_until(board, racing[: max(2, int(cells // 2))], cells), gone
        )
