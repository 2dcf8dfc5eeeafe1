"""Modules as data: they come back as they were, and a hostile file brings nothing to run."""

from __future__ import annotations

import copy
import enum
import importlib
import json
import linecache
import os
import random
import re
import string
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import dspy
import httpx
import numpy as np
import pytest
from dspy.adapters.types.decision import Choice
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, field_validator
from scipy import sparse

import progspace as ps
from progspace.programs import source, state
from progspace.programs.structure import describe, restore
from progspace.programs.structure_hash import structure_hash


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


class Text(str, enum.Enum):
    ONE = "one"


class Lenient(enum.Enum):
    ONE = "one"

    @classmethod
    def _missing_(cls, value: object) -> Lenient:
        return cls.ONE


class Documented(BaseModel):
    """Told in the prompt."""

    name: str


class Aliased(BaseModel):
    name: str = Field(alias="Name")


class Nests(BaseModel):
    text: Text


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
NAMES = st.sampled_from(["text", "label", "score", "people", "a_b", "größe"])


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(NAMES, TYPES, min_size=1),
    st.text(min_size=1),
    st.none() | st.text(),
    st.sampled_from([dspy.Predict, dspy.ChainOfThought]),
)
def test_a_signature_comes_back(types: dict[str, Any], instructions: str, desc: str | None, module: Any) -> None:
    fields: dict[str, Any] = {"given": (str, dspy.InputField(desc="what is given"))}
    told_by = {} if desc is None else {"desc": desc}
    fields |= {name: (annotation, dspy.OutputField(**told_by)) for name, annotation in types.items()}
    original = module(dspy.Signature(fields, instructions.strip() or "Do."))
    told = json.loads(json.dumps(describe(original)))
    assert told["kind"] == module.__name__
    again = restore(told)
    assert type(again) is module
    assert describe(again) == describe(original)
    assert structure_hash(again) == structure_hash(original)
    assert restore(told, program=original) is not original
    (one,), (other,) = original.predictors(), again.predictors()
    assert one.signature.instructions == other.signature.instructions
    assert list(one.signature.fields) == list(other.signature.fields)
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


class Raises(dspy.Module):
    def __init__(self) -> None:
        raise ConnectionError("no database")


def signature_of(annotation: Any, **field: Any) -> Any:
    return dspy.Signature({"text": (str, dspy.InputField()), "out": (annotation, dspy.OutputField(**field))}, "Do.")


@pytest.mark.parametrize(
    ("annotation", "field"),
    [
        *((code, {}) for code in (Guarded, Node, dspy.Image, dspy.Tool, dspy.History, list[Guarded])),
        # A file that left out any of these would bring back another program.
        *((lost, {}) for lost in (Text, list[Text], Nests, Lenient, Documented, Aliased, Literal[Text.ONE])),
        *((str, field) for field in ({"default": "x"}, {"max_length": 3})),
        (enum.Enum("Empty", []), {}),
    ],
)
def test_a_type_that_no_file_can_hold_needs_the_apps_own_module(annotation: Any, field: dict[str, Any]) -> None:
    signature = signature_of(annotation, **field)
    told = describe(dspy.Predict(signature))
    assert told == {"kind": "class", "path": "dspy.predict.predict:Predict", "signatures": told["signatures"]}
    assert re.fullmatch("[0-9a-f]{16}", told["signatures"]["self"])
    with pytest.raises(ps.ArtifactError, match=r"program=.*\), in Python \(progspace run and serve take none\)$"):
        restore(told)
    assert restore(told, program=dspy.Predict(signature)).signature is signature


@pytest.mark.parametrize("module", [dspy.Predict, dspy.ChainOfThought])
@pytest.mark.parametrize(
    "other",
    [
        signature_of(Guarded, desc="Another thing."),
        signature_of(dspy.Image, desc="A thing."),
        signature_of(str, max_length=9, desc="A thing."),
        signature_of(Guarded, desc="A thing.").append("more", dspy.OutputField()),
        signature_of(Guarded, desc="A thing.").prepend("more", dspy.InputField()),
    ],
)
def test_another_signature_that_no_file_can_hold_is_refused(module: Any, other: Any) -> None:
    signature = signature_of(Guarded, desc="A thing.")
    told = json.loads(json.dumps(describe(module(signature))))
    with pytest.raises(ps.ArtifactError, match="whose signature has other fields than the one of the program given"):
        restore(told, program=module(other))
    # Its instructions are the candidate's to tell; an artifact of an older release tells no fields.
    assert isinstance(restore(told, program=module(signature.with_instructions("Another thing."))), module)
    assert isinstance(restore({"kind": "class", "path": told["path"]}, program=module(other)), module)


def test_a_class_of_the_apps_whose_signature_has_changed_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = describe(Wants("question -> answer"))
    assert isinstance(restore(told, program=Wants("question -> answer")), Wants)
    assert not caplog.records
    assert isinstance(restore(told, program=Wants("question -> answer: int")), Wants)
    assert "the signature of answer has other fields" in caplog.text
    caplog.clear()
    own = describe(Own())
    monkeypatch.setattr(Own, "__init__", lambda self: setattr(self, "answer", dspy.Predict("question -> answer, why")))
    assert isinstance(restore(own), Own)
    assert "the signature of answer has other fields" in caplog.text


@pytest.mark.parametrize(
    "rationale", [{"rationale_field": dspy.OutputField(desc="In French.")}, {"rationale_field_type": int}]
)
def test_reasoning_of_the_authors_own_is_not_lost(rationale: dict[str, Any]) -> None:
    original = dspy.ChainOfThought("question -> answer", **rationale)
    told = describe(original)
    with pytest.raises(ps.ArtifactError, match=r"reasoning of its own.*ps\.load\(path, program=ChainOfThought"):
        restore(told)
    assert structure_hash(restore(told, program=original)) == structure_hash(original)


def test_values_are_of_the_apps_own_classes(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """``answer.kind is Kind.ONE`` holds of no member of another enumeration, whatever it is called."""
    original = dspy.Predict(signature_of(dict[str, tuple[Kind, Outer]]))
    told = json.loads(json.dumps(describe(original)))
    assert told["classes"] == {each.__name__: f"{__name__}:{each.__name__}" for each in (Kind, Outer, Inner)}
    assert restore(told).signature.output_fields["out"].annotation == dict[str, tuple[Kind, Outer]]
    assert not caplog.records
    before = restore({name: value for name, value in told.items() if name != "classes"})
    assert structure_hash(before) == structure_hash(original), "one of an older release"
    assert restore(told, program=original).signature is original.signature
    assert not caplog.records

    # One that has changed since, or is not at hand, is another.
    monkeypatch.setattr(sys.modules[__name__], "Kind", enum.Enum("Kind", [("ONE", "one"), ("TWO", "2")]))
    for path in (f"{__name__}:Kind", "no_such_module:Kind", "os:system"):
        other = restore({**told, "classes": {**told["classes"], "Kind": path}})
        kind = get_args(get_args(other.signature.output_fields["out"].annotation)[1])[0]
        assert (kind.__module__, [each.value for each in kind]) != (__name__, ["one", 2])
        assert f"in place of {path}" in caplog.text
        assert "program=" in caplog.text


def test_a_class_of_a_script_is_given_by_another_module() -> None:
    told = describe(Own())
    assert told["path"] == f"{__name__}:Own"
    script = {**told, "path": "__main__:Own"}
    with pytest.raises(
        ps.ArtifactError, match=r"of the script or notebook.*ps\.load\(path, program=Own\(…\)\)"
    ) as caught:
        restore(script)
    assert "import the module" not in str(caught.value)
    assert isinstance(restore(script, program=Own()), Own)
    with pytest.raises(ps.ArtifactError, match="was compiled from __main__:Own, and the program given is"):
        restore(script, program=Wants("question -> answer"))
    with pytest.raises(ps.ArtifactError, match="was compiled from elsewhere:Own, and the program given is"):
        restore({**told, "path": "elsewhere:Own"}, program=Own())


def test_a_private_signature_is_told() -> None:
    class _Private(dspy.Signature):
        """Do."""

        a: str = dspy.InputField()
        b: str = dspy.OutputField()

    told = describe(dspy.Predict(_Private))
    assert describe(restore(told)) == told


def test_an_own_class_is_looked_up_among_what_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "own_modules", sys.modules[__name__])
    for owner in (Own, Wants, Raises):
        monkeypatch.setattr(owner, "__module__", "own_modules")
    assert isinstance(restore(describe(Own())), Own)
    with pytest.raises(ps.ArtifactError, match="without arguments"):
        restore(describe(Wants("a -> b")))
    with pytest.raises(ps.ArtifactError, match="ConnectionError: no database"):
        restore({"kind": "class", "path": "own_modules:Raises"})
    monkeypatch.setattr(sys.modules[__name__], "Alias", Own, raising=False)
    with pytest.raises(ps.ArtifactError, match="has not imported"):
        restore({"kind": "class", "path": "own_modules:Alias"})
    given = Wants("a -> b")
    assert restore(describe(given), program=given) is not given
    with pytest.raises(ps.ArtifactError, match="was compiled from own_modules:Own, and the program given is"):
        restore(describe(Own()), program=given)


class Steps(dspy.Module):
    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most


class Counts(dspy.Module):
    def __init__(self, k: int = 1, style: str = "plain", folder: str = "/here", api_key: str = "none") -> None:
        super().__init__()
        self.k, self._style, self.folder, self.api_key = k, style, folder, api_key
        self.steps = Steps(k)
        self.made_at = os.urandom(4).hex()
        self.answer = dspy.Predict("question -> answer")


def test_an_instance_that_its_constructor_does_not_give_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"{__name__}:Counts"
    told = describe(Counts(k=3, style="formal", folder="/there", api_key="a secret"))
    # The same in every process; what differs from place to place, and what must stay here, is not told.
    assert told == {
        "kind": "class", "path": path, "held": {"k": "3", "style": "#8bfc2dc7853e9c9f", "steps.most": "3"},
        "signatures": {"answer": "5ef9424dda5a6aba"},  # pragma: allowlist secret
    }  # fmt: skip
    with pytest.raises(ps.ArtifactError, match=r"with k=3, style=…, steps\.most=3, .*program=Counts\(k=3, style=…\)\)"):
        restore(told)
    assert isinstance(restore({"kind": "class", "path": path}), Counts), "one of an older release"
    assert isinstance(restore(describe(Counts(folder="/there", api_key="a secret"))), Counts)
    assert structure_hash(restore(told, program=Counts(k=3, style="formal"))) != structure_hash(Counts())
    assert not caplog.records
    # What an app gives it may mean.
    assert isinstance(restore(told, program=Counts(k=2, style="formal")), Counts)
    assert "which had k=3, steps.most=3" in caplog.text

    def grown(self: Any, more: int = 5, k: int = 3) -> None:
        self.more, self.k, self.answer = more, k, dspy.Predict("question -> answer")

    monkeypatch.setattr(Counts, "__init__", grown)
    assert isinstance(restore(told), Counts), "its class has changed, and what both have is alike"


def test_looking_up_a_class_imports_and_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    lazy = ModuleType("lazy_module")
    lazy.__getattr__ = ran.append
    lazy.array = np.zeros(3)
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)
    before = set(sys.modules)
    for path in (
        "lazy_module:Thing",
        "lazy_module:Thing.part",
        "lazy_module:array",
        "antigravity:Thing",
        "progspace:compile",
    ):
        with pytest.raises(ps.ArtifactError, match="has not imported"):
            restore({"kind": "class", "path": path})
    assert ran == []
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (dspy.Predict("a, b -> d"), "the field c, the field d, the instructions"),
        (dspy.Predict("a, b: int -> c"), "differ in the field b$"),
        (dspy.Predict(dspy.Signature("b, a -> c", "Do.")), "the order of the fields, the instructions"),
        (dspy.ChainOfThought("a, b -> c"), "the program given is dspy.ChainOfThought of StringSignature"),
        (Own(), "the program given is .*:Own"),
    ],
)
def test_another_program_is_refused(given: dspy.Module, told: str) -> None:
    with pytest.raises(ps.ArtifactError, match=told):
        restore(describe(dspy.Predict("a, b -> c")), program=given)


def test_a_choice_of_one_is_no_choice_of_true() -> None:
    with pytest.raises(ps.ArtifactError, match="the field out"):
        restore(describe(dspy.Predict(signature_of(Literal[1]))), program=dspy.Predict(signature_of(Literal[True])))


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


@pytest.mark.filterwarnings("ignore:Field name:UserWarning")
@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        None,
        {"kind": "Exec"},
        {"kind": ["Predict"]},
        {"kind": "class"},
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
        changed(signature__fields__0__name="label"),  # there twice
        changed(signature__fields__0__name="model_config"),
        changed(signature__fields__0__name="input_fields"),
        changed(signature__name="__import__('os')"),
        changed(signature__name="__class__"),
        changed(signature__fields__0__role="tool"),
        changed(signature__fields__0__type={"scalar": "object"}),
        changed(signature__fields__0__type={"literal": []}),
        changed(signature__fields__0__type={"container": "dict", "of": [{"scalar": "str"}]}),
        changed(signature__fields__0__type={"model": "M", "fields": [{"name": "__init__", "type": {"scalar": "str"}}]}),
        changed(
            signature__fields__0__type={
                "model": "M",
                "fields": [{"name": "a", "type": {"scalar": "str"}, "required": "yes"}],
            }
        ),
        changed(signature__fields__0__type={"enum": "E", "members": [["mro", "a"]]}),
        changed(signature__fields__0__type={"enum": "E", "members": [["a", 1], ["a", 2]]}),
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


def test_a_damaged_structure_says_where() -> None:
    with pytest.raises(ps.ArtifactError, match=r"damaged at class\.path"):
        restore({"kind": "class", "path": "nothing"})
    with pytest.raises(ps.ArtifactError, match=r"damaged at Predict\.signature\.fields\.0\.name"):
        restore(changed(signature__fields__0__name="_a"))


def test_the_hash_sees_what_no_file_holds() -> None:
    """Two programs of one hash share their scores: what a prompt shows, or a frozen part answers, must tell."""
    plain, compiled, demonstrated = Own(), Own(), Own()
    for each in (compiled, demonstrated):
        each.answer = Own()
        each.answer._compiled = True
    demonstrated.answer.answer.demos = [dspy.Example(question="a", answer="b")]
    reworded = type("Documented", (Documented,), {"__doc__": "Told otherwise."})
    modules = [plain, compiled, demonstrated]
    modules += [dspy.Predict(signature_of(dspy.Image, desc=desc)) for desc in ("a", "b")]
    modules += [dspy.Predict(signature_of(annotation)) for annotation in (Documented, reworded, str)]
    modules += [dspy.Predict(signature_of(str, **field)) for field in ({"default": "x"}, {"max_length": 3})]
    assert len({structure_hash(module) for module in modules}) == len(modules)


HASHES = """
import dspy
from typing import Annotated
from pydantic import AfterValidator
from progspace.programs.structure_hash import structure_hash
def check(value): return value
Checked = Annotated[str, AfterValidator(check)]
checked = dspy.Signature({"a": (str, dspy.InputField()), "b": (Checked, dspy.OutputField())})
module = dspy.Predict(checked, stop={"p", "q", "r", "s"}, hook=check, nested=[{"k": (object(),)}])
module.demos = [{"a": {"p", "q", "r", "s"}, "b": object()}, dspy.Example(a=check, b=("x", {"y"}))]
print(structure_hash(module), structure_hash(dspy.ChainOfThought("text -> label")))
"""


def in_two_processes(script: str) -> set[str]:
    """What a script prints in processes that hash texts differently."""
    return {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }


def test_the_hash_is_the_same_in_every_process() -> None:
    told = in_two_processes(HASHES)
    assert len(told) == 1
    # Cells in stores are kept by it: a change of the hash is a change that buys them anew.
    assert structure_hash(dspy.ChainOfThought("text -> label")) in told.pop()


class Holds(dspy.Module):
    def __init__(self, k: Any) -> None:
        super().__init__()
        self.k = k
        self.answer = dspy.Predict("question -> answer")


def test_plain_values_of_the_users_own_modules_count() -> None:
    assert structure_hash(Holds(3)) == structure_hash(Holds(3))
    assert structure_hash(Holds(3)) != structure_hash(Holds(4))


CODE = """
import functools
import dspy
RUNS = 0
def clean(text): return text.{helper}()
def tool(text: str) -> str: return clean(text)
class Lookup:
    def __call__(self, text: str) -> str: return text.{method}()
class Base(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict("text -> label")
    def forward(self, text):
        global RUNS
        RUNS += 1
        return self.answer(text=clean(text))
class Derived(Base): pass
made = {{
    "derived": Derived(),
    "function as a tool": dspy.ReAct("text -> label", tools=[tool]),
    "object as a tool": dspy.ReAct("text -> label", tools=[Lookup()]),
    "reward": dspy.BestOfN(dspy.Predict("text -> label"), 2, lambda a, p: float(clean(p.label) == "x"), 1.0),
    "bound": dspy.ReAct("text -> label", tools=[dspy.Tool(functools.partial(tool, text="a"), name="t", desc="d")]),
}}
"""


def test_functions_that_a_module_calls_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool or a helper that was mended answers otherwise: the scores from before must not be taken for its own."""

    def hashes(**code: str) -> dict[str, str]:
        (tmp_path / "of_the_app.py").write_text(CODE.format(**code), encoding="utf-8")
        linecache.clearcache()
        source._known.cache_clear()
        monkeypatch.delitem(sys.modules, "of_the_app", raising=False)
        app = importlib.import_module("of_the_app")
        return {name: structure_hash(module) for name, module in app.made.items()}

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before, helper = hashes(helper="strip", method="strip"), hashes(helper="lower", method="strip")
    method = hashes(helper="strip", method="lower")
    assert {name for name in before if helper[name] != before[name]} == set(before) - {"object as a tool"}
    assert {name for name in before if method[name] != before[name]} == {"object as a tool"}


def test_settings_of_dspys_own_modules_count() -> None:
    plain = dspy.Predict("question -> answer")
    best = [dspy.BestOfN(plain, N=n, reward_fn=lambda arguments, prediction: 1.0, threshold=1.0) for n in (1, 5)]
    agents = [dspy.ReAct("question -> answer", tools=[], max_iters=n) for n in (2, 9)]
    assert len({structure_hash(module) for module in (*best, *agents)}) == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": (1,)}, {"a": (2,)}),
        ({"b", "a"}, {"b", "c"}),
        (Kind.ONE, Kind.TWO),
        (np.zeros(2), np.ones(2)),
        (lambda text: text, lambda text: text + "."),
        (dspy.Example(a=1), dspy.Example(a=2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_the_users_own_modules_hold_counts(one: Any, other: Any) -> None:
    assert structure_hash(Holds(one)) == structure_hash(Holds(copy.deepcopy(one)))
    assert structure_hash(Holds(one)) != structure_hash(Holds(other))


def test_how_a_predictor_asks_comes_back_and_where_it_asks_does_not() -> None:
    again = restore(json.loads(json.dumps(describe(dspy.Predict("a -> b", temperature=0.7, n=2)))))
    assert again.config == {"temperature": 0.7, "n": 2}
    assert describe(dspy.Predict("a -> b", api_base="http://elsewhere.example"))["kind"] == "class"
    with pytest.raises(ps.ArtifactError):
        restore({**describe(dspy.Predict("a -> b")), "settings": {"api_base": "http://elsewhere.example"}})
    with pytest.raises(ps.ArtifactError, match=r"settings no file can hold .* setting other than temperature, .*seed"):
        restore(describe(dspy.Predict("a -> b", temperature=0.7, rollout_id=7)))


def embedded(texts: list[str]) -> Any:
    return np.array([[text.count("a"), len(text), 1.0] for text in texts], dtype=np.float32)


class Ranked:
    """A ranking of the user's own, which finds its passages by words."""

    def __init__(self, passages: list[str]) -> None:
        self.counts = [text.split().count("a") for text in passages]
        self.passages = passages

    def __call__(self, query: str) -> str:
        return self.passages[int(np.argmax(self.counts))]


def knn(*texts: str) -> dspy.KNN:
    return dspy.KNN(1, [dspy.Example(text=text).with_inputs("text") for text in texts], dspy.Embedder(embedded))


def fitted(*texts: str) -> Any:
    return pytest.importorskip("sklearn.feature_extraction.text").TfidfVectorizer().fit(texts)


def weights(value: float, kind: str) -> Any:
    torch = pytest.importorskip("torch")
    return torch.full((2,), value, dtype=getattr(torch, kind), requires_grad=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda text: dspy.retrievers.Embeddings([text, "b"], dspy.Embedder(embedded), k=1),
        lambda text: dspy.Embedder(f"openai/{text}"),
        lambda text: dspy.ColBERTv2(f"http://{text}.example"),
        lambda text: dspy.Retrieve(k=len(text)),
        lambda text: dspy.TwoStepAdapter(dspy.LM(f"openai/{text}", api_key="none")),
        lambda text: re.compile(text).search,
        lambda text: {text: 1}.get,
        string.Template,
        lambda text: textwrap.TextWrapper(len(text)),
        lambda text: sparse.csr_matrix([[len(text), 0], [0, 1]]),
        lambda text: weights(len(text), "float32"),
        lambda text: weights(len(text), "bfloat16"),
        knn,
        Ranked,
        lambda text: fitted(text, "b"),
    ],
)
def test_objects_of_libraries_are_known_by_what_they_hold(make: Any) -> None:
    assert structure_hash(Holds(make("a cat"))) == structure_hash(Holds(make("a cat")))
    assert structure_hash(Holds(make("a cat"))) != structure_hash(Holds(make("a dog, too")))


def tree() -> Any:
    found = pytest.importorskip("sklearn.neighbors").NearestNeighbors(algorithm="kd_tree", n_neighbors=1)
    return found.fit(np.arange(20.0).reshape(10, 2))


@pytest.mark.parametrize(
    ("make", "use"),
    [
        (lambda: dspy.retrievers.Embeddings(["a cat", "b"], dspy.Embedder(embedded), k=1), lambda made: made("a")),
        (lambda: dspy.Embedder(embedded), lambda made: made(["a"])),
        (lambda: knn("a cat", "b"), lambda made: made(text="a")),
        (lambda: Ranked(["a cat", "b"]), lambda made: made("a")),
        (lambda: fitted("a cat", "b"), lambda made: made.transform(["cat"])),
        (tree, lambda made: made.kneighbors([[1.0, 2.0]])),
        (lambda: sparse.csr_matrix([[0, 1], [1, 0]]), lambda made: made.sum_duplicates()),
        (lambda: httpx.Client(base_url="http://a.example"), lambda made: made.close()),
        (lambda: random.Random(3), lambda made: made.random()),
        (threading.Lock, lambda made: made.acquire()),
    ],
)
def test_use_makes_no_other_program(make: Any, use: Any) -> None:
    """Scores are looked up before it runs, and stored after."""
    module = Holds(make())
    before = structure_hash(module)
    use(module.k)
    assert structure_hash(module) == before
    assert structure_hash(Holds(make())) == before


HELD = """
import dspy, numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from progspace.programs.structure_hash import structure_hash
class Holds(dspy.Module):
    def __init__(self):
        super().__init__()
        self.words = TfidfVectorizer(stop_words=["x", "y"]).fit(["a cat", "the dog"])
        self.trees = RandomForestClassifier(3, random_state=0).fit([[0], [1], [2]], [0, 1, 1])
        self.search = dspy.retrievers.Embeddings(["a"], dspy.Embedder(lambda texts: np.ones((len(texts), 2))), k=1)
        self.search_module = dspy.Retrieve(k=2)
print(structure_hash(Holds()), structure_hash(Holds()))
"""


def test_objects_of_libraries_are_the_same_in_every_process() -> None:
    pytest.importorskip("sklearn")
    told = in_two_processes(HELD)
    assert len(set(" ".join(told).split())) == 1


def test_an_object_of_very_many_values_is_known_by_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [dspy.retrievers.Embeddings([f"{i}", "b"], dspy.Embedder(embedded)) for i in range(2)]
    assert structure_hash(Holds(made[0])) != structure_hash(Holds(made[1]))
    monkeypatch.setattr(state, "_MOST", 1)
    assert structure_hash(Holds(made[0])) == structure_hash(Holds(made[1]))


IMPORTING = {
    "in the function": "def forward(self, text):\n        from {0}rules import clean\n        return clean(text)",
    "of a package": "def forward(self, text):\n        from {1} import rules\n        return rules.clean(text)",
    "by its path": "def forward(self, text): return {0}rules.clean(text)",
    "by its path, there": "def forward(self, text):\n        import {0}rules\n        return {0}rules.clean(text)",
}


@pytest.mark.parametrize("where", ["inside", "beside"])
@pytest.mark.parametrize("how", IMPORTING)
def test_code_that_is_imported_as_a_module_runs_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, where: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "shop_of_ours").mkdir()
    (tmp_path / "shop_of_ours/__init__.py").write_text("")
    forward = IMPORTING[how].format("shop_of_ours.", "shop_of_ours")
    head = "import shop_of_ours.rules\n" if how == "by its path" else ""
    text = f"{head}import dspy\nclass Shop(dspy.Module):\n    {forward}\n"
    name = "shop_of_ours.program" if where == "inside" else "program_of_ours"
    (tmp_path / f"{name.replace('.', '/')}.py").write_text(text)

    def hashes(method: str) -> tuple[str, str]:
        rules = f"def clean(text): return cut(text)\ndef cut(text): return text.{method}()\n"
        (tmp_path / "shop_of_ours/rules.py").write_text(rules)
        linecache.clearcache()
        source._known.cache_clear()
        importlib.invalidate_caches()
        for each in ("shop_of_ours", "shop_of_ours.rules", "shop_of_ours.program", "program_of_ours"):
            monkeypatch.delitem(sys.modules, each, raising=False)
        module = importlib.import_module(name).Shop()
        before = structure_hash(module)
        module(text="A")
        return before, structure_hash(module)

    before, after = hashes("strip")
    assert before == after
    assert hashes("lower")[0] != before


class Looks(dspy.Module):
    def __init__(self, passage: str, lm: dspy.BaseLM | None = None) -> None:
        super().__init__()
        self.passage, self.rewrite = passage, dspy.Predict("query -> search")
        self.rewrite.lm = lm

    def forward(self, query: str) -> str:
        """Looks it up."""
        return self.passage

    def look(self, query: str) -> str:
        """Looks it up."""
        return self.passage


def closing_over(module: Any) -> Any:
    def look(query: str) -> str:
        """Looks it up."""
        return str(module.look(query))

    return look


@pytest.mark.parametrize(
    "hold",
    [
        lambda module: dspy.ReAct("text -> label", tools=[module.look]),
        lambda module: dspy.ReAct("text -> label", tools=[module]),
        lambda module: dspy.ReAct("text -> label", tools=[closing_over(module)]),
        lambda module: dspy.ReAct("text -> label", tools=[dspy.Tool(module, name="look", desc="Looks.")]),
        lambda module: Holds(module.look),
        lambda module: Holds(dspy.Example(module=module)),
        lambda module: dspy.Ensemble(reduce_fn=closing_over(module)).compile([dspy.Predict("a -> b")]),
    ],
)
def test_modules_that_are_no_parts_count(hold: Any) -> None:
    one = hold(Looks("one"))
    assert structure_hash(one) == structure_hash(hold(Looks("one"))) == structure_hash(one.deepcopy())
    lms = [dspy.LM(f"openai/{name}", api_key="none") for name in "ab"]
    others = [hold(Looks("other")), *(hold(Looks("one", lm)) for lm in lms)]
    assert len({structure_hash(each) for each in (one, *others)}) == 4


def test_how_an_ensemble_reduces_counts() -> None:
    parts = [dspy.Predict("a -> b"), dspy.Predict("a -> b")]
    ways = [{}, {"size": 1}, {"size": 2}, {"reduce_fn": lambda outputs: outputs[0]}, {"reduce_fn": dspy.majority}]
    assert len({structure_hash(dspy.Ensemble(**way).compile(parts)) for way in ways}) == len(ways)


class Agent(dspy.Module):
    """Its tool closes over it: a copy's closes over the original."""

    def __init__(self, passage: str) -> None:
        super().__init__()
        self.passage = passage
        self.answer = dspy.ReAct("text -> label", tools=[closing_over(self)])
        self.itself = [closing_over(self)]

    def look(self, query: str) -> str:
        return self.passage


def test_a_copy_that_closes_over_its_original_is_the_same_program() -> None:
    one = Agent("one")
    assert structure_hash(one.deepcopy()) == structure_hash(one) != structure_hash(Agent("other"))


TYPES_OF = """
from typing import Annotated
import dspy
from pydantic import AfterValidator, BaseModel, field_validator
LEAST = {least}
def enough(value): return max(value, LEAST)
class Base(BaseModel):
    size: int
    @field_validator("size")
    @classmethod
    def check(cls, value): return value + {base}
class Derived(Base):
    name: str
class Checked(BaseModel):
    size: int
    @field_validator("size")
    @classmethod
    def check(cls, value): return enough(value)
class Holds(BaseModel):
    sizes: list[Annotated[int, AfterValidator(enough)]]
def made(annotation):
    return dspy.Predict(dspy.Signature({{"a": (str, dspy.InputField()), "b": (annotation, dspy.OutputField())}}, "Do."))
programs = {{
    "base": made(Derived), "helper": made(Checked), "field": made(Holds),
    "function": made(Annotated[int, AfterValidator(enough)]),
    "in a list": made(list[Annotated[int, AfterValidator(enough)]]),
}}
"""


def test_what_output_types_check_with_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hashes(**values: int) -> dict[str, str]:
        (tmp_path / "types_of_ours.py").write_text(TYPES_OF.format(**values), encoding="utf-8")
        linecache.clearcache()
        source._known.cache_clear()
        monkeypatch.delitem(sys.modules, "types_of_ours", raising=False)
        programs = importlib.import_module("types_of_ours").programs
        return {name: structure_hash(module) for name, module in programs.items()}

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = hashes(least=1, base=1)
    assert hashes(least=1, base=1) == before
    assert {name for name, told in hashes(least=2, base=1).items() if told != before[name]} == set(before) - {"base"}
    assert {name for name, told in hashes(least=1, base=2).items() if told != before[name]} == {"base"}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python does not say whose code it is")
def test_two_classes_of_one_name_in_a_file_are_two() -> None:
    made = []
    for strict in (True, False):
        if strict:

            class Same(dspy.Module):
                def forward(self, text: str) -> str:
                    return text

        else:

            class Same(dspy.Module):  # type: ignore[no-redef]
                def forward(self, text: str) -> str:
                    return text.lower()

        made.append(structure_hash(Same()))
    assert made[0] != made[1]


def look(text: str) -> str:
    """Looks it up."""
    return text


def test_how_a_tool_is_described_counts_where_it_is_not_as_its_function_says() -> None:
    tools = [dspy.Tool(look), dspy.Tool(look, desc="Asks the archive."), dspy.Tool(look, arg_desc={"text": "a name"})]
    hashes = [structure_hash(dspy.RLM("text -> label", tools=[tool])) for tool in tools]
    assert len(set(hashes)) == 3
    assert structure_hash(dspy.RLM("text -> label", tools=[look])) == hashes[0]


def test_the_lm_of_a_part_of_dspys_counts() -> None:
    lms = [dspy.LM(f"openai/{name}", api_key="none") for name in "ab"]
    one, other = (structure_hash(dspy.RLM("text -> label", sub_lm=lm)) for lm in lms)
    assert one != other
    assert one == structure_hash(dspy.RLM("text -> label", sub_lm=lms[0].copy()))


def test_criteria_of_a_choice_count() -> None:
    signature = dspy.Signature({"text": (str, dspy.InputField()), "way": (Choice["a", "b"], dspy.OutputField())})
    plain, told, another = (dspy.Predict(signature) for _ in range(3))
    told.set_criteria("way", {"a": "comes"})
    another.set_criteria("way", {"a": "enters"})
    assert len({structure_hash(each) for each in (plain, told, another)}) == 3


def test_criteria_of_a_choice_are_given_with_the_instance() -> None:
    signature = dspy.Signature({"text": (str, dspy.InputField()), "way": (Choice["a", "b"], dspy.OutputField())})
    plain, given = (dspy.Predict(signature) for _ in range(2))
    given.set_criteria("way", {"a": "comes"})
    told = describe(given)
    assert restore(told, program=given).fields == given.fields
    with pytest.raises(ps.ArtifactError, match="threshold or criterion"):
        restore(told, program=plain)


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Picture:
    """As PIL's: it can be closed, and is an array all the same."""

    def __init__(self, value: int) -> None:
        self._pixels = np.full((2, 2), value, np.uint8)
        self.__array_interface__ = self._pixels.__array_interface__

    def __repr__(self) -> str:
        return "<Picture>"

    def close(self) -> None:
        """Nothing is open."""


class Allowed(dspy.Module):
    def __init__(self, picture: Any = None) -> None:
        super().__init__()
        self.picture, self.answer = picture, dspy.Predict("text -> label")

    def forward(self, text: str) -> Any:
        return self.answer(text=text if Right.READ | Right.WRITE else "")


def test_flags_that_were_combined_make_no_other_program() -> None:
    before = structure_hash(Allowed())
    assert Right.READ | Right.WRITE
    assert structure_hash(Allowed()) == before


def test_a_picture_is_known_by_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Picture, "__module__", "pictures")  # a library's
    hashes = [structure_hash(Allowed(Picture(value))) for value in (1, 1, 2)]
    assert (hashes[0] == hashes[1], hashes[0] == hashes[2]) == (True, False)


class Locked(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = [dspy.Predict("text -> mood"), threading.Lock()]


def test_an_instance_that_cannot_be_copied_whole_is_given_back_as_a_copy() -> None:
    given = Locked()
    restored: Any = restore(describe(given), program=given)
    assert restored.steps[0] is not given.steps[0]
    assert restored.steps[1] is given.steps[1]
