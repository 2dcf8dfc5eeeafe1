"""Racing against the incumbent with tests that hold however often one looks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...evaluation.sequential import Alternative, betting_e_values, e_threshold, mcnemar_e_values
from ..board import Board
from .base import Purchase
from .purchases import affordable_purchase, highest_mean

__all__ = ["Confidence"]


class Confidence:
    """Doubles the examples of all that are left; drops a candidate only on evidence that it is worse.

    Every candidate is tested against the incumbent, on the examples that both have; one that is shown to be better
    takes its place. Evidence is an e-value (:mod:`progspace.evaluation.sequential`): McNemar's where scores are 0 or 1,
    else that of bets on paired differences. However often the race looks, all that it says of anybody is right with
    probability 1 − α: half of α goes to the comparisons with the first incumbent, half to all other pairs. So at the
    cap there may be no verdict: :meth:`verdict` says "undecided", and the race says who leads, no more. It takes more
    cells to say what holds than to choose well; a bolder race chooses, this one claims.

    Racing: `Maron & Moore 1994 <https://papers.nips.cc/paper/841>`_; e-values: `Ramdas et al. 2023
    <https://arxiv.org/abs/2210.01948>`_.

    Args:
        seed: As of every race; nothing is drawn.
        alpha: How probably anything that the race says may be wrong, at most.
    """

    def __init__(self, seed: int = 0, *, alpha: float = 0.05) -> None:
        del seed
        e_threshold(alpha)
        self.alpha = alpha
        self.incumbent = 0
        self._dropped: set[int] = set()
        self._until = 0

    def step(self, board: Board) -> Purchase | None:
        """Gives twice the examples to all that are left, or, where cells are scarce, to those of the best means."""
        if board.affordable is not None and board.affordable < 1:
            return None
        racing = self._left(board)
        behind = [row for row in racing if board.bought[row] < self._until]
        gone: list[tuple[int, str]] = []
        if not behind:
            gone = self._judge(board, racing)
            racing = self._left(board)
            if len(racing) == 1 or self._until >= board.examples:
                return Purchase((), self._until, tuple(gone)) if gone else None
            self._until = min(board.examples, max(1, 2 * self._until))
            behind = [row for row in racing if board.bought[row] < self._until]
        cost = sum(self._until - int(board.bought[row]) for row in behind)
        if board.affordable is not None and cost > board.affordable and self._until > 1:
            # Not all can go on: the incumbent and those of the best means do.
            each = max(1, self._until - int(board.bought[behind].min()))
            means = board.means
            behind.sort(key=lambda row: (row != self.incumbent, -float(means[row]), row))
            behind = behind[: max(1, board.affordable // each)]
        return affordable_purchase(board, behind, self._until, gone) or (
            Purchase((), self._until, tuple(gone)) if gone else None
        )

    def best(self, board: Board) -> int:
        """The candidate that leads, by its mean, among those that are left and have most cells."""
        racing = self._left(board)
        most = max(int(board.bought[row]) for row in racing)
        return highest_mean(board, [row for row in racing if 2 * board.bought[row] >= most])

    def verdict(self, board: Board, row: int) -> str:
        """Says of a candidate what is shown: ``better``, ``worse``, or ``undecided``, than the incumbent."""
        if row == self.incumbent:
            return "undecided"
        if self._evidence(board, row, "greater") >= self._threshold(board):
            return "better"
        return "worse" if self._evidence(board, row, "less") >= self._threshold(board) else "undecided"

    def _left(self, board: Board) -> list[int]:
        return [row for row in range(board.candidates) if row not in self._dropped]

    def _judge(self, board: Board, racing: list[int]) -> list[tuple[int, str]]:
        better = [row for row in racing if row != self.incumbent and self.verdict(board, row) == "better"]
        gone: list[tuple[int, str]] = []
        if better:
            before, self.incumbent = self.incumbent, highest_mean(board, better)
            gone.append((before, f"shown to be worse than candidate {self.incumbent}"))
        lost = [row for row in racing if row != self.incumbent and self.verdict(board, row) == "worse"]
        gone += [(row, "shown to be worse than the incumbent") for row in lost if row not in dict(gone)]
        self._dropped.update(row for row, _ in gone)
        return gone

    def _threshold(self, board: Board) -> float:
        comparisons = board.candidates if self.incumbent == 0 else board.candidates * (board.candidates - 1)
        return e_threshold(self.alpha / 2, max(1, 2 * comparisons))  # two-sided: better, and worse

    def _evidence(self, board: Board, row: int, alternative: Alternative) -> float:
        pair = board.scores[[row, self.incumbent]]
        known = ~np.isnan(pair).any(axis=0)
        lead = pair[0, known] - pair[1, known]
        if not lead.size:
            return 0.0
        if _binary(pair[:, known]):
            return float(mcnemar_e_values((lead > 0).sum(), (lead < 0).sum(), alternative=alternative))
        scores = board.scores[~np.isnan(board.scores)]
        bound = max(1.0, float(scores.max() - scores.min()))
        return float(betting_e_values(lead, board.examples, alternative=alternative, bound=bound)[-1])


def _binary(scores: NDArray[np.float64]) -> bool:
    return bool(((scores == 0) | (scores == 1)).all())
