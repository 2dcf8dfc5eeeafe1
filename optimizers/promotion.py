"""Whether a rung is kept: its best candidate against the one below, on examples that neither was chosen on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BudgetExceeded
from ..evaluation.quality import posterior
from ..evaluation.statistics import PairedTest, paired_test
from .arena import Arena
from .board import Board
from .standing import Standing

__all__ = ["Outcome", "Promotion", "Verdict"]

_FINALISTS = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found when a rung's best met the one below.

    Attributes:
        better: How probably it is better than the one below, by all that is known.
        fresh: The paired test on the examples that no race looked at; None where the budget did not hold them.
        reason: Why it was kept or not, in a few words.
    """

    better: float
    fresh: PairedTest | None
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a rung.

    Attributes:
        key: Its best candidate's hash.
        estimate: That one's dev score with luck taken off.
        kept: Whether it takes the incumbent's place.
        verdict: Why.
        stopped: What cut the confirmation short, if something did.
    """

    key: str
    estimate: float
    kept: bool
    verdict: Verdict
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class Promotion:
    """The rule by which a candidate takes the incumbent's place.

    The race's scores screen: they were looked at while candidates were chosen, and the best of many is lucky. So the
    finalists also run on the part of dev that no race looks at, and the quality model, which draws lucky scores towards
    what such candidates mostly do, weighs both. A candidate that is no worse within the tolerance but cheaper is kept
    as well.

    Attributes:
        sure: How probable it has to be that the candidate is better.
        tolerance: How much worse, at most, a cheaper one may be.
    """

    sure: float = 0.5
    tolerance: float = 0.01

    def chances(self, board: Board) -> list[float]:
        """How probably each row beats the first one."""
        return [float(chance) for chance in posterior(board).probability_better(0)]

    def decide(self, arena: Arena, keys: Sequence[str], board: Board) -> Outcome:
        """Runs the finalists on the fresh part of dev and says who stays; the first key is the incumbent's."""
        quality = posterior(board)
        rows = [row for row in range(1, len(keys)) if board.bought[row]]
        likely = sorted(rows, key=lambda row: (-quality.mean[row], board.tokens[row], row))
        deep = [row for row in likely if 2 * board.bought[row] >= board.bought[likely[0]]][:_FINALISTS]
        stopped = None
        try:
            for row in (deep[0], 0, *deep[1:]):
                arena.buy(keys[row], len(arena.dev))
        except BudgetExceeded as error:
            stopped = str(error)
        whole = arena.board(keys)
        quality = posterior(whole)
        best = self._choose(whole, quality.mean, deep)
        better = float(quality.probability_better(0)[best])
        no_worse = float(quality.probability_better(0, by=-self.tolerance)[best])
        fresh = _fresh(arena.standings[keys[best]], arena.standings[keys[0]], board.examples)
        cheaper = whole.tokens[best] < 0.9 * whole.tokens[0]
        kept = better >= self.sure or (bool(cheaper) and no_worse >= self.sure)
        reason = f"better with a probability of {100 * better:.0f} %"
        if kept and better < self.sure:
            reason = f"no worse with a probability of {100 * no_worse:.0f} %, and cheaper"
        return Outcome(keys[best], float(quality.mean[best]), kept, Verdict(better, fresh, reason), stopped)

    def _choose(self, board: Board, mean: np.ndarray[tuple[int, ...], np.dtype[np.float64]], rows: list[int]) -> int:
        """Of those measured on as many examples as any: the best, or a cheaper one that is no worse."""
        most = max(board.bought[row] for row in rows)
        whole = [row for row in rows if board.bought[row] == most]
        highest = max(mean[row] for row in whole)
        near = [row for row in whole if mean[row] >= highest - self.tolerance]
        top = max(near, key=lambda row: mean[row])
        cheap = min(near, key=lambda row: (board.tokens[row], -mean[row], row))
        return cheap if board.tokens[cheap] < 0.9 * board.tokens[top] else top


def _fresh(one: Standing, other: Standing, raced: int) -> PairedTest | None:
    pairs = [
        (a.score, b.score)
        for a, b in zip(one.cells[raced:], other.cells[raced:], strict=False)
        if a.score is not None and b.score is not None
    ]
    return paired_test([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None
