"""`progspace compile --finetune`: what the training takes is told first, and nobody is trained unasked."""

from __future__ import annotations

import json
from pathlib import Path

import dspy
import pytest

from progspace.tests.command_line import progspace

TASK = """
import dspy, progspace as ps
from importlib.resources import files
from progspace.programs.sentiment import Sentiment
def task():
    rows = str(files("progspace.programs") / "data" / "sentiment.jsonl")
    return ps.Task(dspy.Predict(Sentiment, max_tokens=8), rows, metric=ps.metrics.choice("sentiment"), name="sentiment")
"""
NARROW = json.dumps(
    {"formats": ["compact"], "decodings": ["scored"], "instructions": [], "demonstrations": [], "votes": [1],
     "answers": ["direct"]}
)  # fmt: skip


@pytest.mark.usefixtures("trainable")
def test_a_dry_run_tells_what_the_training_takes(local_lm: dspy.LM, tmp_path: Path) -> None:
    done = progspace("compile", "sentiment", "--finetune", "--dry-run", "--calls", "500", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (note,) = [note for note in json.loads(done.stdout)["forecast"]["notes"] if note.startswith("Training")]
    assert "min on this machine" in note
    assert list(tmp_path.glob("*.safetensors")) == []


@pytest.mark.usefixtures("trainable")
def test_without_a_terminal_to_ask_on_nothing_is_trained(local_lm: dspy.LM, tmp_path: Path) -> None:
    (tmp_path / "reviews.py").write_text(TASK)
    done = progspace(
        "compile", "reviews.py:task", "--finetune", "--calls", "500", "--test-rows", "5", "--space", NARROW, "--json",
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no terminal to ask on: give --yes to train" in " ".join(done.stderr.split())
    notes = json.loads(done.stdout)["report"]["notes"]
    assert any("the training was not confirmed" in note for note in notes)
    assert [file.name for file in tmp_path.glob("*.safetensors")] == []
