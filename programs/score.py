"""What a metric says of an output, in DSPy's terms."""

from __future__ import annotations

from typing import ClassVar

import dspy

__all__ = ["Score"]


class Score(dspy.Prediction):
    """A score in [0, 1] with a feedback; true where the output is good enough to learn from.

    A ``dspy.Prediction`` is always true, and ``dspy.BootstrapFinetune`` trains on every run whose score is true.

    Attributes:
        good_from: The least score of a good output.

    >>> [bool(Score(score=score)) for score in (0.0, 0.5, 1.0)], float(Score(score=0.25))
    ([False, True, True], 0.25)
    """

    good_from: ClassVar[float] = 0.5

    def __bool__(self) -> bool:
        return float(self) >= self.good_from
