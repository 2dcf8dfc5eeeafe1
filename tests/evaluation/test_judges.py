"""Judges: their calls count, apart from the program's; one that fails ends nothing; their own spread is measured."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import dspy
import numpy as np
import pytest
from dspy.lm15 import AuthError, ServerError

import progspace as ps
from progspace.evaluation.evaluation import evaluate_cells
from progspace.evaluation.judges import Variance, asks_an_lm, judge_variance
from progspace.evaluation.matrix import Matrix
from progspace.evaluation.repeats import mean_cell
from progspace.lms.budget import Meter
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.programs.metrics import metric_identity
from progspace.store.database import Store
from progspace.store.records import Cell


class Fit(dspy.Signature):
    """Say how well the mood fits the text."""

    text: str = dspy.InputField()
    mood: str = dspy.InputField()
    expected_mood: str = dspy.InputField()
    score: float = dspy.OutputField()


def program_rule(prompt: str) -> str:
    return f"[[ ## mood ## ]]\n{'glad' if 'sun' in prompt.split('## text ##')[-1] else 'sad'}"


def judge_rule(prompt: str) -> str:
    asked = prompt.rsplit("## text ##", 1)[-1]
    mood, expected = (asked.split(f"[[ ## {name} ## ]]\n")[1].split("\n")[0] for name in ("mood", "expected_mood"))
    return f"[[ ## score ## ]]\n{10 if mood == expected else 2}"


def both(prompt: str) -> str:
    return judge_rule(prompt) if "expected_mood" in prompt else program_rule(prompt)


def rows_of(mood_rows: Any, count: int) -> list[dspy.Example]:
    return [dspy.Example(**row).with_inputs("text") for row in mood_rows[:count]]


def test_a_judges_calls_count_in_the_budget_and_not_as_the_programs(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    rows, task_lm, judge_lm = rows_of(mood_rows, 10), rule_engine(program_rule), rule_engine(judge_rule)
    metric = ps.metrics.judge(dspy.Predict(Fit), lm=judge_lm.lm("rule/judge"), scale=(0, 10))
    meter = Meter(ps.Budget(calls=20))
    matrix = Matrix(store, metric, task_lm.lm(), meter)
    cells = matrix.fill(dspy.Predict(mood), rows)
    assert [cell.score for cell in cells] == [1.0] * 10
    assert [(cell.calls, len(cell.asked)) for cell in cells] == [(1, 2)] * 10
    assert asks_an_lm(cells)
    assert (meter.spent.calls, meter.spent.bought) == (20, 20)
    assert len(task_lm.prompts) == len(judge_lm.prompts) == 10
    assert sum(cell.input_tokens for cell in cells) < meter.spent.input_tokens
    again = Meter()
    assert Matrix(store, metric, task_lm.lm(), again).fill(dspy.Predict(mood), rows) == cells
    assert (again.spent.calls, again.spent.bought) == (20, 0)
    with pytest.raises(ps.BudgetExceeded):
        Matrix(store, metric, task_lm.lm(), Meter(ps.Budget(calls=15))).fill(
            dspy.ChainOfThought(mood), rows_of(mood_rows, 20)
        )


def test_a_judge_without_an_lm_asks_the_tasks_or_the_one_that_is_configured(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    rows, engine, other = rows_of(mood_rows, 4), rule_engine(both), rule_engine(judge_rule)

    def fits(example: Any, prediction: Any, trace: Any = None) -> float:
        said = dspy.Predict(Fit)(text=example.text, mood=prediction.mood, expected_mood=example.mood)
        return float(said.score) / 10

    for metric in (ps.metrics.judge(dspy.Predict(Fit), scale=(0, 10)), fits):
        meter = Meter()
        cells = Matrix(store, metric, engine.lm(), meter).fill(dspy.Predict(mood), rows)
        assert [(cell.score, cell.calls) for cell in cells] == [(1.0, 1)] * 4
        assert meter.spent.calls == 8
    asked = len(engine.prompts)
    with dspy.context(lm=other.lm("rule/other")):
        meter = Meter()
        judged_by_other = Matrix(store, fits, engine.lm(), meter).fill(dspy.Predict(mood), rows)
    assert [cell.score for cell in judged_by_other] == [1.0] * 4
    assert (len(engine.prompts), len(other.prompts), meter.spent.bought) == (asked, 4, 4)
    assert judged_by_other[0].metric != metric_identity(fits)


def test_an_lm_that_a_metric_keeps_to_itself_is_counted_too(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    hidden = rule_engine(lambda prompt: "yes").lm("rule/hidden")

    def agrees(example: Any, prediction: Any, trace: Any = None) -> bool:
        return bool(hidden(f"Is {prediction.mood} right for {example.text}?") == ["yes"])

    rows, meter = rows_of(mood_rows, 10), Meter()
    matrix = Matrix(store, agrees, rule_engine(program_rule).lm(), meter)
    cells = matrix.fill(dspy.Predict(mood), rows)
    assert [(cell.score, cell.calls, len(cell.asked)) for cell in cells] == [(1.0, 1, 2)] * 10
    assert (meter.spent.calls, meter.spent.bought) == (20, 20)
    assert matrix.fill(dspy.Predict(mood), rows) == cells
    assert meter.spent.calls == 20
    limited = Matrix(store, agrees, rule_engine(program_rule).lm(), Meter(ps.Budget(calls=30)), workers=1)
    with pytest.raises(ps.BudgetExceeded):
        limited.fill(dspy.Predict(mood), rows_of(mood_rows, 30))
    priced = rule_engine(program_rule)
    priced.price = ps.Price(1.0, 1.0)
    paid = Matrix(store, agrees, priced.lm("rule/priced"), Meter(ps.Budget(usd=5)), workers=1)
    with pytest.raises(ps.BudgetExceeded, match="rule/hidden is asked by a metric, or by a program's own code"):
        paid.fill(dspy.Predict(mood), rows_of(mood_rows, 30))


def test_a_judge_that_cannot_be_read_is_asked_once_more_and_then_gives_no_score(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    asked: dict[str, int] = {}

    def mumbling(prompt: str) -> str:
        text = prompt.rsplit("## text ##", 1)[-1].split("\n")[1]
        asked[text] = asked.get(text, 0) + 1
        if text == "rain on day 0" and asked[text] <= 1:
            return "[[ ## score ## ]]\n99"  # off its scale, once
        if text == "sun on day 1":
            return "[[ ## score ## ]]\nrather good"
        if text == "rain on day 2":
            raise AuthError("no such key")
        if text == "sun on day 3" and asked[text] <= 1:
            raise ServerError("overloaded")
        return judge_rule(prompt)

    lm = rule_engine(mumbling).lm("rule/mumbling", temperature=0.0)
    metric = ps.metrics.judge(dspy.Predict(Fit), lm=lm, scale=(0, 10))
    rows = rows_of(mood_rows, 6)
    cells = Matrix(store, metric, rule_engine(program_rule).lm(), Meter()).fill(dspy.Predict(mood), rows)
    assert [cell.score for cell in cells] == [1.0, None, None, 1.0, 1.0, 1.0]
    assert str(cells[1].error).startswith("judge: AdapterParseError")
    assert "no such key" in str(cells[2].error)
    assert cells[1].output == {"mood": "glad"}
    assert asked["rain on day 0"] == 2
    assert asked["rain on day 2"] <= 2  # DSPy's own second format; what will not pass is not tried again
    evaluation = evaluate_cells(cells, rows)
    assert (evaluation.n, evaluation.failed, evaluation.score) == (4, 2, 1.0)


def test_another_judge_has_another_name(rule_engine: Any) -> None:
    lm = rule_engine(judge_rule).lm
    compiled = [
        Candidate.declared(dspy.Predict(Fit)).with_choice(format=Format(kind=kind)).apply(dspy.Predict(Fit))
        for kind in ("json", "compact")
    ]
    names = [
        metric_identity(metric)
        for metric in (
            ps.metrics.judge(dspy.Predict(Fit)),
            ps.metrics.judge(dspy.Predict(Fit), scale=(0, 10)),
            ps.metrics.judge(dspy.Predict(Fit), lm=lm("rule/a")),
            ps.metrics.judge(dspy.Predict(Fit), lm=lm("rule/b")),
            ps.metrics.judge(dspy.Predict(Fit.with_instructions("Be strict."))),
            *map(ps.metrics.judge, compiled),
            *(ps.metrics.judge(ps.guarded(each)) for each in compiled),
        )
    ]
    assert len(set(names)) == len(names)
    assert names[0] == metric_identity(ps.metrics.judge(dspy.Predict(Fit)))
    with pytest.raises(ps.ProgramError, match="has no output 'mark'"):
        ps.metrics.judge(dspy.Predict(Fit), "mark")
    with pytest.raises(ps.ProgramError, match="neither an output"):
        ps.metrics.judge(dspy.Predict(Fit))(dspy.Example(text="a"), dspy.Prediction(mood="b"))


@pytest.mark.parametrize(("own", "between"), [(0.0, 0.3), (0.2, 0.0), (0.15, 0.25)])
def test_a_judges_own_spread_is_told_from_the_programs(
    rule_engine: Any, store: Store, mood_rows: Any, own: float, between: float
) -> None:
    generator = np.random.default_rng(1)
    level = {row["text"]: 0.5 + between * generator.standard_normal() for row in mood_rows}
    # One for each text: threads ask in any order.
    moods = {row["text"]: np.random.default_rng([1, index]) for index, row in enumerate(mood_rows)}

    def unsteady(prompt: str) -> str:
        text = prompt.rsplit("## text ##", 1)[-1].split("\n")[1]
        return f"[[ ## score ## ]]\n{level[text] + own * moods[text].standard_normal()}"

    rows = rows_of(mood_rows, 100)
    lm = rule_engine(unsteady).lm("rule/unsteady", temperature=0.7)
    metric = ps.metrics.judge(dspy.Predict(Fit), lm=lm, scale=(-100, 100))
    meter = Meter()
    matrix = Matrix(store, metric, rule_engine(program_rule).lm(), meter)
    variance = judge_variance(matrix, rows, [{"mood": row.mood} for row in rows], repeats=5)
    assert (variance.examples, variance.repeats, variance.failed) == (100, 5, 0)
    assert meter.spent.calls == 500
    assert (200 * variance.judge**0.5, 200 * variance.program**0.5) == pytest.approx((own, between), abs=0.05)
    assert ("agrees with itself" in variance.text) == (own == 0)
    bought = meter.spent.bought
    assert judge_variance(matrix, rows, [{"mood": row.mood} for row in rows], repeats=5) == variance
    assert meter.spent.bought == bought


@pytest.mark.parametrize("outputs", [1, 7, 8])
def test_what_share_is_a_judges_own_is_not_told_of_a_few_outputs(outputs: int) -> None:
    text = Variance(judge=0.04, program=0.0, examples=outputs, repeats=3).text
    assert ("% of the scores' variance" in text) == (outputs >= 8)
    assert ("too few" in text) == (outputs < 8)
    assert "0.200" in text
    assert ("1 output judged" in text) == (outputs == 1)


def test_repeats_buy_answers_of_their_own_and_are_averaged_within_an_example(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    said = np.random.default_rng(0)
    engine = rule_engine(lambda prompt: f"[[ ## mood ## ]]\n{'glad' if said.random() < 0.5 else 'sad'}")
    rows, meter = rows_of(mood_rows, 50), Meter()
    matrix = Matrix(store, ps.metrics.choice("mood"), engine.lm(temperature=1.0), meter)
    cells = matrix.fill(dspy.Predict(mood), rows, repeats=4)
    assert len(engine.prompts) == meter.spent.bought == 200
    assert store.count("cells") == 200
    assert {cell.score for cell in cells} > {0.25, 0.75}
    assert [(cell.calls, len(cell.asked)) for cell in cells] == [(1, 4)] * 50
    assert matrix.fill(dspy.Predict(mood), rows, repeats=4) == cells
    first = matrix.fill(dspy.Predict(mood), rows)
    assert {cell.repeat for cell in first} == {0}
    assert {cell.score for cell in first} == {0.0, 1.0}
    assert len(engine.prompts) == 200


def test_the_embedded_lm_samples_each_repeat_by_another_seed_in_every_process(local_lm: Any, tmp_path: Any) -> None:
    example = dspy.Example(text="a day at the sea", story="").with_inputs("text")
    stories = []
    for run in range(2):
        with ps.store.database.open_store(tmp_path / f"{run}.db") as store:
            metric = ps.metrics.contains("story")
            lm = ps.lm("local", max_tokens=12, temperature=1.0)
            matrix = Matrix(store, metric, lm, Meter())
            told = [
                next(iter(matrix.runs(dspy.Predict("text -> story"), [example], identity="p", repeat=repeat))).cell
                for repeat in (1, 2, 3)
            ]
            stories.append([(cell.output, cell.error) for cell in told])
    assert stories[0] == stories[1]
    assert any(one != other for one, other in pairwise(stories[0]))


def test_a_mean_of_repeats_is_what_one_run_may_be_expected_to_do() -> None:
    def cell(repeat: int, score: float | None, tokens: int, **more: Any) -> Cell:
        asked = [(f"key {repeat}", tokens, 1)]
        return Cell(
            "p", "e", "m", repeat=repeat, score=score, calls=1, asked=asked, input_tokens=tokens, seconds=2.0, **more
        )

    mean = mean_cell([cell(0, 1.0, 10), cell(1, 0.0, 20, feedback="Wrong."), cell(2, None, 99, error="overloaded")])
    assert (mean.score, mean.input_tokens, mean.seconds, mean.feedback, mean.error) == (0.5, 15, 2.0, "Wrong.", None)
    assert len(mean.asked) == 3
    assert mean_cell([cell(0, None, 9, error="down")]).score is None
