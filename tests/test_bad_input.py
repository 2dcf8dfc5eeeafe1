"""What a user may hand in by mistake, and what an LM may do: each is told, and what was paid for is kept."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from typing import Any, cast

import dspy
import pytest
import sqlalchemy as sa
from dspy.lm15 import AuthError, RateLimitError, ServerError

import progspace as ps
from progspace.evaluation.power import advice
from progspace.evaluation.rendering import report_lines
from progspace.optimizers.forecast import forecast
from progspace.optimizers.space import Space
from progspace.store.database import Store

BUDGET = ps.Budget(calls=300)


def rule(prompt: str) -> str:
    """Follows the chat format and the compact one, and is right about every second rainy day."""
    text = prompt.rsplit("## text ##" if "## text ##" in prompt else "Text:", 1)[-1]
    right = "glad" if "sun" in text else "sad"
    digits = "".join(filter(str.isdigit, text.split("\n")[0] or text.split("\n")[1]))
    said = right if "JSON" in prompt or prompt.endswith("Mood:") or int(digits or 0) % 4 else "glad"
    return said if prompt.endswith("Mood:") else f"[[ ## mood ## ]]\n{said}\n\n[[ ## completed ## ]]"


def declare(mood: Any, rows: Any, metric: Any = None, **more: Any) -> ps.Task:
    return ps.Task(
        program=dspy.Predict(mood), examples=rows, metric=metric or ps.metrics.choice("mood"), name="mood", **more
    )


def raising(example: Any, prediction: Any, trace: Any = None) -> float:
    return float(example.stars == prediction.mood)


def not_a_number(example: Any, prediction: Any, trace: Any = None) -> float:
    return float("nan")


def wordy(example: Any, prediction: Any, trace: Any = None) -> str:
    return "good"


def nothing(example: Any, prediction: Any, trace: Any = None) -> None:
    return None


def minus_the_error(example: Any, prediction: Any, trace: Any = None) -> float:
    return -2.0 * (example.mood != prediction.mood)


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        (raising, "raised AttributeError"),
        (not_a_number, "gave nan"),
        (wordy, "gave 'good'"),
        (nothing, "gave None"),
        (minus_the_error, "gave -2.0: a score is not below 0"),
    ],
)
def test_a_metric_that_cannot_score_is_told_with_the_example(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any, metric: Any, told: str
) -> None:
    engine = rule_engine(rule)
    with pytest.raises(ps.MetricError, match=told) as caught:
        ps.compile(declare(mood, mood_rows, metric), lm=engine.lm(), budget=BUDGET, store=store)
    assert metric.__name__ in str(caught.value)
    assert caught.value.example["text"] in {row["text"] for row in mood_rows}
    paid = len(engine.prompts)
    assert store.count("answers") == paid > 0
    known = set(engine.prompts)
    ps.compile(declare(mood, mood_rows), lm=engine.lm(), budget=BUDGET, store=store)
    assert not known & set(engine.prompts[paid:])


class Bare(dspy.Module):
    def forward(self, text: str) -> dspy.Prediction:
        return dspy.Prediction(mood="glad")


def test_a_module_without_predictors_has_nothing_to_search(mood_rows: Any) -> None:
    with pytest.raises(ps.ProgramError, match="Bare has no predictor"):
        ps.Task(program=Bare(), examples=mood_rows, inputs=["text"], metric=ps.metrics.choice("mood"))


def test_a_dev_set_of_three_rows_compiles_and_proves_nothing(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    drawn = (declare(mood, mood_rows[start : start + 6], test=mood_rows[60:]) for start in range(7, 50))
    task = next(task for task in drawn if len(task.dev) == 3)
    compiled = ps.compile(task, lm=rule_engine(rule).lm(), budget=BUDGET, store=store)
    assert compiled.report.sizes["dev"] == 3
    assert compiled(text="sun on day 3").mood == "glad"
    before = advice([], 3, task.test_size)
    assert not before.worth_it
    assert "3 dev rows tell no gain from luck" in before.text


def test_a_split_that_would_be_empty_is_told(mood: Any, mood_rows: Any) -> None:
    with pytest.raises(ps.DataError, match="split is empty: there are 1 different examples, and at least 20"):
        declare(mood, mood_rows[:1])


def test_labels_all_alike_compile_to_what_was_declared(rule_engine: Any, store: Store, mood: Any) -> None:
    rows = [{"text": f"sun on day {number}", "mood": "glad"} for number in range(60)]
    compiled = ps.compile(declare(mood, rows), lm=rule_engine(rule).lm(), budget=BUDGET, store=store)
    baseline, *_ = compiled.report.rungs
    assert baseline.test is not None
    assert baseline.test.score == 1.0
    assert compiled.report.winner.test is not None
    assert compiled.report.winner.test.score == 1.0


def never(example: Any, prediction: Any, trace: Any = None) -> float:
    return float(prediction.mood == "furious")


@pytest.mark.parametrize(("metric", "told"), [(never, True), (None, False)])
def test_a_task_that_nothing_is_ever_right_on_keeps_what_was_declared_and_says_so(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any, *, metric: Any, told: bool
) -> None:
    compiled = ps.compile(declare(mood, mood_rows, metric), lm=rule_engine(rule).lm(), budget=BUDGET, store=store)
    report = compiled.report
    assert any("scores is 0, whatever was tried" in note for note in report.notes) is told
    assert (report.winner is report.rungs[0]) is told


@pytest.mark.parametrize("fault", [ServerError("down"), RateLimitError("slow down"), AuthError("no such key")])
def test_an_lm_that_always_fails_is_an_error(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any, fault: Exception
) -> None:
    def failing(prompt: str) -> str:
        raise fault

    engine = rule_engine(failing)
    with pytest.raises(ps.LMError, match=f"answered on none of .*{str(fault).splitlines()[0]}"):
        ps.compile(declare(mood, mood_rows), lm=engine.lm(), budget=BUDGET, store=store)
    assert len(engine.prompts) < 100
    assert store.count("answers") == 0


def after(count: int, then: Callable[[str], str]) -> Callable[[str], str]:
    """Answers so often by the rule, and then otherwise."""
    lock, asked = threading.Lock(), 0

    def answer(prompt: str) -> str:
        nonlocal asked
        with lock:
            asked += 1
            number = asked
        return rule(prompt) if number <= count else then(prompt)

    return answer


def test_an_lm_that_dies_on_the_way_is_told_and_what_was_paid_is_kept(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    def dead(prompt: str) -> str:
        raise ServerError("down")

    engine = rule_engine(after(30, dead))
    told = ps.compile(declare(mood, mood_rows), lm=engine.lm(), budget=BUDGET, store=store).report
    assert any(note.startswith("The sealed test could not be scored") for note in told.notes)
    assert sum(rung.failed for rung in told.rungs) > 0
    assert "of them never answered" in str(told)
    assert store.count("answers") == 30
    bought = set(engine.prompts[:30])
    healed = rule_engine(rule)
    ps.compile(declare(mood, mood_rows), lm=healed.lm(), budget=BUDGET, store=store)
    assert not bought & set(healed.prompts)


def test_another_lm_that_dies_leaves_the_search_with_its_report(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    """None of what it was to be confirmed on is answered: the search ended without a report, and all was paid."""

    def hesitant(prompt: str) -> str:
        told = int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % 3
        return rule(prompt) if told else "[[ ## mood ## ]]\nsad"

    def dead(prompt: str) -> str:
        raise ServerError("down")

    other = rule_engine(after(5, dead)).lm("rule/other")
    space = ps.Space(
        lms={"other": other}, formats=[], instructions=[], demonstrations=[], answers=["direct"], votes=[1]
    )
    declared = declare(mood, mood_rows)
    compiled = ps.compile(declared, lm=rule_engine(hesitant).lm(), budget=BUDGET, store=store, space=space)
    chaining = compiled.report.rungs[-1]
    assert (chaining.name, chaining.kept, chaining.confirmed) == ("chaining", False, None)
    assert chaining.failed > 0
    assert "chaining" in str(compiled.report)


def test_calls_that_failed_are_not_told_as_answered_before(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    def falling(prompt: str) -> str:
        if hashlib.sha256(prompt.encode()).digest()[0] < 64:
            raise RuntimeError("it fell over")
        return rule(prompt)

    def told(report: Any) -> str:
        return next(line for line in report_lines(report) if "seed 0:" in line)

    task = declare(mood, mood_rows, test=())
    first = ps.compile(task, lm=rule_engine(falling).lm(), budget=BUDGET, store=store).report
    failed = sum(rung.failed for rung in first.rungs)
    asked, answered = sum(rung.calls for rung in first.rungs), store.count("answers")
    assert (failed, sum(rung.bought for rung in first.rungs)) == (asked - answered, answered)
    assert failed > 0
    assert f"Search: {asked} calls ({failed} of them never answered), " in told(first)
    again = ps.compile(task, lm=rule_engine(falling).lm(), budget=BUDGET, store=store).report
    assert f"calls ({answered} of them answered before, and free; {failed} of them never answered), " in told(again)


def test_a_gain_is_told_of_the_test_examples_that_both_answered(rule_engine: Any, mood: Any, mood_rows: Any) -> None:
    def refusing(prompt: str) -> str:
        if "[[ ##" in prompt:
            if hashlib.sha256(prompt.encode()).digest()[0] < 80:
                raise RuntimeError("refused by a filter")
            return "[[ ## mood ## ]]\nglad\n\n[[ ## completed ## ]]"
        return rule(prompt)

    engine = rule_engine(refusing)
    report = ps.compile(declare(mood, mood_rows), lm=engine.lm(), budget=BUDGET, store=":memory:").report
    against, declared = report.winner.versus_baseline, report.baseline.test
    assert against.n == declared.n
    assert declared.failed > 0
    assert report.winner.test.n == declared.n + declared.failed
    assert against.score - against.baseline == pytest.approx(against.difference)
    lines = report_lines(report)
    told = f"On {against.n} sealed test examples {100 * against.baseline:.1f} % → {100 * against.score:.1f} %"
    assert told in lines[0]
    (left,) = (line for line in lines if "without an answer" in line)
    assert (f"up to {declared.failed} test examples" if declared.failed > 1 else "a test example") in left


def test_an_lm_that_is_throttled_now_and_then_costs_retries_and_no_score(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    lock, seen = threading.Lock(), dict[str, int]()

    def throttled(prompt: str) -> str:
        with lock:
            seen[prompt] = seen.get(prompt, 0) + 1
            first = seen[prompt] == 1
        if first and len(prompt) % 5 == 0:
            raise RateLimitError("slow down")
        return rule(prompt)

    engine = rule_engine(throttled)
    compiled = ps.compile(declare(mood, mood_rows), lm=engine.lm(), budget=BUDGET, store=store)
    assert any(count > 1 for count in seen.values())
    assert sum(rung.calls for rung in compiled.report.rungs) <= 300
    for rung in compiled.report.rungs:
        assert rung.test is not None
        assert rung.test.failed == 0
    cells = store.read(sa.text("SELECT score, error FROM cells"))
    assert not [error for score, error in cells if score is not None and "slow down" in (error or "")]


@pytest.mark.parametrize("calls", [1, 5])
def test_a_budget_too_small_for_the_baseline_is_told_and_what_it_bought_is_kept(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any, calls: int
) -> None:
    engine = rule_engine(rule)
    with pytest.raises(ps.BudgetExceeded, match=f"the budget of {calls} calls is spent"):
        ps.compile(declare(mood, mood_rows), lm=engine.lm(), budget=ps.Budget(calls=calls), store=store)
    assert len(engine.prompts) == store.count("answers") == calls


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"test_rows": 0}, "test_rows=0: should be greater than or equal to 1"),
        ({"test_rows": -3}, "test_rows=-3"),
        ({"repeats": 0}, "repeats=0"),
        ({"repeats": -1}, "repeats=-1"),
        ({"workers": 0}, "workers=0"),
        ({"workers": -2}, "workers=-2"),
        ({"seed": -1}, "seed=-1: should be greater than or equal to 0"),
    ],
)
def test_a_number_that_means_nothing_is_refused_before_anything_is_asked(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any, arguments: dict[str, int], told: str
) -> None:
    """No test rows were all of the sealed test, no workers as many as the LM takes."""
    engine, task = rule_engine(rule), declare(mood, mood_rows)
    with pytest.raises(ps.DataError, match=told):
        ps.compile(task, lm=engine.lm(), budget=BUDGET, store=store, **arguments)
    if "workers" in arguments or "seed" in arguments:
        with pytest.raises(ps.DataError, match=told):
            ps.evaluate(task.program, task, lm=engine.lm(), store=store, **arguments)
        with pytest.raises(ps.DataError, match=told):
            ps.compare(task.program, task.program, task, lm=engine.lm(), store=store, **arguments)
        with pytest.raises(ps.DataError, match=told):
            ps.robustness(task.program, task, lm=engine.lm(), store=store, **arguments)
        with pytest.raises(ps.DataError, match=told):
            ps.edge_cases(task, task.program, lm=engine.lm(), store=store, embedder=None, **arguments)
    if "test_rows" in arguments:
        with pytest.raises(ps.DataError, match=told):
            forecast(task, engine.lm(), BUDGET, test_rows=arguments["test_rows"])
    assert engine.prompts == []
    assert task.unsealed == ()


def test_a_race_that_there_is_not_is_told_with_those_there_are(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    engine = rule_engine(rule)
    with pytest.raises(ps.DataError, match="there is no race 'fast'; there is posterior_halving, top_two"):
        ps.compile(declare(mood, mood_rows), lm=engine.lm(), budget=BUDGET, store=store, race="fast")
    assert engine.prompts == []


@pytest.mark.parametrize(
    ("lm", "told"),
    [("openai/x", r"'openai/x' is no LM: .* ps\.lm\('openai/x'\) makes one"), (None, r"None is no LM: .* ps\.lm")],
)
def test_the_name_of_an_lm_is_none(store: Store, mood: Any, mood_rows: Any, lm: Any, told: str) -> None:
    task = declare(mood, mood_rows)
    asking: list[Callable[[], object]] = [
        lambda: ps.compile(task, lm=lm, budget=BUDGET, store=store),
        lambda: ps.evaluate(task.program, task, lm=lm, store=store),
        lambda: ps.evaluate(task.program, task, lm=lm, store=store, batch=True),
        lambda: forecast(task, lm, BUDGET),
    ]
    for ask in asking:
        with pytest.raises(ps.LMError, match=told):
            ask()


def test_the_name_of_a_writer_is_none(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    engine, writer = rule_engine(rule), cast("Any", "openai/x")
    with pytest.raises(ps.LMError, match="'openai/x' is no LM"):
        ps.compile(declare(mood, mood_rows), lm=engine.lm(), budget=BUDGET, store=store, writer=writer)
    assert engine.prompts == []


def test_a_budget_of_money_is_refused_before_anything_is_asked_where_a_price_is_not_known(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    engine, task = rule_engine(rule), declare(mood, mood_rows)
    lm, budget, told = (
        engine.lm(),
        ps.Budget(usd=1.0),
        "rule/one: the LM's price is not known, .* limit calls or tokens",
    )
    with pytest.raises(ps.BudgetExceeded, match=told):
        ps.compile(task, lm=lm, budget=budget, store=store)
    with pytest.raises(ps.BudgetExceeded, match=told):
        ps.evaluate(task.program, task, lm=lm, budget=budget, store=store)
    priced = rule_engine(rule)
    priced.price = ps.Price(1.0, 1.0)
    with pytest.raises(ps.BudgetExceeded, match=told):
        ps.compile(task, lm=priced.lm("rule/two"), budget=budget, store=store, space=ps.Space(lms={"one": lm}))
    assert engine.prompts == priced.prompts == []
    assert re.search(f"It will be refused: {told}", forecast(task, lm, budget).text)
    assert "refused" not in forecast(task, lm, BUDGET).text
    assert "refused" not in forecast(task, priced.lm("rule/two"), budget).text


def test_a_space_of_one_point_measures_what_was_declared(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    space = Space(formats=("chat",), demonstrations=(), instructions=(), answers=("direct",), votes=(1,))
    compiled = ps.compile(declare(mood, mood_rows), lm=rule_engine(rule).lm(), budget=BUDGET, store=store, space=space)
    assert [rung.name for rung in compiled.report.rungs] == ["baseline"]
    assert compiled.report.winner.name == "baseline"


def test_a_judge_that_mumbles_ends_nothing(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    def mumbling(prompt: str) -> str:
        return "[[ ## right ## ]]\n" + ("perhaps" if "day 7" in prompt else "True")

    judge = ps.metrics.judge(dspy.Predict("text, mood -> right: bool"), "right", lm=rule_engine(mumbling).lm("rule/j"))
    compiled = ps.compile(declare(mood, mood_rows, judge), lm=rule_engine(rule).lm(), budget=BUDGET, store=store)
    assert sum(rung.calls for rung in compiled.report.rungs) <= 300
    assert compiled.report.winner.dev.score == 1.0
    assert sum(rung.dev.failed + rung.test.failed for rung in compiled.report.rungs if rung.test) > 0


class Strict(dspy.Module):
    """Bears no other instruction than its own."""

    def __init__(self, mood: Any) -> None:
        super().__init__()
        self.predict, self.told = dspy.Predict(mood), mood.instructions

    def forward(self, text: str) -> Any:
        if self.predict.signature.instructions != self.told:
            raise ValueError("told something else")
        return self.predict(text=text)


def test_a_rung_on_which_nothing_ever_runs_ends_nothing(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    task = ps.Task(program=Strict(mood), examples=mood_rows, inputs=["text"], metric=ps.metrics.choice("mood"))
    space = Space(formats=[], demonstrations=[], answers=["direct"], votes=[1])
    compiled = ps.compile(task, lm=rule_engine(rule).lm(), budget=BUDGET, store=store, space=space)
    baseline, prompts = compiled.report.rungs
    assert compiled.report.winner is baseline
    assert (prompts.dev.score, prompts.dev.errors) == (0.0, prompts.dev.n)
    assert baseline.test is not None
    assert baseline.test.score > 0


def test_an_lm_to_choose_that_never_answers_ends_nothing(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    def failing(prompt: str) -> str:
        raise AuthError("no such key")

    space = Space(
        formats=[], instructions=[], demonstrations=[], answers=["direct"], votes=[1],
        lms={"other": rule_engine(failing).lm("rule/other")},
    )  # fmt: skip
    task = declare(mood, mood_rows)
    compiled = ps.compile(task, lm=rule_engine(rule).lm(), budget=BUDGET, store=store, space=space)
    baseline, chaining = compiled.report.rungs
    assert (chaining.kept, chaining.reason) == (False, "nothing new was measured")
    assert baseline.test is not None


def test_a_metric_above_one_is_searched_as_well(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    def percent(example: Any, prediction: Any, trace: Any = None) -> float:
        return 100.0 * (example.mood == prediction.mood)

    task = declare(mood, mood_rows, percent)
    report = ps.compile(task, lm=rule_engine(rule).lm(), budget=BUDGET, store=store).report
    assert len(report.rungs) > 2
    assert report.winner is not report.rungs[0]
    assert "what the metric gives at most is not known" in report.notes[0]


def test_labels_that_no_row_has_are_no_classes(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    class Chain(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.look, self.tell = dspy.Predict("text -> rainy: bool"), dspy.Predict(mood)

        def forward(self, text: str) -> Any:
            self.look(text=text)
            return self.tell(text=text)

    def answer(prompt: str) -> str:
        return "[[ ## rainy ## ]]\nTrue\n\n[[ ## completed ## ]]" if "rainy" in prompt else rule(prompt)

    rows = [{"text": row["text"]} for row in mood_rows]
    task = ps.Task(program=Chain(), examples=rows, inputs=["text"], metric=never)
    report = ps.compile(task, lm=rule_engine(answer).lm(), budget=ps.Budget(calls=60), store=store).report
    assert not any("have the label" in note for note in report.notes)


def test_a_judge_is_measured_however_small_the_budget_and_on_real_answers(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    judge = dspy.Predict("text, mood -> fine: bool")

    def fine(example: Any, prediction: Any, trace: Any = None) -> bool:
        return bool(judge(text=example.text, mood=prediction.mood.lower()).fine)

    def answer(prompt: str) -> str:
        if "fine" in prompt:
            return "[[ ## fine ## ]]\nTrue\n\n[[ ## completed ## ]]"
        return "well" if "day 4" in prompt else rule(prompt)  # not to be read

    task = declare(mood, mood_rows, fine)
    for calls in (100, 300):
        report = ps.compile(task, lm=rule_engine(answer).lm(), budget=ps.Budget(calls=calls), store=store).report
        assert "The judge agrees with itself" in report.notes[-1]
        assert sum(rung.calls for rung in report.rungs) <= calls


def test_repeats_make_no_judge_of_a_metric(rule_engine: Any, store: Store, mood: Any, mood_rows: Any) -> None:
    report = ps.compile(
        declare(mood, mood_rows), lm=rule_engine(rule).lm(), budget=BUDGET, store=store, repeats=3
    ).report
    assert not any("judge" in note for note in report.notes)


def test_the_apps_adapter_is_part_of_the_program_as_declared(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any
) -> None:
    def xml(prompt: str) -> str:
        if "<mood>" not in prompt:
            return "what?"
        return f"<mood>{'glad' if 'sun' in prompt.rsplit('<text>', 1)[-1] else 'sad'}</mood>"

    lm, task = rule_engine(xml).lm(), declare(mood, mood_rows)
    with dspy.context(adapter=dspy.XMLAdapter()):
        compiled = ps.compile(task, lm=lm, budget=BUDGET, store=store)
        (baseline,) = compiled.report.rungs
        assert baseline.dev.score == 1.0
        assert baseline.test is not None
        assert baseline.test.score == 1.0
        assert compiled.program(text="the sun").mood == "glad"
    # Another adapter is another program: what is known of one is not told of the other.
    assert ps.evaluate(compiled.program, task, lm=lm, store=store).score == 0.0


@pytest.mark.parametrize(("most", "kept"), [(60, True), (10, False)])
def test_a_declared_program_whose_prompts_are_too_long_is_told(
    rule_engine: Any, store: Store, mood: Any, mood_rows: Any, *, most: int, kept: bool
) -> None:
    space = Space(max_prompt_tokens=most, instructions=[], demonstrations=[], answers=["direct"], votes=[1])
    compiled = ps.compile(declare(mood, mood_rows), lm=rule_engine(rule).lm(), budget=BUDGET, store=store, space=space)
    report = compiled.report
    assert (report.winner is not report.rungs[0]) is kept
    assert any("No program was found whose prompts have at most 10 tokens" in note for note in report.notes) is not kept
    if kept:
        assert report.winner.reason == "its prompts are short enough, and the other's are too long"
        assert all(point.values["input_tokens"] <= most for point in compiled.front)
    else:
        assert not compiled.front
