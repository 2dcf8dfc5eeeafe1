"""Known benchmarks are read as they are distributed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import dspy
import pytest

import progspace as ps
from progspace.benchmarks import core
from progspace.benchmarks.known import read_known
from progspace.benchmarks.suites import SUITES, Entry


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def kind(known: Any) -> Any:
    (field,) = known.signature.output_fields.values()
    return field.annotation


def test_big_bench_hard(tmp_path: Path) -> None:
    rows = [{"input": f"not {bool(i % 2)} is", "target": str(not i % 2)} for i in range(20)]
    known = read_known(written(tmp_path / "boolean.json", {"canary": "…", "examples": rows}))
    assert get_origin(kind(known)) is Literal
    assert set(get_args(kind(known))) == {"True", "False"}
    assert known.rows[0] == {"question": "not False is", "answer": "True"}
    assert known.metric(dspy.Example(known.rows[0]), dspy.Prediction(answer="true")).score == 1


def test_squad(tmp_path: Path) -> None:
    asked = {"question": "Where?", "answers": [{"text": "Bergen"}, {"text": "in Bergen"}]}
    unanswerable = {"question": "When?", "answers": [], "is_impossible": True}
    paragraphs = [{"context": "It rains in Bergen.", "qas": [asked, unanswerable]}]
    known = read_known(written(tmp_path / "dev.json", {"version": "v2.0", "data": [{"paragraphs": paragraphs}]}))
    assert list(known.signature.input_fields) == ["passage", "question"]
    (row,) = known.rows
    assert known.metric(dspy.Example(row), dspy.Prediction(answer="in Bergen")).score == 1


def test_gsm8k(tmp_path: Path) -> None:
    lines = [{"question": "How many?", "answer": "2 × 600 = <<2*600=1200>>1200\n#### 1,200"}] * 3
    known = read_known(written(tmp_path / "train.jsonl", "".join(json.dumps(line) + "\n" for line in lines)))
    assert kind(known) is int
    assert known.rows[0] == {"question": "How many?", "answer": 1200}


def test_rows_with_named_fields(tmp_path: Path) -> None:
    text = "id,text,label\n" + "".join(f"{i},review {i},{'good' if i % 2 else 'bad'}\n" for i in range(20))
    known = read_known(written(tmp_path / "reviews.csv", text), ["text"], "label")
    assert set(get_args(kind(known))) == {"good", "bad"}
    assert set(known.rows[0]) == {"text", "label"}
    free = "text,said\n" + "".join(f"{i},something else each time {i}\n" for i in range(20))
    assert kind(read_known(written(tmp_path / "free.csv", free), ["text"], "said")) is str


def test_a_saved_dataset(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is missing: pip install datasets")
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
    rows = {"text": [f"review {i}" for i in range(20)], "label": [i % 2 for i in range(20)]}
    datasets.DatasetDict(train=datasets.Dataset.from_dict(rows, features=features)).save_to_disk(tmp_path / "saved")
    known = read_known(tmp_path / "saved", ["text"], "label")
    assert known.rows[1] == {"text": "review 1", "label": "good"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", {"rows": []}, "neither of SQuAD"),
        ("a.json", {"data": [{"title": "no paragraphs"}]}, "not as SQuAD is"),
        ("a.json", "{", "cannot be read as JSON"),
        ("a.csv", "text,label\nx,y\n", "say which fields"),
        ("a.xml", "<a/>", "format is not known"),
    ],
)
def test_what_is_none_of_them_is_told(tmp_path: Path, name: str, content: Any, told: str) -> None:
    with pytest.raises(ps.DataError, match=told):
        read_known(written(tmp_path / name, content))


def test_a_missing_field_is_named_with_its_row(tmp_path: Path) -> None:
    lines = [{"text": "a", "label": "x"}, {"text": "b"}]
    path = written(tmp_path / "rows.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ps.DataError, match=r"row 2.*label"):
        read_known(path, ["text"], "label")


def test_a_score_card_is_made_and_compared_with_an_earlier_one(
    tmp_path: Path, mood: Any, mood_rows: Any, rule_engine: Any
) -> None:
    from contextlib import nullcontext

    def rule(prompt: str) -> str:
        return "glad" if prompt.endswith("Mood:") and "sun" in prompt.rsplit("Text:", 1)[-1] else "sad"

    task = ps.Task(program=dspy.Predict(mood), examples=mood_rows, metric=ps.metrics.choice("mood"), name="mood")
    entry = Entry("mood", lambda data, seed: nullcontext(task), 120, public=False)
    lines = core.run(entry, None, 0, tmp_path / "store.db", rule_engine(rule).lm())
    declared, compiled = lines
    assert (declared["optimizer"], compiled["optimizer"]) == ("baseline", "progspace")
    assert compiled["score"] == 1.0 > declared["score"]
    assert compiled["difference"] == pytest.approx(compiled["score"] - declared["score"])
    assert len(compiled["scores"]) == compiled["n_test"]
    assert "mood" in core.table(lines)
    earlier = [{**compiled, "scores": declared["scores"], "score": declared["score"]}]
    assert "100.0 %" in core.comparison(lines, earlier)


def test_the_quick_suite_needs_no_data_but_ours() -> None:
    assert not any(entry.public for entry in SUITES["quick"])
