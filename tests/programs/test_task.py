from __future__ import annotations

from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.programs import sentiment
from progspace.programs.candidate import Candidate

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


class MayAsk(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tell = dspy.Predict("text -> mood")

    def forward(self, text: str, asked: str | None = None) -> dspy.Prediction:
        return self.tell(text=f"{asked or ''} {text}")


def test_an_input_may_be_none_where_its_type_says_so(mood_rows: list[dict[str, str]]) -> None:
    rows = [{"asked": None, **row} for row in mood_rows]
    for program in (dspy.Predict("text, asked: Optional[str] -> mood"), MayAsk()):
        task = ps.Task(program=program, examples=rows, inputs=["text", "asked"], metric=METRIC)
        assert task.train[0].asked is None
    for program in (dspy.Predict("text, asked: dict[str, Any] -> mood"), Chain()):
        with pytest.raises(ps.DataError, match=r"row 1, field 'asked': the input is empty"):
            ps.Task(program=program, examples=rows, inputs=["text", "asked"], metric=METRIC)
    with pytest.raises(ps.DataError, match=r"field 'text': the input is empty"):
        ps.Task(program=MayAsk(), examples=[{**row, "text": None} for row in rows], inputs=["text"], metric=METRIC)


def own_metric(example: Any, prediction: Any) -> bool:
    return bool(example.mood == prediction.mood)


def test_a_few_rows_without_a_label_are_named(mood: Any, mood_rows: list[dict[str, str]]) -> None:
    rows: list[dict[str, Any]] = [dict(row) for row in mood_rows]
    del rows[7]["mood"]
    rows[9]["mood"] = None
    with pytest.raises(ps.DataError, match=r"2 of 100 rows") as caught:
        ps.Task(program=dspy.Predict(mood), examples=rows, metric=METRIC)
    assert "row 8, field 'mood': the label is missing; it has 'text'" in str(caught.value)
    assert "row 10, field 'mood': the label is empty (null)" in str(caught.value)
    with pytest.raises(ps.DataError, match="row 8, field 'mood'"):
        ps.Task(program=dspy.Predict(mood), examples=mood_rows, test=rows[:30], metric=METRIC)


def test_further_rows_are_read_with_or_without_their_label(mood: Any, mood_rows: list[dict[str, str]]) -> None:
    task = ps.Task(program=dspy.Predict(mood), examples=mood_rows, metric=METRIC)
    assert [row.text for row in task.read([{"text": "sun"}])] == ["sun"]
    assert [row.mood for row in task.read([{"text": "sun", "mood": "glad"}], labelled=True)] == ["glad"]
    with pytest.raises(ps.DataError, match="row 1, field 'mood': the label is missing"):
        task.read([{"text": "sun"}], labelled=True)
    own = ps.Task(program=dspy.Predict(mood), examples=mood_rows, metric=own_metric)
    assert own.read([{"text": "sun"}], labelled=True)  # its metric may do without


def test_a_label_may_be_lacking_where_it_is_not_wanted(mood: Any, mood_rows: list[dict[str, str]]) -> None:
    bare = [{"text": row["text"]} for row in mood_rows]
    with pytest.raises(ps.DataError, match=r"100 of 100 rows(.|\n)*the label is missing; did you mean 'Mood'\?"):
        ps.Task(program=dspy.Predict(mood), examples=[{**row, "Mood": "sad"} for row in bare], metric=METRIC)
    judged = ps.metrics.judge(dspy.Predict("text, mood -> score: float"))
    for metric, examples in (
        (own_metric, bare),
        (own_metric, [*mood_rows[:50], *bare[50:]]),
        (own_metric, [*mood_rows[:99], *bare[99:]]),
        (judged, [*mood_rows[:99], *bare[99:]]),
    ):
        assert ps.Task(program=dspy.Predict(mood), examples=examples, metric=metric).train
    rows = [{**row, "mood": None if number == 3 else row["mood"]} for number, row in enumerate(mood_rows)]
    assert ps.Task(program=dspy.Predict("text -> mood: str | None"), examples=rows, metric=METRIC).train


def test_the_ready_made_task_is_balanced_and_its_own() -> None:
    task = sentiment.task()
    examples = [*task.train, *task.dev, *task.unseal_test("a test")]
    assert sum(example.sentiment == "positive" for example in examples) * 2 == len(examples)
    assert task.splits.notes == ()


class Hinted(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tell = dspy.Predict("text, hint -> label")

    def forward(self, text: str, hint: str = "none") -> Any:
        return self.tell(text=text, hint=hint)


class TakesAll(Hinted):
    def forward(self, **inputs: Any) -> Any:
        return self.tell(**inputs)


@pytest.mark.parametrize(
    "program", [Hinted(), TakesAll(), dspy.Predict("text, hint -> label"), dspy.ReAct("text, hint -> label", tools=[])]
)
def test_a_program_is_given_what_it_takes_or_the_task_tells_what(program: dspy.Module) -> None:
    rows = [{"text": str(i), "hint": "so so", "label": "x", "id": i} for i in range(60)]
    whole, part = (
        ps.Task(program, rows, inputs, metric=ps.metrics.exact_match("label"))
        for inputs in (["hint", "text"], ["text"])
    )
    assert (whole.given(program), part.given(program)) == (None, ("text",))
    assert part.given(Candidate.declared(program).apply(program)) == ("text",)
    bare = [{name: value for name, value in row.items() if name != "hint"} for row in rows]
    assert ps.Task(program, bare, ["text"], metric=ps.metrics.exact_match("label")).given(program) is None
