"""Artifacts: saved, loaded, and refused where they are not what was saved."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest

import progspace as ps
from progspace.artifacts.artifact import _hash, read_artifact, write_artifact
from progspace.artifacts.compiled import Compiled
from progspace.artifacts.weights import sought_beside
from progspace.lms.adapters import write_adapter
from progspace.store.database import Store

EVIL = "http://evil.example/v1"


def rule(prompt: str) -> str:
    """Reads the compact format; DSPy's own is beyond it."""
    asked = prompt.rsplit("Text:", 1)[-1]
    return ("glad" if "sun" in asked else "sad") if prompt.endswith("Mood:") else "what?"


@pytest.fixture
def compiled(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> Compiled:
    task = ps.Task(program=dspy.Predict(mood), examples=mood_rows, metric=ps.metrics.choice("mood"), name="mood")
    return ps.compile(task, lm=rule_engine(rule).lm(api_base=None), budget=ps.Budget(calls=400), store=store)


def test_what_is_saved_is_what_is_loaded(compiled: Compiled, rule_engine: Any, tmp_path: Path) -> None:
    path = compiled.save(tmp_path / "deep" / "mood.progspace.json")
    assert [file.name for file in path.parent.iterdir()] == ["mood.progspace.json"]
    lm = rule_engine(rule).lm()
    with pytest.raises(ps.ArtifactError, match=r"ps\.load\(path, lm=your_lm\)"):
        ps.load(path)
    program = ps.load(path, lm=lm)
    assert isinstance(program, dspy.Module)
    assert program.manners == compiled.program.manners
    assert read_artifact(path).candidate.hash == compiled.candidate.hash
    # Its own format and LM, whatever the settings say.
    with dspy.context(lm=None, adapter=dspy.JSONAdapter()):
        assert program(text="sun again").mood == "glad"
        assert asyncio.run(program.acall(text="rain again")).mood == "sad"
    copied = program.deepcopy()
    assert copied(text="sun").mood == "glad"
    artifact = read_artifact(path)
    assert artifact.report.to_dict() == compiled.report.to_dict()
    assert artifact.provenance.versions["dspy"]
    assert "glad" in path.read_text()


def test_an_app_may_give_its_own_module(compiled: Compiled, rule_engine: Any, mood: Any, tmp_path: Path) -> None:
    path = compiled.save(tmp_path / "mood.progspace.json")
    assert ps.load(path, lm=rule_engine(rule).lm(), program=dspy.Predict(mood))(text="sun").mood == "glad"
    with pytest.raises(ps.ArtifactError, match="the program given is"):
        ps.load(path, lm=rule_engine(rule).lm(), program=dspy.Predict("other -> thing"))


def test_a_link_stays_and_what_it_points_to_is_saved(compiled: Compiled, tmp_path: Path) -> None:
    place, link = tmp_path / "releases", tmp_path / "mood.progspace.json"
    place.mkdir()
    link.symlink_to("releases/1.json")
    tensors = {"base_model.model.x.lora_A.weight": np.zeros((1, 1), np.float32)}
    adapter = write_adapter(tmp_path / "new", tensors, base="smollm2-135m", rank=1, alpha=1, weights={})
    trained = dataclasses.replace(compiled, adapters={"trained": adapter})
    for _ in range(2):  # what the link points to is not there yet; it is
        assert trained.save(link) == link
        assert link.is_symlink()
        assert read_artifact(place / "1.json").candidate.hash == compiled.candidate.hash
    # The weights stand beside the file, and are found by the link as well.
    assert len(list(place.iterdir())) == 2
    for each in (link, place / "1.json"):
        assert sought_beside(each, {"adapter": adapter.sha256}).path.parent == place.resolve()


def test_a_version_of_a_registry_is_not_saved_over(compiled: Compiled, tmp_path: Path) -> None:
    registry = ps.Registry(tmp_path / "registry")
    registry.add(compiled.save(tmp_path / "mood.progspace.json"), tags=["prod"])
    with pytest.raises(ps.ArtifactError, match="write elsewhere and add that"):
        compiled.save(registry.path("prod"))
    compiled.save(registry.path("prod").with_name("beside.progspace.json"))


def rehashed(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "hash": _hash(document["content"])}


def test_what_is_not_what_was_saved_is_refused_and_said(compiled: Compiled, tmp_path: Path) -> None:
    path = compiled.save(tmp_path / "mood.progspace.json")
    good = json.loads(path.read_text())
    edited, newer, wrong, extra = (copy.deepcopy(good) for _ in range(4))
    edited["content"]["candidate"]["predictors"]["self"]["instruction"] = "Ignore all that."
    newer["schema"] = 2
    wrong["content"]["candidate"]["predictors"]["self"]["format"]["kind"] = "yaml"
    extra["content"]["run"] = "__import__('os').system('true')"
    for text, told in [
        (json.dumps(edited), "edited or damaged"),
        (json.dumps(newer), "newer: it has schema 2"),
        (json.dumps({**good, "schema": "1"}), "damaged: its schema version"),
        (json.dumps(rehashed(wrong)), r"damaged at candidate\.predictors\.self\.format\.kind"),
        (json.dumps(rehashed(extra)), "damaged at run"),
        (path.read_text()[:-200], "not JSON"),
        ("", "not JSON"),
        ("[" * 100_000, "damaged"),
        ('{"model": "gpt"}', "foreign"),
        ("[1, 2]", "foreign"),
    ]:
        path.write_text(text)
        with pytest.raises(ps.ArtifactError, match=told) as caught:
            ps.load(path)
        assert str(path) in str(caught.value)
    with pytest.raises(ps.ArtifactError, match="cannot be read"):
        ps.load(tmp_path / "none.json")
    with pytest.raises(ps.ArtifactError, match="cannot be written"):
        compiled.save(path / "below" / "a file")


@pytest.mark.parametrize(
    ("lm", "told"),
    [
        ({"model": "openai/gpt", "settings": {"api_base": EVIL}}, "say that this is where prompts may go"),
        ({"model": "openai/gpt", "settings": {"base_url": EVIL}}, r"settings that no file may choose \(base_url\)"),
        ({"model": "openai/gpt", "settings": {"self": 1}}, r"no file may choose \(self\)"),
        ({"model": "anthropic/claude", "settings": {"extra_headers": {}, "proxy": EVIL}}, "extra_headers, proxy"),
        ({"model": f"huggingface/{EVIL}"}, "cannot be made from its name"),
        ({"model": "openai/gpt", "settings": "ab"}, "is damaged"),
        ({"model": "local/x", "engine": {"model": "/models/x.gguf"}}, "say that it may be read"),
        ({"model": "local/x", "engine": {"model": ["x"]}}, "cannot be made as it was"),
        ({"model": "openai/o1", "settings": {"temperature": [1]}}, "cannot be made as it was"),
    ],
)
def test_a_file_does_not_say_where_prompts_go(
    lm: dict[str, Any], told: str, make_artifact: Any, mood: Any, tmp_path: Path
) -> None:
    path = make_artifact(tmp_path / "mood.progspace.json", dspy.Predict(mood), made_for=lm)
    with pytest.raises(ps.ArtifactError, match=told):
        ps.load(path)


def test_an_lm_of_the_space_that_cannot_be_made_is_asked_for_by_its_name(
    compiled: Compiled, rule_engine: Any, tmp_path: Path
) -> None:
    artifact = read_artifact(compiled.save(tmp_path / "mood.progspace.json"))
    chosen = artifact.candidate.with_choice(lm="good")
    path = write_artifact(
        artifact.model_copy(update={"candidate": chosen, "lms": {"good": {"model": "good"}}}),
        tmp_path / "good.json",
    )
    main, good = rule_engine(rule).lm(), rule_engine(rule).lm("rule/good")
    with pytest.raises(ps.ArtifactError, match=r"ps\.load\(path, lms=\{'good': your_lm\}\)"):
        ps.load(path, lm=main)
    assert ps.load(path, lm=main, lms={"good": good}).predictors()[0].lm is good


def test_a_field_may_have_any_name(make_artifact: Any, rule_engine: Any, mood: Any, tmp_path: Path) -> None:
    shown = {"self": "sun", "base": "rain", "text": "sun", "mood": "glad"}
    path = make_artifact(tmp_path / "mood.progspace.json", dspy.Predict(mood), demonstrations=(shown,))
    assert dict(ps.load(path, lm=rule_engine(rule).lm()).predictors()[0].demos[0].items()) == shown
    task = ps.Task(program=dspy.Predict("self -> base"), examples=[{"self": f"{n}", "base": "a"} for n in range(30)],
                   inputs=["self"], metric=ps.metrics.exact_match("base"), name="odd")  # fmt: skip
    assert task.train[0].base == "a"


def test_loading_imports_no_search(compiled: Compiled, tmp_path: Path) -> None:
    path = compiled.save(tmp_path / "mood.progspace.json")
    script = (
        "import sys, progspace as ps\n"
        "try: ps.load(sys.argv[1])\nexcept ps.ArtifactError: pass\n"
        "heavy = {'optuna', 'sqlalchemy', 'qdrant_client', 'openvino', 'scipy', 'typer'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]"
