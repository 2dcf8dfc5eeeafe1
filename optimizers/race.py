"""Sequential halving: many candidates on few examples, then fewer on more."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import dspy

from ..errors import BudgetExceeded
from ..evaluation.statistics import shrunken_means
from ..programs.candidate import Candidate
from ..store.records import Cell

__all__ = ["RaceResult", "Standing", "best_of", "first_round", "plan_rounds", "sequential_halving"]

FIRST = 25
"""The fewest examples in a first round: fewer tell good from bad too seldom."""

Measure = Callable[[Candidate, Sequence[dspy.Example]], tuple[Candidate, list[Cell]]]
"""Fills a candidate's cells on examples; gives the candidate as it was measured (fitted, if it needs fitting)."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a candidate stands: its cells on the first examples of the race's one order.

    Attributes:
        candidate: As it was measured last.
        cells: On a prefix of the examples.
        order: Its place among the proposals: what decides a tie in everything else.
    """

    candidate: Candidate
    cells: tuple[Cell, ...]
    order: int = 0

    @property
    def scores(self) -> list[float]:
        """The scores of the cells that have one."""
        return [cell.score for cell in self.cells if cell.score is not None]

    @property
    def mean(self) -> float:
        """The mean score; −∞ before there is one."""
        scores = self.scores
        return sum(scores) / len(scores) if scores else -math.inf

    @property
    def variance_of_mean(self) -> float:
        """How uncertain the mean is, by the scores' own spread; Laplace's two cells keep it above zero."""
        scores = [*self.scores, 0.0, 1.0]
        mean = sum(scores) / len(scores)
        return sum((score - mean) ** 2 for score in scores) / len(scores) ** 2

    @property
    def tokens(self) -> float:
        """Tokens an example, in and out."""
        return sum(cell.input_tokens + cell.output_tokens for cell in self.cells) / max(1, len(self.cells))


@dataclass(frozen=True, slots=True)
class RaceResult:
    """The outcome of a race.

    Attributes:
        standings: Of all candidates that were measured, those on more examples first, then the better ones.
        rounds: How many examples, and how many candidates on them, round by round.
        exhausted: What ended the race before its end, if the budget did.
    """

    standings: tuple[Standing, ...]
    rounds: tuple[tuple[int, int], ...]
    exhausted: str | None = None


def _sizes(examples: int) -> list[int]:
    sizes = [examples]
    while sizes[0] // 2 >= FIRST:
        sizes.insert(0, sizes[0] // 2)
    return sizes


def first_round(examples: int) -> int:
    """Gives how many examples the first round of a race has.

    >>> first_round(120), first_round(20)
    (30, 20)
    """
    return _sizes(examples)[0]


def plan_rounds(candidates: int, examples: int, *, calls: int | None) -> list[tuple[int, int]]:
    """Plans how many examples, and for how many candidates, in each round, within so many calls.

    A round has twice the examples and half the candidates of the one before; the last has all examples. Where the calls
    do not suffice, fewer candidates start, in the order in which they were proposed.

    >>> plan_rounds(16, 120, calls=None)
    [(30, 16), (60, 8), (120, 4)]
    >>> plan_rounds(16, 120, calls=600)
    [(30, 11), (60, 5), (120, 2)]
    """
    sizes = _sizes(examples)
    for starting in range(candidates, 0, -1):
        rounds = [(size, max(1, starting // 2**index)) for index, size in enumerate(sizes)]
        cost = sum((size - before) * count for (size, count), before in zip(rounds, [0, *sizes], strict=False))
        if calls is None or cost <= calls:
            return rounds
    return []


def sequential_halving(
    candidates: Sequence[Candidate],
    examples: Sequence[dspy.Example],
    measure: Measure,
    *,
    calls: int | None,
    on_round: Callable[[int, int, Standing | None], None] | None = None,
) -> RaceResult:
    """Races candidates on one order of examples, and drops the worse half again and again.

    Every candidate of a round has been run on the same examples. Ties go to the candidate of fewer tokens.
    `Karnin et al. 2013 <https://proceedings.mlr.press/v28/karnin13.html>`_; doubling examples as in
    `Jamieson & Talwalkar 2016 <https://arxiv.org/abs/1502.07943>`_.

    Args:
        candidates: Equal ones count once.
        examples: In the order in which they are bought.
        measure: Runs a candidate on examples.
        calls: The most calls that the race may plan for, at one an example; None for as many as it takes.
        on_round: Is told of each round before it begins: examples, candidates, and who leads.
    """
    field: dict[str, Standing] = {}
    for candidate in candidates:
        field.setdefault(candidate.hash, Standing(candidate, (), len(field)))
    racing = list(field.values())
    done: list[Standing] = []
    rounds = plan_rounds(len(racing), len(examples), calls=calls)
    exhausted = None if rounds else "too few calls are left for a race"
    for size, count in rounds:
        if on_round is not None:
            on_round(size, count, racing[0] if racing[0].cells else None)
        done += racing[count:]
        racing = racing[:count]
        try:
            for index, standing in enumerate(racing):
                candidate, cells = measure(standing.candidate, examples[:size])
                racing[index] = replace(standing, candidate=candidate, cells=tuple(cells))
        except BudgetExceeded as error:
            exhausted = str(error)
        racing.sort(key=_rank)
        if exhausted:
            break
    measured = [standing for standing in [*racing, *done] if standing.cells]
    measured.sort(key=lambda standing: (-len(standing.cells), *_rank(standing)))
    return RaceResult(tuple(measured), tuple(rounds), exhausted)


def best_of(standings: Sequence[Standing]) -> tuple[Standing, float]:
    """Chooses among candidates that were measured on the same examples: the best after shrinking lucky scores.

    The higher of two scores is more often the luckier one, the more so the more candidates there were. So each is drawn
    towards the mean of all, by how much of the spread is noise (empirical Bayes); of equals, the one of fewer tokens.

    Returns:
        The choice, and its shrunken score.
    """
    ordered = sorted(standings, key=_rank)
    shrunken = shrunken_means([each.mean for each in ordered], [each.variance_of_mean for each in ordered])
    best = min(range(len(ordered)), key=lambda index: (-round(shrunken[index], 9), *_rank(ordered[index])))
    return ordered[best], shrunken[best]


def _rank(standing: Standing) -> tuple[float, float, int]:
    return (-round(standing.mean, 9), standing.tokens, standing.order)
