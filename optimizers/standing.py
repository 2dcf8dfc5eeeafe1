"""Where a candidate stands: what it did on the examples that were bought for it."""

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
        cells: On a prefix of the examples that races look at.
        fresh: On the examples that no race looks at; empty before the candidate was up for promotion.
        spare: On a prefix of the train examples that may prove a gain; None for one that its prompts show.
        order: Its place among the proposals: what decides a tie in everything else.
        proposer: Who proposed it.
    """

    candidate: Candidate
    cells: tuple[Cell, ...]
    order: int = 0
    proposer: str = ""
    fresh: tuple[Cell, ...] = ()
    spare: tuple[Cell | None, ...] = ()

    @property
    def scores(self) -> list[float]:
        """The scores on dev of the cells that have one, fresh ones too."""
        return [cell.score for cell in (*self.cells, *self.fresh) if cell.score is not None]

    @property
    def mean(self) -> float:
        """The mean score; −∞ before there is one."""
        scores = self.scores
        return sum(scores) / len(scores) if scores else -math.inf

    @property
    def asked(self) -> int:
        """LM calls that its cells in the race asked for, a judge's included."""
        return sum(len(cell.asked) for cell in self.cells)

    @property
    def tokens(self) -> float:
        """Tokens an example that the LM answered, in and out."""
        cells = [cell for cell in (*self.cells, *self.fresh) if cell.score is not None]
        return sum(cell.input_tokens + cell.output_tokens for cell in cells) / max(1, len(cells))

    @property
    def prompt_tokens(self) -> float:
        """Tokens of a prompt, a mean over its calls in the race."""
        calls = sum(cell.calls for cell in self.cells)
        return sum(cell.input_tokens for cell in self.cells) / max(1, calls)
