from __future__ import annotations

from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.matrix import Matrix
from progspace.lms.budget import Meter
from progspace.optimizers.calibration import calibrate
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.store.database import Store


def examples(rows: list[dict[str, str]]) -> list[dspy.Example]:
    return [dspy.Example(**row).with_inputs("text") for row in rows]


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
    fitted = calibrate(candidate, lambda each: each.apply(module), rows, matrix)
    own = fitted.predictors["self"].format
    assert own is not None
    biases = dict(own.biases)
    assert biases["glad"] - biases["sad"] == pytest.approx(3.0)
    assert score(fitted) == 1.0
    assert meter.spent.bought == 100  # fitting and both scores share their answers
    assert calibrate(fitted, lambda each: each.apply(module), rows, matrix) == fitted
    declared = Candidate.declared(module)
    assert calibrate(declared, lambda each: each.apply(module), rows, matrix) is declared
