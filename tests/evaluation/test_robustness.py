"""Robustness: the same rows as they are and perturbed, by a program that minds one thing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest

import progspace as ps
from progspace.evaluation.shown import as_text
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.programs.perturbations import PERTURBATIONS, perturb, text_fields
from progspace.store.database import Store


def rule(prompt: str) -> str:
    """Does what the input says, and cannot read capitals."""
    asked = prompt.rsplit("Text:", 1)[-1]
    if "Ignore" in asked or "SYSTEM" in asked or "Disregard" in asked:
        return "banana"
    return "glad" if "sun" in asked else "sad"


def test_what_breaks_a_program(task: ps.Task, rule_engine: Any, store: Store, tmp_path: Path) -> None:
    program = Candidate.declared(task.program).with_choice(format=Format(kind="compact")).apply(task.program)
    lm = rule_engine(rule).lm()
    told = ps.robustness(program, task, lm=lm, perturbations=["injection", "whitespace", "case"], store=store)
    by = {each.name: each for each in told.perturbed}
    assert told.fields == ("text",)
    assert told.original.score == 1.0
    assert (by["whitespace"].test.difference, by["whitespace"].broken) == (0.0, ())
    injected = by["injection"]
    assert (injected.test.difference, len(injected.broken)) == (-1.0, told.original.n)
    assert injected.p_value < 0.001
    assert injected.test.interval.high < 0
    assert injected.test.interval.level == pytest.approx(1 - 0.05 / 3)
    assert injected.broken[0].inputs["text"].startswith(("sun", "rain"))
    assert -1 < by["case"].test.difference < 0
    assert told.worst == 0.0
    assert "Broke by injection, the first 3" in str(told)
    letters = [sorted(filter(str.isalnum, as_text(told.view(), width))) for width in (20, 60, 400)]
    assert letters[0] == letters[1] == letters[2]  # a narrow terminal cuts nothing off
    assert json.loads(json.dumps(told.to_dict()))["worst"] == 0.0
    suite = tmp_path / "broke.jsonl"
    broke = {each["text"] for change in told.perturbed for each in (row.inputs for row in change.broken)}
    assert told.suite(suite, task) == len(broke)
    assert ps.gate(program, program, task, lm=lm, data=suite, store=store).comparison.a.score == 0.0
    # The same seed draws the same, and nothing is bought twice.
    asked = len(lm._engine_spec.prompts)
    assert (
        ps.robustness(program, task, lm=lm, perturbations=["injection", "whitespace", "case"], store=store).to_dict()
        == told.to_dict()
    )
    assert len(lm._engine_spec.prompts) == asked


def test_a_perturbation_of_ones_own(task: ps.Task, rule_engine: Any, store: Store) -> None:
    program = Candidate.declared(task.program).with_choice(format=Format(kind="compact")).apply(task.program)

    def polite(text: str, generator: random.Random) -> str:
        return f"Please: {text}" if "sun" in text else text

    told = ps.robustness(program, task, lm=rule_engine(rule).lm(), perturbations={"polite": polite}, store=store)
    (own,) = told.perturbed
    assert own.test.difference == 0.0
    assert own.test.n + own.unchanged == told.original.n
    assert own.unchanged > 0
    for bad, match in (
        ({"perturbations": ["upside down"]}, "there is case, typos"),
        ({"fields": ["mood"]}, "it has text"),
        ({"perturbations": {"none": lambda text, _: text}}, "changes anything"),
        ({"perturbations": {"none": lambda text, _: None}}, "must give text"),
        ({"alpha": 2.0}, "between 0 and 1"),
    ):
        with pytest.raises(ps.DataError, match=match):
            ps.robustness(program, task, lm=rule_engine(rule).lm(), store=store, **bad)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_perturbations_are_drawn_by_the_seed(name: str) -> None:
    row = dspy.Example(text="The train was late again, and nobody said why.", mood="sad").with_inputs("text")
    one, other = (perturb(row, PERTURBATIONS[name], ["text"], name=name, seed=0) for _ in range(2))
    assert one is not None
    assert one == other
    assert (one.text != row.text, one.mood, one.inputs().keys()) == (True, "sad", ["text"])
    many = {perturb(row, PERTURBATIONS[name], ["text"], name=name, seed=seed).text for seed in range(20)}
    assert name == "truncation" or len(many) > 1
    empty = dspy.Example(text="", mood="sad").with_inputs("text")
    changed = {key for key, how in PERTURBATIONS.items() if perturb(empty, how, ["text"], name=key, seed=0)}
    assert changed == {"distractor", "injection", "whitespace"}


def test_labels_and_numbers_stay_as_they_are() -> None:
    class Ticket(dspy.Signature):
        """Sort a ticket."""

        body: str = dspy.InputField()
        kind: Literal["a bug", "a wish"] = dspy.InputField()
        stars: int = dspy.InputField()
        shop: str = dspy.InputField()
        urgent: bool = dspy.OutputField()

    rows = [
        dspy.Example(body="It does not start.", kind="a bug", stars=i, shop=f"A-{i}").with_inputs(
            "body", "kind", "stars", "shop"
        )
        for i in range(5)
    ]
    assert text_fields(rows, dspy.Predict(Ticket)) == ("body",)
