"""Metrics of answers to questions that may have none: right, declined, made up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import dspy

from .gold import GroundingMetric, Told, gold_answers, setting_of, value_of
from .wording import ABSTENTIONS, abstains, normalised, token_f1

__all__ = ["abstention", "answer_exact", "answer_f1", "hallucination"]


def answer_f1(
    field: str = "answer", gold: str | None = None, *, abstentions: Iterable[str] = ABSTENTIONS
) -> GroundingMetric:
    """F1 of the answer's tokens, of several right answers the best; an unanswerable question wants an abstention.

    As SQuAD 2.0 scores (`Rajpurkar et al. 2018 <https://arxiv.org/abs/1806.03822>`_), where an abstention may also be
    said in words.

    Args:
        field: The answer's field in the output.
        gold: The field of the example with the right answer or a list of them; None for that of the same name.
        abstentions: What is read as declining to answer, beside an empty answer.

    >>> metric = answer_f1(gold="answers")
    >>> metric(dspy.Example(answers=["the red fox", "a fox"]), dspy.Prediction(answer="Red fox!")).score
    1.0
    >>> metric(dspy.Example(answers=[]), dspy.Prediction(answer="It is unanswerable.")).score
    1.0
    >>> metric(dspy.Example(answers=[]), dspy.Prediction(answer="Red fox!")).score
    0.0
    """
    return _answers("answer_f1", field, gold, abstentions, token_f1)


def answer_exact(
    field: str = "answer", gold: str | None = None, *, abstentions: Iterable[str] = ABSTENTIONS
) -> GroundingMetric:
    """1 where the answer is one of the right ones, normalised; an unanswerable question wants an abstention.

    Args:
        field: The answer's field in the output.
        gold: The field of the example with the right answer or a list of them; None for that of the same name.
        abstentions: What is read as declining to answer, beside an empty answer.

    >>> answer_exact(gold="answers")(dspy.Example(answers=["Bergen"]), dspy.Prediction(answer="bergen.")).score
    1.0
    """

    def equal(one: str, other: str) -> float:
        return float(normalised(one) == normalised(other))

    return _answers("answer_exact", field, gold, abstentions, equal)


def _answers(
    kind: str, field: str, gold: str | None, abstentions: Iterable[str], compare: Callable[[str, str], float]
) -> GroundingMetric:
    phrases, gold = tuple(abstentions), gold or field

    def score(example: dspy.Example, prediction: Any) -> Told:
        right, given = gold_answers(example, gold), value_of(prediction, field)
        declined = abstains(given, phrases)
        if not right:
            if declined:
                return 1.0, "Right: there is no answer."
            return 0.0, f"{field}: {given!r} was given, and the question has no answer; say so."
        if declined and given is None:
            return 0.0, f"The output has no {field}; {right[0]!r} was expected."
        # A right answer may read like an abstention: what it says is compared before that.
        best = max(compare(answer, str(given)) for answer in right)
        if best == 1:
            return 1.0, "Right."
        if declined:
            return 0.0, f"{field}: declined to answer; {right[0]!r} was expected."
        return best, f"{field}: {given!r} was given, {right[0]!r} expected."

    return GroundingMetric(kind, setting_of(field, gold, phrases), score)


def abstention(
    field: str = "answer", gold: str | None = None, *, abstentions: Iterable[str] = ABSTENTIONS
) -> GroundingMetric:
    """1 where the program answers an answerable question, rightly or not, or declines an unanswerable one.

    Args:
        field: The answer's field in the output.
        gold: The field of the example with the right answers; None for that of the same name.
        abstentions: What is read as declining to answer, beside an empty answer.

    >>> abstention(gold="answers")(dspy.Example(answers=["Bergen"]), dspy.Prediction(answer="Oslo")).score
    1.0
    """
    phrases, gold = tuple(abstentions), gold or field

    def score(example: dspy.Example, prediction: Any) -> Told:
        answerable, declined = bool(gold_answers(example, gold)), abstains(value_of(prediction, field), phrases)
        if answerable != declined:
            return 1.0, "Right."
        if declined:
            return 0.0, f"{field}: declined to answer a question that has an answer."
        return 0.0, f"{field}: answered a question that has no answer."

    return GroundingMetric("abstention", setting_of(field, gold, phrases), score)


def hallucination(
    field: str = "answer", gold: str | None = None, *, abstentions: Iterable[str] = ABSTENTIONS
) -> GroundingMetric:
    """1 where an unanswerable question is answered, else 0: to be kept low, as a limit of ``ps.Objectives``.

    Its mean over unanswerable questions is their hallucination rate; answerable ones only dilute it.

    Args:
        field: The answer's field in the output.
        gold: The field of the example with the right answers; None for that of the same name.
        abstentions: What is read as declining to answer, beside an empty answer.

    >>> hallucination(gold="answers")(dspy.Example(answers=[]), dspy.Prediction(answer="Oslo")).score
    1.0
    """
    phrases, gold = tuple(abstentions), gold or field

    def score(example: dspy.Example, prediction: Any) -> Told:
        if gold_answers(example, gold):
            return 0.0, "The question has an answer."
        if abstains(given := value_of(prediction, field), phrases):
            return 0.0, "Right: there is no answer."
        return 1.0, f"{field}: {given!r} was made up; the question has no answer."

    return GroundingMetric("hallucination", setting_of(field, gold, phrases), score)
