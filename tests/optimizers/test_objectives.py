"""Several objectives: what is measured, limited, on the front, and chosen."""

from __future__ import annotations

import itertools
import logging
import math
from enum import Enum
from typing import Any

import dspy
import numpy as np
import pytest
from pydantic import ValidationError

import progspace as ps
from progspace.evaluation.matrix import Matrix
from progspace.evaluation.quality import Quality, Spread
from progspace.lms.budget import Meter
from progspace.optimizers.objectives import Objectives
from progspace.optimizers.standing import Standing
from progspace.programs.candidate import Candidate
from progspace.store.database import Store
from progspace.store.records import Cell


def known(means: list[float], deviation: float = 0.0) -> Quality:
    return Quality(np.array(means), deviation**2 * np.eye(len(means)), Spread(0.0, 0.0, (), 0.0))


def point(quality: float, tokens: float, **more: float) -> dict[str, float]:
    return {"quality": quality, "tokens": tokens, **more}


def test_all_is_measured_from_stored_cells_without_an_lm(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    engine = rule_engine(lambda prompt: "[[ ## mood ## ]]\nglad")
    rows = [dspy.Example(**row).with_inputs("text") for row in mood_rows[:20]]
    cells = Matrix(store, ps.metrics.choice("mood"), engine.lm(), Meter()).fill(dspy.Predict(mood), rows)
    asked = len(engine.prompts)
    wanted = Objectives(
        metrics={
            "glee": ps.metrics.blocklist("mood", ["Glad"]),
            "length": lambda example, prediction: len(prediction.mood),
        },
        limits={"glee": 0.5, "length": 3},
        maximise=("length",),
    )
    standing = Standing(Candidate.declared(dspy.Predict(mood)), tuple(cells))
    values = wanted.measure(standing, rows)
    assert len(engine.prompts) == asked
    assert (values["quality"], values["glee"], values["length"], values["calls"]) == (0.5, 1.0, 4.0, 1.0)
    assert values["tokens"] == values["input_tokens"] + values["output_tokens"] == pytest.approx(standing.tokens)
    assert values["seconds"] > 0
    assert wanted.broken(values) == ("glee",)
    assert not wanted.allowed({"glee": math.nan, "length": 4})
    assert wanted.allowed({"glee": 0.5, "length": 3})
    assert not wanted.allowed({"glee": 0.5, "length": 2.9})


def test_what_is_measured_besides_quality_may_be_below_0() -> None:
    wanted = Objectives(metrics={"off": lambda example, prediction: -2.0}, maximise=("off",), limits={"off": -1})
    values = wanted.measure_cells([Cell("p", "e", "m", score=1.0, output={"mood": "glad"})], [dspy.Example()])
    assert values["off"] == -2.0
    assert wanted.broken(values) == ("off",)


def test_what_was_never_answered_keeps_no_limit() -> None:
    wanted = Objectives(limits={"tokens": 100})
    values = wanted.measure_cells([Cell("p", "e", "m", error="down")], [dspy.Example()])
    assert math.isnan(values["quality"])
    assert wanted.broken(values) == ("tokens",)
    assert wanted.front([values]) == []


def test_the_front_is_what_nothing_beats() -> None:
    generator = np.random.default_rng(0)
    points = [{"quality": q, "tokens": t, "seconds": s} for q, t, s in np.round(generator.random((200, 3)), 2).tolist()]
    for axes in (("quality", "tokens"), ("quality", "tokens", "seconds"), ("quality",)):
        wanted = Objectives(axes=axes)
        signs = [1 if axis == "quality" else -1 for axis in axes]
        values = [tuple(sign * each[axis] for sign, axis in zip(signs, axes, strict=True)) for each in points]
        unbeaten = [
            index
            for index, mine in enumerate(values)
            if not any(
                other != mine and all(x >= y for x, y in zip(other, mine, strict=True)) for other in values
            )
            and mine not in values[:index]
        ]  # fmt: skip
        assert wanted.front(points) == unbeaten
    limited = Objectives(limits={"tokens": 0.5}).front(points)
    assert limited
    assert all(points[index]["tokens"] <= 0.5 for index in limited)


def test_no_worse_within_the_tolerance_and_cheaper_is_chosen() -> None:
    points = [point(0.900, 500), point(0.895, 100), point(0.860, 20)]
    quality = known([each["quality"] for each in points])
    assert Objectives().choose(points, quality) == 1
    assert Objectives(tolerance=0.0).choose(points, quality) == 0
    assert Objectives(tolerance=0.05).choose(points, quality) == 2
    # Three tokens are no reason to take the worse one.
    assert Objectives().choose([point(0.900, 103), point(0.895, 100)], known([0.900, 0.895])) == 0


def test_how_sure_it_is_that_the_cheaper_is_no_worse_counts() -> None:
    points = [point(0.90, 500), point(0.895, 100)]
    unsure = known([0.90, 0.895], deviation=0.05)
    assert Objectives().choose(points, unsure) == 1
    assert Objectives().choose(points, unsure, sure=0.9) == 0
    assert Objectives().choose(points, known([0.90, 0.895], deviation=0.001), sure=0.9) == 1


def test_limits_come_first_and_none_is_chosen_where_none_keeps_them() -> None:
    points = [point(0.9, 500), point(0.8, 200), point(0.7, 90)]
    quality = known([0.9, 0.8, 0.7])
    assert Objectives(limits={"tokens": 300}).choose(points, quality) == 1
    assert Objectives(limits={"tokens": 50}).choose(points, quality) is None
    assert Objectives(limits={"quality": 0.85}).choose(points, quality) == 0


@pytest.mark.parametrize("weights", [{}, {"tokens": 0.001}])
def test_what_was_never_answered_is_not_chosen(weights: dict[str, float]) -> None:
    wanted = Objectives(weights=weights)
    silent = point(math.nan, math.nan)
    assert wanted.choose([silent, point(0.2, 900)], known([0.6, 0.2])) == 1
    assert wanted.choose([silent, silent], known([0.6, 0.6])) == 0


def test_a_stated_preference_decides_alone() -> None:
    points = [point(0.9, 500, toxicity=0.0), point(0.8, 200, toxicity=0.0), point(0.7, 90, toxicity=0.2)]
    quality = known([0.9, 0.8, 0.7])
    metrics = {"toxicity": ps.metrics.blocklist("answer", ["fool"])}
    chosen = [
        Objectives(metrics=metrics, weights=weights).choose(points, quality)
        for weights in ({"tokens": 0.0001}, {"tokens": 0.0004}, {"tokens": 0.002}, {"tokens": 0.002, "toxicity": 2.0})
    ]
    assert chosen == [0, 1, 2, 1]
    for index, other in itertools.permutations(range(3), 2):
        preferred = Objectives(weights={"tokens": 0.0004})
        gap = preferred.value(points[index], 0.0) - preferred.value(points[other], 0.0)
        assert gap == pytest.approx(0.0004 * (points[other]["tokens"] - points[index]["tokens"]))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"limits": {"tokns": 3}}, "limits names tokns"),
        ({"weights": {"quality": 1.0}}, "weights names quality"),
        ({"weights": {"tokens": -1.0}}, "not negative"),
        ({"maximise": ("tokens",)}, "maximise names tokens"),
        ({"metrics": {"tokens": len}}, "measured anyway"),
        ({"limits": {"tokens": -5, "seconds": -0.5}}, "a limit of tokens, seconds below 0"),
        ({"limits": {"tokens": math.nan, "calls": math.inf}}, "a limit of tokens, calls has to be a finite number"),
        ({"weights": {"tokens": math.inf}}, "not negative, and finite"),
        ({"axes": ()}, "axes is empty: a front is over one at least of calls"),
        ({"metrics": {"fit": ps.metrics.judge(dspy.Predict("answer -> score: float"))}}, "ask no LM"),
    ],
)
def test_what_cannot_be_is_told(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Objectives(**wrong)


def test_a_blocklist_knows_whole_words_only() -> None:
    metric = ps.metrics.blocklist("answer", ["damn", "old fool"])
    said = {"Damn!": 1.0, "The old FOOL, he": 1.0, "damnation": 0.0, "an old, wise fool": 0.0, "": 0.0}
    assert {answer: metric(dspy.Example(), dspy.Prediction(answer=answer)) for answer in said} == said
    assert metric(dspy.Example(), dspy.Prediction(other="damn")) == 0.0
    with pytest.raises(ValueError, match="needs words"):
        ps.metrics.blocklist("answer", [" "])


def test_optuna_stays_quiet_and_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    with caplog.at_level(logging.INFO):
        Objectives().front([point(0.5, 10)])
    assert not caplog.records
    assert optuna.logging.get_verbosity() == before


def test_other_metrics_are_given_what_the_program_gives() -> None:
    class Hue(Enum):
        RED = "red"

    signature = dspy.Signature({"text": (str, dspy.InputField()), "hue": (Hue, dspy.OutputField())})
    wanted = Objectives(metrics={"red": lambda example, prediction, trace=None: prediction.hue is Hue.RED})
    cells = [Cell("p", "e", "m", score=1.0, output={"hue": "red"})]
    assert wanted.measure_cells(cells, [dspy.Example()], dspy.Predict(signature))["red"] == 1.0
