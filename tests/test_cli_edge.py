"""Edge cases and robustness on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from typer.testing import CliRunner

import progspace as ps
from progspace.cli import app
from progspace.lms.identity import lm_identity
from progspace.programs import sentiment
from progspace.programs.formats import Format
from progspace.store.database import open_store

TASK = """
import dspy, progspace as ps

ROWS = [{"text": f"{'sun' if i % 2 else 'rain'} on day {i}", "mood": "glad" if i % 2 else "sad"} for i in range(100)]

def task():
    return ps.Task(dspy.Predict("text -> mood"), ROWS, metric=ps.metrics.exact_match("mood"), name="mood")
"""


def test_a_store_is_read_without_an_lm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule_engine: Any, mood_rows: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("moods.py").write_text(TASK)
    task = ps.Task(dspy.Predict("text -> mood"), mood_rows, metric=ps.metrics.exact_match("mood"), name="mood")

    def rule(prompt: str) -> str:
        answer = "sad" if "day 9" in prompt or "rain" in prompt else "glad"
        return f"[[ ## mood ## ]]\n{answer}\n\n[[ ## completed ## ]]"

    with open_store("runs.db") as store:
        ps.evaluate(task.program, task, lm=rule_engine(rule).lm(), store=store)
    command = ["edge-cases", "moods.py:task", "--store", "runs.db", "--embedder", "none", "--suite", "days.jsonl"]
    done = CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)
    wrong = {row.text for row in task.dev if "sun" in row.text and "day 9" in row.text}
    assert {case["inputs"]["text"] for case in told["cases"]} == wrong
    assert told["suite"] == {"file": "days.jsonl", "added": len(wrong)}
    shown = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert "0 rows are new in days.jsonl" in shown
    assert len(task.read("days.jsonl")) == len(wrong)


def test_robustness_of_a_program_on_the_embedded_lm(
    local_lm: dspy.LM, make_artifact: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [dict(row) for row in sentiment.task().dev[:12]]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    module, scored = dspy.Predict(sentiment.Sentiment), Format(kind="compact", decoding="scored")
    make_artifact(tmp_path / "x.progspace.json", module, made_for=lm_identity(local_lm), format=scored)
    command = ["robustness", "x.progspace.json", "sentiment", "--data", "rows.jsonl", "--perturbation", "case"]
    told = json.loads(CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False).stdout)
    (case,) = told["perturbed"]
    assert (told["fields"], case["test"]["n"], told["original"]["n"]) == (["review"], 12, 12)
    assert case["test"]["difference"] == pytest.approx(case["test"]["mean_a"] - case["test"]["mean_b"])
    assert told["worst"] <= min(case["test"]["mean_a"], case["test"]["mean_b"])
