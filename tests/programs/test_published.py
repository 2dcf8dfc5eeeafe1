"""Files as the benchmarks publish them, written anew in their forms."""

from __future__ import annotations

import json
from pathlib import Path

import dspy
import pytest

import progspace as ps
from progspace.cli.arguments import find_task
from progspace.programs.published import bbh, gsm8k, squad


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_bbh_with_few_targets_is_a_choice(tmp_path: Path) -> None:
    rows = [{"input": f"not ( True ) and {n} is", "target": "True" if n % 2 else "False"} for n in range(60)]
    path = write(tmp_path / "boolean_expressions.json", {"canary": "…", "examples": rows})
    task = find_task(f"bbh:{path}")
    assert task.name == "boolean-expressions"
    assert len(task.train) + len(task.dev) + task.test_size == 60
    (predictor,) = task.program.predictors()
    assert predictor.signature.output_fields["answer"].annotation.__args__ == ("False", "True")
    assert predictor.signature.instructions == "Answer the question: boolean expressions."


def test_bbh_with_many_targets_is_free_text(tmp_path: Path) -> None:
    rows = [{"input": f"Sort: b{n} a{n}", "target": f"a{n} b{n}"} for n in range(60)]
    task = bbh(write(tmp_path / "word_sorting.json", {"examples": rows}), seed=1)
    (predictor,) = task.program.predictors()
    assert predictor.signature.output_fields["answer"].annotation is str
    assert task.seed == 1


def test_gsm8k_gives_the_number_and_the_reasoning(tmp_path: Path) -> None:
    lines = [
        json.dumps(
            {"question": f"{n} +\u2028 1?", "answer": f"It is {n}+1 = <<{n}+1={n + 1}>>{n + 1}.\n#### {n + 1:,}"},
            ensure_ascii=False,
        )
        for n in range(1000, 1060)
    ]
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("\n".join(lines[:50]), encoding="utf-8")
    test.write_text("\n".join(lines[50:]), encoding="utf-8")
    task = gsm8k(train, test=test)
    assert task.test_size == 10
    example = next(each for each in (*task.train, *task.dev) if each.question == "1007 +\u2028 1?")
    assert example.reasoning == "It is 1007+1 = 1008."
    assert task.metric(example, dspy.Prediction(answer="The answer is 1,008.")).score == 1
    assert task.metric(example, dspy.Prediction(answer="1007")).score == 0


def test_squad_takes_any_answer_and_wants_abstentions(tmp_path: Path) -> None:
    def question(n: int) -> dict[str, object]:
        answers = [] if n % 3 == 0 else [{"text": f"year {n}", "answer_start": 0}, {"text": f"{n}", "answer_start": 5}]
        return {"id": str(n), "question": f"When was {n}?", "is_impossible": not answers, "answers": answers}

    paragraphs = [{"context": f"In year {n}, it was.", "qas": [question(n)]} for n in range(1, 61)]
    task = squad(write(tmp_path / "train-v2.0.json", {"version": "v2.0", "data": [{"paragraphs": paragraphs}]}))
    rows = {each.question: each for each in (*task.train, *task.dev, *task.unseal_test("a test"))}
    assert len(rows) == 60
    told = rows["When was 1?"]
    assert told.passage == "In year 1, it was."
    assert [task.metric(told, dspy.Prediction(answer=said)).score for said in ("1", "Year 1", "2")] == [1, 1, 0]
    untold = rows["When was 3?"]
    assert [task.metric(untold, dspy.Prediction(answer=said)).score for said in ("unanswerable", "3")] == [1, 0]


@pytest.mark.parametrize("kind", ["bbh", "gsm8k", "squad"])
@pytest.mark.parametrize("content", ["", "[]", "{", '{"examples": 3, "data": 3}', '{"question": "?", "answer": "3"}'])
def test_another_file_is_told_of(kind: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ps.DataError):
        find_task(f"{kind}:{path}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ps.DataError, match=r"none\.json: cannot be read"):
        squad(tmp_path / "none.json")
