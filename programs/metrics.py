"""Metrics: how an output is scored. Any callable of DSPy's metric contract serves; these are ready-made.

A metric is called ``(example, prediction, trace=None)``. These give a `Score`, a ``dspy.Prediction`` with a score in
[0, 1] and a feedback; with a trace (DSPy's own bootstrapping) they give a bool: whether the run is worth showing.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError
from dspy.utils.exceptions import LMError as DspyLMError
from pydantic import BaseModel, TypeAdapter

from ..errors import BudgetExceeded, LMError, MetricError, SandboxMissing
from .answered import abstention, answer_exact, answer_f1, hallucination
from .blocklist import Blocklist, blocklist
from .checks import PassesTests, passes_tests
from .citing import citation_precision, citation_recall
from .gold import GroundingMetric
from .grounding import groundedness, groundedness_judge
from .judging import JudgeMetric, UnreadableJudgement, judge
from .score import Score
from .source import source_text
from .state import digest, state_text
from .wording import holds, same_label, token_f1

__all__ = [
    "JUDGE_FAULTS",
    "OFFLINE",
    "Blocklist",
    "FieldMetric",
    "GroundingMetric",
    "JudgeMetric",
    "Judgement",
    "PassesTests",
    "abstention",
    "answer_exact",
    "answer_f1",
    "blocklist",
    "choice",
    "citation_precision",
    "citation_recall",
    "contains",
    "exact_match",
    "f1",
    "groundedness",
    "groundedness_judge",
    "hallucination",
    "judge",
    "metric_identity",
    "numeric",
    "passes_tests",
    "scored",
]

JUDGE_FAULTS = (DspyLMError, LMError, AdapterParseError, UnreadableJudgement)
"""What a metric raises where an LM that it asks did not answer, or not readably: no error of the metric's."""

_NUMBER = re.compile(r"[-−+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class FieldMetric:
    """Scores one field of the output against the same field of the example.

    Attributes:
        kind: The metric's name.
        field: The field.
        score: Gives a score in [0, 1] for (expected, found).
        setting: What else the score depends on, for the name.
    """

    kind: str
    field: str
    score: Callable[[Any, Any], float]
    setting: str = ""

    @property
    def name(self) -> str:
        """Identity of the metric, for people and for the store."""
        return f"{self.kind}({self.field}{self.setting})"

    def __call__(self, example: dspy.Example, prediction: Any, trace: Any = None) -> Any:
        """Scores an output."""
        expected = example[self.field]
        found = prediction.get(self.field) if hasattr(prediction, "get") else None
        if found is None:  # which is right where it is expected, and was given
            score = float(expected is None and hasattr(prediction, "get") and self.field in prediction)
        else:
            score = float(self.score(expected, found))
        feedback = f"{self.field}: {found!r} was given, {expected!r} expected."
        if score == 1:
            feedback = "Right."
        elif found is None:
            feedback = f"The output has no {self.field}; {expected!r} was expected."
        judged = Score(score=score, feedback=feedback)
        return judged if trace is None else bool(judged)


def exact_match(field: str) -> FieldMetric:
    """1 where a field equals the expected value; text without the white space around it.

    What is expected may be as JSON tells it: a date as text, a pydantic model as its fields, a set as a list.

    >>> exact_match("label")(dspy.Example(label="a"), dspy.Prediction(label=" a ")).score
    1.0
    >>> from datetime import date
    >>> exact_match("day")(dspy.Example(day="2026-01-31"), dspy.Prediction(day=date(2026, 1, 31))).score
    1.0
    """
    return FieldMetric("exact_match", field, lambda expected, found: float(_is(expected, found)))


def choice(field: str) -> FieldMetric:
    """1 where a label is the expected one, whatever its case, spaces and punctuation: accuracy.

    Signs that tell labels apart count (``C`` and ``C++``, ``-1`` and ``1``, ``<5`` and ``>5``); see
    ``progspace.programs.wording.same_label``.

    >>> choice("label")(dspy.Example(label="positive"), dspy.Prediction(label="Positive.")).score
    1.0
    >>> choice("label")(dspy.Example(label="C"), dspy.Prediction(label="C++")).score
    0.0
    """
    return FieldMetric("choice", field, lambda expected, found: float(same_label(expected, found)))


def f1(field: str) -> FieldMetric:
    """F1 of the tokens, normalised as for SQuAD; of several expected answers, the best.

    An empty expected answer wants an empty one. `Rajpurkar et al. 2016 <https://arxiv.org/abs/1606.05250>`_.

    >>> f1("answer")(dspy.Example(answer=["the red fox", "a fox"]), dspy.Prediction(answer="Red fox!")).score
    1.0
    """
    return FieldMetric("f1", field, lambda expected, found: max(token_f1(one, found) for one in _answers(expected)))


def contains(field: str) -> FieldMetric:
    """1 where the output holds the expected answer, or any of several, normalised as for SQuAD; whole words.

    >>> contains("answer")(dspy.Example(answer="Paris"), dspy.Prediction(answer="It is Paris, of course.")).score
    1.0
    """

    def score(expected: Any, found: Any) -> float:
        return float(any(holds(str(found), one) for one in _answers(expected)))

    return FieldMetric("contains", field, score)


def numeric(field: str, *, tolerance: float = 0.0) -> FieldMetric:
    """1 where the last number in the output is the expected one.

    Args:
        field: The field.
        tolerance: How far off it may be.

    >>> numeric("answer")(dspy.Example(answer="1200"), dspy.Prediction(answer="10 × 120 = $1,200.")).score
    1.0
    """

    def score(expected: Any, found: Any) -> float:
        wanted, given = _last_number(expected), _last_number(found)
        return float(wanted is not None and given is not None and abs(wanted - given) <= tolerance)

    return FieldMetric("numeric", field, score, f", tolerance={tolerance:g}" if tolerance else "")


def _is(expected: Any, found: Any) -> bool:
    if isinstance(expected, BaseModel) and type(expected) is not type(found):  # of a class that a file told, say
        expected = expected.model_dump()
    if isinstance(expected, str) and isinstance(found, str):
        return expected.strip() == found.strip()
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(expected) == len(found) and all(map(_is, expected, found))
    if isinstance(found, set | frozenset) and isinstance(expected, list | set | frozenset):
        held = all(any(_is(one, other) for other in found) for one in expected)
        return held and all(any(_is(one, other) for one in expected) for other in found)
    if isinstance(found, dict) and isinstance(expected, dict):
        one, other = ({str(key): value for key, value in each.items()} for each in (expected, found))
        return one.keys() == other.keys() and all(_is(one[key], other[key]) for key in one)
    if expected == found:
        return True
    with suppress(Exception):  # whatever the type's own validation raises
        return bool(TypeAdapter(type(found)).validate_python(expected) == found)
    return False


def _answers(expected: Any) -> list[Any]:
    return list(expected) or [""] if isinstance(expected, list | tuple) else [expected]


def _last_number(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = [match for match in _NUMBER.findall(str(value)) if any(map(str.isdigit, match))]
    return float(found[-1].replace(",", "").replace("−", "-")) if found else None


OFFLINE = (FieldMetric, GroundingMetric, PassesTests)
"""Metrics that ask no LM: which one is at hand makes no difference to them."""
_NAMED = (*OFFLINE, JudgeMetric, Blocklist)
"""Metrics whose name tells all that their score depends on."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a metric said of an output: a score, and why."""

    score: float
    feedback: str | None = None


def scored(metric: Callable[..., Any], example: dspy.Example, prediction: Any, *, least: float = 0.0) -> Judgement:
    """Runs any metric, and reads what it gives: a bool, a number, or a score with feedback.

    Args:
        metric: Any callable of DSPy's contract.
        example: What the program was given, and what was wanted.
        prediction: What it gave.
        least: The lowest score that there may be: 0, which is what a program that fails scores; −∞ for what is measured
            besides the task's own metric.

    Raises:
        MetricError: The metric raised, or gave what is no score, or one below the least; it names metric and example.
        SandboxMissing: The metric runs code, and there is nowhere to run it.
        Exception: One of `JUDGE_FAULTS`, as it is.

    >>> scored(lambda example, prediction: example.label == prediction.label, *2 * [dspy.Example(label=1)])
    Judgement(score=1.0, feedback=None)
    """
    try:
        given = metric(*(example, prediction, None, None, None)[: _arity_of(metric)])
    except (BudgetExceeded, SandboxMissing, *JUDGE_FAULTS):
        raise
    except Exception as error:
        raise _metric_error(metric, example, f"raised {type(error).__name__}: {error}") from error
    feedback = None
    if isinstance(given, Mapping | dspy.Example) and "score" in given:
        feedback = given.get("feedback")
        given = given["score"]
    try:
        score = float(given)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise _metric_error(metric, example, f"gave {given!r}, which is no score")
    if score < least:
        raise _metric_error(
            metric,
            example,
            f"gave {given!r}: a score is not below {least:g}, for a program that fails scores 0 and would be better. "
            "Add the same to each score, or give 1 / (1 + error) in place of -error",
        )
    return Judgement(score, None if feedback is None else str(feedback))


def _metric_error(metric: Callable[..., Any], example: dspy.Example, fault: str) -> MetricError:
    values = example.toDict()
    shown = ", ".join(f"{name}={str(value)[:120]!r}" for name, value in values.items())
    return MetricError(f"the metric {_metric_name(metric)} {fault}\n  on the example: {shown}", example=values)


def _arity(metric: Callable[..., Any]) -> int:
    """How many of (example, prediction, trace, predictor's name, predictor's trace) a metric takes."""
    try:
        parameters = inspect.signature(metric).parameters.values()
    except (TypeError, ValueError):
        return 2
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 3
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return min(5, sum(parameter.kind in positional for parameter in parameters))


def _arity_of(metric: Callable[..., Any]) -> int:
    if isinstance(metric, FieldMetric):
        return 3
    try:
        return _known_arity(metric)
    except TypeError:  # not hashable
        return _arity(metric)


_known_arity = functools.lru_cache(maxsize=64)(_arity)


def _metric_name(metric: Callable[..., Any]) -> str:
    if isinstance(metric, _NAMED):
        return metric.name
    if isinstance(metric, functools.partial):
        return _metric_name(metric.func)
    return f"{getattr(metric, '__module__', '')}.{getattr(metric, '__qualname__', type(metric).__qualname__)}"


def metric_identity(metric: Callable[..., Any]) -> str:
    """Gives a metric's identity, the same in every process: its name and, for the user's own, a hash.

    The hash is of its source and of what else its scores depend on: see `progspace.programs.state`.

    >>> metric_identity(exact_match("label"))
    'exact_match(label)'
    """
    if isinstance(metric, _NAMED):
        return metric.name
    if isinstance(metric, functools.partial):
        return f"{metric_identity(metric.func)}+{digest(state_text(metric, _named))[:12]}"
    source = metric if inspect.isroutine(metric) else type(metric)
    text = source_text(source)
    if text is None:
        code = getattr(source, "__code__", None)
        # Constants may hold code objects, whose own text tells their address.
        told = [value for value in code.co_consts if isinstance(value, str | int | float | None)] if code else []
        text = f"{code.co_code!r}{told!r}{code.co_names!r}" if code else _metric_name(metric)
    return f"{_metric_name(metric)}@{digest(text + state_text(metric, _named))[:12]}"


def _named(value: Any) -> str | None:
    """Names what one of the user's metrics may hold and has an identity of its own."""
    if isinstance(value, _NAMED):
        return value.name
    return JudgeMetric(value).name if isinstance(value, dspy.Module) else None
