from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import math
import os
import re
import subprocess
import sys
from datetime import date, datetime, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import dspy
import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel, create_model

import progspace as ps
from progspace.programs import metrics
from progspace.programs.metrics import Judgement, metric_identity, scored
from progspace.programs.score import Score


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


@pytest.mark.parametrize(
    "labels",
    [
        [-1, 1],
        ["-1", "1", "+1"],
        ["C", "C++", "C#"],
        ["+", "-"],
        ["!", "?"],
        ["A", "A+", "A-", "A*"],
        ["5", "<5", ">5"],
        ["> 5", "< 5", "5 %", "$5"],
        ["1.5", "1-5", "1:5"],
        ["👍", "👎"],
        ["👍 good", "👎 good"],
        ["की", "का"],
    ],
)
def test_labels_that_differ_in_signs_are_different_labels(labels: list[Any]) -> None:
    metric = metrics.choice("y")
    for expected in labels:
        assert [score(metric, expected, found) for found in labels] == [float(found == expected) for found in labels]


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ("positive", "**Positive**."),
        ("positive", "- *positive*"),
        ("positive", "`positive`"),
        ("positive", "<Positive>"),
        ("positive", "> Positive!"),
        ("positive", "😊 Positive"),
        ("reverted_card_payment?", "Reverted card payment"),
        ("non-fiction", "non fiction"),
        ("credit/debit", "Credit / Debit"),
        ("C++", "**c++**."),
        ("C#", "`C#`"),
        ("18-24", "18 – 24"),
        ("-1", "−1."),
        (5, "5."),
        (5, 5.0),
        ("👍", "👍\ufe0f"),
        ("é", "e\u0301"),
        ("Straße", "STRASSE"),
        ("की", "**की**"),
        ("<unk>", "**<unk>**"),
        ("positive", "- `<positive>`."),
        ("positive", '"**positive**"'),
        ("4", "→ 4"),
    ],
)
def test_a_label_written_otherwise_is_the_same_label(expected: Any, found: Any) -> None:
    assert score(metrics.choice("y"), expected, found) == 1.0


class Mark(BaseModel):
    who: str
    points: float = 0.0


@pytest.mark.parametrize(
    ("expected", "found", "other"),
    [
        ("2026-01-31", date(2026, 1, 31), date(2026, 1, 30)),
        ("2026-01-31T10:00:00Z", datetime(2026, 1, 31, 10, tzinfo=timezone.utc), datetime(2026, 1, 31, 10)),
        ({"who": "Ann"}, Mark(who="Ann"), Mark(who="Ann", points=1)),
        ([{"who": "Ann", "points": 1}], [Mark(who="Ann", points=1)], [Mark(who="Bob", points=1)]),
        ([1, 2], (1, 2), (1, 2, 3)),
        (["a", "b"], {"b", "a"}, {"a"}),
        (["a", "a"], frozenset("a"), frozenset("ab")),
        ({"1": ["2026-01-31"]}, {1: [date(2026, 1, 31)]}, {1: []}),
        ("1.10", Decimal("1.1"), Decimal("1.2")),
        # A model of the app's own, and one that was made of an artifact.
        (Mark(who="Ann"), create_model("Mark", who=str, points=(int, 0))(who="Ann"), Mark(who="Ann", points=1)),
        ([Mark(who="Ann")], [{"who": "Ann", "points": 0}], [{"who": "Bob", "points": 0}]),
    ],
)
def test_what_is_expected_may_be_as_json_tells_it(expected: Any, found: Any, other: Any) -> None:
    assert score(metrics.exact_match("y"), expected, found) == 1.0
    assert score(metrics.exact_match("y"), expected, other) == 0.0


@pytest.mark.parametrize("metric", [metrics.exact_match("y"), metrics.choice("y")])
def test_none_is_right_where_it_is_expected(metric: metrics.FieldMetric) -> None:
    assert metric(dspy.Example(y=None), dspy.Prediction(y=None)) == Score(score=1.0, feedback="Right.")
    assert score(metric, None, "a") == score(metric, "a", None) == 0.0
    for nothing in (dspy.Prediction(z=None), None):
        assert "has no y; None was expected" in metric(dspy.Example(y=None), nothing).feedback


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


@pytest.mark.parametrize("given", [-0.5, {"score": -0.5, "feedback": "far"}])
def test_a_score_below_what_a_failure_scores_is_refused_but_where_none_is_meant(given: Any) -> None:
    with pytest.raises(ps.MetricError, match=r"gave -0\.5: a score is not below 0, .* 1 / \(1 \+ error\)") as caught:
        scored(lambda *_: given, EXAMPLE, PREDICTION)
    assert caught.value.example == {"y": "a"}
    assert scored(lambda *_: given, EXAMPLE, PREDICTION, least=-math.inf).score == -0.5


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
    assert metric_identity(own_metric).endswith(hashlib.sha256(inspect.getsource(own_metric).encode()).hexdigest()[:12])
    bound = [metric_identity(functools.partial(own_metric, prediction=SimpleNamespace(y=y))) for y in "ab"]
    assert bound[0] != bound[1]


def within(most: int) -> Any:
    return lambda example, prediction: len(prediction.y) <= most


def counted(times: int) -> Any:
    def decorate(metric: Any) -> Any:
        @functools.wraps(metric)
        def wrapper(example: Any, prediction: Any) -> Any:
            return times * metric(example, prediction)

        return wrapper

    return decorate


class Same:
    def __init__(self, *fields: Any) -> None:
        self.fields = fields

    def __call__(self, example: Any, prediction: Any) -> bool:
        return self.scored(example, prediction)

    def scored(self, example: Any, prediction: Any) -> bool:
        return all(example[field] == prediction[field] for field in self.fields)


class Slotted:
    __slots__ = ("most",)

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self, example: Any, prediction: Any) -> bool:
        return bool(len(prediction.y) <= self.most)


def with_default(most: int) -> Any:
    def metric(example: Any, prediction: Any, limit: int = most) -> bool:
        return bool(len(prediction.y) <= limit)

    return metric


def judged_by(instruction: str) -> Any:
    program = dspy.Predict(dspy.Signature("y -> score: float", instruction))
    return lambda example, prediction: program(y=prediction.y).score


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (within(2), within(9)),
        (Same("y"), Same("z")),
        (Same("y").scored, Same("z").scored),
        (Same(np.arange(9)), Same(np.arange(9) + 1)),
        (Same(within(2)), Same(within(9))),
        (Same(metrics.f1("y")), Same(metrics.f1("z"))),
        (Same(functools.partial(own_metric, 1)), Same(functools.partial(own_metric, 2))),
        (Same(re.compile("a" * 300 + "b")), Same(re.compile("a" * 300 + "c"))),
        (Slotted(2), Slotted(9)),
        (with_default(2), with_default(9)),
        (counted(1)(own_metric), counted(2)(own_metric)),
        (functools.cache(within(2)), functools.cache(within(9))),
        (judged_by("Is it short?"), judged_by("Is it long?")),
        (lambda e, p: e.y == p.y, lambda e, p: e.z == p.z),
        (lambda e, p: p.y in {"a", "b"}, lambda e, p: p.y in {"a", "c"}),
        (Same(pd.Series([1, 0], ["a", "b"])), Same(pd.Series([1, 0], ["b", "a"]))),
    ],
)
def test_metrics_of_one_text_that_score_otherwise_are_two(one: Any, other: Any) -> None:
    assert metric_identity(one) != metric_identity(other)
    assert metric_identity(one) == metric_identity(one)


JUDGING = """
import functools, re, threading
from dataclasses import dataclass
import helping
from helping import fits

MOST = 3
WORDS = {"a", "bc", "def"}
INDEX = {word: 1 for word in WORDS}

def short(text):
    return len(text) <= MOST

def m(e, p):
    return short(p.y) and fits(p.y) and p.y in WORDS and helping.most > INDEX.get(p.y)

@dataclass
class Rule:
    words: frozenset
    pattern: re.Pattern

class M:
    def __init__(self):
        rule = Rule(frozenset("abc"), re.compile("a"))
        self.held = [threading.Lock(), object(), rule, short, len, re, self, M.__call__]
        self.again = functools.partial(m, lock=threading.Lock())

    def __call__(self, e, p):
        return m(e, p)

metrics = [m, M(), M().__call__, functools.partial(m, p=object(), q={"a", "b"}), lambda e, p: p.y in {"a", "b"}]
"""


def test_an_identity_with_state_is_the_same_in_every_process_and_changes_with_helpers(tmp_path: Any) -> None:
    told = (
        "import judging; from progspace.programs.metrics import metric_identity as i; print([*map(i, judging.metrics)])"
    )

    def identities(
        judging: str = JUDGING, helping: str = "def fits(y): return True\nmost = 9\n", seed: int = 1
    ) -> list[str]:
        (tmp_path / "judging.py").write_text(judging)
        (tmp_path / "helping.py").write_text(helping)
        run = [sys.executable, "-B", "-c", told]
        env = {**os.environ, "PYTHONHASHSEED": str(seed)}
        ended = subprocess.run(run, cwd=tmp_path, check=True, capture_output=True, text=True, env=env)
        given: list[str] = ast.literal_eval(ended.stdout)
        return given

    first = identities()
    assert identities(seed=2) == first
    for changed in (
        identities(JUDGING.replace("MOST = 3", "MOST = 4")),
        identities(JUDGING.replace("len(text) <=", "len(text) <")),
        identities(JUDGING.replace('"def"}', '"deg"}')),
        identities(helping="def fits(y): return False\nmost = 9\n"),
        identities(helping="def fits(y): return True\nmost = 8\n"),
    ):
        assert all(one != other for one, other in zip(first[:4], changed[:4], strict=True))


class TwoSteps(dspy.Module):
    def __init__(self, first: dspy.BaseLM | None = None, second: dspy.BaseLM | None = None) -> None:
        super().__init__()
        self.first, self.second = dspy.Predict("answer -> why"), dspy.Predict("answer, why -> score: float")
        self.first.lm, self.second.lm = first, second


def test_which_predictor_of_a_judge_asks_which_lm_counts() -> None:
    lms = [dspy.LM(f"openai/{name}", api_key="none") for name in "ab"]
    programs = [TwoSteps(), TwoSteps(lms[0]), TwoSteps(None, lms[0]), TwoSteps(*lms), TwoSteps(*lms[::-1])]
    judges = [*map(metrics.judge, programs), metrics.judge(TwoSteps(), lm=lms[0])]
    assert len({metrics.metric_identity(each) for each in judges}) == len(judges)
