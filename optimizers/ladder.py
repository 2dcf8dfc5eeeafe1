"""The ladder: rungs from cheap to dear, each kept only if it beats the one below."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ..errors import BudgetExceeded
from ..evaluation.evaluation import check_cells
from ..evaluation.power import Headroom, advice
from ..programs.candidate import Candidate
from .arena import FIRST
from .judged import put_aside
from .promotion import Verdict
from .rung import Climb, Rung, RungPlan
from .rung_search import RungSearch, SearchMeans
from .standing import Standing

__all__ = ["Ladder"]

_GOOD = 0.9
_FEWEST = 3 * FIRST  # cells of a rung above one that was kept: what fewer bring is as often lost as won
_CONFIRMATION = 0.08  # of all calls, that one candidate's promotion may take


class Ladder:
    """Climbs rung by rung.

    Args:
        means: What every rung is searched with.
    """

    def __init__(self, means: SearchMeans) -> None:
        self.means, self.arena = means, means.arena
        self.rungs: list[Rung] = []

    @property
    def incumbent(self) -> Standing:
        """The best candidate of the highest rung that was kept, as it stands now."""
        return self.arena.standings[self._key]

    @property
    def _key(self) -> str:
        return self.arena.key_of(self.rungs[self._top].best)

    @property
    def _top(self) -> int:
        """The number of the highest rung that was kept; 0 for the baseline."""
        return max(number for number, rung in enumerate(self.rungs) if rung.kept)

    def climb(self, plans: Sequence[RungPlan]) -> Climb:
        """Climbs the baseline and the planned rungs.

        Raises:
            BudgetExceeded: The budget does not even hold the baseline.
            ProgramError: The program as declared fails on every example.
        """
        self.means.told.rung("baseline")
        self._keep(self._baseline())
        put_aside(self.arena, self.rungs[0].best)
        if (calls := self.arena.matrix.meter.budget.calls) is not None:
            self.arena.keep_fresh(_CONFIRMATION * calls)
        headroom, besides = self._headroom(), self._wanted_besides()
        ended = None if headroom.worth_it or besides else "no gain could be told from luck"
        if besides and not headroom.worth_it:
            self.means.notes.append(f"The search went on all the same: {besides}.")
        for plan in plans:
            if plan.proven and not ended and self._climbed:
                self._against_baseline()
            ended = ended or self._nothing_left()
            if ended:
                ended = f"{plan.name}: not searched: {ended}."
                break
            self.means.told.rung(plan.name)
            search = RungSearch(self.means, plan, self._key, len(self.rungs))
            rung = search.run()
            if rung is not None:
                self._keep(rung)
            elif search.proposed:
                left = self.arena.matrix.meter.calls_left
                ended = f"{plan.name}: not searched: too few calls are left to run a candidate ({left})."
                break
        self._prove()
        return Climb(tuple(self.rungs), headroom, ended, tuple(self.means.notes))

    def _nothing_left(self) -> str | None:
        """Says why there is no point in the next rung, if there is none."""
        left = self.arena.matrix.meter.calls_left
        if left == 0:
            return "the budget is spent"
        if self._climbed and left is not None and left < _FEWEST * self.arena.plain_calls:
            return f"the {left} calls that are left would tell little"
        best = self.incumbent
        perfect = len(best.scores) >= len(self.arena.raced) and min(best.scores) >= self._full
        if perfect and not self._wanted_besides():
            return f"all {len(best.scores)} dev examples that the winner ran on are right: nothing is left to gain"
        return None

    def _wanted_besides(self) -> str | None:
        """Says why another one may be better than the incumbent even if no score is higher, if it may."""
        promotion = self.means.promotion
        if self.arena.too_long(self._key):
            return "the program's prompts are too long"
        if broken := promotion.objectives.broken(promotion.values(self.arena, self._key)):
            return f"the program breaks the limit of {', '.join(broken)}"
        return "a preference is stated" if promotion.objectives.weights else None

    def _headroom(self) -> Headroom:
        """Weighs, before anything is proposed, whether a gain could be told at all; a good baseline is looked at twice.

        (What the sealed test could tell is not looked at: it may be another one later.)
        """
        rows, standing = len(self.arena.dev), self.rungs[0].best
        if standing.mean >= _GOOD * self._full and rows >= 2 * FIRST and not self._wanted_besides():
            try:
                with self._measuring_baseline():
                    self.arena.buy(self._key, len(self.arena.raced))
            except BudgetExceeded:
                pass
        return advice(self.incumbent.scores, rows, best=self._full)

    @property
    def _full(self) -> float:
        """The highest score that there can be: 1, or, of a metric that has given more, nobody knows."""
        return 1.0 if all(score <= 1 for each in self.arena.standings.values() for score in each.scores) else math.inf

    @property
    def _climbed(self) -> bool:
        return self._top > 0

    def _prove(self) -> None:
        """Gives up rungs from above until the gain over the program as declared can be told from luck, or none is left.

        (The best of a higher rung may have run on too few examples where the one below it is known well enough.)
        """
        while self._climbed:
            kept, verdict = self._against_baseline(to_the_end=True)
            if kept:
                if told := sum(each is not None for each in self.incumbent.spare):
                    self.means.notes.append(
                        f"All of dev could not tell the winner's gain over the program as declared from luck; {told} "
                        "train examples on which no candidate was chosen do, with a probability of "
                        f"{100 * verdict.better:.0f} %."
                    )
                return
            reason = f"{verdict.reason}: no gain over the program as declared that can be told from luck"
            given_up = replace(self.rungs[self._top], kept=False, verdict=replace(verdict, reason=reason))
            self.rungs[self._top] = given_up

    def _against_baseline(self, *, to_the_end: bool = False) -> tuple[bool, Verdict]:
        """Tells whether the incumbent is better than the program as declared, which is run on more where that helps."""
        declared = self.arena.declared
        keys = [declared, *(key for key in self.arena.measured if key != declared)]
        if self._key not in keys:
            keys.append(self._key)
        with self._measuring_baseline():
            return self.means.promotion.against_baseline(self.arena, keys, self._key, to_the_end=to_the_end)

    @contextmanager
    def _measuring_baseline(self) -> Iterator[None]:
        """Lets the program as declared run on more: its rung stands as it does afterwards, those calls included."""
        before = self.arena.matrix.meter.spent
        try:
            yield
        finally:
            rung, took = self.rungs[0], self.arena.matrix.meter.spent - before
            standing = self.arena.standings[self.arena.declared]
            self.rungs[0] = replace(rung, best=standing, standings=(standing,), spent=rung.spent + took)

    def _keep(self, rung: Rung) -> None:
        self.rungs.append(rung)
        self.means.told.kept(rung)

    def _baseline(self) -> Rung:
        """Runs the program as declared on a few examples only: it goes on, or not, in the race of the next rung."""
        before = self.arena.matrix.meter.spent
        (key,) = self.arena.add([Candidate.declared(self.arena.task.program)], "as declared")
        first = min(FIRST, len(self.arena.raced))
        standing = self.arena.buy(key, first)
        check_cells(standing.cells, "the program as declared")
        return Rung("baseline", standing, standing.mean, True, (standing,), self.arena.matrix.meter.spent - before)
