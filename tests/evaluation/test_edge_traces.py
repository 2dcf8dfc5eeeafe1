"""Edge cases of a running program: what went wrong in its calls, and rows made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from typer.testing import CliRunner

import progspace as ps
from progspace.cli import app
from progspace.errors import DataError
from progspace.programs.formats import Format
from progspace.store.database import open_store
from progspace.store.traces import Trace, put_traces
from progspace.tests.evaluation.test_edge_cases import ROWS, Letters

MOODS = """
import dspy, progspace as ps
from progspace.tests.conftest import Mood
from progspace.tests.evaluation.test_edge_cases import ROWS

task = ps.Task(dspy.Predict(Mood), ROWS, metric=ps.metrics.choice("mood"), name="mood")
"""


def logprobs(prompt: str, choice: str) -> float:
    """Errs in the hills, where it is not sure."""
    asked = prompt.rsplit("Text:", 1)[-1].splitlines()[0]
    glad = ("sun" in asked) != ("hills" in asked)
    return 0.0 if (choice.strip() == "glad") == glad else -0.1 if "hills" in asked else -3.0


@pytest.fixture
def task(mood: Any) -> ps.Task:
    return ps.Task(program=dspy.Predict(mood), examples=ROWS, metric=ps.metrics.choice("mood"), name="mood")


@pytest.fixture
def lived(task: ps.Task, make_artifact: Any, rule_engine: Any, tmp_path: Path) -> Path:
    """A store that a watched program has left traces in: of 60 calls, 12 of them in the hills, two of these judged."""
    scored = Format(kind="compact", decoding="scored")
    file = make_artifact(tmp_path / "mood.progspace.json", task.program, format=scored)
    program = ps.watch(
        ps.load(file, lm=rule_engine(str, logprobs=logprobs).lm()), store=tmp_path / "runs.db", content=True
    )
    rows = [{**row, "text": f"{row['text']} again"} for row in ROWS[:60]]
    hills = [row for row in rows if "hills" in row["text"]]
    said = {row["text"]: program(text=row["text"]) for row in rows}
    program(text="sun over the sea")
    program(text=hills[0]["text"])
    for row in hills[:2]:
        program.feedback(said[row["text"]], labels={"mood": row["mood"]})
    program.close()
    with open_store(tmp_path / "runs.db") as store:
        put_traces(store, [Trace("bare", "mood", "v", 1.0, 0.1, error="LMError", unreadable=1, retries=1)])
    return tmp_path


def test_what_went_wrong_in_an_app_and_the_rows_it_makes(task: ps.Task, lived: Path, rule_engine: Any) -> None:
    found = ps.edge_cases(task, traces=lived / "runs.db", embedder=Letters())
    assert (found.rows, found.programs) == (63, 0)
    by_why: dict[str, set[str]] = {}
    for case in found.cases:
        for why in case.why:
            by_why.setdefault(why, set()).add(case.inputs.get("text", case.example))
    hills = {f"{row['text']} again" for row in ROWS[:60] if "hills" in row["text"]}
    assert by_why["unsure"] == hills  # one of them was asked twice, and stands there once
    assert len(by_why["judged wrong"]) == 2
    assert by_why["far"] >= {"sun over the sea"}
    assert by_why["failed"] == by_why["unreadable"] == by_why["retried"] == {"bare"}
    assert found.score == pytest.approx(1 - 14 / 63)  # what is only far is no trouble
    weak = [each for each in found.slices if each.weak]
    assert any(each.by == "cluster" and "hills" in each.value for each in weak)
    assert any("hills" in each.name and each.cases == 12 for each in found.clusters)
    text = str(found)
    assert "77.8 % of 63 calls without trouble" in text
    assert "1 of 63 traces do not hold the task's inputs" in text
    assert "inputs were not kept" in text

    # The labelled ones are a suite, the others are to be labelled; what was labelled there stays.
    assert found.suite(lived / "hard.jsonl", task) == 2
    assert {row.mood for row in task.read(lived / "hard.jsonl")} <= {"glad", "sad"}
    file = lived / "open.jsonl"
    assert found.to_label(file, task) == len(found.unlabelled) == len(found.cases) - 3
    first, *others = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert set(first) == {"text", "edge_case"}
    assert "hills" in first["text"]
    assert first["edge_case"]["wanted"] == ["mood"]
    lm = rule_engine(str, logprobs=logprobs).lm()
    program = ps.load(lived / "mood.progspace.json", lm=lm)
    with pytest.raises(DataError, match="field 'mood': the label is missing"):  # not labelled yet is no wrong answer
        ps.compare(program, program, task, lm=lm, data=file, store=":memory:")
    file.write_text("".join(json.dumps(row) + "\n" for row in [{**first, "mood": "sad"}, *others]), encoding="utf-8")
    assert found.to_label(file, task) == 0
    assert task.read(file)[0].mood == "sad"
    with pytest.raises(DataError, match="neither data nor a program"):
        ps.edge_cases(task, traces=lived / "runs.db", data=ROWS[:5])
    with pytest.raises(DataError, match="no trace of 'other'"):
        ps.edge_cases(task, traces=lived / "runs.db", name="other")


def test_on_the_command_line(lived: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lived)
    Path("moods.py").write_text(MOODS)
    command = ["edge-cases", "moods.py:task", "--traces", "--store", "runs.db", "--embedder", "none"]
    command += ["--program", "mood.progspace.json", "--suite", "hard.jsonl", "--to-label", "open.jsonl"]
    done = CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)
    assert (told["rows"], told["suite"]["added"], told["to_label"]["added"]) == (62, 2, 10)  # not the other version's
    shown = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert "0 rows are new in open.jsonl" in shown
    assert "12 edge cases, 2 of them with a label" in " ".join(shown.split())
