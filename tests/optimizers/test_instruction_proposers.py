"""Instructions by rule and by an LM, crossovers, and what saves tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.matrix import Matrix
from progspace.lms.budget import Budget, Meter
from progspace.optimizers.proposers.base import SearchState
from progspace.optimizers.proposers.crossover import CrossoverProposer
from progspace.optimizers.proposers.novelty import unfitted
from progspace.optimizers.proposers.rules import RuleProposer
from progspace.optimizers.proposers.shortening import ShorteningProposer
from progspace.optimizers.proposers.writer import WriterProposer
from progspace.optimizers.proposers.written import is_usable, read_instruction
from progspace.optimizers.space import Space
from progspace.optimizers.standing import Standing
from progspace.programs.answering import Answering
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.store.database import Store
from progspace.store.records import Cell


class Chain(dspy.Module):
    """Finds the weather in a text, then the mood of the weather."""

    def __init__(self, mood: type[dspy.Signature]) -> None:
        super().__init__()
        self.weather = dspy.Predict(dspy.Signature("text -> weather", "Find the weather. Answer in one word."))
        self.judge = dspy.Predict(mood.prepend("weather", dspy.InputField(), str))

    def forward(self, text: str) -> dspy.Prediction:
        return self.judge(text=text, weather=self.weather(text=text).weather)


def state_of(
    program: dspy.Module,
    rows: list[dict[str, str]],
    lm: dspy.BaseLM,
    store: Store,
    *,
    space: Space | None = None,
    budget: Budget | None = None,
    **choice: Any,
) -> SearchState:
    task = ps.Task(program=program, examples=rows, inputs=["text"], metric=ps.metrics.choice("mood"), name="mood")
    matrix = Matrix(store, task.metric, lm, Meter(budget))
    candidate = Candidate.declared(program).with_choice(origin="compact, free", format=Format(kind="compact"), **choice)
    standing = Standing(candidate, cells(0.5), 0, "formats")
    return SearchState(task, space or Space(), matrix, matrix.lm, standing, (standing,), seed=3)


def cells(mean: float, n: int = 10) -> tuple[Cell, ...]:
    return tuple(Cell("p", str(i), "m", score=float(i < mean * n)) for i in range(n))


def measured(state: SearchState, *candidates: Candidate, mean: float = 0.4) -> SearchState:
    known = len(state.standings)
    more = [Standing(each, cells(mean), known + at, "test") for at, each in enumerate(candidates)]
    return replace(state, standings=(*state.standings, *more))


def instructions(candidates: list[Candidate]) -> list[str | None]:
    return [choice.instruction for candidate in candidates for choice in candidate.predictors.values()]


PROPOSERS = [RuleProposer, CrossoverProposer, ShorteningProposer]


def rich(mood: Any, mood_rows: Any, rule_engine: Any, store: Store) -> SearchState:
    """A state in which every proposer finds something to do."""
    shown = tuple(mood_rows[:4])
    state = state_of(
        dspy.Predict(mood.with_instructions("Tell the mood of a text. Look at the weather. Be brief.")),
        mood_rows, rule_engine(lambda _: "glad").lm(), store,
        demonstrations=shown, answering=Answering(votes=5),
    )  # fmt: skip
    other = state.incumbent.candidate.with_choice(
        instruction="Weather tells the mood.", demonstrations=tuple(mood_rows[4:6]), format=Format(kind="json"),
        answering=None, origin="json",
    )  # fmt: skip
    return measured(state, other)


@pytest.mark.parametrize("make", PROPOSERS)
def test_what_is_proposed_is_new_reproducible_and_free(
    make: Any, mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    state = rich(mood, mood_rows, rule_engine, store)
    first = make().propose(state, 4)
    assert 1 <= len(first) <= 4
    assert [each.hash for each in make().propose(state, 4)] == [each.hash for each in first]
    known = {each.candidate.hash for each in state.standings}
    assert len({each.hash for each in first} | known) == len(first) + len(known)
    assert all(each.origin for each in first)
    later = make().propose(measured(replace(state, seed=4), *first), 4)
    assert not {each.hash for each in later} & {each.hash for each in first}
    assert make().propose(state, 0) == []
    assert state.matrix.meter.spent.calls == 0
    for each in [*first, *later]:
        each.apply(state.task.program)


def test_a_fitted_calibration_makes_no_candidate_new(mood: Any, mood_rows: Any, rule_engine: Any, store: Store) -> None:
    state = state_of(dspy.Predict(mood), mood_rows, rule_engine(str).lm(), store)
    plain = state.incumbent.candidate.with_choice(format=Format(kind="compact", decoding="calibrated"))
    fitted = plain.with_choice(format=Format(kind="compact", decoding="calibrated", biases=(("glad", 0.5),)))
    state = replace(state, incumbent=Standing(plain, cells(0.5)), standings=(Standing(plain, cells(0.5)),))
    proposed = RuleProposer().propose(state, 5)
    again = replace(state, incumbent=Standing(fitted, cells(0.5)), standings=(Standing(fitted, cells(0.5)),))
    assert [each.hash for each in RuleProposer().propose(again, 5)] == [each.hash for each in proposed]
    assert RuleProposer().propose(measured(again, *[unfitted(each) for each in proposed]), 5) != proposed


def test_rules_keep_all_but_the_instruction(mood: Any, mood_rows: Any, rule_engine: Any, store: Store) -> None:
    state = rich(mood, mood_rows, rule_engine, store)
    incumbent = state.incumbent.candidate.predictors["self"]
    proposed = RuleProposer().propose(state, 60)
    assert len(proposed) == 60
    for candidate in proposed:
        assert candidate.predictors["self"].model_copy(update={"instruction": None}) == incumbent
        assert "instruction: " in candidate.origin
    texts = instructions(proposed)
    assert "Read the text, then give the mood." in texts
    assert any("glad or sad" in str(text) for text in texts)
    assert RuleProposer().propose(replace(state, space=Space(instructions=())), 4) == []


def test_rules_do_not_replace_what_a_long_instruction_knows(rule_engine: Any, store: Store, mood_rows: Any) -> None:
    agent = dspy.ReAct("text -> mood", tools=[len])
    state = state_of(agent, mood_rows, rule_engine(str).lm(), store, space=Space(predictors=("react",)))
    author = agent.react.signature.instructions
    for candidate in RuleProposer().propose(state, 20):
        assert author.strip()[1:] in str(candidate.predictors["react"].instruction)


def test_rules_change_a_chain_whole_and_one_predictor_at_a_time(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    state = state_of(Chain(mood), mood_rows, rule_engine(str).lm(), store)
    changed = [
        tuple(name for name, choice in candidate.predictors.items() if choice.instruction is not None)
        for candidate in RuleProposer().propose(state, 12)
    ]
    assert {("weather", "judge"), ("weather",), ("judge",)} <= set(changed)
    only = replace(state, space=Space(predictors=("judge",)))
    assert all(each.predictors["weather"].instruction is None for each in RuleProposer().propose(only, 12))


def test_crossover_takes_its_parts_from_parents_or_from_train(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    state = rich(mood, mood_rows, rule_engine, store)
    parents = [each.candidate.predictors["self"] for each in state.standings]
    children = [each.predictors["self"] for each in CrossoverProposer().propose(state, 30)]
    assert {each.instruction for each in children} == {each.instruction for each in parents}
    recombined = [
        each for each in children
        if each.instruction == parents[0].instruction and each.demonstrations == parents[1].demonstrations
    ]  # fmt: skip
    assert recombined
    allowed = [dict(row) for row in mood_rows[:6]] + [example.toDict() for example in state.task.train]
    assert all(shown in allowed for each in children for shown in each.demonstrations or ())
    of_parents = [parent.demonstrations for parent in parents]
    assert any(each.demonstrations not in of_parents for each in children)


def test_crossover_mixes_the_predictors_of_chains(mood: Any, mood_rows: Any, rule_engine: Any, store: Store) -> None:
    state = state_of(Chain(mood), mood_rows, rule_engine(str).lm(), store)
    one = state.incumbent.candidate.with_choice(predictor="weather", instruction="One.", origin="one")
    two = state.incumbent.candidate.with_choice(predictor="judge", instruction="Two.", origin="two")
    children = CrossoverProposer(mutations=0.0).propose(measured(state, one, two, mean=0.6), 10)
    assert any(
        child.predictors["weather"].instruction == "One." and child.predictors["judge"].instruction == "Two."
        for child in children
    )


def test_a_space_with_one_number_of_demonstrations_keeps_it(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    state = rich(mood, mood_rows, rule_engine, store)
    state = replace(state, space=Space(demonstrations=(4,)), standings=(state.incumbent,))
    for child in CrossoverProposer(mutations=1.0).propose(state, 10):
        assert len(child.predictors["self"].demonstrations or ()) == 4
    sizes = {len(each.predictors["self"].demonstrations or ()) for each in ShorteningProposer().propose(state, 20)}
    assert sizes == {0, 4}


def test_shortening_only_takes_off(mood: Any, mood_rows: Any, rule_engine: Any, store: Store) -> None:
    state = rich(mood, mood_rows, rule_engine, store)
    before = state.incumbent.candidate.predictors["self"]
    proposed = [each.predictors["self"] for each in ShorteningProposer().propose(state, 30)]
    author = state.task.program.signature.instructions
    assert {each.answering.votes for each in proposed if each.answering} == {1, 3, 5}
    assert {len(each.demonstrations or ()) for each in proposed} == {0, 2, 4}
    assert any(each.instruction and len(each.instruction) < len(author) for each in proposed)
    for each in proposed:
        assert each.instruction is None or len(each.instruction) < len(author)
        assert all(shown in (before.demonstrations or ()) for shown in each.demonstrations or ())
    bare = state_of(dspy.Predict(mood), mood_rows, rule_engine(str).lm(), store)
    assert ShorteningProposer().propose(bare, 5) == []


@pytest.mark.parametrize(
    ("answer", "instruction"),
    [
        ("<instruction>\nFirst.\n\nSecond.\n</instruction>", "First.\n\nSecond."),
        ("<think>They want <instruction>no</instruction></think>Tell the mood of it.", "Tell the mood of it."),
        ("Sure! Here is a better one:\n\nTell the mood of it.\n\nIt is better because …", "Tell the mood of it."),
        ("**Improved instruction:** Tell the mood of it.", "Tell the mood of it."),
        ("```\nTell the mood of it.\n```", "Tell the mood of it."),
        ('The instruction could be: "Tell the mood of it."', "Tell the mood of it."),
        ("1. Tell the mood of it.", "Tell the mood of it."),
        ("Tell the mood of it. Then go on and", "Tell the mood of it."),
        ("", ""),
    ],
)
def test_an_instruction_is_read_from_what_lms_write(answer: str, instruction: str) -> None:
    assert read_instruction(answer) == instruction


@pytest.mark.parametrize(
    "instruction",
    [
        "", "Tell.", "mood " * 300, "Tell the mood. Tell the mood. Tell the mood. Tell the mood. Tell the mood.",
        "I'm sorry, I cannot tell the mood.", "The instruction tells the mood.", "Mood: glad",
        "The mood of rain on day 12 in May is sad.", "Twice a day, and more.",
        "Write a better instruction for this task about the mood.",
    ],
)  # fmt: skip
def test_what_is_not_worth_its_cells_is_told(instruction: str) -> None:
    told = {"task": "Tell the mood of a text. text mood glad sad", "data": ["rain on day 12 in May"]}
    guidance = "Write a better instruction for this task."
    assert not is_usable(instruction, guidance=guidance, **told)
    assert is_usable("Say the mood: glad or sad.", guidance=guidance, **told)
    assert is_usable("判断文本的情绪。", guidance=guidance, **told)


def test_the_writer_sees_the_task_failures_and_earlier_scores_and_never_dev(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    written: list[str] = []

    def rule(prompt: str) -> str:
        if "<instruction>" in prompt:
            written.append(prompt)
            return f"<instruction>Tell the mood, the {len(written)}. way.</instruction>"
        return "glad"

    state = state_of(dspy.Predict(mood), mood_rows, rule_engine(rule).lm(), store)
    for at in range(3):
        tried = state.incumbent.candidate.with_choice(instruction=f"Earlier mood {at}.")
        state = measured(state, tried, mean=0.1 * at)
    before = state.matrix.meter.spent.calls
    proposed = WriterProposer(looked_at=6).propose(state, 3)
    assert len(proposed) == 3
    assert state.matrix.meter.spent.calls - before <= 3 + 6
    assert instructions(proposed) == [f"Tell the mood, the {at}. way." for at in (1, 2, 3)]
    everything = "\n".join(written)
    assert "mood (glad or sad)" in everything
    assert "right mood: sad" in everything
    assert "'glad' was given, 'sad' expected" in everything
    assert everything.index("0: Earlier mood 0.") < everything.index("20: Earlier mood 2.")
    assert not any(example.text + "\n" in everything for example in state.task.dev)
    assert sum(example.text + "\n" in everything for example in state.task.train) >= 3


def test_a_writer_that_cannot_write_costs_its_calls_and_gives_nothing(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    engine = rule_engine(lambda prompt: prompt[-200:] if "<instruction>" in prompt else "glad")
    state = state_of(dspy.Predict(mood), mood_rows, engine.lm(), store)
    assert WriterProposer(looked_at=4).propose(state, 3) == []
    assert state.matrix.meter.spent.calls <= 3 + 2 * 4


def test_a_writer_that_fails_ends_quietly_and_a_spent_budget_does_not(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    def failing(prompt: str) -> str:
        raise dspy.utils.exceptions.LMError(message="down", model="rule/one")

    state = state_of(dspy.Predict(mood), mood_rows, rule_engine(failing).lm(), store)
    assert WriterProposer().propose(state, 2) == []
    spent = state_of(dspy.Predict(mood), mood_rows, rule_engine(str).lm("rule/two"), store, budget=Budget(calls=1))
    spent.matrix.meter.ask("all that there was")
    with pytest.raises(ps.BudgetExceeded):
        WriterProposer().propose(spent, 2)


def test_the_writer_changes_the_predictors_of_a_chain_in_turn(
    mood: Any, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    def rule(prompt: str) -> str:
        told = "Find the weather in the text, well." if "must give: weather" in prompt else "Tell the mood, well."
        return told if "<instruction>" in prompt else "glad"

    state = state_of(Chain(mood), mood_rows, rule_engine(rule).lm(), store)
    proposed = WriterProposer(looked_at=4).propose(state, 2)
    assert {tuple(choice.instruction for choice in each.predictors.values()) for each in proposed} == {
        ("Find the weather in the text, well.", None),
        (None, "Tell the mood, well."),
    }


def test_the_embedded_lm_as_a_writer(local_lm: Any, mood: Any, mood_rows: Any, store: Store) -> None:
    state = state_of(dspy.Predict(mood), mood_rows, local_lm.copy(max_tokens=8), store)
    proposed = WriterProposer(looked_at=2).propose(state, 1)
    assert state.matrix.meter.spent.calls <= 1 + 2
    assert len(proposed) <= 1
    assert all(text is None or len(text.split()) >= 3 for text in instructions(proposed))
