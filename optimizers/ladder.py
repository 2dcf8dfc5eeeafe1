"""The ladder: rungs from cheap to dear, each kept only if it beats the one below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import dspy
import numpy as np

from ..errors import BudgetExceeded
from ..evaluation.evaluation import evaluate_cells
from ..evaluation.power import Headroom, advice
from ..lms.budget import Spent
from ..programs.candidate import Candidate
from .arena import FIRST, Arena
from .bandit import Account, Bandit
from .promotion import Promotion, Verdict
from .proposers.base import Proposer, SearchState
from .races.base import Race, RaceMaker
from .space import Space
from .standing import Standing

__all__ = ["Climb", "Ladder", "Listener", "Rung", "RungPlan"]

ROUNDS_WITHOUT_GAIN = 2
_GOOD = 0.9
_LEAST = 120  # calls of a rung, where there are so many
_ASIDE = 0.4
_NEAR = 0.1


def _formats(candidate: Candidate) -> tuple[str, ...]:
    return tuple(choice.format.label if choice.format else "" for choice in candidate.predictors.values())


@dataclass(frozen=True, slots=True)
class RungPlan:
    """What is searched on a rung.

    Attributes:
        name: Of the rung.
        proposers: Who makes candidates, the likelier ones first.
        share: Of the calls that are left when it begins.
        places: Candidates a round; None for all that there are, in one round.
        rematch: Whether what earlier rungs measured runs on: not where what is new was dear, and is to be looked at.
    """

    name: str
    proposers: tuple[Proposer, ...]
    share: float
    places: int | None = None
    rematch: bool = True


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung, climbed.

    Attributes:
        name: What was searched.
        best: The best candidate of it.
        shrunken: Its dev score as the quality model has it, luck taken off.
        kept: Whether it beat the rung below.
        standings: All that were measured on it.
        spent: What the rung asked for.
        verdict: The comparison with the rung below on examples that neither was chosen on; None for the baseline.
        accounts: What each proposer cost and brought.
        dropped: Who was given up and why, by candidate hash.
        stopped: Why it ended.
    """

    name: str
    best: Standing
    shrunken: float
    kept: bool
    standings: tuple[Standing, ...]
    spent: Spent
    verdict: Verdict | None = None
    accounts: tuple[tuple[str, Account], ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class Climb:
    """The whole ladder.

    Attributes:
        rungs: From the baseline up.
        headroom: What the data can tell, and how much there was to gain.
        ended: Why rungs that were planned were not climbed; None where all were.
        notes: What proposers had to say.
    """

    rungs: tuple[Rung, ...]
    headroom: Headroom
    ended: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def winner(self) -> Rung:
        """The highest rung that was kept."""
        return next(rung for rung in reversed(self.rungs) if rung.kept)


@dataclass(frozen=True, slots=True)
class Listener:
    """Is told how a climb goes on.

    Attributes:
        rung: A rung begins.
        kept: A rung has been climbed.
        round: Cells are bought: on so many examples in all, for so many candidates, and who leads.
        proposed: A proposer gave so many candidates.
    """

    rung: Callable[[str], None] = lambda _: None
    kept: Callable[[Rung], None] = lambda _: None
    round: Callable[[int, int, Standing | None], None] = lambda *_: None
    proposed: Callable[[str, int], None] = lambda *_: None


class Ladder:
    """Climbs rung by rung.

    Args:
        arena: Where candidates are measured.
        space: What may be chosen.
        writer: Writes instructions; metered.
        promotion: Decides whether a rung is kept.
        make_race: Makes the race of a rung.
        seed: Of draws.
        listener: Is told.
    """

    def __init__(
        self,
        arena: Arena,
        space: Space,
        writer: dspy.BaseLM,
        make_race: RaceMaker,
        promotion: Promotion,
        *,
        seed: int,
        listener: Listener | None = None,
    ) -> None:
        self.arena, self.space, self.writer, self.seed = arena, space, writer, seed
        self.make_race, self.promotion = make_race, promotion
        self.told = listener or Listener()
        self.rungs: list[Rung] = []
        self.notes: list[str] = []

    @property
    def incumbent(self) -> Standing:
        """The best candidate of the highest rung that was kept, as it stands now."""
        return self.arena.standings[self._key]

    @property
    def _key(self) -> str:
        best = next(rung for rung in reversed(self.rungs) if rung.kept).best
        return next(key for key, each in self.arena.standings.items() if each.order == best.order)

    def climb(self, plans: Sequence[RungPlan]) -> Climb:
        """Climbs the baseline and the planned rungs.

        Raises:
            BudgetExceeded: The budget does not even hold the baseline.
            ProgramError: The program as declared fails on every example.
        """
        self.told.rung("baseline")
        self._keep(self._baseline())
        headroom = self._headroom()
        ended = None if headroom.worth_it else "no gain could be told from luck"
        for plan in plans:
            ended = ended or self._nothing_left()
            if ended:
                ended = f"{plan.name}: not searched: {ended}."
                break
            self.told.rung(plan.name)
            rung = self._search(plan)
            if rung is not None:
                self._keep(rung)
        if any(rung.kept for rung in self.rungs[1:]):
            self._prove()
        return Climb(tuple(self.rungs), headroom, ended, tuple(self.notes))

    def _nothing_left(self) -> str | None:
        """Says why there is no point in the next rung, if there is none."""
        if self.arena.matrix.meter.calls_left == 0:
            return "the budget is spent"
        best = self.incumbent
        if len(best.scores) >= len(self.arena.raced) and min(best.scores) >= 1.0:
            return f"all {len(best.scores)} dev examples that the winner ran on are right: nothing is left to gain"
        return None

    def _headroom(self) -> Headroom:
        """Weighs, before anything is proposed, whether a gain could be told at all; a good baseline is looked at twice.

        (What the sealed test could tell is not looked at: it may be another one later.)
        """
        rows, standing = len(self.arena.dev), self.rungs[0].best
        if standing.mean >= _GOOD and rows >= 2 * FIRST:
            try:
                self.arena.buy(self._key, len(self.arena.raced))
                self.rungs[0] = replace(self.rungs[0], best=self.incumbent, standings=(self.incumbent,))
            except BudgetExceeded:
                pass
        return advice(self.incumbent.scores, rows, max(rows, self.arena.task.test_size))

    def _prove(self) -> None:
        """Keeps the program as declared after all, where the winner's gain over it cannot be told from luck."""
        best = next(rung for rung in reversed(self.rungs) if rung.kept)
        order = self.rungs[0].best.order
        keys = sorted(self.arena.measured, key=lambda key: self.arena.standings[key].order != order)
        declared = next(key for key, each in self.arena.standings.items() if each.order == order)
        keys = [declared, *(key for key in keys if key != declared)]
        if self._key not in keys:
            keys.append(self._key)
        kept, verdict = self.promotion.against_baseline(self.arena, keys, self._key)
        if not kept:
            for index, rung in enumerate(self.rungs[1:], 1):
                reason = f"{verdict.reason}: no gain over the program as declared that can be told from luck"
                shown = replace(verdict, reason=reason) if rung is best else rung.verdict
                self.rungs[index] = replace(rung, kept=False, verdict=shown)
        baseline = self.arena.standings[declared]
        self.rungs[0] = replace(self.rungs[0], best=baseline, standings=(baseline,))

    def _keep(self, rung: Rung) -> None:
        self.rungs.append(rung)
        self.told.kept(rung)

    def _baseline(self) -> Rung:
        """Runs the program as declared on a few examples only: it goes on, or not, in the race of the next rung."""
        before = self.arena.matrix.meter.spent
        (key,) = self.arena.add([Candidate.declared(self.arena.task.program)], "as declared")
        first = min(FIRST, len(self.arena.raced))
        standing = self.arena.buy(key, first)
        evaluate_cells(standing.cells, self.arena.raced[:first], name="the program as declared")  # a broken one is told
        return Rung("baseline", standing, standing.mean, True, (standing,), self.arena.matrix.meter.spent - before)

    def _search(self, plan: RungPlan) -> Rung | None:
        return _Search(self, plan).run()


class _Search:
    """One rung under way: rounds of proposals, which all run in one race."""

    def __init__(self, ladder: Ladder, plan: RungPlan) -> None:
        self.ladder, self.arena, self.plan = ladder, ladder.arena, plan
        self.before = self.arena.matrix.meter.spent
        left = self.arena.matrix.meter.calls_left
        self.calls = None if left is None else min(left, max(int(left * plan.share), _LEAST))
        self.number = len(ladder.rungs)
        # What earlier rungs measured runs on: what was second without demonstrations may be first with them.
        earlier = [
            key for key, each in self.arena.standings.items() if each.cells and key != ladder._key and plan.rematch
        ]
        self.keys = [ladder._key, *earlier]
        self.earlier = {key: self._bought(key) for key in self.keys}
        self.race: Race = ladder.make_race(self._seed(0))
        self.bandit = Bandit([each.name for each in plan.proposers])
        self.dropped: dict[str, str] = {}
        self.own_calls = dict.fromkeys(self.bandit.names, 0)

    def run(self) -> Rung | None:
        """Proposes and races round by round; then confirms the best."""
        stopped, turn, without_gain = None, 0, 0
        while stopped is None:
            turn += 1
            leader = self._leader()
            stopped = self._round(turn)
            without_gain = 0 if self._leader() != leader else without_gain + 1
            if stopped is None and without_gain >= ROUNDS_WITHOUT_GAIN:
                stopped = f"{without_gain} rounds brought nothing better"
        return self._result(stopped)

    def _round(self, turn: int) -> str | None:
        """Gives why the search should stop, if it should."""
        places = self.plan.places or 10_000
        shares = self.bandit.shares(places, np.random.default_rng(self._seed(2 * turn)))
        joined = 0
        try:
            asked = [proposer for proposer in self.plan.proposers if shares.get(proposer.name)]
            bases = self._bases()
            for index, proposer in enumerate(asked):
                base = bases[(turn + index) % len(bases)]
                joined += self._propose(proposer, shares[proposer.name], self._state(turn, base))
        except BudgetExceeded as error:
            return str(error)
        if not joined:
            return "nothing new is proposed"
        last = self.plan.places is None or (self._left is not None and self._left < 2 * self._round_calls(joined))
        calls = self._left if last else self._round_calls(joined)
        ended = self.arena.run(
            self.race,
            self.keys,
            calls=calls,
            on_step=self._tell_step,
            on_dropped=self._drop,
        )
        self._pay()
        return (ended or "the race is decided") if last else None

    def _round_calls(self, joined: int) -> int:
        """What a round with so many new candidates may ask for: most are given up early, and what is left goes deep."""
        return int(FIRST * joined * self.arena.calls_a_cell(self.keys))

    @property
    def _left(self) -> int | None:
        """Calls that the rounds may still ask for: what the confirmation takes is put aside."""
        if self.calls is None:
            return None
        confirmation = len(self.arena.fresh) * self.arena.calls_a_cell(self.keys[1:])
        aside = int(min(2 * confirmation, _ASIDE * self.calls))
        return max(0, self.calls - aside - (self.arena.matrix.meter.spent.calls - self.before.calls))

    def _bases(self) -> list[str]:
        """Whom to build on: the leader and, where it is near, the best one of another format."""
        leader = self._leader()
        quality = self.ladder.promotion.quality(self.arena.board(self.keys))
        formats = [_formats(self.arena.standings[key].candidate) for key in self.keys]
        at = self.keys.index(leader)
        rivals = [row for row in range(len(self.keys)) if formats[row] != formats[at] and self._bought(self.keys[row])]
        if not rivals:
            return [leader]
        rival = max(rivals, key=lambda row: quality.mean[row])
        near = quality.probability_better(at)[rival] > _NEAR
        # The leader first, and more often.
        return [leader, self.keys[rival], leader] if near else [leader]

    def _bought(self, key: str) -> int:
        return len(self.arena.standings[key].cells)

    def _propose(self, proposer: Proposer, share: int, state: SearchState) -> int:
        before = self.arena.matrix.meter.spent.calls
        joined: list[str] = []
        try:
            candidates = proposer.propose(state, share)
            joined = self.arena.add(candidates, proposer.name)
        finally:
            calls = self.arena.matrix.meter.spent.calls - before
            self.own_calls[proposer.name] += calls
            self.bandit.charge(proposer.name, calls=calls, candidates=len(joined))
        self.keys += joined
        self.ladder.told.proposed(proposer.name, len(joined))
        return len(joined)

    def _state(self, turn: int, base: str) -> SearchState:
        ranked = sorted(
            (each for each in self.arena.standings.values() if each.cells),
            key=lambda each: (-each.mean, each.tokens, each.order),
        )
        unseen = [each for each in self.arena.standings.values() if not each.cells]
        return SearchState(
            task=self.arena.task,
            space=self.ladder.space,
            matrix=self.arena.matrix,
            writer=self.ladder.writer,
            incumbent=self.arena.standings[base],
            standings=(*ranked, *unseen),
            seed=self._seed(2 * turn + 1),
            lms=self.arena.lms,
            add_weights=self.arena.add_weights,
            tell=self.ladder.notes.append,
        )

    def _seed(self, turn: int) -> int:
        return int(np.random.SeedSequence([self.ladder.seed, self.number, turn]).generate_state(1)[0])

    def _leader(self) -> str:
        board = self.arena.board(self.keys)
        return self.keys[self.race.best(board)]

    def _tell_step(self, keys: Sequence[str], until: int) -> None:
        self.ladder.told.round(until, len(keys), self.arena.standings[self._leader()])

    def _drop(self, standing: Standing, reason: str) -> None:
        self.dropped[standing.candidate.hash] = reason

    def _pay(self) -> None:
        """Tells the bandit what each proposer's candidates did, and what they cost."""
        better = self.ladder.promotion.chances(self.arena.board(self.keys))
        promises = dict.fromkeys(self.bandit.names, 0.0)
        costs = dict(self.own_calls)
        for key, chance in zip(self.keys[1:], better[1:], strict=True):
            standing = self.arena.standings[key]
            if standing.proposer in promises:
                promises[standing.proposer] += chance
                costs[standing.proposer] += sum(len(cell.asked) for cell in standing.cells)
        self.bandit.settle(promises, costs)

    def _result(self, stopped: str | None) -> Rung | None:
        # Of those of earlier rungs, the ones that the race went on with.
        measured = [key for key in self.keys[1:] if self._bought(key) > self.earlier.get(key, 0)]
        if not measured:
            return None
        outcome = self.ladder.promotion.decide(self.arena, self.keys, measured)
        standings = sorted(
            (self.arena.standings[key] for key in measured if key not in self.earlier or key == outcome.key),
            key=lambda each: (-len(each.cells), -each.mean, each.order),
        )
        return Rung(
            name=self.plan.name,
            best=self.arena.standings[outcome.key],
            shrunken=outcome.estimate,
            kept=outcome.kept,
            standings=tuple(standings),
            spent=self.arena.matrix.meter.spent - self.before,
            verdict=outcome.verdict,
            accounts=tuple(self.bandit.accounts.items()),
            dropped=tuple(self.dropped.items()),
            stopped=outcome.stopped or stopped,
        )
