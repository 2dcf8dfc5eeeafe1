"""Fits what an LM prefers before it has read the input, so that it can be taken off."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

import dspy

from ..evaluation.matrix import Matrix
from ..programs.candidate import Candidate

__all__ = ["calibrate", "is_calibrated"]


def is_calibrated(candidate: Candidate) -> bool:
    """Tells whether a candidate's decoding is calibrated anywhere."""
    return any(choice.format and choice.format.decoding == "calibrated" for choice in candidate.predictors.values())


def calibrate(
    candidate: Candidate,
    apply: Callable[[Candidate], dspy.Module],
    examples: Sequence[dspy.Example],
    matrix: Matrix,
) -> Candidate:
    """Fits the biases of a candidate's calibrated predictors on the inputs of examples; labels are not looked at.

    The bias of a choice is the median, over the inputs, of its log-probability among the choices: what is left after it
    favours each choice about as often. That is batch calibration (`Zhou et al. 2023 <https://arxiv.org/abs/2309.17249>`_)
    with a median for the mean, fitted once and kept, so that one input at a time gets the same answer.

    Prompts that the LM has answered before cost nothing: fitting on the examples of a race buys what the race buys
    anyway. Where a chain's earlier predictors are calibrated too, all are fitted in the same run, uncalibrated.

    Args:
        candidate: What to fit.
        apply: Makes a candidate's program.
        examples: Their inputs are run.
        matrix: Runs them, and counts.

    Raises:
        BudgetExceeded: Nothing is left to buy an answer.
    """
    if not is_calibrated(candidate):
        return candidate
    plain = candidate
    for name, choice in candidate.predictors.items():
        if choice.format and choice.format.decoding == "calibrated":
            plain = plain.with_choice(predictor=name, format=choice.format.model_copy(update={"biases": ()}))
    program = apply(plain)
    seen: dict[str, list[dict[str, float]]] = {}
    for run in matrix.traces(program, examples).values():
        for name, _, prediction in run.trace:
            if "choice_logprobs" in prediction:
                seen.setdefault(name, []).append(_normalised(prediction["choice_logprobs"]))
    fitted = plain
    for name, scores in seen.items():
        own = plain.predictors[name].format
        if own is not None and own.decoding == "calibrated":
            biases = tuple((choice, round(median(score[choice] for score in scores), 6)) for choice in scores[0])
            fitted = fitted.with_choice(predictor=name, format=own.model_copy(update={"biases": biases}))
    return fitted


def _normalised(scores: dict[str, float]) -> dict[str, float]:
    """Makes log-probabilities of texts into log-probabilities among the choices."""
    highest = max(scores.values())
    total = highest + math.log(sum(math.exp(score - highest) for score in scores.values()))
    return {choice: score - total for choice, score in scores.items()}
