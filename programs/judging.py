"""A judge: an LM program that scores outputs, as a metric."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dspy

from ..errors import ProgramError
from ..lms.identity import lm_identity
from .program import Program
from .score import Score
from .structure_hash import manners_told, own_lms, structure_hash

__all__ = ["JudgeMetric", "UnreadableJudgement", "judge"]

_EXPECTED = "expected_"


class UnreadableJudgement(Exception):  # noqa: N818 — told as what it is; no error of the user's
    """A judge answered, and what it answered is no score."""


@dataclass(frozen=True)
class JudgeMetric:
    """Scores an output by what a program says of it.

    Attributes:
        program: Any module; each of its inputs is a field of the prediction, or else of the example; one that is called
            ``expected_NAME`` is the example's field ``NAME``.
        field: Its output that is the score: a number or a bool.
        lm: Answers for the judge; None for the LM of ``dspy.settings``, or else that of the task.
        scale: The worst and the best that the judge may say; scores are told from 0 to 1.
    """

    program: dspy.Module
    field: str = "score"
    lm: dspy.BaseLM | None = None
    scale: tuple[float, float] = (0.0, 1.0)

    @cached_property
    def name(self) -> str:
        """Identity of the metric: another program, LM or scale is another judge."""
        module = self.program.module if isinstance(self.program, Program) else self.program
        own = self.program.own_lm if isinstance(self.program, Program) else None
        lms = [lm_identity(lm) for lm in (self.lm, own) if lm is not None]
        content = [
            structure_hash(module),
            manners_told(self.program),
            [*lms, *([by_predictor] if (by_predictor := own_lms(module)) else [])],
            list(self.scale),
        ]
        text = json.dumps(content, sort_keys=True, default=repr)
        return f"judge({self.field})@{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The judge's inputs."""
        predictors = self.program.predictors()
        if len(predictors) == 1:
            return tuple(predictors[0].signature.input_fields)
        parameters = inspect.signature(self.program.forward).parameters.values()
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return tuple(parameter.name for parameter in parameters if parameter.kind in named)

    def __call__(self, example: dspy.Example, prediction: Any, trace: Any = None) -> Any:
        """Asks the judge; gives a score from 0 to 1 with its reasons as feedback, with a trace whether it is good.

        Raises:
            UnreadableJudgement: What the judge said is no number on the scale.
        """
        with dspy.context(lm=self.lm) if self.lm is not None else contextlib.nullcontext():
            judgement = self.program(**{name: self.value_of(name, example, prediction) for name in self.inputs})
        feedback = judgement.get("feedback") or judgement.get("reasoning")
        judged = Score(score=self._score(judgement.get(self.field)), feedback=feedback)
        return judged if trace is None else bool(judged)

    def value_of(self, name: str, example: dspy.Example, prediction: Any) -> Any:
        """What the judge is given as one of its inputs.

        Raises:
            ProgramError: Neither prediction nor example has it.
        """
        if name.startswith(_EXPECTED) and name.removeprefix(_EXPECTED) in example:
            return example[name.removeprefix(_EXPECTED)]
        if hasattr(prediction, "get") and (given := prediction.get(name)) is not None:
            return given
        if name in example:
            return example[name]
        raise ProgramError(f"the judge's input {name!r} is neither an output of the program nor a field of the example")

    def _score(self, said: Any) -> float:
        worst, best = self.scale
        try:
            value = float(said)
        except (TypeError, ValueError):
            value = math.nan
        if not min(worst, best) <= value <= max(worst, best):
            raise UnreadableJudgement(f"{self.field}: {str(said)[:120]!r} is no number from {worst:g} to {best:g}")
        return (value - worst) / (best - worst)


def judge(
    program: dspy.Module,
    field: str = "score",
    *,
    lm: dspy.BaseLM | None = None,
    scale: tuple[float, float] = (0.0, 1.0),
) -> JudgeMetric:
    """Makes a metric of a program that judges outputs; its LM calls count in the budget.

    A judge is asked once more, sampled, where its answer cannot be read; an output that it then gives no score has
    none, and is counted apart. How far it agrees with itself is measured (`progspace.evaluation.judges`): LMs that
    judge have their own spread and leanings (`Zheng et al. 2023 <https://arxiv.org/abs/2306.05685>`_).

    Args:
        program: Any module. Its inputs are fields of the prediction, or else of the example; ``expected_NAME`` is the
            example's ``NAME``.
        field: Its output that is the score.
        lm: Answers for the judge; None for the LM of ``dspy.settings``, or else that of the task.
        scale: The worst and the best that it may say.

    Raises:
        ProgramError: The program has no such output, or the scale has no length.

    >>> metric = judge(dspy.Predict("question, answer, expected_answer -> right: bool"), "right")
    >>> metric.inputs
    ('question', 'answer', 'expected_answer')
    """
    predictors = program.predictors()
    if len(predictors) == 1 and field not in predictors[0].signature.output_fields:
        raise ProgramError(
            f"the judge has no output {field!r}; it has {', '.join(predictors[0].signature.output_fields)}"
        )
    if scale[0] == scale[1]:
        raise ProgramError(f"the judge's scale {scale} has no length")
    return JudgeMetric(program, field, lm, scale)
