"""One output is scored, by a metric that may ask an LM, which may fail."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import dspy
from dspy.utils.exceptions import LMError as DspyLMError
from dspy.utils.exceptions import is_retryable_lm_error

from ..errors import LMError
from ..lms.journal import ROLLOUT, SECOND_TRY
from ..programs.metrics import JUDGE_FAULTS, OFFLINE, Judgement, scored

__all__ = ["judged", "may_pass", "told"]


def told(fault: BaseException) -> str:
    """Tells an exception in a line."""
    first = str(fault).strip().splitlines()
    return f"{type(fault).__name__}: {first[0][:300] if first else ''}"


def judged(
    metric: Callable[..., Any], example: dspy.Example, prediction: Any, *, lm: dspy.BaseLM | None, rollout: int = 0
) -> tuple[Judgement | None, str | None]:
    """Scores an output by any metric; gives the judgement, or why there is none.

    Where the metric asks an LM that fails in a way that may pass, or whose answer cannot be read, it is asked once
    more, with answers of its own in the journal.

    Args:
        metric: Scores outputs.
        example: What the program was given, and what was wanted.
        prediction: What it gave.
        lm: Answers for the metric; None for the LM of ``dspy.settings``.
        rollout: Of the first try.

    Raises:
        MetricError: The metric raised something else, or gave what is no score.
        BudgetExceeded: Nothing is left to spend.
    """
    if isinstance(metric, OFFLINE):
        return scored(metric, example, prediction), None
    with dspy.context(lm=lm) if lm is not None else contextlib.nullcontext():
        try:
            return scored(metric, example, prediction), None
        except JUDGE_FAULTS as fault:
            if not may_pass(fault):
                return None, f"judge: {told(fault)}"
        try:
            with dspy.context(**{ROLLOUT: rollout + SECOND_TRY}):
                return scored(metric, example, prediction), None
        except JUDGE_FAULTS as fault:
            return None, f"judge: {told(fault)}"


def may_pass(fault: Exception) -> bool:
    """Tells whether a fault may be gone the next time."""
    if isinstance(fault, LMError):
        return fault.retryable
    return is_retryable_lm_error(fault) if isinstance(fault, DspyLMError) else True
