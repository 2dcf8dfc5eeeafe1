from __future__ import annotations

from collections import Counter
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.matrix import Matrix
from progspace.lms.budget import Meter
from progspace.optimizers.calibration import calibrate
from progspace.optimizers.demonstration_proposer import bootstrap_pools, label_pools, propose_demonstrations
from progspace.optimizers.format_proposer import propose_formats
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.store.database import Store


def examples(rows: list[dict[str, str]]) -> list[dspy.Example]:
    return [dspy.Example(**row).with_inputs("text") for row in rows]


def test_formats_follow_what_the_lm_offers(rule_engine: Any, mood: Any) -> None:
    module = dspy.Predict(mood)
    declared = Candidate.declared(module)
    plain = {candidate.origin for candidate in propose_formats(declared, module, rule_engine(str).lm())}
    assert plain == {"compact, free", "compact, hints, free", "json, free"}
    scoring = rule_engine(str, logprobs=lambda prompt, choice: 0.0).lm()
    offered = {candidate.origin for candidate in propose_formats(declared, module, scoring)}
    assert offered - plain == {
        f"compact, {h}{d}" for h in ("", "hints, ") for d in ("constrained", "scored", "calibrated")
    }
    text = dspy.Predict("text -> summary")
    assert not any("scored" in c.origin for c in propose_formats(Candidate.declared(text), text, scoring))


def test_demonstrations_are_balanced_reproducible_and_from_the_pool(mood: Any, mood_rows: Any) -> None:
    module = dspy.Predict(mood)
    rows = examples([row for row in mood_rows if row["mood"] == "glad"] + mood_rows[:6])
    pools = {"labelled": label_pools(module, rows)}
    declared = Candidate.declared(module)
    proposed = propose_demonstrations([declared], module, pools, draws=3, seed=1, sizes=(2, 6))
    assert len({candidate.hash for candidate in proposed}) == 6
    assert [c.hash for c in proposed] == [
        c.hash for c in propose_demonstrations([declared], module, pools, draws=3, seed=1, sizes=(2, 6))
    ]
    for candidate in proposed:
        shown = candidate.predictors["self"].demonstrations or ()
        counts = Counter(values["mood"] for values in shown)
        assert counts["glad"] == counts["sad"]
        assert all(values in [dict(row) for row in rows] for values in shown)
        assert str(len(shown)) in candidate.origin
    applied = proposed[0].apply(module)
    assert len(applied.module.demos) == 2
    assert module.demos == []


class Chain(dspy.Module):
    """Finds the weather in a text, then the mood of the weather."""

    def __init__(self, mood: Any) -> None:
        super().__init__()
        self.find = dspy.Predict("text -> weather")
        self.tell = dspy.Predict(mood)

    def forward(self, text: str) -> dspy.Prediction:
        return self.tell(text=self.find(text=text).weather)


def test_bootstrapping_shows_every_step_of_what_was_solved(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    def rule(prompt: str) -> str:
        asked = prompt.rsplit("[[ ## text ## ]]", 1)[-1]
        if "## weather ##" in prompt:
            return f"[[ ## weather ## ]]\n{'fine' if 'sun' in asked else 'foul'}"
        return "[[ ## mood ## ]]\nglad"

    module = Chain(mood)
    meter = Meter()
    matrix = Matrix(store, ps.metrics.choice("mood"), rule_engine(rule).lm(), meter)
    pools = bootstrap_pools(Candidate.declared(module), module, examples(mood_rows[:10]), matrix)
    assert [values["weather"] for values in pools["find"]] == ["fine"] * 5  # only what was solved
    assert all(set(values) == {"text", "weather"} for values in pools["find"])
    assert pools["tell"] == [{"text": "fine", "mood": "glad"}] * 5
    assert meter.spent.calls == 12  # ten first steps, and two different second ones
    assert label_pools(module, examples(mood_rows[:3]))["find"] == []


def test_calibration_takes_the_lms_preference_off(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    """An LM that knows the mood and yet always prefers ``glad``."""

    def logprobs(prompt: str, choice: str) -> float:
        sunny = "sun" in prompt.rsplit("Text:", 1)[-1]
        return -1.0 - (3.0 if choice == " sad" else 0.0) - (1.0 if sunny == (choice == " sad") else 0.0)

    module = dspy.Predict(mood)
    rows = examples(mood_rows)
    meter = Meter()
    matrix = Matrix(store, ps.metrics.choice("mood"), rule_engine(str, logprobs=logprobs).lm(), meter)
    candidate = Candidate.declared(module).with_choice(format=Format(kind="compact", decoding="calibrated"))

    def score(one: Candidate) -> float:
        cells = matrix.fill(one.apply(module), rows)
        return sum(cell.score or 0.0 for cell in cells) / len(cells)

    assert score(candidate) == 0.5
    fitted = calibrate(candidate, module, rows, matrix)
    own = fitted.predictors["self"].format
    assert own is not None
    biases = dict(own.biases)
    assert biases["glad"] - biases["sad"] == pytest.approx(3.0)
    assert score(fitted) == 1.0
    assert meter.spent.bought == 100  # fitting and both scores share their answers
    assert calibrate(fitted, module, rows, matrix) == fitted
    declared = Candidate.declared(module)
    assert calibrate(declared, module, rows, matrix) is declared
