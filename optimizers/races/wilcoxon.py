"""Optuna's WilcoxonPruner: candidate after candidate, each pruned when the best so far looks better."""

from __future__ import annotations

import warnings
from collections.abc import MutableMapping

import numpy as np
import optuna
from numpy.typing import NDArray

from ..board import Board
from ..quiet import quiet
from .base import Purchase
from .purchases import affordable_purchase, highest_mean

__all__ = ["Wilcoxon"]


class Wilcoxon:
    """Runs one candidate after the other, and asks Optuna's own ``WilcoxonPruner`` when to give it up.

    Each candidate is a trial whose intermediate values are its scores, the step being the example. As Optuna's
    documentation advises, a pruned trial counts with its mean so far. It is here as the peer to beat.

    Args:
        seed: As of every race; nothing is drawn.
        p_threshold: As the pruner's.
        block: How many examples are bought between two questions to the pruner.
        verdicts: What the pruner said of a list of paired differences, if that is to be remembered over races: it looks
            at nothing else, and takes a while.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        p_threshold: float = 0.1,
        block: int = 4,
        verdicts: MutableMapping[tuple[float, ...], bool] | None = None,
    ) -> None:
        del seed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._pruner = optuna.pruners.WilcoxonPruner(p_threshold=p_threshold)
        self._study = _quiet_study(self._pruner)
        self.block = block
        self._verdicts = verdicts
        self._ended: dict[int, float] = {}
        self._best = 0

    def step(self, board: Board) -> Purchase | None:
        """Gives the next few examples of the candidate that is running, or the first of the next one."""
        gone: list[tuple[int, str]] = []
        for row in range(board.candidates):
            if row in self._ended:
                continue
            bought = int(board.bought[row])
            pruned = bool(self._ended) and bought > 0 and self._prunes(board.scores[self._best], board.scores[row])
            if not pruned and bought < board.examples:
                return affordable_purchase(board, [row], bought + self.block, gone)
            self._end(row, board.scores[row])
            if pruned:
                gone.append((row, f"Wilcoxon's test prunes it after {bought} examples"))
        return Purchase((), board.examples, tuple(gone)) if gone else None

    def best(self, board: Board) -> int:
        """The trial of the highest value; while the first runs, that."""
        return self._best if board.bought[self._best] else highest_mean(board, range(board.candidates))

    def _prunes(self, best: NDArray[np.float64], scores: NDArray[np.float64]) -> bool:
        paired = np.flatnonzero(~np.isnan(best) & ~np.isnan(scores))
        if paired.size < 2:
            return False
        if self._verdicts is None:
            return self._ask(scores)
        own = scores[~np.isnan(scores)]
        # All that the verdict depends on: the differences, and which of the means is higher.
        key = (float(np.nanmean(best) <= own.mean()), *np.sort(scores[paired] - best[paired]).tolist())
        if key not in self._verdicts:
            self._verdicts[key] = self._ask(scores)
        return self._verdicts[key]

    def _ask(self, scores: NDArray[np.float64]) -> bool:
        running = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, intermediate_values=_intermediate(scores)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(self._pruner.prune(self._study, running))

    def _end(self, row: int, scores: NDArray[np.float64]) -> None:
        known = _intermediate(scores)
        if not known:  # nothing was answered
            self._ended[row] = -np.inf
            return
        self._ended[row] = sum(known.values()) / len(known)
        if self._ended[row] > self._ended.get(self._best, -np.inf) or self._best == row:
            self._best = row
        self._study.add_trial(optuna.trial.create_trial(value=self._ended[row], intermediate_values=known))


def _intermediate(scores: NDArray[np.float64]) -> dict[int, float]:
    return {int(step): float(scores[step]) for step in np.flatnonzero(~np.isnan(scores))}


def _quiet_study(pruner: optuna.pruners.BasePruner) -> optuna.Study:
    """A study whose beginning is not told on the terminal."""
    with quiet():
        return optuna.create_study(direction="maximize", pruner=pruner)
