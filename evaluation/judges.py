"""Metrics that ask an LM: how far such a judge agrees with itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
import numpy as np

from ..errors import LMError
from ..programs.examples import inputs_hash
from ..store.records import Cell
from .matrix import Matrix
from .numbers import percent

__all__ = ["Variance", "asks_an_lm", "judge_variance"]

_ENOUGH = 8  # outputs: of fewer, the share that is told may be off by half of all


def asks_an_lm(cells: Sequence[Cell]) -> bool:
    """Tells of cells whether the metric that scored them asked an LM.

    >>> asks_an_lm([Cell("p", "e", "m", score=1.0, calls=1, asked=[("key of the program's", 9, 1)])])
    False
    """
    return any(len(cell.asked) > cell.calls for cell in cells)


@dataclass(frozen=True, slots=True)
class Variance:
    """What the spread of scores is made of.

    Attributes:
        judge: The variance of the judge's scores of one and the same output.
        program: The variance from example to example of what the scores would be without that.
        examples: How many outputs were judged.
        repeats: How often each.
        failed: Judgements that could not be had.
    """

    judge: float
    program: float
    examples: int
    repeats: int
    failed: int = 0

    @property
    def share(self) -> float:
        """The judge's part of the whole; 0 where there is no spread."""
        whole = self.judge + self.program
        return self.judge / whole if whole else 0.0

    @property
    def text(self) -> str:
        """A note for the report."""
        measured = f"{self.examples} output{'' if self.examples == 1 else 's'} judged {self.repeats} times each"
        if not self.judge:
            return f"The judge agrees with itself: {measured}, always the same."
        deviation = f"scores of one output have a standard deviation of {self.judge**0.5:.3f}"
        if self.examples < _ENOUGH:
            return f"The judge's {deviation}: {measured}, too few to say what share of the scores' variance that is."
        return (
            f"About {percent(self.share)} of the scores' variance is the judge's own, which no program mends: "
            f"{measured}; its {deviation}."
        )


def judge_variance(
    matrix: Matrix,
    examples: Sequence[dspy.Example],
    predictions: Sequence[Any],
    *,
    repeats: int = 5,
) -> Variance:
    """Lets the metric score the same outputs again and again, and tells its own spread from that of the program.

    The one-way random-effects analysis of variance: within an output the judge, between outputs the program and the
    examples; what the judge adds between them is taken off (`Searle, Casella & McCulloch 1992
    <https://doi.org/10.1002/9780470316856>`_, the estimate cut off at 0).

    Args:
        matrix: Its metric scores, its meter counts.
        examples: A few: each costs ``repeats`` calls of the judge; 20 will do.
        predictions: The outputs to score, in the same order; the ``output`` of a cell serves.
        repeats: How often each is scored, at least twice.

    Raises:
        BudgetExceeded: Nothing is left to spend.
        LMError: The judge scored no output twice.
        MetricError: The metric raised.
    """
    if repeats < 2:
        raise ValueError(f"a variance needs at least two scores of each output, not {repeats}")
    said = _Said(examples, predictions)
    scores: dict[str, list[float]] = {}
    for repeat in range(repeats):
        for run in matrix.runs(said, examples, identity="said", repeat=repeat):
            if run.cell.score is not None:
                scores.setdefault(run.cell.example, []).append(run.cell.score)
    failed = len(examples) * repeats - sum(map(len, scores.values()))
    twice = [np.asarray(scores[key]) for key in sorted(scores) if len(scores[key]) > 1]
    if not twice:
        raise LMError("the judge gave no output two scores")
    within = float(np.mean([each.var(ddof=1) for each in twice]))
    within = 0.0 if within < 1e-12 else within
    means = np.array([each.mean() for each in twice])
    between = float(means.var(ddof=1)) if len(means) > 1 else 0.0
    noise = within * float(np.mean([1 / len(each) for each in twice]))
    return Variance(within, max(0.0, between - noise), len(twice), repeats, failed)


class _Said(dspy.Module):
    """Says again what was said, without asking anyone."""

    def __init__(self, examples: Sequence[dspy.Example], predictions: Sequence[Any]) -> None:
        super().__init__()
        pairs = zip(examples, predictions, strict=True)
        self._said = {inputs_hash(example): _prediction(prediction) for example, prediction in pairs}

    def forward(self, **inputs: Any) -> Any:
        """Gives the prediction of these inputs."""
        return self._said[inputs_hash(dspy.Example(dict(inputs)).with_inputs(*inputs))]


def _prediction(given: Any) -> Any:
    return dspy.Prediction(**given) if isinstance(given, Mapping) else given
