"""A rung under way: rounds of proposals, which all run in one race, and the confirmation of the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import dspy
import numpy as np

from ..errors import BudgetExceeded
from .arena import FIRST, Arena
from .bandit import Bandit
from .promotion import Promotion, Verdict
from .proposers.base import Proposer, SearchState
from .races.base import Race, RaceMaker
from .rung import Listener, Rung, RungPlan
from .space import Space
from .standing import Standing

__all__ = ["RungSearch", "SearchMeans"]

ROUNDS_WITHOUT_GAIN = 2
_LEAST = 120  # calls of a rung, where there are so many
_ASIDE = 0.4
_SEEN = 4  # examples that a round's candidates are looked at, on average: where calls are few, so are they


@dataclass(frozen=True, slots=True)
class SearchMeans:
    """What every rung is searched with.

    Attributes:
        arena: Where candidates are measured.
        space: What may be chosen.
        writer: Writes instructions; metered.
        promotion: Decides whether a rung is kept.
        make_race: Makes the race of a rung.
        seed: Of draws.
        told: Is told how it goes on.
        notes: Takes what a person should know.
    """

    arena: Arena
    space: Space
    writer: dspy.BaseLM
    promotion: Promotion
    make_race: RaceMaker
    seed: int
    told: Listener
    notes: list[str] = field(default_factory=list)


class RungSearch:
    """One rung under way: rounds of proposals, which all run in one race.

    Args:
        means: What it is searched with.
        plan: What is searched.
        incumbent: The hash of the best candidate so far.
        number: Of the rung, from 0.
    """

    def __init__(self, means: SearchMeans, plan: RungPlan, incumbent: str, number: int) -> None:
        self.means, self.arena, self.plan, self.number = means, means.arena, plan, number
        self.before = self.arena.matrix.meter.spent
        left = self.arena.matrix.meter.calls_left
        self.proof = 0.0 if left is None else min(means.promotion.proof(self.arena, incumbent), _ASIDE * left)
        self.calls = None if left is None else min(left, max(int(left * plan.share), _LEAST))
        # What earlier rungs measured runs on: what was second without demonstrations may be first with them.
        earlier = [
            key for key, each in self.arena.standings.items() if each.cells and key != incumbent and plan.rematch
        ]
        self.keys = [incumbent, *earlier]
        self.earlier = {key: self._bought(key) for key in self.keys}
        self.race: Race = means.make_race(self._seed(0))
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
        places = self._places()
        generator = np.random.default_rng(self._seed(2 * turn))
        shares = self.bandit.shares(places, generator)
        joined = 0
        try:
            asked = [proposer for proposer in self.plan.proposers if shares.get(proposer.name)]
            for proposer, base in zip(asked, self._bases(len(asked), generator), strict=True):
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

    def _places(self) -> int:
        """Candidates of a round."""
        places, left = self.plan.places or 10_000, self._left
        return places if left is None else min(places, max(2, left // (_SEEN * self.arena.plain_calls)))

    @property
    def proposed(self) -> int:
        """How many new candidates joined."""
        return len(self.keys) - len(self.earlier)

    @property
    def _left(self) -> int | None:
        """Calls that the rounds may still ask for: what confirmation and proof take is put aside."""
        meter = self.arena.matrix.meter
        if self.calls is None or meter.calls_left is None:
            return None
        confirmation = len(self.arena.fresh) * self.arena.calls_a_cell(self.keys[1:])
        aside = min(2 * confirmation, _ASIDE * self.calls)
        own = self.calls - (meter.spent.calls - self.before.calls)
        return max(0, int(min(own, meter.calls_left - self.proof) - aside))

    def _bases(self, count: int, generator: np.random.Generator) -> list[str]:
        """Whom so many proposers build on: each on one drawn by its chance to be the best (Thompson sampling).

        On the leader alone, a wrong one would cost a whole round.
        """
        measured = [key for key in self.keys if self._bought(key)]
        quality = self.means.promotion.quality(self.arena.board(measured))
        return [measured[row] for row in quality.draws(count, generator).argmax(axis=1)]

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
        self.means.told.proposed(proposer.name, len(joined))
        return len(joined)

    def _state(self, turn: int, base: str) -> SearchState:
        ranked = sorted(
            (each for each in self.arena.standings.values() if each.cells),
            key=lambda each: (-each.mean, each.tokens, each.order),
        )
        unseen = [each for each in self.arena.standings.values() if not each.cells]
        return SearchState(
            task=self.arena.task,
            space=self.means.space,
            matrix=self.arena.matrix,
            writer=self.means.writer,
            incumbent=self.arena.standings[base],
            standings=(*ranked, *unseen),
            seed=self._seed(2 * turn + 1),
            lms=self.arena.lms,
            add_weights=self.arena.add_weights,
            tell=self.means.notes.append,
        )

    def _seed(self, turn: int) -> int:
        return int(np.random.SeedSequence([self.means.seed, self.number, turn]).generate_state(1)[0])

    def _leader(self) -> str:
        board = self.arena.board(self.keys)
        return self.keys[self.race.best(board)]

    def _tell_step(self, keys: Sequence[str], until: int) -> None:
        self.means.told.round(until, len(keys), self.arena.standings[self._leader()])

    def _drop(self, standing: Standing, reason: str) -> None:
        self.dropped[standing.candidate.hash] = reason

    def _pay(self) -> None:
        """Tells the bandit what each proposer's candidates did, and what they cost."""
        better = self.means.promotion.chances(self.arena.board(self.keys))
        promises = dict.fromkeys(self.bandit.names, 0.0)
        costs = dict(self.own_calls)
        for key, chance in zip(self.keys[1:], better[1:], strict=True):
            standing = self.arena.standings[key]
            if standing.proposer in promises:
                promises[standing.proposer] += chance
                costs[standing.proposer] += standing.asked
        self.bandit.settle(promises, costs)

    def _result(self, stopped: str | None) -> Rung | None:
        # Of those of earlier rungs, the ones that the race went on with; none that its LM never answered.
        measured = [
            key
            for key in self.keys[1:]
            if self._bought(key) > self.earlier.get(key, 0) and self.arena.standings[key].scores
        ]
        if not measured:
            return self._nothing_measured(stopped)
        outcome = self.means.promotion.decide(self.arena, self.keys, measured, sure=self.plan.sure)
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

    def _nothing_measured(self, stopped: str | None) -> Rung | None:
        """Gives a rung without candidates, where proposals took all its calls: what they cost is told.

        None where nothing was asked for.
        """
        spent = self.arena.matrix.meter.spent - self.before
        if not spent.calls:
            return None
        incumbent = self.arena.standings[self.keys[0]]
        return Rung(
            name=self.plan.name,
            best=incumbent,
            shrunken=incumbent.mean,
            kept=False,
            standings=(),
            spent=spent,
            verdict=Verdict(0.0, None, "nothing new was measured"),
            accounts=tuple(self.bandit.accounts.items()),
            stopped=stopped,
        )
