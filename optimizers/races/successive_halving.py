"""Successive halving: each round drops the worse half, and the rest earn more examples."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..board import Board
from .base import Purchase
from .purchases import affordable_purchase, highest_mean

__all__ = ["SuccessiveHalving"]


class SuccessiveHalving:
    """Drops the worse half by mean score, again and again; every round gets an equal share of the cells.

    `Karnin et al. 2013 <https://proceedings.mlr.press/v28/karnin13.html>`_ and
    `Jamieson & Talwalkar 2016 <https://arxiv.org/abs/1502.07943>`_. What is left of the cells is shared out anew before
    each round, so that a candidate which joins later (it first gets the examples that the others have) or a limit that
    moves costs the later rounds, not the race. Without a limit there are enough cells for each round to have twice the
    examples of the one before, and the last all of them.

    Args:
        seed: As of every race; nothing is drawn.
    """

    def __init__(self, seed: int = 0) -> None:
        del seed
        self._dropped: set[int] = set()
        self._until = 0

    def step(self, board: Board) -> Purchase | None:
        """Gives the next round, or what is missing of this one."""
        racing = [row for row in range(board.candidates) if row not in self._dropped]
        behind = [row for row in racing if board.bought[row] < self._until]
        if behind:
            # Who joined late gets what the others have, or, where that is too dear, a round's share of examples: then
            # all are compared on these.
            self._until = min(self._until, self._reach(board, behind, len(racing)))
            purchase = affordable_purchase(board, behind, self._until)
            if purchase is not None:
                return purchase
        gone: list[tuple[int, str]] = []
        if self._until:
            if len(racing) == 1:
                return None
            kept, lost = _halves(board, racing, self._until)
            gone = [(row, f"in the worse half on {self._until} examples") for row in lost]
            self._dropped.update(lost)
            racing = sorted(kept)
            if self._until >= board.examples and len(racing) == 1:
                return None
        self._until = self._next(board, racing)
        purchase = affordable_purchase(board, racing, self._until, gone)
        if purchase is None and gone:  # all examples are bought: the rest is settled by what is known
            return Purchase((), self._until, tuple(gone))
        return purchase

    def best(self, board: Board) -> int:
        """Of those that are left, the one of the highest mean."""
        return highest_mean(board, _furthest(board, set(range(board.candidates)) - self._dropped))

    def _next(self, board: Board, racing: list[int]) -> int:
        rounds = max(1, math.ceil(math.log2(max(2, len(racing)))))
        if board.affordable is None:
            return max(self._until + 1, math.ceil(board.examples / 2.0 ** (rounds - 1)))
        return min(board.examples, max(self._until + 1, self._reach(board, racing, len(racing))))

    def _reach(self, board: Board, rows: list[int], racing: int) -> int:
        """Up to which example a round's share of the cells brings these rows; those that have more wait for them."""
        if board.affordable is None:
            return board.examples
        share = board.affordable / max(1, math.ceil(math.log2(max(2, racing))))
        bought = np.minimum(board.bought[rows], self._until)
        return max(int(bought.min()) + 1, int((share + int(bought.sum())) / len(rows)))


def _furthest(board: Board, rows: set[int]) -> list[int]:
    most = max((int(board.bought[row]) for row in rows), default=0)
    return [row for row in rows if board.bought[row] == most and most] or sorted(rows)


def _halves(board: Board, racing: list[int], until: int) -> tuple[list[int], list[int]]:
    """The better and the worse half, on the first examples, which all have."""
    means = replace(board, scores=board.scores[:, :until]).means
    tokens = np.nan_to_num(board.tokens, nan=np.inf)
    ranked = sorted(racing, key=lambda row: (-round(float(means[row]), 9), float(tokens[row]), row))
    keep = (len(ranked) + 1) // 2
    return ranked[:keep], ranked[keep:]
