"""Blocks with a paired t-test, as in CAPO."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import stats

from ..board import Board
from .base import Purchase
from .purchases import affordable_purchase, highest_mean

__all__ = ["Blocks"]


class Blocks:
    """Buys blocks of examples for all that are left; after each, drops whom another beats in a paired t-test.

    The race of CAPO (`Zehle et al. 2025 <https://arxiv.org/abs/2504.16005>`_, as in promptolution 2.3.0, which derives
    from F-Race, `Birattari et al. 2002 <https://dl.acm.org/doi/10.5555/2955491.2955494>`_). It tests again and again at
    one level, without correction, so that its level is not that of the race (``tests/evaluation/test_sequential.py``
    measures it). It is here as the peer to beat.

    Args:
        seed: As of every race; nothing is drawn.
        block: Examples in a block.
        alpha: Level of each one-sided test.
        most: Blocks, at most.
    """

    def __init__(self, seed: int = 0, *, block: int = 30, alpha: float = 0.2, most: int = 10) -> None:
        del seed
        self.block, self.alpha, self.most = block, alpha, most
        self._dropped: set[int] = set()
        self._until = 0

    def step(self, board: Board) -> Purchase | None:
        """Gives the next block, or what is missing of this one, candidate by candidate."""
        racing = [row for row in range(board.candidates) if row not in self._dropped]
        gone: list[tuple[int, str]] = []
        if self._until and all(board.bought[row] >= min(self._until, board.examples) for row in racing):
            lost = self._beaten(board, racing)
            gone = [(row, f"beaten in a paired t-test on {self._until} examples") for row in lost]
            self._dropped.update(lost)
            racing = [row for row in racing if row not in self._dropped]
            if len(racing) == 1 or self._until >= min(board.examples, self.block * self.most):
                return Purchase((), self._until, tuple(gone)) if gone else None
            self._until += self.block
        self._until = self._until or self.block
        until = min(self._until, board.examples)
        if board.affordable is not None:
            # A block is bought candidate by candidate: one that is not affordable as a whole is not begun.
            covered = np.cumsum([max(0, until - int(board.bought[row])) for row in racing]) <= board.affordable
            affordable = [row for row, can in zip(racing, covered, strict=True) if can]
            racing = affordable if any(board.bought[row] < until for row in affordable) else racing[:1]
        return affordable_purchase(board, racing, until, gone)

    def best(self, board: Board) -> int:
        """Of those that are left and have most blocks, the one of the highest mean."""
        rows = [row for row in range(board.candidates) if row not in self._dropped]
        most = max((int(board.bought[row]) for row in rows), default=0)
        return highest_mean(board, [row for row in rows if board.bought[row] == most] if most else rows)

    def _beaten(self, board: Board, racing: list[int]) -> list[int]:
        scores = board.scores[racing, : min(self._until, board.examples)]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)
            lead = scores[:, None, :] - scores[None, :, :]
            known = (~np.isnan(lead)).sum(axis=2)
            mean, deviation = np.nanmean(lead, axis=2), np.nanstd(lead, axis=2, ddof=1)
            level = stats.t.sf(mean / (deviation / np.sqrt(known)), known - 1)
        level = np.where((deviation == 0) & (mean > 0) & (known > 1), 0.0, level)
        return [row for row, losses in zip(racing, (level < self.alpha).sum(axis=0), strict=True) if losses]
