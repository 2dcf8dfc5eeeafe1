"""Some hundred of the spoilt artifacts and requests of the benchmark; and its audit hook hears what it should."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("uvicorn", reason="serving is missing: pip install 'progspace[serve]'")

_HEARD = """
import pathlib, pickle, socket, subprocess, sys
from progspace.benchmarks.fuzz_artifacts import Audit
audit, tried = Audit(), 0
bad = [
    lambda: exec("1"),
    lambda: eval("1"),
    lambda: pathlib.Path(sys.argv[1]).write_text("x"),
    lambda: subprocess.run(["true"]),
    lambda: socket.socket().connect_ex(("127.0.0.1", 9)),
    lambda: pickle.loads(b"cos\\nsystem\\n."),
    lambda: __import__("wave"),
]
for each in bad:
    before = len(audit.heard)
    with audit.listening():
        each()
    assert len(audit.heard) > before, each
    tried += 1
heard = len(audit.heard)
eval("1")
assert len(audit.heard) == heard
with audit.listening():
    pathlib.Path(sys.argv[1]).read_text()
assert len(audit.heard) == heard
print(tried)
"""


def test_the_audit_hook_hears_what_runs_and_no_more(tmp_path: object) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _HEARD, f"{tmp_path}/x"], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (told.stdout.strip(), told.stderr) == ("7", "")


def test_what_is_spoilt_crashes_nothing_and_runs_nothing() -> None:
    command = [sys.executable, "-m", "progspace.benchmarks.fuzz", "--cases", "200", "--seed", "7", "--show"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    artifacts, requests, raw = map(json.loads, run.stdout.splitlines())
    assert sum(artifacts["outcomes"].values()) == 2 * 200  # with an LM given, and by the one that it names
    assert artifacts["outcomes"]["a program"] > 30
    assert sum(requests["outcomes"].values()) == sum(raw["outcomes"].values()) == 200
    for found in (requests, raw):
        assert {"200", "400", "404", "415", "422"} <= set(found["outcomes"])
