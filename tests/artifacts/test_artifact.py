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
from progspace.lms.identity import lm_identity
from progspace.programs.candidate import Candidate, known_lms
from progspace.store.database import Store

EVIL = "http://evil.example/v1"


def rule(prompt: str) -> str:
    """Reads the compact format; DSPy's own is beyond it."""
    asked = prompt.rsplit("Text:", 1)[-1]
    return ("glad" if "sun" in asked else "sad") if prompt.endswith("Mood:") else "what?"


@pytest.fixture
def compiled(rule_engine: Any, store: Store, task: ps.Task) -> Compiled:
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


class Exclaims(dspy.Module):
    def __init__(self, marks: int = 1) -> None:
        super().__init__()
        self.marks = marks
        self.tell = dspy.Predict("text -> mood")

    def forward(self, text: str) -> dspy.Prediction:
        return self.tell(text=text + "!" * self.marks)


NARROW = ps.Space(formats=["compact"], instructions=[], demonstrations=[], answers=["direct"], votes=[1])


def searched_in(store: Store, program: dspy.Module, rows: Any, lm: dspy.BaseLM) -> Compiled:
    task = ps.Task(program=program, examples=rows, inputs=["text"], metric=ps.metrics.choice("mood"), name="mood")
    return ps.compile(task, lm=lm, budget=ps.Budget(calls=100), store=store, space=NARROW)


def test_an_lm_that_a_predictor_has_of_its_own_is_part_of_the_program(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any, tmp_path: Path
) -> None:
    large, small = rule_engine(rule), rule_engine(lambda _: "glad")
    module = dspy.Predict(mood)
    module.set_lm(large.lm("rule/large"))
    compiled = searched_in(store, module, mood_rows, small.lm("rule/small"))
    assert not small.prompts
    path = compiled.save(tmp_path / "mood.progspace.json")
    assert read_artifact(path).lms.keys() == {"rule/large"}
    with pytest.raises(ps.ArtifactError, match=r"ps\.load\(path, lms=\{'rule/large': your_lm\}\)"):
        ps.load(path, lm=small.lm())
    asked = len(large.prompts)
    given = ps.load(path, lm=small.lm(), lms={"rule/large": large.lm("rule/large")})
    own = ps.load(path, lm=small.lm(), program=module)
    for program in (compiled.program, given, own, compiled.candidate.apply(module, small.lm())):
        assert program(text="rain on day 1").mood == "sad"
    assert len(large.prompts) > asked
    assert not small.prompts


def test_where_an_lm_of_its_own_is_asked_the_apps_instance_says(make_artifact: Any, mood: Any, tmp_path: Path) -> None:
    here, there = (dspy.LM("openai/gpt", api_base=f"http://{place}.example") for place in ("here", "there"))
    module = dspy.Predict(mood)
    path = make_artifact(tmp_path / "mood.progspace.json", module, made_for={"model": "openai/gpt"}, lm="openai/gpt")
    write_artifact(read_artifact(path).model_copy(update={"lms": {"openai/gpt": lm_identity(there)}}), path)
    with pytest.raises(ps.ArtifactError, match=r"lms=\{'openai/gpt': ps.lm\('openai/gpt', base_url='http://there"):
        ps.load(path, program=module)
    module.set_lm(here)
    assert lm_identity(ps.load(path, program=module).predictors()[0].lm) == lm_identity(here)


def test_lms_of_one_model_with_other_settings_have_names_of_their_own(rule_engine: Any) -> None:
    lm = rule_engine(rule).lm
    chain = dspy.Module()
    chain.one, chain.two, chain.three = (dspy.Predict("text -> mood") for _ in range(3))
    chain.one.lm, chain.two.lm, chain.three.lm = lm(temperature=0.1), lm(temperature=0.9), lm(temperature=0.1)
    named = known_lms(chain, {"space": lm("rule/two")})
    assert list(named) == ["space", "rule/one", "rule/one (2)"]
    whole = Candidate.declared(chain).complete(chain, named)
    assert [choice.lm for choice in whole.predictors.values()] == ["rule/one", "rule/one (2)", "rule/one"]


def test_what_an_instance_has_beside_its_class_is_loaded_or_asked_for(
    rule_engine: Any, store: Store, mood_rows: Any, tmp_path: Path
) -> None:
    engine = rule_engine(rule)
    module = Exclaims()
    module.tell.signature = module.tell.signature.with_instructions("Found before: look for the weather.")
    module.tell.update_config(temperature=0.3)
    compiled = searched_in(store, module, mood_rows, engine.lm())
    path = compiled.save(tmp_path / "mood.progspace.json")
    prompts = []
    for program in (compiled, ps.load(path, lm=engine.lm()), ps.load(path, lm=engine.lm(), program=Exclaims())):
        program(text="sun again")
        prompts.append(engine.prompts[-1])
    assert "look for the weather" in prompts[0]
    assert prompts[1:] == prompts[:1] * 2
    assert ps.load(path, lm=engine.lm()).predictors()[0].config == {"temperature": 0.3}
    path = searched_in(store, Exclaims(marks=3), mood_rows, engine.lm()).save(tmp_path / "loud.progspace.json")
    with pytest.raises(ps.ArtifactError, match=r"with marks=3, .* ps\.load\(path, program=Exclaims\(marks=3\)\)"):
        ps.load(path, lm=engine.lm())
    assert ps.load(path, lm=engine.lm(), program=Exclaims(marks=3)).module.marks == 3


class Exclaiming(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.exclaim, self.tell = Exclaims(), dspy.Predict("text -> mood")

    def forward(self, text: str) -> dspy.Prediction:
        self.exclaim(text=text)
        return self.tell(text=text)


def test_an_instance_with_a_frozen_part_is_asked_for(make_artifact: Any, rule_engine: Any, tmp_path: Path) -> None:
    module = Exclaiming()
    module.exclaim._compiled = True  # as a teleprompter leaves it: no predictor of the whole
    path = make_artifact(tmp_path / "mood.progspace.json", module)
    lm = rule_engine(rule).lm()
    with pytest.raises(ps.ArtifactError, match=r"frozen.*ps\.load\(path, program=Exclaiming\(…\)\)"):
        ps.load(path, lm=lm)
    assert list(ps.load(path, lm=lm, program=module).named_predictors())


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


def test_half_a_character_that_an_lm_wrote_comes_back(make_artifact: Any, mood: Any, tmp_path: Path) -> None:
    path = make_artifact(tmp_path / "mood.progspace.json", dspy.Predict(mood), made_for={"model": "openai/gpt"})
    artifact = read_artifact(path)
    candidate = artifact.candidate.with_choice(instruction="Half a \ud83d, whole \U0001f600.")
    write_artifact(artifact.model_copy(update={"candidate": candidate}), path)
    assert read_artifact(path).candidate == candidate
    assert read_artifact(path).candidate.hash == candidate.hash != artifact.candidate.hash
    assert "whole \U0001f600" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("made_for", "told"),
    [
        ({"settings": {"api_base": "https://me:s3cret@host/v1"}}, "at https://host/v1;"),  # pragma: allowlist secret
        ({"model_type": "text"}, "model_type='text'"),
        (lm_identity(dspy.LM("openai/gpt", response_format=Candidate)), "no file may choose .response_format_class"),
    ],
)
def test_an_lm_that_no_file_may_make_is_asked_for(
    make_artifact: Any, mood: Any, tmp_path: Path, made_for: dict[str, Any], told: str
) -> None:
    path = make_artifact(
        tmp_path / "a.progspace.json", dspy.Predict(mood), made_for={"model": "openai/gpt", **made_for}
    )
    with pytest.raises(ps.ArtifactError, match=told) as caught:
        ps.load(path)
    assert "s3cret" not in str(caught.value)
