"""Another LM: what carries over is told, and only what does not is searched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.artifacts.artifact import read_artifact, write_artifact
from progspace.optimizers.carrying import narrowed, parts_of
from progspace.optimizers.space import Space
from progspace.programs.answering import Answering
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.store.database import Store
from progspace.transferring import forecast_transfer, transfer

COMPACT = Format(kind="compact", decoding="free")


def _answer(prompt: str) -> str:
    glad = prompt.rfind("sun on day") > prompt.rfind("rain on day")
    return "glad" if glad else "sad"


def old(prompt: str) -> str:
    """Reads the compact format, and only where it is told to look closely."""
    return _answer(prompt) if prompt.endswith("Mood:") and "closely" in prompt else "what?"


def new(prompt: str) -> str:
    """Reads DSPy's own format, and only where it is told to look closely; a compact prompt it does not understand."""
    if prompt.endswith("Mood:"):
        return "what?"
    told = _answer(prompt) if "closely" in prompt else "glad"
    return f"[[ ## mood ## ]]\n{told}\n\n[[ ## completed ## ]]"


@pytest.fixture
def path(make_artifact: Callable[..., Path], task: ps.Task, tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "x.progspace.json", task.program, instruction="Look closely.", format=COMPACT)


@pytest.mark.parametrize("arguments", [{"rows": 0}, {"rows": -1}, {"test_rows": 0}])
def test_a_number_of_rows_that_means_nothing_is_refused_before_anything_is_asked(
    task: ps.Task, path: Path, rule_engine: Any, store: Store, arguments: dict[str, int]
) -> None:
    engine = rule_engine(new)
    with pytest.raises(ps.DataError, match=r"rows=.*: should be greater than or equal to 1"):
        transfer(path, task, to=engine.lm("rule/new"), store=store, **arguments)
    with pytest.raises(ps.DataError, match=r"rows=.*: should be greater than or equal to 1"):
        forecast_transfer(path, task, to=engine.lm("rule/new"), store=store, **arguments)
    assert engine.prompts == []


def test_a_seed_below_0_is_refused_before_anything_is_asked(
    task: ps.Task, path: Path, rule_engine: Any, store: Store
) -> None:
    engine = rule_engine(new)
    with pytest.raises(ps.DataError, match="seed=-1: should be"):
        transfer(path, task, to=engine.lm("rule/new"), store=store, seed=-1)
    assert engine.prompts == []


def test_what_carries_over_and_what_is_searched_again(
    task: ps.Task, path: Path, rule_engine: Any, store: Store
) -> None:
    lm, before = rule_engine(new).lm("rule/new"), rule_engine(old).lm("rule/old")
    done = transfer(path, task, to=lm, old_lm=before, store=store, budget=ps.Budget(calls=300), test_rows=10)
    verdicts = {each.part.kind: each.verdict for each in done.parts}
    # With its format the program answers nothing; without it the instruction is worth its half of the rows.
    assert verdicts == {"format": "lost", "instruction": "kept"}
    tests = {each.part.kind: each.test for each in done.parts}
    assert tests["format"].interval.high < 0 < tests["instruction"].interval.low
    assert done.whole.difference > 0.3
    assert done.before is not None
    assert done.before.difference == 0.0
    assert [part.kind for part in done.again] == ["format"]
    choice = done.compiled.candidate.predictors["self"]
    assert (choice.instruction, choice.demonstrations or (), choice.answering) == ("Look closely.", (), None)
    assert done.compiled.report.winner.test is not None
    assert done.compiled.report.winner.test.score == 1.0
    tried = {each.proposer for rung in done.compiled.report.rungs for each in rung.tried}
    assert tried <= {"as declared", "carried over", "formats"}
    told = "\n".join(done.lines)
    assert "Searched again: self: format." in told
    json.dumps(done.to_dict())
    # Once more: nothing is asked that was asked before.
    asked = len(lm._engine_spec.prompts)
    again = transfer(path, task, to=lm, old_lm=before, store=store, budget=ps.Budget(calls=300), test_rows=10)
    assert len(lm._engine_spec.prompts) == asked
    assert again.compiled.candidate == done.compiled.candidate


def test_where_all_carries_over_nothing_is_searched(task: ps.Task, path: Path, rule_engine: Any, store: Store) -> None:
    lm = rule_engine(old).lm("rule/newer")
    done = transfer(path, task, to=lm, store=store, budget=ps.Budget(calls=300), test_rows=10)
    assert [each.verdict for each in done.parts] == ["kept", "kept"]
    assert done.again == ()
    assert "Nothing had to be searched again." in done.lines
    assert [rung.name for rung in done.compiled.report.rungs] == ["baseline", "known"]
    assert done.compiled.candidate.predictors["self"].format == COMPACT


def stepwise(prompt: str) -> str:
    """Sees the sun only where it looks closely, and answers wrongly where it is told to."""
    if prompt.endswith("Hint:"):
        return ("sun" if _answer(prompt) == "glad" else "rain") if "closely" in prompt else "none"
    glad = prompt.rfind("Hint: sun") >= 0
    return "glad" if glad != ("wrongly" in prompt) else "sad"


def test_parts_are_told_of_by_predictor_and_the_worst_goes_first(
    make_artifact: Callable[..., Path], rule_engine: Any, mood_rows: Any, store: Store, tmp_path: Path
) -> None:
    """With the second step answering wrongly the first one's good hints do harm: they are tested again without it."""

    class Two(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = dspy.Predict("text -> hint")
            self.second = dspy.Predict("hint -> mood")

        def forward(self, text: str) -> dspy.Prediction:
            return self.second(hint=self.first(text=text).hint)

    task = ps.Task(Two(), mood_rows, ["text"], metric=ps.metrics.exact_match("mood"), name="two")
    artifact = read_artifact(make_artifact(tmp_path / "two.progspace.json", task.program, format=COMPACT))
    candidate = artifact.candidate.with_choice(predictor="first", instruction="Look closely.")
    candidate = candidate.with_choice(predictor="second", instruction="Answer wrongly.")
    lm = rule_engine(stepwise).lm("rule/new")
    done = transfer(
        artifact.model_copy(update={"candidate": candidate}), task, to=lm, store=store, budget=ps.Budget(calls=60),
        test_rows=5,
    )  # fmt: skip
    verdicts = {(each.part.where, each.part.kind): each.verdict for each in done.parts}
    assert verdicts[("second", "instruction")] == "lost"
    assert verdicts[("first", "instruction")] == "kept"
    assert [(part.where, part.kind) for part in done.again] == [("second", "instruction")]
    assert done.compiled.candidate.predictors["first"].instruction == "Look closely."


def test_what_cannot_carry_over(task: ps.Task, path: Path, rule_engine: Any, tmp_path: Path) -> None:
    """Decodings that the LM does not offer, and weights of another LM, are lost without a call."""
    lm = rule_engine(new).lm("rule/new")
    artifact = read_artifact(path)
    scored = Format(kind="compact", decoding="calibrated", biases=(("glad", 0.5), ("sad", 0.0)))
    candidate = artifact.candidate.with_choice(lm="tuned", format=scored, answering=Answering(reasoning=True))
    engine = {"class": "LocalEngine", "model": "smollm2-135m", "adapter": "0" * 64}
    trained = artifact.model_copy(
        update={"candidate": candidate, "lms": {"tuned": {"model": "local/smollm2-135m", "engine": engine}}}
    )
    write_artifact(trained, tmp_path / "t.progspace.json")
    told = forecast_transfer(tmp_path / "t.progspace.json", task, to=lm, budget=ps.Budget(calls=300))
    lost = {part.kind: part.impossible for part in told.parts if part.impossible}
    assert lost == {
        "lm": "weights belong to the LM that they were trained on",
        "decoding": "the LM does not offer it",
    }
    assert {part.kind for part in told.parts} == {"lm", "format", "decoding", "instruction", "answering"}
    assert lm._engine_spec.prompts == []
    assert told.calls.low >= len(task.dev)
    assert told.calls.high > told.calls.low
    assert "A search of all of it" in told.text
    json.dumps(told.to_dict())


def test_a_space_holds_only_what_is_searched_again(task: ps.Task, path: Path, rule_engine: Any) -> None:
    candidate = read_artifact(path).candidate
    parts = {part.kind: part for part in parts_of(candidate, task.program, rule_engine(new).lm(), Space())}
    own = narrowed(Space(), [parts["instruction"]])
    assert (own.formats, own.demonstrations, own.answers, own.votes) == ((), (), ("direct",), (1,))
    assert own.instructions == Space().instructions
    assert narrowed(Space(), [parts["format"]]).formats is None
    assert narrowed(Space(), []).instructions == ()


def test_what_the_task_declares_is_no_part_of_the_old_program(rule_engine: Any) -> None:
    class Own(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tell = dspy.Predict("text -> mood")

    module = Own()
    module.set_lm(rule_engine(new).lm("rule/own"))
    whole = Candidate.declared(module).complete(module)
    assert whole.predictors["tell"].lm == "rule/own"
    assert parts_of(whole, module, rule_engine(new).lm(), Space()) == []


def test_another_program_is_refused(path: Path, rule_engine: Any, mood_rows: Any) -> None:
    class Two(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = dspy.Predict("text -> hint")
            self.second = dspy.Predict("text, hint -> mood")

        def forward(self, text: str) -> dspy.Prediction:
            return self.second(text=text, hint=self.first(text=text).hint)

    task = ps.Task(Two(), mood_rows, ["text"], metric=ps.metrics.exact_match("mood"))
    with pytest.raises(ps.ProgramError, match="first, second"):
        transfer(path, task, to=rule_engine(new).lm(), store=":memory:")
