"""Published benchmarks and files of rows are compiled by one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

import progspace as ps
from progspace.benchmarks import core
from progspace.benchmarks.known import known_task
from progspace.benchmarks.shown.suites import suite
from progspace.benchmarks.suites import SUITES, Entry
from progspace.evaluation.numbers import percent


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def kind(task: ps.Task) -> Any:
    (field,) = task.program.signature.output_fields.values()
    return field.annotation


def test_a_published_benchmark_is_drawn_from_and_its_test_stays_sealed(tmp_path: Path) -> None:
    for name, count in (("train", 60), ("test", 30)):
        lines = [{"question": f"{name} {i} × 2?", "answer": f"it is {2 * i}\n#### {2 * i}"} for i in range(count)]
        written(tmp_path / f"{name}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    test = str(tmp_path / "test.jsonl")
    task = known_task(f"gsm8k:{tmp_path}/train.jsonl", test=test, rows=40, test_rows=20)
    assert len(task.train) + len(task.dev) == 40
    sealed = task.unseal_test("how many there are")
    assert len(sealed) == 20
    assert all(row.question.startswith("test") for row in sealed)
    again = known_task(f"gsm8k:{tmp_path}/train.jsonl", test=test, rows=40, test_rows=20, seed=1)
    assert {row.question for row in again.unseal_test("the same")} == {row.question for row in sealed}


def test_rows_with_named_fields(tmp_path: Path) -> None:
    text = "id,text,label\n" + "".join(f"{i},review {i},{'good' if i % 2 else 'bad'}\n" for i in range(80))
    task = known_task(str(written(tmp_path / "reviews.csv", text)), ["text"], "label")
    assert get_origin(kind(task)) is Literal
    assert set(get_args(kind(task))) == {"good", "bad"}
    assert set(task.train[0].toDict()) == {"text", "label"}
    assert len(task.unseal_test("how many there are")) == 40  # half of them
    free = "text,said\n" + "".join(f"{i},something else each time {i}\n" for i in range(80))
    assert kind(known_task(str(written(tmp_path / "free.csv", free)), ["text"], "said")) is str
    numbers = "".join(json.dumps({"text": f"{i} × 2", "twice": 2 * i}) + "\n" for i in range(80))
    assert kind(known_task(str(written(tmp_path / "numbers.jsonl", numbers)), ["text"], "twice")) is int


def test_a_saved_dataset(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is missing: pip install datasets")
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
    rows = {"text": [f"review {i}" for i in range(80)], "label": [i % 2 for i in range(80)]}
    datasets.DatasetDict(train=datasets.Dataset.from_dict(rows, features=features)).save_to_disk(tmp_path / "saved")
    task = known_task(str(tmp_path / "saved"), ["text"], "label")
    assert {row.label for row in task.train} == {"good", "bad"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [("a.csv", "text,label\nx,y\n", "say which fields"), ("a.xml", "<a/>", "format is not known")],
)
def test_what_is_none_of_them_is_told(tmp_path: Path, name: str, content: str, told: str) -> None:
    with pytest.raises(ps.DataError, match=told):
        known_task(str(written(tmp_path / name, content)))


def test_a_missing_field_is_named_with_its_row(tmp_path: Path) -> None:
    lines = [{"text": "a", "label": "x"}, {"text": "b"}]
    path = written(tmp_path / "rows.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ps.DataError, match=r"row 2.*label"):
        known_task(str(path), ["text"], "label")


def test_a_score_card_is_made_and_compared_with_an_earlier_one(tmp_path: Path, rule_engine: Any, task: ps.Task) -> None:
    from contextlib import nullcontext

    def rule(prompt: str) -> str:
        return "glad" if prompt.endswith("Mood:") and "sun" in prompt.rsplit("Text:", 1)[-1] else "sad"

    entry = Entry("mood", lambda data, seed: nullcontext(task), 120, public=False)
    lines = core.run(entry, None, 0, tmp_path / "store.db", rule_engine(rule).lm())
    declared, compiled = lines
    assert (declared["optimizer"], compiled["optimizer"]) == ("baseline", "progspace")
    assert compiled["score"] == 1.0 > declared["score"]
    assert compiled["difference"] == pytest.approx(compiled["score"] - declared["score"])
    assert len(compiled["scores"]) == compiled["n_test"]
    earlier = [{**compiled, "scores": declared["scores"], "score": declared["score"]}]
    shown = suite("mood", "mood.jsonl", lines, earlier)
    table, against, card = shown.tables
    assert shown.count("win") == 1
    assert table.rows[0][:3] == ("mood", percent(declared["score"]), "100.0 %")
    assert against.rows[0][1:3] == (percent(declared["score"]), "100.0 %")
    assert {"shorter inputs", "typos of inputs", "failed rows"} <= {row[0] for row in card.rows}
    assert "earlier version" in core.table(lines, earlier)


def test_the_quick_suite_needs_no_data_but_ours() -> None:
    assert not any(entry.public for entry in SUITES["quick"])
