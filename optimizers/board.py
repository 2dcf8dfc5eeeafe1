"""What a race looks at: the scores bought so far, candidates × examples."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Board"]


@dataclass(frozen=True, slots=True)
class Board:
    """Scores of candidates on one order of examples; row 0 is the incumbent, which every other has to beat.

    A candidate's cells are always bought in that order, so that any two of them can be compared on the same examples.

    Attributes:
        scores: Candidates × examples, float64; NaN where a cell was not bought (or the LM gave no answer).
        bought: For each candidate how many examples, from the first on, have been bought.
        tokens: Mean tokens an example of each candidate, in and out; NaN where none was bought.
        groups: Candidates × features: codes of what each candidate is made of (format, demonstrations, …). Candidates
            of equal code in a column share that part. No columns where nothing is known.
        affordable: How many more cells may be bought; None for no limit.
    """

    scores: NDArray[np.float64]
    bought: NDArray[np.int64]
    tokens: NDArray[np.float64]
    groups: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    affordable: int | None = None

    @property
    def candidates(self) -> int:
        """How many candidates there are."""
        return int(self.scores.shape[0])

    @property
    def examples(self) -> int:
        """How many examples there are."""
        return int(self.scores.shape[1])

    @property
    def means(self) -> NDArray[np.float64]:
        """The mean score of each candidate on what was bought; −∞ before there is one."""
        known = ~np.isnan(self.scores)
        count = known.sum(axis=1)
        total = np.where(known, self.scores, 0.0).sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), -np.inf)
