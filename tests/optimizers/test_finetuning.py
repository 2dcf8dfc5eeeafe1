"""Weights as the last rung: what is taught, who is asked, what the budget holds, what the report says."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.matrix import Matrix
from progspace.lms.budget import Budget, Meter
from progspace.lms.training.cost import Cost
from progspace.lms.training.jobs import Event
from progspace.lms.training.local_provider import local_provider
from progspace.lms.training.provider import Trained, TrainingProvider
from progspace.optimizers.finetuning_space import FineTuning, Weights
from progspace.optimizers.proposers.base import SearchState
from progspace.optimizers.proposers.finetuning import FineTuningProposer
from progspace.optimizers.space import Space
from progspace.optimizers.standing import Standing
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.store.database import Store

METRIC = ps.metrics.choice("mood")


class Learner:
    """A trainer that learns which answer the words of a prompt go with, by counting; what it was given is kept."""

    def __init__(self, engine: Any, *, usd: float | None = 0.0) -> None:
        self.engine, self.usd = engine, usd
        self.given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, model: str, examples: Any, *, settings: Any, progress: Any, stop: Any) -> Trained:
        self.given.append((examples, dict(settings)))
        counts: dict[str, Counter[str]] = {}
        for example in examples:
            for word in set(example.prompt[-1][1].split()):
                counts.setdefault(word, Counter())[example.answer.strip()] += 1
        progress(Event("Step 1/1", data={"step": 1, "steps": 1, "train_loss": 0.5, "seconds_left": 0.0}))

        def rule(prompt: str) -> str:
            votes: Counter[str] = Counter()
            for word in set(prompt.split()):
                known = counts.get(word, Counter())
                for answer, count in known.items():
                    votes[answer] += count / known.total()  # type: ignore[assignment]
            return votes.most_common(1)[0][0] if votes else "none"

        return Trained(f"{model}+trained", self.engine(rule), None, 60.0)

    def estimate(self, model: str, examples: Any, *, settings: Any) -> Cost:
        return Cost(len(examples), 10 * len(examples), 2, usd=self.usd, seconds=60.0)


def lm_of(rule_engine: Any, learner: Learner, rule: Any = lambda prompt: "glad") -> dspy.LM:
    return rule_engine(rule).lm(provider=TrainingProvider(learner, estimator=learner.estimate))


def by_weather(prompt: str) -> str:
    return "glad" if "sun" in prompt.rsplit("Text:", 1)[-1] else "sad"


def state_of(
    rows: Any, program: dspy.Module, lm: dspy.BaseLM, store: Store, how: FineTuning | None, *,
    budget: Budget | None = None, told: list[str] | None = None, added: list[Weights] | None = None,
) -> SearchState:  # fmt: skip
    task = ps.Task(program=program, examples=rows, inputs=["text"], metric=METRIC, name="mood")
    matrix = Matrix(store, task.metric, lm, Meter(budget))
    candidate = Candidate.declared(program).with_choice(
        format=Format(kind="compact"), instruction="Say the mood.", demonstrations=({"text": "sun", "mood": "glad"},)
    )
    incumbent = Standing(candidate, ())
    return SearchState(
        task, Space(finetuning=how), matrix, matrix.lm, incumbent, (incumbent,), seed=0,
        tell=(told if told is not None else []).append, add_weights=(added if added is not None else []).append,
    )  # fmt: skip


@pytest.fixture
def rows(mood_rows: Any) -> list[dict[str, str]]:
    return [{**row, "text": f"{row['text']} {turn}"} for turn in range(5) for row in mood_rows]


def test_labels_are_taught_without_a_call_and_without_instruction_and_demonstrations(
    rows: Any, mood: Any, rule_engine: Any, store: Store
) -> None:
    learner, told, added = Learner(rule_engine), list[str](), list[Weights]()
    lm = lm_of(rule_engine, learner)
    seen: list[Event] = []
    how = FineTuning(settings={"epochs": 2})
    state = state_of(rows, dspy.Predict(mood), lm, store, how, told=told, added=added)
    proposer = FineTuningProposer(seen.append)
    candidates = proposer.propose(state, 5)
    assert told == []
    assert [event.data["step"] for event in seen] == [1]
    ((examples, settings),) = learner.given
    assert settings == {"epochs": 2}
    train = Counter((f"Text: {each.text}\nMood:", each.mood) for each in state.task.train)
    assert Counter((example.prompt[-1][1], example.answer) for example in examples) <= train
    held_out = {each.text for each in state.task.dev}
    assert not any(text in example.prompt[-1][1] for example in examples for text in held_out)
    assert state.matrix.meter.spent.calls == 0
    (weights,) = added
    assert (weights.name, weights.cost.seconds, weights.source) == (
        "rule/one+trained", 60.0, f"labels of {len(state.task.train)} train examples"
    )  # fmt: skip
    for candidate in candidates:
        choice = candidate.predictors["self"]
        assert (choice.demonstrations, choice.lm) == ((), "rule/one+trained")
    program = candidates[0].apply(state.task.program, lm, {weights.name: weights.lm})
    asked = "sun on a hill, 7"
    assert program(text=asked).mood == "glad"
    assert weights.lm._engine_spec.prompts[-1].strip() == f"Text: {asked}\nMood:"
    assert proposer.propose(state, 5) == []


def test_where_there_are_no_labels_what_the_teacher_did_well_is_taught(
    rows: Any, mood: Any, rule_engine: Any, store: Store
) -> None:
    """Without labels of the predictor's own fields: the metric alone tells a success."""
    learner, added = Learner(rule_engine), list[Weights]()
    often_wrong = lm_of(rule_engine, learner, lambda prompt: by_weather(prompt) if "1" in prompt else "glad")
    state = state_of(rows, dspy.Predict(mood), often_wrong, store, FineTuning(labels=False), added=added)
    assert FineTuningProposer().propose(state, 5)
    ((examples, _),) = learner.given
    for example in examples:
        assert example.answer == by_weather(example.prompt[-1][1])
    spent = state.matrix.meter.spent.calls
    assert spent == len(state.task.train)
    assert added[0].source.endswith(f"successes on {spent} train examples")
    assert len(examples) < spent


def test_a_larger_lm_may_be_the_teacher(rows: Any, mood: Any, rule_engine: Any, store: Store) -> None:
    learner = Learner(rule_engine)
    teacher = rule_engine(by_weather).lm("rule/large")
    lm = lm_of(rule_engine, learner)
    state = state_of(rows, dspy.Predict(mood), lm, store, FineTuning(labels=False, teacher=teacher, examples=40))
    assert FineTuningProposer().propose(state, 5)
    ((examples, _),) = learner.given
    assert {example.answer for example in examples} == {"glad", "sad"}
    assert lm._engine_spec.prompts == []
    assert state.matrix.meter.spent.calls == 40
    assert all("Say the mood." in prompt for prompt in teacher._engine_spec.prompts)


class Chain(dspy.Module):
    """Says what the weather is like, and from that the mood."""

    def __init__(self, mood: Any) -> None:
        super().__init__()
        self.weather = dspy.Predict("text -> weather")
        self.mood = dspy.Predict(mood.insert(1, "weather", dspy.InputField()))

    def forward(self, text: str) -> dspy.Prediction:
        return self.mood(text=text, weather=self.weather(text=text).weather)


def test_every_step_of_a_chain_is_taught_in_one_training(rows: Any, mood: Any, rule_engine: Any, store: Store) -> None:
    def rule(prompt: str) -> str:
        if prompt.endswith("Weather:"):
            return "sun" if "sun" in prompt.rsplit("Text:", 1)[-1] else "rain"
        return "glad" if "Weather: sun" in prompt.rsplit("Text:", 1)[-1] else "sad"

    learner = Learner(rule_engine)
    lm, program = lm_of(rule_engine, learner, rule), Chain(mood)
    state = state_of(rows, program, lm, store, FineTuning())
    candidates = FineTuningProposer().propose(state, 5)
    ((examples, _),) = learner.given
    asked = Counter(example.prompt[-1][1].rsplit("\n", 1)[-1] for example in examples)
    assert asked == {"Weather:": len(examples) / 2, "Mood:": len(examples) / 2}
    assert all(choice.lm == "rule/one+trained" for choice in candidates[0].predictors.values())


@pytest.mark.parametrize(
    ("how", "budget", "usd", "reason"),
    [
        (FineTuning(), Budget(minutes=0.5), 0.0, "0.5 min of the budget are left"),
        (FineTuning(confirm=lambda cost: True), Budget(usd=1.0), 2.0, "1 USD of the budget are left"),
        (FineTuning(), None, 2.0, "nobody confirmed it"),
        (FineTuning(), None, None, "nobody confirmed it"),
        (FineTuning(confirm=lambda cost: cost.usd == 0), None, 2.0, "was not confirmed"),
        (FineTuning(), Budget(calls=12), 0.0, "12 calls are left, too few"),
        (FineTuning(examples=10), None, 0.0, "10 examples to train on .* are too few"),
        (FineTuning(labels=False, threshold=2.0), None, 0.0, r"0 examples to train on \(0 successes on"),
    ],
    ids=["minutes", "usd", "unasked", "price unknown", "refused", "no calls", "few rows", "no successes"],
)
def test_what_cannot_be_trained_is_told_before_anything_is_spent(
    rows: Any, mood: Any, rule_engine: Any, store: Store, how: FineTuning, budget: Budget | None, usd: float | None,
    reason: str,
) -> None:  # fmt: skip
    learner, told = Learner(rule_engine, usd=usd), list[str]()
    lm = lm_of(rule_engine, learner)
    lm._engine_spec.price = ps.Price(1.0, 1.0)  # or a budget of money is refused
    state = state_of(rows, dspy.Predict(mood), lm, store, how, budget=budget, told=told, added=[])
    assert FineTuningProposer().propose(state, 5) == []
    assert learner.given == []
    (line,) = told
    assert re.search(reason, line), line


def test_what_known_answers_cost_is_not_left_for_a_training(
    rows: Any, mood: Any, rule_engine: Any, store: Store
) -> None:
    learner, told = Learner(rule_engine, usd=2.0), list[str]()
    lm = lm_of(rule_engine, learner)
    lm._engine_spec.price = ps.Price(1.0, 1.0)
    how = FineTuning(confirm=lambda cost: True)
    state = state_of(rows, dspy.Predict(mood), lm, store, how, budget=Budget(usd=3.0), told=told, added=[])
    state.matrix.meter.answered("asked before it was stopped", 1, 1, usd=1.5)
    assert FineTuningProposer().propose(state, 5) == []
    assert learner.given == []
    assert "1.5 USD of the budget are left" in told[0]


def test_one_class_alone_is_refused_and_a_majority_thinned_out(mood: Any, rule_engine: Any, store: Store) -> None:
    def many(count: int) -> list[dict[str, str]]:
        glad = [{"text": f"sun on day {i}", "mood": "glad"} for i in range(400)]
        return [*glad, *({"text": f"rain on day {i}", "mood": "sad"} for i in range(count))]

    told: list[str] = []
    learner = Learner(rule_engine)
    lm = lm_of(rule_engine, learner)
    assert (
        FineTuningProposer().propose(state_of(many(0), dspy.Predict(mood), lm, store, FineTuning(), told=told), 5) == []
    )
    assert "one class answers it to everything" in told[0]
    assert FineTuningProposer().propose(state_of(many(40), dspy.Predict(mood), lm, store, FineTuning()), 5)
    ((examples, _),) = learner.given
    counts = Counter(example.answer for example in examples)
    assert counts["glad"] == 3 * counts["sad"]


def test_a_training_that_fails_ends_no_compile(rows: Any, mood: Any, rule_engine: Any, store: Store) -> None:
    def trainer(*_: Any, **__: Any) -> Trained:
        raise ps.DataError("is longer than the context", row=3)

    lm = rule_engine(by_weather).lm(provider=TrainingProvider(trainer, estimator=Learner(rule_engine).estimate))
    compiled = ps.compile(
        ps.Task(program=dspy.Predict(mood), examples=rows, inputs=["text"], metric=METRIC, name="mood"),
        lm=lm, budget=Budget(calls=600), store=store,
        space=Space(instructions=(), demonstrations=(), votes=(1,), answers=("direct",), finetuning=FineTuning()),
    )  # fmt: skip
    assert "fine-tuning: row 3: is longer than the context." in compiled.report.notes


def test_what_is_longer_than_the_model_reads_is_left_out_and_told(
    rows: Any, mood: Any, rule_engine: Any, store: Store
) -> None:
    learner, told = Learner(rule_engine), list[str]()
    longer = {"text": "sun " * 200, "mood": "glad"}
    provider = TrainingProvider(
        learner, estimator=learner.estimate,
        fits=lambda model, examples: [len(example.prompt[0][1]) < 400 for example in examples],
    )  # fmt: skip
    lm = rule_engine(by_weather).lm(provider=provider)
    state = state_of([*rows, *[longer | {"text": longer["text"] + str(i)} for i in range(8)]], dspy.Predict(mood), lm,
                     store, FineTuning(), told=told)  # fmt: skip
    assert FineTuningProposer().propose(state, 1)
    (count,) = [int(found[1]) for line in told if (found := re.match(r"fine-tuning: (\d) of .* are longer", line))]
    assert count > 0
    assert all(len(example.prompt[0][1]) < 400 for example in learner.given[0][0])


def test_an_lm_that_cannot_be_trained_is_refused_at_once(rows: Any, mood: Any, rule_engine: Any, store: Store) -> None:
    lm = rule_engine(by_weather).lm()
    with pytest.raises(ps.ProgramError, match="rule/one cannot be trained"):
        ps.compile(
            ps.Task(program=dspy.Predict(mood), examples=rows, inputs=["text"], metric=METRIC, name="mood"),
            lm=lm, store=store, space=Space(finetuning=FineTuning()),
        )  # fmt: skip
    assert lm._engine_spec.prompts == []


def test_what_is_not_installed_is_told_before_the_search(
    rows: Any, mood: Any, rule_engine: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    provider = local_provider("smollm2-135m", "rule/one")
    lm = rule_engine(by_weather).lm(provider=provider)
    with pytest.raises(ps.FineTuningError, match=r"torch, transformers, peft.*pip install 'progspace\[finetune\]'"):
        ps.compile(
            ps.Task(program=dspy.Predict(mood), examples=rows, inputs=["text"], metric=METRIC, name="mood"),
            lm=lm, store=store, space=Space(finetuning=FineTuning()),
        )  # fmt: skip
    assert lm._engine_spec.prompts == []


def test_the_rung_is_raced_kept_and_told_of(rows: Any, mood: Any, rule_engine: Any, store: Store) -> None:
    """An LM that is right half of the time whatever the prompt, until it is trained."""
    learner = Learner(rule_engine)
    half = lm_of(rule_engine, learner, lambda prompt: "glad" if len(prompt) % 2 else by_weather(prompt))
    compiled = ps.compile(
        ps.Task(program=dspy.Predict(mood), examples=rows, inputs=["text"], metric=METRIC, name="mood"),
        lm=half, budget=Budget(calls=900), store=store, space=Space(finetuning=FineTuning()),
    )  # fmt: skip
    winner = compiled.report.winner
    assert (winner.name, winner.training.examples) == ("fine-tuning", len(learner.given[0][0]))  # type: ignore[union-attr]
    assert winner.test is not None
    assert winner.test.score == 1.0
    training = winner.training
    assert training is not None
    assert training.after.input_tokens < training.before.input_tokens
    assert f"Trained on {training.examples} examples (labels of" in str(compiled.report)
    assert compiled.lms["rule/one+trained"]["model"] == "rule/one+trained"
    assert len(learner.given) == 1
