"""The bill before it is run up: no LM is asked, and what a compile really asks is within what was told."""

from __future__ import annotations

import json
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.matrix import Matrix
from progspace.lms.budget import Meter
from progspace.lms.prices import price
from progspace.optimizers.forecast import forecast
from progspace.optimizers.rehearsal import rehearse
from progspace.optimizers.space import Space
from progspace.programs import sentiment
from progspace.programs.answering import Answering
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.store.database import Store, open_store
from progspace.store.records import Answer


@pytest.fixture(autouse=True)
def _prices_as_packaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "true")


class Chain(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gist = dspy.Predict("review -> gist")
        self.verdict = dspy.Predict(sentiment.Sentiment)

    def forward(self, review: str) -> dspy.Prediction:
        return self.verdict(review=self.gist(review=review).gist)


@pytest.mark.parametrize(
    "choice",
    [
        {"format": Format(kind="compact", decoding="scored")},
        {"format": Format(kind="compact", decoding="constrained", hints=True)},
        {
            "format": Format(kind="compact", decoding="constrained"),
            "demonstrations": ({"review": "Superb.", "sentiment": "positive"},) * 3,
        },
    ],
)
def test_prompts_are_those_that_are_sent(local_lm: Any, store: Store, choice: dict[str, Any]) -> None:
    task = sentiment.task()
    program = Candidate.declared(task.program).with_choice(**choice).apply(task.program)
    examples = task.train[:4]
    told = rehearse(program, examples, local_lm)
    cells = Matrix(store, task.metric, local_lm, Meter()).fill(program, examples)
    assert told.input_tokens == sum(cell.input_tokens for cell in cells) / 4
    assert told.calls == 1
    # What is chosen among is written whole, be it right or not.
    assert told.output_tokens == told.most_output_tokens <= 4


def test_the_declared_programs_prompt_is_the_chat_that_dspy_sends(local_lm: Any, store: Store) -> None:
    task, lm = sentiment.task(), ps.lm("local", max_tokens=24)
    example = task.train[0]
    prompt: list[int] = []

    class Heard(dspy.ChatAdapter):
        def __call__(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> Any:
            engine = lm.lm._engine_spec.engine
            prompt.append(len(engine.encode(engine.render(self.format(signature, demos, inputs)))))
            return super().__call__(lm, lm_kwargs, signature, demos, inputs)

    with dspy.context(adapter=Heard()):
        (cell,) = Matrix(store, task.metric, lm, Meter()).fill(task.program, [example])
    told = rehearse(task.program, [example], lm)
    assert told.input_tokens == prompt[0]
    assert cell.asked[0][1] == prompt[0]
    assert told.most_output_tokens == 24
    assert cell.asked[0][2] <= 24


def test_a_chain_is_rehearsed_step_by_step(local_lm: Any) -> None:
    examples = sentiment.task().train[:3]
    alone, both = rehearse(Chain().gist, examples, local_lm), rehearse(Chain(), examples, local_lm)
    assert (alone.calls, both.calls) == (1, 2)
    assert both.input_tokens > alone.input_tokens
    compact = Candidate.declared(Chain()).with_choice(format=Format(kind="compact", decoding="scored"))
    voted = compact.with_choice(predictor="verdict", answering=Answering(reasoning=True, votes=3)).apply(Chain())
    assert rehearse(voted, examples, local_lm).calls == 1 + 2 * 3
    agent = dspy.ReAct("question -> answer", tools=[len], max_iters=3)
    question = dspy.Example(question="How long is it?").with_inputs("question")
    assert rehearse(agent, [question], local_lm).calls >= 2


class Picky(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = dspy.Predict("text -> code"), dspy.Predict("code, text -> mood")

    def forward(self, text: str) -> dspy.Prediction:
        return self.second(text=text, code=str(int(self.first(text=text).code)))


def test_a_program_that_stops_at_what_it_was_told_is_rehearsed_predictor_by_predictor(rule_engine: Any) -> None:
    told = rehearse(Picky(), [dspy.Example(text="sun").with_inputs("text")], rule_engine(str).lm())
    assert 2 <= told.calls <= 3
    assert told.input_tokens > 100


class Bringing(dspy.Module):
    """Brings along its own adapter, and asks LMs past its predictors."""

    def __init__(self, own: dspy.BaseLM) -> None:
        super().__init__()
        self.first, self.second, self.third = (dspy.Predict("text -> mood") for _ in range(3))
        self.second.lm = own

    def forward(self, text: str) -> dspy.Prediction:
        with dspy.context(adapter=dspy.JSONAdapter()):
            self.first(text=text)
            self.second(text=text)
        dspy.settings.lm(text)
        return self.third(text=text)


def test_a_program_that_asks_past_its_predictors_asks_nothing_in_a_rehearsal(rule_engine: Any) -> None:
    engine = rule_engine(str)
    program = Bringing(own := engine.lm("rule/own"))
    told = rehearse(program, [dspy.Example(text="sun").with_inputs("text")] * 2, engine.lm())
    assert told.calls == 3
    assert engine.prompts == []
    assert program.second.lm is own


class Idle(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("text -> mood")

    def forward(self, text: str) -> dspy.Prediction:
        return dspy.Prediction(mood="glad") if text else self.predict(text=text)


def test_a_program_that_asks_nothing_of_these_examples_has_a_forecast(rule_engine: Any, mood_rows: Any) -> None:
    task = ps.Task(program=Idle(), examples=mood_rows, inputs=["text"], metric=ps.metrics.choice("mood"))
    assert forecast(task, rule_engine(str).lm(), ps.Budget(tokens=100)).calls_per_example == 0


def test_answers_that_a_compact_format_asks_one_by_one_are_that_many_calls(rule_engine: Any, mood: Any) -> None:
    several, lm = dspy.Predict(mood, n=3, temperature=0.5), rule_engine(str).lm()
    compact = Candidate.declared(several).with_choice(format=Format(kind="compact")).apply(several)
    with dspy.context(lm=(engine := rule_engine(lambda prompt: "glad")).lm()):
        compact(text="sun")
    rows = [dspy.Example(text="sun").with_inputs("text")]
    assert rehearse(compact, rows, lm).calls == len(engine.prompts) == 3
    assert rehearse(several, rows, lm).calls == 1


def test_no_lm_is_asked_and_the_budget_is_the_limit(rule_engine: Any, task: ps.Task) -> None:
    engine = rule_engine(lambda prompt: "glad")
    told = forecast(task, engine.lm(), ps.Budget(calls=400))
    assert engine.prompts == []
    assert task.unsealed == ()
    assert told.search.calls.low < told.search.calls.expected < told.search.calls.high == 400
    assert 0 < told.search.tokens.low < told.search.tokens.expected < told.search.tokens.high
    assert told.test.calls.low == task.test_size
    assert forecast(task, engine.lm(), ps.Budget(calls=400), test_rows=7).test.calls.low == 7
    assert forecast(task, engine.lm(), ps.Budget(tokens=5000)).search.tokens.high == 5000
    assert forecast(task, engine.lm(), ps.Budget(minutes=2)).search.minutes.high == 2
    assert told.search.usd is None
    for word in ("sealed test", "price is not known", "1.5 s a call, 16 at a time", "4 characters"):
        assert word in told.text
    assert json.loads(json.dumps(told.to_dict()))["search"]["calls"]["high"] == 400


def test_the_sealed_tests_upper_end_holds_votes_and_second_tries(rule_engine: Any, task: ps.Task) -> None:
    lm, budget, size = rule_engine(str).lm(), ps.Budget(calls=400), task.test_size
    direct = Space(answers=("direct",), votes=(1,))
    voting = Space(answers=("direct",), votes=(1, 5))
    # Four programs; and the program as declared may be asked for each example twice, its chat answers being unreadable.
    assert forecast(task, lm, budget, direct).test.calls.high == (4 + 1) * size
    assert forecast(task, lm, budget, voting).test.calls.high == (3 + 5 + 1) * size


def test_a_budget_too_small_is_told_before_it_is_spent(rule_engine: Any, task: ps.Task) -> None:
    small = forecast(task, rule_engine(str).lm(), ps.Budget(calls=4))
    assert "does not hold the program as declared, which needs 10 calls" in small.text
    assert "does not hold" not in forecast(task, rule_engine(str).lm(), ps.Budget(calls=400)).text


def test_prices_are_those_by_which_calls_are_paid(task: ps.Task) -> None:
    lm = dspy.LM("openai/gpt-4o-mini", api_key="none", max_tokens=100)
    assert price(lm, 1_000_000, 0) == pytest.approx(0.15)
    assert price(lm, 0, 1_000_000) == pytest.approx(0.60)
    assert price(dspy.LM("nobody/nothing", api_key="none"), 1, 1) is None
    told = forecast(task, lm, ps.Budget(calls=400))
    assert told.search.usd is not None
    assert 0 < told.search.usd.low < told.search.usd.expected < told.search.usd.high
    limited = forecast(task, lm, ps.Budget(usd=0.001))
    assert limited.search.usd is not None
    assert limited.search.usd.high == 0.001
    assert limited.search.calls.high < 400


def test_long_prompts_that_the_space_shuts_out_are_not_reckoned_with(rule_engine: Any, task: ps.Task) -> None:
    lm, budget = rule_engine(str).lm(), ps.Budget(calls=400)
    wide, narrow = forecast(task, lm, budget), forecast(task, lm, budget, Space(max_prompt_tokens=60))
    assert narrow.search.tokens.high < wide.search.tokens.high


def test_a_judges_calls_are_in_the_bill(rule_engine: Any, mood: Any, mood_rows: Any) -> None:
    judge = ps.metrics.judge(dspy.Predict("text, mood, expected_mood -> score: float"))
    judged = ps.Task(program=dspy.Predict(mood), examples=mood_rows, metric=judge, name="mood")
    told = forecast(judged, rule_engine(str).lm(), ps.Budget(calls=400))
    assert told.calls_per_example == 2
    assert told.test.calls.low == 2 * judged.test_size
    assert "judge's calls are counted too: 1 an output" in told.text


def test_the_pace_of_this_lm_is_read_from_the_store(
    rule_engine: Any, store: Store, task: ps.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1e9
    for number in range(60):
        # An answer every 20 ms, a pause of an hour, and others' answers between.
        now += 3600 if number == 30 else 0.02
        monkeypatch.setattr("time.time", lambda now=now: now)
        store.put_answer(Answer(f"own {number}", {"model": "rule/one", "text": "glad"}, 9, 1, 0.3))
        store.put_answer(Answer(f"other {number}", {"model": "rule/two", "text": "glad"}, 9, 1, 0.3))
    lm, budget = rule_engine(str).lm(), ps.Budget(calls=600)
    told = forecast(task, lm, budget, store=store)
    assert "20 ms a call" in told.text
    assert told.search.minutes.expected == pytest.approx(told.search.calls.expected * 0.02 / 60)
    assert "20 ms" not in forecast(task, rule_engine(str).lm("rule/three"), budget, store=store).text


def test_a_real_compile_asks_what_was_told(local_lm: Any, tmp_path: Any) -> None:
    lm, budget = ps.lm("local", max_tokens=8), ps.Budget(calls=100)
    task = sentiment.task()
    space = Space(formats=("compact",), instructions=(), answers=("direct",), votes=(1,), demonstrations=(2,))
    with open_store(tmp_path / "store.db") as store:
        told = forecast(task, lm, budget, space, store=store, test_rows=5)
        assert store.count("answers") == 0
        report = ps.compile(task, lm=lm, budget=budget, store=store, test_rows=5, space=space).report
    calls = sum(rung.calls for rung in report.rungs)
    tokens = sum(rung.input_tokens + rung.output_tokens for rung in report.rungs)
    assert len(report.rungs) > 1
    assert told.search.calls.low <= calls <= told.search.calls.high
    assert told.search.tokens.low <= tokens <= told.search.tokens.high
    assert told.test.calls.low <= report.test_calls <= told.test.calls.high
    assert told.search.usd is not None
    assert told.search.usd.high == 0
