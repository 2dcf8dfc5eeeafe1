"""Whether a rung is kept: its best candidate against the one below, on examples that neither was chosen on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import BudgetExceeded
from ..evaluation.findings import BREAKS_A_LIMIT, TOO_LONG
from ..evaluation.quality import Quality, posterior
from ..evaluation.statistics import PairedTest, paired_test
from .arena import FIRST, Arena
from .board import Board
from .objectives import QUALITY, Objectives
from .standing import Standing

__all__ = ["CHEAPER", "Outcome", "Promotion", "Verdict"]

CHEAPER = 0.9
"""A program of a smaller share of another one's tokens is cheaper."""

_FINALISTS = 2
_BEYOND_DOUBT = 0.97
_ROUNDING = 1e-6
_KNOWN_WELL = 2 * FIRST
_WORTH_PROVING = 0.5
_AT_A_TIME = 32  # cells, before it is looked at anew; not what the LM takes at a time, which is another one each time


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
    as well, if it is ever right. What breaks a limit is not kept.

    Attributes:
        objectives: Limits, tolerance, what is preferred, and how sure a gain has to be in the end.
    """

    objectives: Objectives = field(default_factory=Objectives)

    def quality(self, board: Board) -> Quality:
        """What is known of how good each row is."""
        return posterior(board)

    def chances(self, board: Board) -> list[float]:
        """How probably each row beats the first one."""
        return [float(chance) for chance in posterior(board).probability_better(0)]

    def decide(
        self, arena: Arena, keys: Sequence[str], eligible: Sequence[str] | None = None, *, sure: float = 0.5
    ) -> Outcome:
        """Runs the finalists on the fresh part of dev and says who stays.

        Args:
            arena: Where they are measured.
            keys: All that were in the race, the incumbent's first.
            eligible: Those among them that may take its place; None for all.
            sure: How probable it has to be that the candidate is better, or no worse and cheaper.
        """
        finalists, stopped = self._finalists(arena, keys, keys[1:] if eligible is None else eligible), None
        try:
            # An incumbent that is beaten beyond doubt need not be confirmed: the program as declared is often dear.
            chance = self.chances(arena.board(keys, fresh=True))[finalists[0]]
            for row in (finalists[0], *([0] if chance < _BEYOND_DOUBT else []), *finalists[1:]):
                arena.confirm(keys[row])
        except BudgetExceeded as error:
            stopped = str(error)
        quality = posterior(arena.board(keys, fresh=True))
        points = [self.values(arena, keys[row]) for row in finalists]
        chosen = self.objectives.choose(points, _part(quality, finalists))
        best = finalists[0 if chosen is None else chosen]
        # What was not confirmed has to be the surer: the best of many on a few examples is mostly the luckiest.
        confirmed = len(arena.standings[keys[best]].fresh) == len(arena.fresh) > 0
        needed = sure if confirmed else max(sure, self.objectives.sure)
        kept, verdict = self._verdict(arena, keys, best, quality, needed)
        return Outcome(keys[best], float(quality.mean[best]), kept, verdict, stopped)

    def against_baseline(
        self, arena: Arena, keys: Sequence[str], winner: str, *, to_the_end: bool = False
    ) -> tuple[bool, Verdict]:
        """Says whether the winner is better than the program as declared, the first key, beyond luck.

        Where what is known does not suffice to say so, the declared program runs on what the winner ran on, as far as
        the budget holds it.

        Args:
            arena: Where they are measured.
            keys: The declared program's, and those of all that the quality model should look at.
            winner: Among them.
            to_the_end: Whether both then run on more, for as long as that may tell: on the rest of dev, and on those
                examples of train on which no candidate was chosen.
        """
        kept, verdict = self._beyond_luck(arena, keys, winner)
        for _ in () if kept else _catching_up(arena, keys[0], winner):
            kept, verdict = self._beyond_luck(arena, keys, winner)
            if kept or not to_the_end or verdict.better <= _WORTH_PROVING:
                break
        return kept, verdict

    def proof(self, arena: Arena, incumbent: str) -> float:
        """Calls to know the program as declared well enough for a gain to be told; 0 where one is beyond doubt."""
        if self.chances(arena.board([arena.declared, incumbent], fresh=True))[1] >= _BEYOND_DOUBT:
            return 0.0
        standing = arena.standings[arena.declared]
        cells = max(0, min(_KNOWN_WELL, len(arena.raced)) - len(standing.cells))
        return (cells + len(arena.fresh) - len(standing.fresh)) * arena.calls_a_cell([arena.declared])

    def _beyond_luck(self, arena: Arena, keys: Sequence[str], winner: str) -> tuple[bool, Verdict]:
        quality = posterior(arena.board(keys, fresh=True))
        return self._verdict(arena, keys, list(keys).index(winner), quality, self.objectives.sure)

    def values(self, arena: Arena, key: str) -> dict[str, float]:
        """What a candidate costs, and what other metrics say of it, as far as it ran."""
        standing = arena.standings[key]
        examples = [*arena.raced[: len(standing.cells)], *arena.fresh]
        return self.objectives.measure_cells((*standing.cells, *standing.fresh), examples, arena.task.program)

    def _finalists(self, arena: Arena, keys: Sequence[str], eligible: Sequence[str]) -> list[int]:
        board = arena.board(keys, fresh=True)
        mean = posterior(board).mean
        rows = [row for row in range(1, len(keys)) if board.bought[row] and keys[row] in eligible]
        likely = sorted(rows, key=lambda row: (-mean[row], board.tokens[row], row))
        allowed = [
            row
            for row in likely
            if self.objectives.allowed(self.values(arena, keys[row])) and not arena.too_long(keys[row])
        ]
        likely = allowed or likely
        near = [row for row in likely if mean[row] >= mean[likely[0]] - self.objectives.tolerance]
        # A second finalist only where its cells are a small part of what is left.
        left = arena.affordable(keys)
        return near[: _FINALISTS if left is None or left > 20 * len(arena.fresh) else 1]

    def _verdict(
        self, arena: Arena, keys: Sequence[str], row: int, quality: Quality, sure: float
    ) -> tuple[bool, Verdict]:
        one, other = self.values(arena, keys[row]), self.values(arena, keys[0])
        better = float(quality.probability_better(0)[row])
        no_worse = float(quality.probability_better(0, by=-self.objectives.tolerance)[row])
        fresh = _fresh(arena.standings[keys[row]], arena.standings[keys[0]])
        if arena.too_long(keys[row]):
            return False, Verdict(better, fresh, TOO_LONG)
        if arena.too_long(keys[0]):
            return True, Verdict(better, fresh, "its prompts are short enough, and the other's are too long")
        if broken := self.objectives.broken(one):
            return False, Verdict(better, fresh, f"{BREAKS_A_LIMIT} {', '.join(broken)}")
        if broken := self.objectives.broken(other):
            return True, Verdict(better, fresh, f"it keeps the limit of {', '.join(broken)}, which the other breaks")
        if self.objectives.weights:
            gain = self.objectives.value(one, float(quality.mean[row])) - self.objectives.value(
                other, float(quality.mean[0])
            )
            return gain > 0, Verdict(better, fresh, f"worth {100 * gain:+.1f} points by the stated preference")
        # A dearer one has to be better by more than the tolerance: else the other is no worse, and cheaper.
        dearer = one["tokens"] > other["tokens"] / CHEAPER
        enough = float(quality.probability_better(0, by=self.objectives.tolerance)[row]) if dearer else better
        if enough > sure + _ROUNDING:
            return True, Verdict(better, fresh, f"better with a probability of {100 * better:.0f} %")
        # The model draws both towards each other: what is taken for its tokens must not have been seen to lose. Nor may
        # it never be right: the model takes all that never are for equals, and one in twenty is not seen on few rows.
        lost = one[QUALITY] <= 0 or (fresh is not None and fresh.difference < -self.objectives.tolerance)
        if one["tokens"] < CHEAPER * other["tokens"] and no_worse > sure and not lost:
            told = f"no worse with a probability of {100 * no_worse:.0f} %, and cheaper"
            return True, Verdict(better, fresh, told)
        return False, Verdict(
            better,
            fresh,
            f"better with a probability of {100 * better:.0f} % only" + (", and dearer" if dearer else ""),
        )


def _level(arena: Arena, key: str, until: int) -> None:
    """Buys a candidate's cells some at a time: those count that were bought before the budget ended."""
    while (have := len(arena.standings[key].cells)) < until:
        left = arena.affordable([key])
        arena.buy(key, min(until, have + (_AT_A_TIME if left is None else max(1, min(_AT_A_TIME, left)))))


def _catching_up(arena: Arena, declared: str, winner: str) -> Iterator[None]:
    """Runs the declared program on what the winner ran on, then both on more; stops each time that more is known."""
    try:
        if arena.standings[winner].fresh:
            arena.confirm(declared)
        _level(arena, declared, len(arena.standings[winner].cells))
        while (have := len(arena.standings[winner].cells)) < len(arena.raced):
            yield
            for key in (winner, declared):
                _level(arena, key, min(have + _AT_A_TIME, len(arena.raced)))
        while (have := len(arena.standings[winner].spare)) < len(arena.spare):
            yield
            left = arena.affordable([winner, declared])
            each = _AT_A_TIME if left is None else max(1, min(_AT_A_TIME, left // 2))
            for key in (winner, declared):
                arena.buy_spare(key, have + each)
    except BudgetExceeded:
        pass
    yield


def _part(quality: Quality, rows: Sequence[int]) -> Quality:
    return Quality(quality.mean[rows], quality.covariance[np.ix_(rows, rows)], quality.spread)


def _fresh(one: Standing, other: Standing) -> PairedTest | None:
    pairs = [
        (a.score, b.score)
        for a, b in zip(one.fresh, other.fresh, strict=False)
        if a.score is not None and b.score is not None
    ]
    return paired_test([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None
