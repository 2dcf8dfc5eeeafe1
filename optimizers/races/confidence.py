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
        return self._verdicts(board, [row])[0]

    def _left(self, board: Board) -> list[int]:
        return [row for row in range(board.candidates) if row not in self._dropped]

    def _judge(self, board: Board, racing: list[int]) -> list[tuple[int, str]]:
        better = [row for row, said in zip(racing, self._verdicts(board, racing), strict=True) if said == "better"]
        gone: list[tuple[int, str]] = []
        if better:
            before, self.incumbent = self.incumbent, highest_mean(board, better)
            gone.append((before, f"shown to be worse than candidate {self.incumbent}"))
        lost = [row for row, said in zip(racing, self._verdicts(board, racing), strict=True) if said == "worse"]
        gone += [(row, "shown to be worse than the incumbent") for row in lost if row not in dict(gone)]
        self._dropped.update(row for row, _ in gone)
        return gone

    def _threshold(self, board: Board) -> float:
        comparisons = board.candidates if self.incumbent == 0 else board.candidates * (board.candidates - 1)
        return e_threshold(self.alpha / 2, max(1, 2 * comparisons))  # two-sided: better, and worse

    def _verdicts(self, board: Board, rows: list[int]) -> list[str]:
        enough = self._threshold(board)
        better, worse = (self._evidence(board, rows, alternative) >= enough for alternative in ("greater", "less"))
        return ["better" if up else "worse" if down else "undecided" for up, down in zip(better, worse, strict=True)]

    def _evidence(self, board: Board, rows: list[int], alternative: Alternative) -> NDArray[np.float64]:
        lead = board.scores[rows] - board.scores[self.incumbent]
        known = board.scores[~np.isnan(board.scores)]
        if ((known == 0) | (known == 1)).all():
            return mcnemar_e_values((lead > 0).sum(axis=1), (lead < 0).sum(axis=1), alternative=alternative)
        bound = max(1.0, float(known.max() - known.min()))
        evidence = np.zeros(len(rows))
        for index, (row, differences) in enumerate(zip(rows, lead, strict=True)):
            seen = min(board.bought[row], board.bought[self.incumbent])
            if seen and row != self.incumbent:
                drawn = differences[:seen]
                evidence[index] = betting_e_values(drawn, board.examples, alternative=alternative, bound=bound)[-1]
        return evidence
