"""The rungs of the ladder and how one is climbed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dspy

from ..errors import BudgetExceeded
from ..evaluation.evaluation import evaluate_cells
from ..evaluation.matrix import Matrix
from ..lms.budget import Spent
from ..programs.candidate import Candidate
from ..programs.task import Task
from ..store.records import Cell
from .calibration import calibrate
from .demonstration_proposer import bootstrap_pools, label_pools, propose_demonstrations
from .format_proposer import propose_formats
from .race import RaceResult, Standing, best_of, first_round, sequential_halving

__all__ = ["Climb", "Rung", "climb"]


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung, climbed.

    Attributes:
        name: What was searched.
        best: The best candidate of it.
        shrunken: Its dev score after shrinking.
        kept: Whether it beat the rung below.
        standings: All that were measured.
        spent: What the rung asked for.
        stopped: What ended it early, if something did.
    """

    name: str
    best: Standing
    shrunken: float
    kept: bool
    standings: tuple[Standing, ...]
    spent: Spent
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class Climb:
    """The whole ladder, and the highest rung that was kept."""

    rungs: tuple[Rung, ...]

    @property
    def winner(self) -> Rung:
        """The highest rung that was kept."""
        return next(rung for rung in reversed(self.rungs) if rung.kept)

    @property
    def front(self) -> list[Standing]:
        """Candidates measured on the whole dev split that no other beats in both score and tokens, cheapest first."""
        whole = {each.candidate.hash: each for each in _whole(self.rungs)}
        ordered = sorted(whole.values(), key=lambda each: (each.tokens, -each.mean))
        front: list[Standing] = []
        for standing in ordered:
            if not front or standing.mean > front[-1].mean:
                front.append(standing)
        return front


def _whole(rungs: Sequence[Rung]) -> list[Standing]:
    """The candidates that were measured on as many examples as any."""
    size = max(len(each.cells) for rung in rungs for each in rung.standings)
    return [each for rung in rungs for each in rung.standings if len(each.cells) == size]


class _Ladder:
    """What the rungs share: the task, its matrix, and what has been kept so far."""

    def __init__(self, task: Task, dev: Sequence[dspy.Example], matrix: Matrix, seed: int) -> None:
        self.task, self.dev, self.matrix, self.seed = task, list(dev), matrix, seed
        self.rungs: list[Rung] = []

    def measure(self, candidate: Candidate, examples: Sequence[dspy.Example]) -> tuple[Candidate, list[Cell]]:
        fitted = calibrate(candidate, self.task.program, examples, self.matrix)
        return fitted, self.matrix.fill(fitted.apply(self.task.program), examples)

    def baseline(self) -> Rung:
        """Runs the program as declared on the first examples only: it goes on, or not, in the race of the next rung."""
        before = self.matrix.meter.spent
        declared = Candidate.declared(self.task.program)
        _, cells = self.measure(declared, self.dev[: first_round(len(self.dev))])
        evaluate_cells(cells, self.dev[: len(cells)], name="the program as declared")  # a broken one is told at once
        standing = Standing(declared, tuple(cells))
        return Rung("baseline", standing, standing.mean, True, (standing,), self.matrix.meter.spent - before)

    def formats(self) -> list[Candidate]:
        return propose_formats(self.rungs[-1].best.candidate, self.task.program, self.matrix.lm)

    def demonstrations(self) -> list[Candidate]:
        winner = Climb(tuple(self.rungs)).winner.best.candidate
        # Two formats: what is best without demonstrations need not be with them.
        runners_up = [each.candidate for each in self.rungs[-1].standings if each.candidate.hash != winner.hash]
        incumbents = [winner, *runners_up[:1]]
        pools = {"labelled": label_pools(self.task.program, self.task.train)}
        fitted = calibrate(winner, self.task.program, [*self.task.train, *self.dev], self.matrix)
        pools["bootstrapped"] = bootstrap_pools(fitted, self.task.program, self.task.train, self.matrix)
        return propose_demonstrations(incumbents, self.task.program, pools, draws=6, seed=self.seed)

    def search(
        self, name: str, propose: Callable[[], list[Candidate]], share: float, on_round: Callable[..., None]
    ) -> Rung | None:
        """Proposes and races candidates against the rung below; keeps the best only if it beats that one."""
        before = self.matrix.meter.spent
        incumbent = Climb(tuple(self.rungs)).winner.best.candidate
        left = self.matrix.meter.calls_left
        stopped = None
        try:
            candidates = propose()
        except BudgetExceeded as error:
            candidates, stopped = [], str(error)
        result = RaceResult((), ())
        if candidates:
            allowed = None if left is None else int(left * share) - (self.matrix.meter.spent.calls - before.calls)
            # The incumbent runs too: what it did is known and free, and what does not beat it is not kept.
            racing = [incumbent, *candidates]
            result = sequential_halving(racing, self.dev, self.measure, calls=allowed, on_round=on_round)
            stopped = result.exhausted
        standings = [each for each in result.standings if each.order > 0]
        if not standings:
            return None
        finalists = [each for each in result.standings if len(each.cells) == len(result.standings[0].cells)]
        best, shrunken = best_of(finalists)
        kept = best.order > 0
        if not kept:
            best, shrunken = standings[0], best_of([standings[0]])[1]
        return Rung(name, best, shrunken, kept, tuple(standings), self.matrix.meter.spent - before, stopped)


def climb(
    task: Task,
    dev: Sequence[dspy.Example],
    matrix: Matrix,
    *,
    seed: int,
    on_rung: Callable[[str], None],
    on_kept: Callable[[Rung], None],
    on_round: Callable[[int, int, Standing | None], None],
) -> Climb:
    """Climbs the ladder, cheapest rung first: the program as declared, its formats, its demonstrations.

    Args:
        task: What is searched.
        dev: Its dev split, in the order in which the races buy it.
        matrix: Runs and remembers; its meter ends the climb when the budget is spent.
        seed: Of the draws.
        on_rung: Is told of each rung before it is climbed.
        on_kept: Is told of each rung after it was climbed.
        on_round: Is told of each round of a race.

    Raises:
        BudgetExceeded: The budget does not even hold the baseline.
        ProgramError: The program as declared fails on every example.
    """
    ladder = _Ladder(task, dev, matrix, seed)
    on_rung("baseline")
    ladder.rungs.append(ladder.baseline())
    on_kept(ladder.rungs[-1])
    # Shares of what is left: the formats decide most and are few.
    for name, propose, share in [
        ("formats", ladder.formats, 0.5),
        ("demonstrations", ladder.demonstrations, 1.0),
    ]:
        on_rung(name)
        rung = ladder.search(name, propose, share, on_round)
        if rung is not None:
            ladder.rungs.append(rung)
            on_kept(rung)
    return Climb(tuple(ladder.rungs))
