"""The base of every proposer, and what it may look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import dspy

from ...evaluation.matrix import Matrix
from ...programs.candidate import Candidate
from ...programs.task import Task
from ..finetuning_space import Weights
from ..space import Space
from ..standing import Standing

__all__ = ["Proposer", "SearchState"]


@dataclass(frozen=True, slots=True)
class SearchState:
    """What a proposer may look at: never dev examples, of which it sees scores only, and never test.

    Attributes:
        task: Its program, its inputs, its train examples, its metric.
        space: What may be chosen.
        matrix: Runs programs on train examples (``matrix.traces``, ``matrix.fill``); every call is metered.
        writer: A metered LM that writes instructions; the task's own where the user named no other.
        incumbent: The best candidate so far.
        standings: All candidates measured so far, those that look best first.
        seed: Of draws; another one for each round.
        lms: LMs that predictors may run on besides the task's, by name; trained ones join them.
        add_weights: Takes weights that were trained, so that candidates may choose them.
        tell: Takes what a person should know; it stands in the report.
    """

    task: Task
    space: Space
    matrix: Matrix
    writer: dspy.BaseLM
    incumbent: Standing
    standings: Sequence[Standing]
    seed: int
    lms: Mapping[str, dspy.BaseLM] = field(default_factory=dict)
    add_weights: Callable[[Weights], None] = lambda _: None
    tell: Callable[[str], None] = lambda _: None


class Proposer(Protocol):
    """Makes new candidates. What it spends on that (LM calls through ``matrix`` and ``writer``) is charged to it.

    Attributes:
        name: For the report, and for the bandit that decides who proposes next.
    """

    name: str

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many candidates, the likelier ones first; none where it has nothing (more) to propose.

        Each has an ``origin`` that tells a person in a few words what it is. Given the same state it proposes the same.

        Raises:
            BudgetExceeded: Nothing is left to spend; anything else that goes wrong on the way is no error.
        """
