"""Versions on the command line, with the embedded LM on the ready-made task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest

from progspace.benchmarks.fault_server import KEY, serving
from progspace.lms.identity import lm_identity
from progspace.programs import sentiment
from progspace.programs.formats import Format
from progspace.store.database import open_store
from progspace.store.traces import Trace, put_feedback, put_traces
from progspace.tests.command_line import progspace


@pytest.fixture
def folder(make_artifact: Callable[..., Path], tmp_path: Path, local_lm: dspy.LM) -> Path:
    module, lm = dspy.Predict(sentiment.Sentiment), lm_identity(local_lm)
    rows = [json.dumps(dict(row)) for row in sentiment.task().train[:6]]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    scored = Format(kind="compact", decoding="scored")
    biased = scored.model_copy(update={"decoding": "calibrated", "biases": (("negative", 50.0), ("positive", 0.0))})
    for name, format_ in (("old", scored), ("new", biased)):
        make_artifact(tmp_path / f"{name}.progspace.json", module, made_for=lm, format=format_, instruction=f"{name}.")
    return tmp_path


def test_versions_from_the_first_to_a_rollback(folder: Path) -> None:
    added = [
        json.loads(
            progspace("registry", "add", f"{name}.progspace.json", "--tag", "prod", "--json", folder=folder).stdout
        )
        for name in ("old", "new")
    ]
    old, new = (version["hash"] for version in added)
    listed = progspace("registry", "list", folder=folder)
    assert all(len(line) <= 80 for line in listed.stdout.splitlines())
    assert listed.stdout.index(new[:12]) < listed.stdout.rindex(old[:12])
    shown = json.loads(progspace("registry", "show", "prod", "--json", folder=folder).stdout)
    assert (shown["tags"], shown["lineage"]) == (["prod"], [new, old])
    assert (folder / shown["path"]).is_file()
    assert progspace("registry", "tag", "first", old[:8], folder=folder).returncode == 0
    assert json.loads(progspace("registry", "rollback", "prod", "--json", folder=folder).stdout)["hash"] == old
    assert "(rollback)" in progspace("registry", "show", "prod", folder=folder).stdout
    for arguments, told in [
        (("registry", "rollback", "prod"), "never named another version"),
        (("registry", "tag", "../x", old[:8]), "is no tag"),
        (("registry", "show", "none"), "there is no version"),
        (("diff", "@none", "@prod"), "there is no version"),
        (("diff", "@prod", "new.progspace.json", "--each"), "a task is needed"),
    ]:
        failed = progspace(*arguments, folder=folder)
        assert (failed.returncode, told in " ".join(failed.stderr.split())) == (2, True), failed.stderr

    # The biased one is what was rolled back: diff says why, and which change did it.
    command = ("diff", "@prod", f"@{new[:8]}", "sentiment", "--data", "rows.jsonl", "--each", "--json")
    done = progspace(*command, folder=folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [change["what"] for change in told["changes"]] == ["instruction", "decoding", "calibration"]
    effects = told["effects"]
    assert list(effects) == ["all changes", "predictor self, instruction alone", "predictor self, format alone"]
    assert all(effect["n"] == 6 for effect in effects.values())
    assert (
        effects["predictor self, instruction alone"]["difference"] == 0
    )  # it always says the same, whatever it is told
    changed = effects["all changes"]["broken"] + effects["all changes"]["mended"]
    assert changed
    assert {change["new"]["sentiment"] for change in changed} == {"positive"}


def test_a_recompile_wants_new_rows(folder: Path) -> None:
    before = (folder / "new.progspace.json").read_bytes()
    few = progspace("recompile", "new.progspace.json", "sentiment", "--data", "rows.jsonl", folder=folder)
    assert (few.returncode, "rows are new to the task" in " ".join(few.stderr.split())) == (2, True), few.stderr
    with open_store(folder / "runs.db") as store:
        rows = {"review": "The jokes are stale."}, {"sentiment": "negative"}
        put_traces(store, [Trace("1", "shop", "v", 1.0, 0.1, inputs=rows[0], outputs=rows[1], whole=True)])
        put_feedback(store, "1", labels=rows[1])
    watched = ("--traces", "--name", "shop", "--store", "runs.db")
    few = progspace("recompile", "new.progspace.json", "sentiment", *watched, folder=folder)
    assert (few.returncode, "1 of 1 traces gave a row" in " ".join(few.stderr.split())) == (2, True), few.stderr
    assert (folder / "new.progspace.json").read_bytes() == before


MOODS = """
import dspy, progspace as ps
from progspace.tests.conftest import Mood
rows = [{"text": f"{'sun' if i % 2 else 'rain'} on day {i}", "mood": "glad" if i % 2 else "sad"} for i in range(60)]
task = ps.Task(dspy.Predict(Mood), rows, metric=ps.metrics.choice("mood"), name="mood")
"""


def test_a_tag_stands_wherever_an_artifact_does(
    make_artifact: Callable[..., Path], mood: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At an endpoint that answers by a rule: right in the compact format, and always ``glad`` in DSPy's own."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("PROGSPACE_API_KEY", raising=False)
    (tmp_path / "moods.py").write_text(MOODS)
    new = [
        {"text": f"{'sun' if i % 2 else 'rain'} on day {i}", "mood": "glad" if i % 2 else "sad"} for i in range(60, 120)
    ]
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, new)))
    make_artifact(tmp_path / "mood.progspace.json", dspy.Predict(mood))

    def told(*arguments: str) -> Any:
        done = progspace(*arguments, "--json", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def answer(body: Any) -> str:
        prompt = "".join(message["content"] for message in body["messages"])
        if prompt.endswith("Mood:"):
            return "glad" if "sun" in prompt.rsplit("Text:", 1)[-1] else "sad"
        return "[[ ## mood ## ]]\nglad\n\n[[ ## completed ## ]]"

    old = told("registry", "add", "mood.progspace.json", "--tag", "prod")["hash"]
    assert told("registry", "add", "@prod", "--tag", "canary")["tags"] == ["canary", "prod"]
    assert told("inspect", "@prod") == told("inspect", "mood.progspace.json")
    refused = progspace("serve", "@prod", "--lm", "openai/rule", "--host", "0.0.0.0", folder=tmp_path)  # noqa: S104
    assert "set PROGSPACE_API_KEY" in " ".join(refused.stderr.split())
    with serving(answer=answer) as server:
        at = ("--lm", "openai/rule", "--base-url", server.url)
        assert told("run", "@prod", "text=sun again", *at) == {"mood": "glad"}
        command = ["recompile", "@prod", "moods.py:task", "--data", "new.jsonl", "--calls", "60", "--test-rows", "4"]
        done = progspace(*command, *at, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "@prod names the new one now." in done.stdout
    shown = told("registry", "show", "prod")
    assert (shown["tags"], shown["lineage"][1:]) == (["prod"], [old])
    assert told("registry", "show", "canary")["hash"] == old
