"""What every optimizer of the peers' benchmark is given, and what it hands back."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

import progspace as ps

from ..lms.budget import Meter
from ..lms.journal import JournaledLM
from ..programs.metrics import scored

__all__ = ["Found", "Search", "drawn", "same_program"]


@dataclass(frozen=True, slots=True)
class Search:
    """One run of an optimizer.

    Attributes:
        task: What is searched; its sealed test is not read.
        lm: Answers for the program; metered.
        prompt_lm: The same LM with room for longer answers, which writes instructions; on the same meter.
        meter: Counts every call of both.
        per_example: LM calls that the program as declared makes on one example, parse retries included.
        seed: Of the optimizer.
        threads: Examples that run at a time.
        best: Whether it runs in the compact format, with choices scored.
    """

    task: ps.Task
    lm: JournaledLM
    prompt_lm: JournaledLM
    meter: Meter
    per_example: float
    seed: int
    threads: int
    best: bool

    @property
    def runs(self) -> int:
        """Program runs that the budget holds."""
        return int((self.meter.budget.calls or 0) / self.per_example)

    @property
    def train(self) -> list[dspy.Example]:
        """For demonstrations and proposals."""
        return list(self.task.train)

    @property
    def dev(self) -> list[dspy.Example]:
        """For choosing."""
        return list(self.task.dev)

    @property
    def everything(self) -> list[dspy.Example]:
        """Train and dev, for an optimizer that takes one set."""
        return [*self.task.train, *self.task.dev]

    @property
    def shots(self) -> int:
        """Labelled demonstrations that a prompt has room for: DSPy's 16, or 4 where each holds a passage."""
        return 4 if "passage" in self.task.inputs else 16

    def metric(self) -> Callable[..., float]:
        """The task's metric as DSPy's optimizers want it: a number; with a trace, whether the run is worth showing."""

        def score(example: dspy.Example, prediction: Any, trace: Any = None) -> float:
            value = scored(self.task.metric, example, prediction).score
            return value if trace is None else float(value >= 0.5)

        return score

    def feedback_metric(self) -> Callable[..., dspy.Prediction]:
        """The task's metric as GEPA wants it: a score with feedback."""

        def score(
            example: dspy.Example,
            prediction: Any,
            trace: Any = None,  # noqa: ARG001 — GEPA's five arguments
            pred_name: str | None = None,  # noqa: ARG001
            pred_trace: Any = None,  # noqa: ARG001
        ) -> dspy.Prediction:
            judged = scored(self.task.metric, example, prediction)
            return dspy.Prediction(score=judged.score, feedback=judged.feedback or f"Score: {judged.score:g}.")

        return score


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to.

    Attributes:
        program: The program it gives; None where it gave none.
        searched: What its own log or result says that it tried.
        start: The program that it started from, where that is not the task's own.
        own_prompt: Whether the program holds its prompt itself, so that no format of ours is laid on it.
        note: What else a reader must know.
    """

    program: dspy.Module | None
    searched: str
    start: dspy.Module | None = None
    own_prompt: bool = False
    note: str = ""


def drawn(examples: Sequence[dspy.Example], count: int, seed: int) -> list[dspy.Example]:
    """Draws so many of the examples, or gives all where there are fewer."""
    if count >= len(examples):
        return list(examples)
    return random.Random(seed).sample(list(examples), count)  # noqa: S311 — reproducible, not secret


def same_program(one: dspy.Module, other: dspy.Module) -> bool:
    """Tells whether two programs have the same instructions, prefixes and demonstrations."""

    def told(module: dspy.Module) -> list[Any]:
        return [
            (
                name,
                predictor.signature.instructions,
                [
                    (field, (info.json_schema_extra or {}).get("prefix"))
                    for field, info in predictor.signature.fields.items()
                ],
                [dict(demo) for demo in predictor.demos],
            )
            for name, predictor in module.named_predictors()
        ]

    return told(one) == told(other)
