"""Modules as data: they come back as they were, and a hostile file brings nothing to run."""

from __future__ import annotations

import copy
import enum
import json
import sys
from typing import Any, Literal

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, field_validator

import progspace as ps
from progspace.programs.structure import describe, restore, structure_hash


class Kind(enum.Enum):
    ONE = "one"
    TWO = 2


class Inner(BaseModel):
    name: str
    tags: list[str] | None = None


class Outer(BaseModel):
    inner: Inner
    score: float = 0.5


class Guarded(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def check(cls, value: str) -> str:
        return value


class Node(BaseModel):
    next: Node | None = None


SIMPLE = st.sampled_from([str, int, float, bool, Any, Literal["a", "b"], Literal[1, True, "x"], Kind, Inner, Outer])
TYPES = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        inner.map(lambda t: list[t]),
        inner.map(lambda t: dict[str, t]),
        inner.map(lambda t: t | None if t is not Any else t),
        st.tuples(inner, inner).map(lambda ts: tuple[ts]),
    ),
    max_leaves=4,
)
NAMES = st.sampled_from(["text", "label", "score", "people", "a_b"])


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(NAMES, TYPES, min_size=1), st.text(min_size=1), st.sampled_from([dspy.Predict, dspy.ChainOfThought])
)
def test_a_signature_comes_back(types: dict[str, Any], instructions: str, module: Any) -> None:
    fields: dict[str, Any] = {"given": (str, dspy.InputField(desc="what is given"))}
    fields |= {name: (annotation, dspy.OutputField()) for name, annotation in types.items()}
    original = module(dspy.Signature(fields, instructions.strip() or "Do."))
    told = json.loads(json.dumps(describe(original)))
    assert told["kind"] == module.__name__
    again = restore(told)
    assert type(again) is module
    assert describe(again) == describe(original)
    assert structure_hash(again) == structure_hash(original)
    (one,), (other,) = original.predictors(), again.predictors()
    assert one.signature.instructions == other.signature.instructions
    for name in one.signature.fields:
        mine, theirs = one.signature.fields[name], other.signature.fields[name]
        assert mine.json_schema_extra == theirs.json_schema_extra
        assert TypeAdapter(mine.annotation).json_schema() == TypeAdapter(theirs.annotation).json_schema()


class Own(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")


class Wants(dspy.Module):
    def __init__(self, signature: str) -> None:
        super().__init__()
        self.answer = dspy.Predict(signature)


@pytest.mark.parametrize("annotation", [Guarded, Node, dspy.Image, list[Guarded]])
def test_a_type_that_is_code_needs_the_apps_own_module(annotation: Any) -> None:
    signature = dspy.Signature({"text": (str, dspy.InputField()), "out": (annotation, dspy.OutputField())})
    told = describe(dspy.Predict(signature))
    assert told == {"kind": "class", "path": "dspy.predict.predict:Predict"}
    with pytest.raises(ps.ArtifactError, match="program="):
        restore(told)
    assert restore(told, program=dspy.Predict(signature)).signature is signature


def test_an_own_class_is_looked_up_among_what_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "own_modules", sys.modules[__name__])
    for owner in (Own, Wants):
        monkeypatch.setattr(owner, "__module__", "own_modules")
    assert isinstance(restore(describe(Own())), Own)
    with pytest.raises(ps.ArtifactError, match="without arguments"):
        restore(describe(Wants("a -> b")))
    given = Wants("a -> b")
    assert restore(describe(given), program=given) is not given
    with pytest.raises(ps.ArtifactError, match="was compiled from own_modules:Own, and the program given is"):
        restore(describe(Own()), program=given)


def test_another_program_is_refused() -> None:
    with pytest.raises(ps.ArtifactError, match="with other fields or instructions"):
        restore(describe(dspy.Predict("a -> b")), program=dspy.Predict("a -> c"))


GOOD = describe(dspy.Predict("text -> label"))


def changed(**path: Any) -> dict[str, Any]:
    document = copy.deepcopy(GOOD)
    for keys, value in path.items():
        at: Any = document
        *parents, last = [int(key) if key.isdigit() else key for key in keys.split("__")]
        for key in parents:
            at = at[key]
        at[last] = value
    return document


def deep(levels: int) -> Any:
    return {"scalar": "str"} if levels == 0 else {"container": "list", "of": [deep(levels - 1)]}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kind": "Exec"},
        {"kind": "class", "path": "os:system"},
        {"kind": "class", "path": "subprocess:Popen"},
        {"kind": "class", "path": "builtins:eval"},
        {"kind": "class", "path": "no_such_module:Thing"},
        {"kind": "class", "path": "dspy:Predict.__init__.__globals__"},
        {"kind": "class", "path": "__import__('os')"},
        changed(kind="ProgramOfThought"),
        changed(extra=1),
        changed(signature__fields__0__name="__class__"),
        changed(signature__fields__0__name="a b"),
        changed(signature__fields__0__role="tool"),
        changed(signature__fields__0__type={"scalar": "object"}),
        changed(signature__fields__0__type={"literal": []}),
        changed(signature__fields__0__type={"container": "dict", "of": [{"scalar": "str"}]}),
        changed(signature__fields__0__type={"model": "M", "fields": [{"name": "__init__", "type": {"scalar": "str"}}]}),
        changed(signature__fields__0__type=deep(25)),
        changed(signature__fields__0__type=deep(200)),
        changed(signature__fields=[GOOD["signature"]["fields"][0]] * 300),
        changed(signature__instructions=None),
    ],
    ids=lambda document: str(document)[:40],
)
def test_a_hostile_structure_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ps.ArtifactError):
        restore(document)


def test_the_hash_follows_state_and_source() -> None:
    hashes = {structure_hash(dspy.Predict("text -> label"))}
    for change in ("demos", "instructions", "config", "kind"):
        module: Any = dspy.ChainOfThought("text -> label") if change == "kind" else dspy.Predict("text -> label")
        if change == "demos":
            module.demos = [dspy.Example(text="a", label="b")]
        elif change == "instructions":
            module.signature = module.signature.with_instructions("Otherwise.")
        elif change == "config":
            module.config = {"temperature": 1.0}
        hashes.add(structure_hash(module))
    assert len(hashes) == 5
