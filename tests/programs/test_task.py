from __future__ import annotations

from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.programs import sentiment

METRIC = ps.metrics.choice("mood")


def test_a_task_says_what_it_is(mood: Any, mood_rows: list[dict[str, str]]) -> None:
    program = dspy.Predict(mood)
    task = ps.Task(program=program, examples=mood_rows, metric=METRIC)
    assert task.inputs == ("text",)
    assert task.name == "predict"
    assert len(task.train) + len(task.dev) + task.test_size == 100
    assert task.identity == ps.Task(program=program, examples=mood_rows[::-1], metric=METRIC).identity
    assert task.identity != ps.Task(program=program, examples=mood_rows, metric=METRIC, seed=1).identity


def test_the_test_split_is_sealed_and_remembers_who_read_it(mood: Any, mood_rows: list[dict[str, str]]) -> None:
    task = ps.Task(program=dspy.Predict(mood), examples=mood_rows[:60], test=mood_rows[60:], metric=METRIC)
    assert task.unsealed == ()
    assert [example.text for example in task.unseal_test("curiosity")] == [row["text"] for row in mood_rows[60:]]
    assert task.unsealed == ("curiosity",)
    assert not hasattr(task, "test")


class Chain(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("question -> query")
        self.second = dspy.Predict("question, query -> answer")


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("text -> mood", r"dspy\.Predict\('text -> mood'\)"),
        (dspy.Signature("text -> mood"), r"is a signature: give a module"),
        (dspy.Predict, r"is a class: give an instance"),
        (len, "must be a dspy.Module"),
        (dspy.Module(), "has no predictor"),
    ],
)
def test_what_is_no_program_is_refused(program: Any, told: str, mood_rows: list[dict[str, str]]) -> None:
    with pytest.raises(ps.ProgramError, match=told):
        ps.Task(program=program, examples=mood_rows, metric=METRIC)


def test_inputs_are_checked(mood: Any, mood_rows: list[dict[str, str]]) -> None:
    with pytest.raises(ps.DataError, match="field 'txt': the signature has no such input; it has text"):
        ps.Task(program=dspy.Predict(mood), examples=mood_rows, inputs=["txt"], metric=METRIC)
    with pytest.raises(ps.DataError, match="a list of field names"):
        ps.Task(program=dspy.Predict(mood), examples=mood_rows, inputs="text", metric=METRIC)
    with pytest.raises(ps.DataError, match="several predictors"):
        ps.Task(program=Chain(), examples=mood_rows, metric=METRIC)
    rows = [dspy.Example(question=f"q{i}", answer="a").with_inputs("question") for i in range(40)]
    assert ps.Task(program=Chain(), examples=rows, metric=ps.metrics.exact_match("answer")).inputs == ("question",)
    with pytest.raises(ps.ProgramError, match="must be callable"):
        ps.Task(program=dspy.Predict(mood), examples=mood_rows, metric="accuracy")  # type: ignore[arg-type]


def test_the_ready_made_task_is_balanced_and_its_own() -> None:
    task = sentiment.task()
    examples = [*task.train, *task.dev, *task.unseal_test("a test")]
    assert sum(example.sentiment == "positive" for example in examples) * 2 == len(examples)
    assert task.splits.notes == ()
