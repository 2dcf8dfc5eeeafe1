"""The gate on the command line, with the embedded LM on the ready-made task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import dspy
import pytest

from progspace.lms.identity import lm_identity
from progspace.programs import sentiment
from progspace.programs.formats import Format
from progspace.tests.command_line import progspace


@pytest.fixture
def folder(local_lm: dspy.LM, make_artifact: Callable[..., Path], tmp_path: Path) -> Path:
    """A program that reads reviews, and one that is so biased that it always says the same."""
    module, lm = dspy.Predict(sentiment.Sentiment), lm_identity(local_lm)
    # Most of the rows are what the biased one never says.
    train = sorted(sentiment.task().train, key=lambda row: row.sentiment)
    rows = [json.dumps(dict(row)) for row in [*train[:32], *train[-4:]]]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    scored = Format(kind="compact", decoding="scored")
    biased = scored.model_copy(update={"decoding": "calibrated", "biases": (("negative", 50.0), ("positive", 0.0))})
    for name, format_ in (("good", scored), ("bad", biased)):
        make_artifact(tmp_path / f"{name}.progspace.json", module, made_for=lm, format=format_)
    return tmp_path


def test_a_gate_in_ci(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    good, bad = "good.progspace.json", "bad.progspace.json"
    rows = ("sentiment", "--data", "rows.jsonl")
    gate = (*rows, "--fail-if-worse", "--margin", "0.05")
    refused = progspace("compare", bad, good, *gate, "--json", "--junit", "out/gate.xml", folder=folder)
    assert refused.returncode == 1, refused.stderr
    told = json.loads(refused.stdout)["gate"]
    assert told["verdict"] == "worse"
    assert len(told["broken"]) >= 5
    suite = ElementTree.parse(folder / "out" / "gate.xml").getroot()[0]  # noqa: S314 — our own
    assert suite.get("failures") == str(1 + len(told["broken"]))
    assert "❌ worse" in (folder / "summary.md").read_text()

    let_through = progspace("compare", good, bad, *gate, "--markdown", "gate.md", folder=folder)
    assert (let_through.returncode, "no worse" in let_through.stdout) == (0, True), let_through.stderr
    assert "✅ no worse" in (folder / "gate.md").read_text()
    assert len((folder / "summary.md").read_text().split("<h3>")) == 3
    assert all(len(line) <= 80 for line in let_through.stdout.splitlines())

    # Three rows show nothing; whether that stops a merge is the user's choice.
    (folder / "few.jsonl").write_text("".join((folder / "rows.jsonl").read_text().splitlines(True)[:3]))
    few = ("compare", good, bad, "sentiment", "--data", "few.jsonl")
    unsure = progspace(*few, "--fail-if-worse", folder=folder)
    assert (unsure.returncode, "It would take about" in " ".join(unsure.stdout.split())) == (3, True)
    assert progspace(*few, "--fail-if-worse", "--cannot-tell", "pass", folder=folder).returncode == 0
    assert progspace(*few, folder=folder).returncode == 0
    for wrong, said in [(("--margin", "2"), "the margin is a loss"), (("--junit", "rows.jsonl/x"), "rows.jsonl")]:
        failed = progspace(*few, *wrong, folder=folder)
        assert (failed.returncode, said in failed.stderr, "Traceback" in failed.stderr) == (2, True, False)
