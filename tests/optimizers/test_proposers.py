from __future__ import annotations

from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.matrix import Matrix
from progspace.lms.budget import Meter
from progspace.optimizers.calibration import calibrate
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
