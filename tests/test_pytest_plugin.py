"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import progspace

TESTS = """
import dspy, pytest
import progspace as ps
from progspace.tests.conftest import Mood, RuleEngine, make_artifact

rows = [{"text": f"{'sun' if i % 2 else 'rain'} on day {i}", "mood": "glad" if i % 2 else "sad"} for i in range(100)]
task = ps.Task(program=dspy.Predict(Mood), examples=rows, metric=ps.metrics.choice("mood"), name="mood")
better = dspy.Predict(Mood.with_instructions("Look closely."))

def rule(prompt):
    asked = prompt.rsplit("[[ ## text ## ]]", 1)[-1]
    mood = "glad" if "sun" in asked and "Look" in prompt else "sad"
    return f"[[ ## mood ## ]]\\n{mood}\\n\\n[[ ## completed ## ]]"

lm = RuleEngine(rule).lm()

def test_better(assert_no_worse, tmp_path):
    assert assert_no_worse(better, "baseline", task, lm=lm, store=tmp_path / "s.db").mended

def test_worse(assert_no_worse, tmp_path):
    assert_no_worse("baseline", better, task, lm=lm, store=tmp_path / "s.db")

def test_skipped(assert_no_worse, tmp_path):
    few = rows[:1]
    assert_no_worse(better, "baseline", task, lm=lm, store=tmp_path / "s.db", data=few, cannot_tell="skip")

def test_few(assert_no_worse, tmp_path):
    assert_no_worse(better, "baseline", task, lm=lm, store=tmp_path / "s.db", data=rows[:1])

def test_tagged(assert_no_worse, make_artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make_artifact(tmp_path / "x.progspace.json", task.program, instruction="Look closely.")
    ps.Registry().add(made, tags=["prod"])
    assert "@prod − baseline: +" in str(assert_no_worse("@prod", "baseline", task, lm=lm))

def test_wrong(assert_no_worse, tmp_path):
    with pytest.raises(ps.DataError, match="cannot_tell is"):
        assert_no_worse(better, "baseline", task, lm=lm, cannot_tell="maybe")
"""


def test_worse_programs_fail_a_test(tmp_path: Path) -> None:
    (tmp_path / "test_programs.py").write_text(TESTS)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "progspace.pytest_plugin",
            "-p",
            "no:cacheprovider",
            "-v",
            "test_programs.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    told = {
        name: line.split()[1]
        for line in done.stdout.splitlines()
        for name in ("better", "worse", "skipped", "few", "tagged", "wrong")
        if line.startswith(f"test_programs.py::test_{name} ")
    }
    assert told == {
        "better": "PASSED", "worse": "FAILED", "skipped": "SKIPPED", "few": "FAILED", "tagged": "PASSED",
        "wrong": "PASSED",
    }  # fmt: skip
    assert "that broke" in done.stdout
    assert "Traceback" not in done.stdout


def test_the_plugin_costs_nothing_until_it_is_used() -> None:
    script = (
        "import sys, progspace.pytest_plugin\n"
        "print(sorted({'dspy', 'scipy', 'numpy', 'sqlalchemy', 'pydantic', 'typer'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]"


def test_the_entry_point_is_the_plugin() -> None:
    project = (Path(progspace.__file__).parent / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\nprogspace = "progspace.pytest_plugin"\n' in project
