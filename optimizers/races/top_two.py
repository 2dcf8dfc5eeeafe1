"""Top-two Thompson sampling on the model of candidates and examples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..board import Board
from .base import Purchase
from .modelled import ENOUGH, Modelled, level_until
from .purchases import affordable_purchase

__all__ = ["TopTwo"]


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
        negligible: A candidate that is the best with a lower probability is dropped.
    """

    def __init__(self, seed: int = 0, *, enough: float = ENOUGH, steps: int = 4, negligible: float = 0.004) -> None:
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
        drawn = self.draws(board)
        return None if self.settled(board, drawn) else self._batch(board, affordable, drawn)

    def _batch(self, board: Board, affordable: float, drawn: NDArray[np.float64]) -> Purchase | None:
        count = len(drawn)
        first = drawn.argmax(axis=1)
        drawn[np.arange(count), first] = -np.inf
        second = drawn.argmax(axis=1)
        chance = np.bincount(first, minlength=board.candidates) / count
        gone = [
            (row, f"the best with a probability under {self.negligible:.1%}")
            for row in range(1, board.candidates)
            if chance[row] < self.negligible and board.bought[row] > 3 and row not in self._dropped
        ]
        self._dropped.update(row for row, _ in gone)
        wanted = np.where(self.generator.random(count) < 0.5, second, first).tolist()
        likely = [*dict.fromkeys(wanted), *np.argsort(-chance, kind="stable").tolist()]
        unfinished = [row for row in dict.fromkeys(likely) if board.bought[row] < board.examples]
        racing = [row for row in unfinished if row not in self._dropped and row in wanted] or unfinished[:2]
        if not racing:
            return None
        most = float(board.bought.sum()) if math.isinf(affordable) else affordable
        cells = max(8.0, most / self.steps)
        racing = racing[: max(2, int(cells // 2))]
        return affordable_purchase(board, racing, level_until(board, racing, cells), gone)
