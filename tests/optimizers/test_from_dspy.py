"""DSPy's teleprompters as proposers: they really run, are metered, and fail without harm."""

from __future__ import annotations

import random
import threading
from typing import Any

import dspy
import numpy as np
import pytest

import progspace as ps
from progspace.evaluation.matrix import Matrix
from progspace.lms.budget import Budget, Meter
from progspace.optimizers.plans import default_plans
from progspace.optimizers.proposers.base import SearchState
from progspace.optimizers.proposers.from_dspy import FromDSPy
from progspace.optimizers.space import Space
from progspace.optimizers.standing import Standing
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.store.database import Store

METRIC = ps.metrics.choice("mood")


def rule(prompt: str) -> str:
    """Tells moods in the compact format; writes an instruction where it is asked for one."""
    if prompt.endswith("Mood:"):
        return "glad" if "sun" in prompt.rsplit("Text:", 1)[-1] else "sad"
    if "mood ## ]]" in prompt.rsplit("Respond", 1)[-1]:
        return f"[[ ## mood ## ]]\n{'glad' if 'sun' in prompt.rsplit('## text ##', 1)[-1] else 'sad'}"
    return "[[ ## proposed_instruction ## ]]\nSay the mood.\n\n[[ ## proposed_prefix_for_output_field ## ]]\nMood:"


def only_shown(prompt: str) -> str:
    """Tells moods where it is shown how; else it is always glad."""
    return rule(prompt) if "Mood: glad" in prompt or "Mood: sad" in prompt else "glad"


def state_of(
    program: dspy.Module, rows: Any, lm: dspy.BaseLM, store: Store, *, budget: Budget | None = None, **choice: Any
) -> SearchState:
    task = ps.Task(program=program, examples=rows, inputs=["text"], metric=METRIC, name="mood")
    matrix = Matrix(store, task.metric, lm, Meter(budget))
    choice = {"format": Format(kind="compact"), **choice}
    incumbent = Standing(Candidate.declared(program).with_choice(origin="compact, free", **choice), ())
    return SearchState(task, Space(), matrix, matrix.lm, incumbent, (incumbent,), seed=0)


@pytest.mark.parametrize("make", [
    lambda: dspy.LabeledFewShot(k=4),
    lambda: dspy.BootstrapFewShot(metric=METRIC, max_bootstrapped_demos=2, max_labeled_demos=2),
    lambda: dspy.BootstrapFewShotWithRandomSearch(metric=METRIC, max_bootstrapped_demos=2, max_labeled_demos=2,
                                                  num_candidate_programs=2, num_threads=2),
], ids=["LabeledFewShot", "BootstrapFewShot", "RandomSearch"])  # fmt: skip
def test_demonstrations_that_a_teleprompter_chose_are_a_candidate(
    make: Any, mood: Any, mood_rows: Any, rule_engine: Any, store: Store, capfd: Any
) -> None:
    proposer = FromDSPy(make())
    capfd.readouterr()
    state = state_of(dspy.Predict(mood), mood_rows, rule_engine(only_shown).lm(), store)
    (candidate,) = proposer.propose(state, 3)
    choice = candidate.predictors["self"]
    assert choice.format == Format(kind="compact")
    assert choice.demonstrations
    train = {(example.text, example.mood) for example in state.task.train}
    assert {(shown["text"], shown["mood"]) for shown in choice.demonstrations} <= train
    assert proposer.name in candidate.origin
    assert proposer.propose(state, 3) == []
    assert capfd.readouterr().out == ""
    assert state.task.program.demos == []


def test_instructions_that_a_teleprompter_wrote_are_a_candidate_and_its_own_lm_is_metered(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    writing = rule_engine(rule)
    engine = rule_engine(lambda prompt: rule(prompt) if "Say the mood" in prompt else "what?")
    teleprompter = dspy.COPRO(prompt_model=writing.lm("rule/writer"), metric=METRIC, breadth=2, depth=1)
    state = state_of(dspy.Predict(mood), mood_rows, engine.lm(), store)
    (candidate,) = FromDSPy(teleprompter, eval_kwargs={"num_threads": 2}).propose(state, 1)
    assert candidate.predictors["self"].instruction == "Say the mood."
    assert writing.prompts
    assert state.matrix.meter.spent.bought == len(writing.prompts) + len(engine.prompts)
    assert isinstance(teleprompter.prompt_model, dspy.LM)


def test_a_valset_comes_from_train_and_never_from_dev(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    seen: dict[str, list[dspy.Example]] = {}

    class Looking(dspy.teleprompt.Teleprompter):
        def compile(self, student: Any, *, trainset: Any, valset: Any = None) -> Any:
            seen.update(train=trainset, val=valset)
            return student

    state = state_of(dspy.Predict(mood), mood_rows, rule_engine(rule).lm(), store)
    assert FromDSPy(Looking()).propose(state, 1) == []  # nothing was changed
    assert seen["val"]
    assert sorted(each.text for part in seen.values() for each in part) == sorted(x.text for x in state.task.train)


class Overwriting(dspy.teleprompt.Teleprompter):
    """Writes into the signature's class, as ``dspy.InferRules`` does."""

    def compile(self, student: Any, *, trainset: Any) -> Any:
        for predictor in student.predictors():
            predictor.signature.instructions = "Overwritten."
        return student


def test_a_signature_that_is_written_into_is_not_the_users(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    state = state_of(dspy.Predict(mood), mood_rows, rule_engine(rule).lm(), store)
    (candidate,) = FromDSPy(Overwriting()).propose(state, 1)
    assert candidate.predictors["self"].instruction == "Overwritten."
    assert mood.instructions == "Tell the mood of a text."


class Ensembling(dspy.teleprompt.Teleprompter):
    def compile(self, student: Any, *, trainset: Any) -> Any:
        return dspy.Ensemble(reduce_fn=dspy.majority).compile([student, student])


class Failing(dspy.teleprompt.Teleprompter):
    def compile(self, student: Any, *, trainset: Any) -> Any:
        raise AssertionError("too few examples")


class Given(dspy.teleprompt.Teleprompter):
    """Was given its examples before."""

    def compile(self, student: Any, *, teacher: Any = None) -> Any:
        return dspy.LabeledFewShot(k=1).compile(student, trainset=[dspy.Example(text="rain", mood="sad")])


def test_a_teleprompter_whose_compile_takes_no_examples_is_given_none(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    state = state_of(dspy.Predict(mood), mood_rows, rule_engine(only_shown).lm(), store)
    (candidate,) = FromDSPy(Given()).propose(state, 1)
    assert candidate.predictors["self"].demonstrations == ({"text": "rain", "mood": "sad"},)


def neighbours() -> dspy.KNNFewShot:
    return dspy.KNNFewShot(
        k=1, trainset=[dspy.Example(text="rain", mood="sad").with_inputs("text")],
        vectorizer=dspy.Embedder(lambda texts: np.ones((len(texts), 2), np.float32)),
    )  # fmt: skip


@pytest.mark.parametrize(("teleprompter", "told"), [
    (neighbours(), r"a forward of its own.*Space\(selections=\['nearest'\]\)"),
    (Ensembling(), "no longer the program itself"), (Failing(), "too few examples"), (dspy.Ensemble(), "compile"),
    (dspy.Ensemble(), "no longer the program itself"),
    (dspy.BetterTogether(metric=METRIC, p=dspy.LabeledFewShot(k=2)), "LMs trained.*each as FromDSPy"),
])  # fmt: skip
def test_what_gives_no_candidate_warns_and_ends(
    teleprompter: Any, told: str, mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    state = state_of(dspy.Predict(mood), mood_rows, rule_engine(rule).lm(), store)
    with pytest.warns(UserWarning, match=told):
        assert FromDSPy(teleprompter).propose(state, 1) == []


def test_a_teleprompter_whose_lm_has_no_known_price_is_not_run_where_money_is_limited(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    engine, teacher = rule_engine(rule), rule_engine(rule)
    engine.price, teacher.price = ps.Price(1.0, 1.0), None
    state = state_of(dspy.Predict(mood), mood_rows, engine.lm(), store, budget=Budget(usd=1.0))
    teleprompter = dspy.BootstrapFewShot(metric=METRIC, teacher_settings={"lm": teacher.lm("rule/teacher")})
    with pytest.warns(UserWarning, match="BootstrapFewShot is not run: rule/teacher: the LM's price is not known"):
        assert FromDSPy(teleprompter).propose(state, 1) == []
    assert teacher.prompts == []


class Spending(dspy.teleprompt.Teleprompter):
    """Runs its student as DSPy's evaluations do: whatever is raised is a failed example."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.fails = fails

    def compile(self, student: Any, *, trainset: Any) -> Any:
        result = dspy.Evaluate(devset=trainset, metric=METRIC, num_threads=2)(student)
        if self.fails:
            raise RuntimeError(f"too bad: {result.score}")
        return student


@pytest.mark.parametrize("fails", [False, True])
def test_a_spent_budget_is_told_although_dspy_catches_it(
    fails: bool, mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    state = state_of(dspy.Predict(mood), mood_rows, rule_engine(rule).lm(), store, budget=Budget(calls=5))
    with pytest.raises(ps.BudgetExceeded):
        FromDSPy(Spending(fails)).propose(state, 1)
    assert state.matrix.meter.spent.calls == 5


def test_what_was_found_before_the_budget_was_spent_is_proposed(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    state = state_of(dspy.Predict(mood), mood_rows, rule_engine(only_shown).lm(), store, budget=Budget(calls=32))
    teleprompter = dspy.BootstrapFewShotWithRandomSearch(metric=METRIC, num_candidate_programs=1, num_threads=1)
    assert len(FromDSPy(teleprompter).propose(state, 1)) == 1
    assert state.matrix.meter.calls_left == 0


def test_demonstrations_of_a_chain_are_those_of_each_predictor(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    class Chain(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weather = dspy.Predict("text -> weather")
            self.judge = dspy.Predict(mood.prepend("weather", dspy.InputField(), str))

        def forward(self, text: str) -> dspy.Prediction:
            return self.judge(text=text, weather=self.weather(text=text).weather)

    def chained(prompt: str) -> str:
        if prompt.endswith("Weather:"):
            return random.Random(prompt).choice(["fine", "foul"])
        return rule(prompt)

    state = state_of(Chain(), mood_rows, rule_engine(chained).lm(), store)
    teleprompter = dspy.BootstrapFewShot(metric=METRIC, max_bootstrapped_demos=3, max_labeled_demos=0)
    (candidate,) = FromDSPy(teleprompter).propose(state, 1)
    for name, fields in (("weather", {"text", "weather"}), ("judge", {"text", "weather", "mood"})):
        shown = candidate.predictors[name].demonstrations
        assert shown
        assert all(set(each) == fields for each in shown)


def test_two_of_one_class_need_two_names(mood: Any, rule_engine: Any) -> None:
    module, lm = dspy.Predict(mood), rule_engine(lambda _: "glad").lm()
    pair = [FromDSPy(dspy.LabeledFewShot(k=2)), FromDSPy(dspy.LabeledFewShot(k=4))]
    with pytest.raises(ps.ProgramError, match="LabeledFewShot"):
        default_plans(ps.Space(), module, lm, pair)
    named = [pair[0], FromDSPy(dspy.LabeledFewShot(k=4), name="four labelled")]
    prompts = next(plan for plan in default_plans(ps.Space(), module, lm, named) if plan.name == "prompts")
    assert [each.name for each in prompts.proposers[:2]] == ["LabeledFewShot", "four labelled"]


class Locked(dspy.Module):
    """Its predictor stands in a list, beside what cannot be copied."""

    def __init__(self, signature: Any) -> None:
        super().__init__()
        self.steps = [dspy.Predict(signature), threading.Lock()]

    def forward(self, text: str) -> dspy.Prediction:
        return self.steps[0](text=text)


class Copying(dspy.teleprompt.Teleprompter):
    """Tries demonstrations on copies, as most of DSPy's do; one that it was given is its teacher."""

    def __init__(self, teacher: dspy.Module) -> None:
        self.teacher = teacher

    def compile(self, student: Any, *, trainset: Any) -> Any:
        for each in (student, self.teacher):
            each.deepcopy().predictors()[0].demos = trainset[:2]
        return dspy.LabeledFewShot(k=1).compile(student, trainset=trainset)


def test_copies_of_what_cannot_be_copied_whole_share_no_predictors(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    teacher, writing = Locked(mood), rule_engine(rule).lm("rule/teacher")
    teacher.set_lm(writing)
    state = state_of(Locked(mood), mood_rows, rule_engine(rule).lm(), store)
    (candidate,) = FromDSPy(Copying(teacher)).propose(state, 1)
    assert [len(choice.demonstrations or ()) for choice in candidate.predictors.values()] == [1]
    assert state.task.program.predictors()[0].demos == []
    assert teacher.steps[0].lm is writing
