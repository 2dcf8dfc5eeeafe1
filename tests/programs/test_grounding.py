"""Metrics of grounded answers, each against cases worked by hand."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.judging import judged
from progspace.programs import wording
from progspace.programs.grounding import Groundedness
from progspace.programs.metrics import metric_identity, scored

SEEN = [
    {"id": "p1", "source": "a.md", "text": "The annual allowance is 28 days. It rose from 25 days in 2024."},
    {"id": "p2", "source": "b.md", "text": "Staff in Bergen work 37.5 hours a week."},
]


def score(metric: Any, example: dict[str, Any], **output: Any) -> float:
    judgement = scored(metric, dspy.Example(**example), dspy.Prediction(**output))
    assert judgement.feedback
    return judgement.score


@pytest.mark.parametrize(
    ("gold", "found", "f1", "exact", "abstention", "made_up"),
    [
        (["28 days", "28"], "28", 1, 1, 1, 0),
        (["28 days"], "28", 2 / 3, 0, 1, 0),
        (["28 days"], "unanswerable", 0, 0, 0, 0),
        (["28 days"], "", 0, 0, 0, 0),
        ("28 days", "The 28 days.", 1, 1, 1, 0),
        ([], "", 1, 1, 1, 0),
        ([], None, 1, 1, 1, 0),
        ([], "Unanswerable.", 1, 1, 1, 0),
        ("", "That is not in the passages, I'm afraid.", 1, 1, 1, 0),
        (None, "28 days", 0, 0, 0, 1),
        (["no answer"], "no answer", 1, 1, 0, 0),
    ],
)
def test_answers(gold: Any, found: Any, f1: float, exact: float, abstention: float, made_up: float) -> None:
    makers = (ps.metrics.answer_f1, ps.metrics.answer_exact, ps.metrics.abstention, ps.metrics.hallucination)
    scores = [score(make(gold="answers"), {"answers": gold}, answer=found) for make in makers]
    assert scores == pytest.approx([f1, exact, abstention, made_up])


def test_phrases_of_abstention_are_a_choice_and_part_of_the_name() -> None:
    own = ps.metrics.answer_f1(gold="answers", abstentions=["pass"])
    assert score(own, {"answers": []}, answer="Pass!") == 1
    assert score(own, {"answers": []}, answer="unanswerable") == 0
    assert metric_identity(own) != metric_identity(ps.metrics.answer_f1(gold="answers"))
    assert metric_identity(ps.metrics.answer_f1(gold="answers")) == "answer_f1(answer, answers)"


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ps.MetricError, match="gold="):
        scored(ps.metrics.answer_f1(gold="answers"), dspy.Example(answer="x"), dspy.Prediction(answer="x"))
    with pytest.raises(ps.MetricError, match="passages that it saw"):
        scored(ps.metrics.groundedness(), dspy.Example(), dspy.Prediction(answer="x"))


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("28 days", 1),
        ("The annual allowance is 28 days.", 1),
        ("days 28", 1 / 2),  # words in another order
        ("The allowance is thirty days", 3 / 4),
        ("Oslo", 0),
        ("unanswerable", 1),  # claims nothing
        ("It rose from 25 days. Staff in Bergen work 37.5 hours.", 1),  # each sentence in a passage of its own
        ("The annual allowance of Bergen", 2 / 4),  # but one sentence is not made of two passages
    ],
)
def test_groundedness_by_words(answer: str, wanted: float) -> None:
    assert score(ps.metrics.groundedness(), {}, answer=answer, passages=SEEN) == pytest.approx(wanted)


def test_words_that_stand_far_apart_support_nothing_together() -> None:
    far = "The allowance " + "and so on " * 20 + "is thirty days"
    assert wording.support("allowance is thirty days", [far]) == pytest.approx(3 / 4)


def test_groundedness_by_an_lm(rule_engine: Any) -> None:
    """The judge sees question, answer and the passages' text; what claims nothing is not asked about."""

    def rule(prompt: str) -> str:
        asked = prompt[prompt.rfind("[[ ## passages ## ]]") :]
        supported = "28 days" in asked and "37.5 hours" in asked and "[[ ## answer ## ]]\n28 days" in asked
        return f"[[ ## reasoning ## ]]\nread\n\n[[ ## supported ## ]]\n{supported}\n\n[[ ## completed ## ]]"

    engine = rule_engine(rule)
    metric = ps.metrics.groundedness_judge(engine.lm())
    example = dspy.Example(question="How many days?")
    for answer, wanted, calls in (("28 days", 1.0, 1), ("30 days", 0.0, 2), ("unanswerable", 1.0, 2)):
        judgement, fault = judged(metric, example, dspy.Prediction(answer=answer, passages=SEEN), lm=None)
        assert fault is None
        assert judgement is not None
        assert judgement.score == wanted
        assert len(engine.prompts) == calls
    assert Groundedness.instructions in engine.prompts[0]


@pytest.mark.parametrize(
    ("citations", "precision", "recall"),
    [([1], 1, 1), ([1, 2], 1 / 2, 1), ([2], 0, 0), ([], 0, 0), ([7], 0, 0), (["p1"], 1, 1), ([1, 1], 1, 1)],
)
def test_citations_by_the_answer(citations: list[Any], precision: float, recall: float) -> None:
    example = {"answers": ["28 days"]}
    output = {"citations": citations, "passages": SEEN}
    assert score(ps.metrics.citation_precision(), example, **output) == precision
    assert score(ps.metrics.citation_recall(), example, **output) == recall


@pytest.mark.parametrize(
    ("relevant", "citations", "precision", "recall"),
    [
        ("a.md", [1], 1, 1),
        (["a.md", "b.md"], [1], 1, 1 / 2),
        (["b.md", "c.md"], [1, 2], 1 / 2, 1 / 2),
        ([], [], 1, 1),
        ([], [1], 0, 0),
        (None, [], 1, 1),
    ],
)
def test_citations_by_source(relevant: Any, citations: list[int], precision: float, recall: float) -> None:
    output = {"citations": citations, "passages": SEEN}
    example = {"source": relevant}
    assert score(ps.metrics.citation_precision(relevant="source"), example, **output) == precision
    assert score(ps.metrics.citation_recall(relevant="source"), example, **output) == recall


def test_a_program_may_show_a_metric_with_a_trace() -> None:
    example, output = dspy.Example(answers=["28 days"]), dspy.Prediction(answer="28")
    assert ps.metrics.answer_f1(gold="answers")(example, output, []) is True
