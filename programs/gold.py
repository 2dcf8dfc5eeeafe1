"""What metrics of grounded answers share: gold answers, the passages that a program saw, and how a score is told.

A question is unanswerable where its gold answer is an empty list, an empty text or None.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from .score import Score
from .wording import ABSTENTIONS

__all__ = ["GroundingMetric", "Told", "gold_answers", "passages_of", "setting_of", "value_of"]

Told = tuple[float, str]


@dataclass(frozen=True, slots=True)
class GroundingMetric:
    """Scores an output by the example's gold answers and the passages that the program saw.

    Attributes:
        kind: The metric's name.
        setting: What the score depends on, for the name.
        score: Gives a score in [0, 1] and a feedback for (example, prediction).
    """

    kind: str
    setting: str
    score: Callable[[dspy.Example, Any], Told]

    @property
    def name(self) -> str:
        """Identity of the metric, for people and for the store."""
        return f"{self.kind}({self.setting})"

    def __call__(self, example: dspy.Example, prediction: Any, trace: Any = None) -> Any:
        """Scores an output; gives a score with feedback, with a trace whether it is good."""
        score, feedback = self.score(example, prediction)
        judged = Score(score=score, feedback=feedback)
        return judged if trace is None else bool(judged)


def gold_answers(example: dspy.Example, gold: str) -> list[str]:
    """Gives the right answers of an example; none where it is unanswerable.

    Raises:
        KeyError: The example has no such field.

    >>> [gold_answers(dspy.Example(answers=given), "answers") for given in (["Bergen", ""], "Bergen", [], None)]
    [['Bergen'], ['Bergen'], [], []]
    """
    if gold not in example:
        raise KeyError(f"the example has no field {gold!r}; name the one that holds the right answers: gold=…")
    given = example[gold]
    several = given if isinstance(given, list | tuple | set | frozenset) else [given]
    return [str(answer) for answer in several if answer is not None and str(answer).strip()]


def value_of(prediction: Any, field: str) -> Any:
    """Gives a field of the output, None where there is none."""
    return prediction.get(field) if hasattr(prediction, "get") else None


def setting_of(field: str, other: str, phrases: tuple[str, ...]) -> str:
    """Tells what a score depends on, for a metric's name."""
    told = field if other == field else f"{field}, {other}"
    return told if phrases == ABSTENTIONS else f"{told}, {hashlib.sha256(repr(phrases).encode()).hexdigest()[:12]}"


def passages_of(example: dspy.Example, prediction: Any, field: str) -> Sequence[Any]:
    """Gives the passages that a program saw: a field of the output, or else of the example.

    Raises:
        KeyError: Neither has it.
    """
    found = value_of(prediction, field)
    if found is None and field in example:
        found = example[field]
    if found is None:
        raise KeyError(f"neither output nor example has {field!r}: the program must give the passages that it saw")
    return [found] if isinstance(found, str) else list(found)
