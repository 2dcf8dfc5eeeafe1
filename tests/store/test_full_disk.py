"""A disk that fills in the middle of a search: a clear error, the store intact, and nothing bought twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DISK = 4_000_000  # bytes

SEARCH = """
import errno, json, sys
from pathlib import Path
import dspy, progspace as ps
from progspace.store.database import open_store
from progspace.store.upkeep import check
from progspace.tests.conftest import Mood, RuleEngine

disk, rows = Path(sys.argv[1]), json.loads(sys.argv[2])
task = ps.Task(program=dspy.Predict(Mood), examples=rows, metric=ps.metrics.choice("mood"), name="mood")

def fill():
    with (disk / "other").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC

asked = []
def rule(prompt):
    asked.append(prompt)
    if len(asked) == full_after:
        fill()
    if not prompt.endswith("Mood:"):
        return "what?"
    return "glad" if "sun" in prompt.rsplit("Text:", 1)[-1] else "sad"

def search(where):
    asked.clear()
    compiled = ps.compile(task, lm=RuleEngine(rule).lm(), budget=ps.Budget(calls=300), store=where)
    return [compiled.candidate.hash, [(rung.choice, rung.dev.score, rung.calls) for rung in compiled.report.rungs]]

full_after = None
told = {"wanted": search(":memory:"), "in_all": len(asked)}
full_after = 100
try:
    search(disk / "runs.db")
except ps.StoreError as error:
    told["error"] = str(error)
full_after = None
(disk / "other").unlink()
with open_store(disk / "runs.db") as store:
    told |= {"faults": list(check(store)), "stored": store.count("answers")}
told |= {"found": search(disk / "runs.db"), "asked_again": len(asked)}
print(json.dumps(told))
"""


def test_a_full_disk_stops_the_search_and_loses_nothing(tmp_path: Path, mood_rows: list[dict[str, str]]) -> None:
    bwrap = shutil.which("bwrap")
    small = [bwrap or "", "--dev-bind", "/", "/", "--size", str(DISK), "--tmpfs", str(tmp_path), "--"]
    if bwrap is None or subprocess.run([*small, "true"], capture_output=True).returncode:
        pytest.skip("bubblewrap, which makes the small disk, is missing or not allowed: apt-get install bubblewrap")
    ran = subprocess.run(
        [*small, sys.executable, "-c", SEARCH, str(tmp_path), json.dumps(mood_rows)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert "full" in told["error"]
    assert "nothing stored before is lost" in told["error"]
    assert told["faults"] == []
    assert told["stored"] >= 50
    assert told["found"] == told["wanted"]
    assert told["stored"] + told["asked_again"] == told["in_all"]
