from __future__ import annotations

import functools
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import dspy
import numpy as np
import pytest

import progspace as ps
from progspace.programs import metrics
from progspace.programs.metrics import Judgement, metric_identity, scored


def score(metric: metrics.FieldMetric, expected: Any, found: Any) -> float:
    given = metric(dspy.Example(y=expected), dspy.Prediction(y=found))
    assert isinstance(given.feedback, str)
    return float(given.score)


@pytest.mark.parametrize(
    ("metric", "expected", "found", "wanted"),
    [
        (metrics.exact_match("y"), "a", " a\n", 1.0),
        (metrics.exact_match("y"), "a", "A", 0.0),
        (metrics.exact_match("y"), [1, 2], [1, 2], 1.0),
        (metrics.choice("y"), "card_arrival", "Card arrival.", 1.0),
        (metrics.choice("y"), "positive", "not positive", 0.0),
        (metrics.choice("y"), True, "true", 1.0),
        (metrics.f1("y"), "the red fox", "a fox", 2 / 3),
        (metrics.f1("y"), ["x", "Red fox"], "the red, fox!", 1.0),
        (metrics.f1("y"), [], "", 1.0),
        (metrics.f1("y"), "", "something", 0.0),
        (metrics.contains("y"), "Paris", "It is Paris, I think", 1.0),
        (metrics.contains("y"), "art", "a party", 0.0),
        (metrics.contains("y"), ["x", "Lyon"], "Lyon", 1.0),
        (metrics.numeric("y"), "18", "9 * 2 = $18", 1.0),
        (metrics.numeric("y"), 1200, "It costs 1,200.", 1.0),
        (metrics.numeric("y"), "-3.5", "so x = −3.5", 1.0),
        (metrics.numeric("y"), 3, "no number", 0.0),
        (metrics.numeric("y"), 1.0, "0.995", 0.0),
        (metrics.numeric("y", tolerance=0.01), 1.0, "0.995", 1.0),
    ],
)
def test_scores(metric: metrics.FieldMetric, expected: Any, found: Any, wanted: float) -> None:
    assert score(metric, expected, found) == pytest.approx(wanted)


def test_an_output_without_the_field_scores_nothing() -> None:
    given = metrics.exact_match("y")(dspy.Example(y="a"), dspy.Prediction(z="a"))
    assert given.score == 0.0
    assert "has no y" in given.feedback


def test_with_a_trace_it_is_a_bool() -> None:
    assert metrics.f1("y")(dspy.Example(y="a b"), dspy.Prediction(y="b"), []) is True
    assert metrics.exact_match("y")(dspy.Example(y="a"), dspy.Prediction(y="b"), []) is False


EXAMPLE, PREDICTION = dspy.Example(y="a"), dspy.Prediction(y="a")


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        (lambda e, p: e.y == p.y, Judgement(1.0)),
        (lambda e, p, trace=None: 0.25, Judgement(0.25)),
        (lambda e, p, trace=None: np.float32(0.5), Judgement(0.5)),
        (lambda e, p, trace, name, own: {"score": 1, "feedback": "good"}, Judgement(1.0, "good")),
        (lambda *given: len(given), Judgement(3.0)),
        (metrics.exact_match("y"), Judgement(1.0, "Right.")),
    ],
)
def test_any_metric_of_the_contract_is_judged(metric: Any, wanted: Judgement) -> None:
    assert scored(metric, EXAMPLE, PREDICTION) == wanted


@pytest.mark.parametrize(
    "metric", [lambda e, p: e.z, lambda e, p: "high", lambda e, p: float("nan"), lambda e, p: None]
)
def test_a_metric_that_fails_is_told_with_the_example(metric: Any) -> None:
    with pytest.raises(ps.MetricError, match="on the example: y='a'") as caught:
        scored(metric, EXAMPLE, PREDICTION)
    assert caught.value.example == {"y": "a"}


def own_metric(example: Any, prediction: Any) -> bool:
    return bool(example.y == prediction.y)


def test_an_identity_is_the_same_in_every_process_and_changes_with_the_source(tmp_path: Any) -> None:
    (tmp_path / "judging.py").write_text("def m(e, p):\n    return 1.0\n")
    told = "import judging; from progspace.programs.metrics import metric_identity as i; print(i(judging.m))"

    def identity() -> str:
        return subprocess.run(
            [sys.executable, "-B", "-c", told], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    first = identity()
    assert first == identity()
    (tmp_path / "judging.py").write_text("def m(e, p):\n    return 0.0\n")
    assert identity() != first
    assert metric_identity(metrics.f1("y")) == "f1(y)"
    bound = [metric_identity(functools.partial(own_metric, prediction=SimpleNamespace(y=y))) for y in "ab"]
    assert bound[0] != bound[1]
