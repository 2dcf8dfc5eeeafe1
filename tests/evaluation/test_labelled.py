"""Which traces tell what a right answer is."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.labelled import labelled
from progspace.programs.examples import inputs_hash
from progspace.store.traces import Trace


def trace(text: str, said: Any = "glad", **told: Any) -> Trace:
    values = {"inputs": {"text": text, "more": 1}, "outputs": {"mood": said}, "whole": True, **told}
    return Trace(text + str(told), "mood", "v", 1.0, 0.1, **values)


@pytest.fixture
def task(mood: Any, mood_rows: Any) -> ps.Task:
    return ps.Task(dspy.Predict(mood), mood_rows, metric=ps.metrics.choice("mood"))


def test_what_traces_say_and_what_they_do_not(task: ps.Task) -> None:
    found = labelled(
        task,
        [
            trace("told", labels={"mood": "sad", "other": 1}, score=0.0),
            trace("an error", outputs=None, error="LMError", labels={"mood": "sad"}),
            trace("right", score=1.0),
            trace("wrong, of two", score=0.0),
            trace("half", score=0.5),
            trace("nothing said"),
            trace("no content", inputs=None, outputs=None, score=1.0),
            trace("[e-mail]", whole=False, labels={"mood": "sad"}),
            trace("part", labels={"other": 1}, score=1.0),
            trace("no choice", "merry", score=1.0),
            trace("abstained", None, score=1.0),
            trace("same", score=1.0),
            trace("same", labels={"mood": "glad"}),
            trace("torn", score=1.0),
            trace("torn", labels={"mood": "sad"}),
        ],
    )
    rows = {row.text: row for row in found.rows.values()}
    assert {text: row.mood for text, row in rows.items()} == {
        "told": "sad", "an error": "sad", "right": "glad", "wrong, of two": "sad", "same": "glad"
    }  # fmt: skip
    assert rows["told"].toDict() == {"text": "told", "mood": "sad"}
    assert rows["told"].inputs().toDict() == {"text": "told"}
    assert found.left_out == {
        "with a score that names no label": 2, "without feedback": 1, "without content": 1, "redacted or cut": 1,
        "without all of the labels": 1, "with values that the task does not have": 1, "the same as another": 1,
        "contradicted by another": 2,
    }  # fmt: skip
    assert found.line.startswith("5 of 15 traces gave a row; left out: 2 with a score")
    fewer = found.without({inputs_hash(rows["told"])})
    assert (len(fewer.rows), fewer.left_out["that the task has"]) == (4, 1)


def test_a_score_alone_makes_no_label_of_a_free_text() -> None:
    rows = [{"text": f"{i}", "answer": "yes" if i % 2 else "no", "stars": i % 5} for i in range(40)]
    said = [
        trace("known", outputs={"answer": "yes", "stars": 9}, score=1.0),
        trace("free", outputs={"answer": "Yes, in every way.", "stars": 2}, score=1.0),
        trace("nought", outputs={"answer": "yes", "stars": 2}, score=0.0),
    ]
    program = dspy.Predict("text -> answer: str, stars: int")
    of_text = labelled(ps.Task(program, rows, metric=ps.metrics.exact_match("answer")), said)
    assert [row.text for row in of_text.rows.values()] == ["known"]
    # A metric that does not say which field it reads wants all outputs that the examples have.
    both = labelled(ps.Task(program, rows, metric=lambda example, prediction, trace=None: 1.0), said)
    assert [row.toDict() for row in both.rows.values()] == [{"text": "known", "answer": "yes", "stars": 9}]
    unlabelled = ps.Task(program, [{"text": str(i)} for i in range(40)], metric=lambda *_: 1.0)
    with pytest.raises(ps.DataError, match="no label that all of them have"):
        labelled(unlabelled, said)


def test_a_label_that_was_told_as_text_is_read_in_its_type() -> None:
    class Tags(dspy.Signature):
        """Tags."""

        text: str = dspy.InputField()
        tags: list[str] = dspy.OutputField()
        note: str | None = dspy.OutputField()

    rows = [{"text": f"{i}", "tags": ["a", "b"], "note": "none"} for i in range(40)]
    task = ps.Task(dspy.Predict(Tags), rows, metric=lambda example, prediction, trace=None: 1.0)
    said = [
        trace("as JSON", labels={"tags": '["a", "b"]', "note": "[1]"}),
        trace("no JSON", labels={"tags": "a, b", "note": "so so"}),
        trace("no list", labels={"tags": '{"a": 1}', "note": "so so"}),
    ]
    found = labelled(task, said)
    assert [row.toDict() for row in found.rows.values()] == [{"text": "as JSON", "tags": ["a", "b"], "note": "[1]"}]
    assert found.left_out == {"with values that the task does not have": 2}
