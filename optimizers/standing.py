"""Where a candidate stands: what it did on the first examples of a race's one order."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..programs.candidate import Candidate
from ..store.records import Cell

__all__ = ["Standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a candidate stands: its cells on the first examples of the race's one order.

    Attributes:
        candidate: As it was measured last.
        cells: On a prefix of the examples.
        order: Its place among the proposals: what decides a tie in everything else.
        proposer: Who proposed it.
    """

    candidate: Candidate
    cells: tuple[Cell, ...]
    order: int = 0
    proposer: str = ""

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
