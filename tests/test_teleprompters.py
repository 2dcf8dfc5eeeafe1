"""progspace with the face of a DSPy teleprompter."""

from __future__ import annotations

from functools import partial
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.programs.examples import example_hash
from progspace.store.database import Store

METRIC = ps.metrics.choice("mood")


def rule(prompt: str, wanted: int = 1) -> str:
    """Tells moods in the compact format where it is shown how; else it is always glad."""
    if not prompt.endswith("Mood:"):
        return "what?"
    shown = prompt.count("Mood: glad\n") + prompt.count("Mood: sad\n") >= wanted
    return "sad" if shown and "rain" in prompt.rsplit("Text:", 1)[-1] else "glad"


@pytest.fixture
def examples(mood_rows: Any) -> list[dspy.Example]:
    return [dspy.Example(**row).with_inputs("text") for row in mood_rows]


def teleprompter(lm: Any, store: Store, calls: int = 500, **settings: Any) -> ps.teleprompters.Progspace:
    return ps.teleprompters.Progspace(
        metric=METRIC, lm=lm, budget=ps.Budget(calls=calls), store=store,
        space=ps.Space(answers=["direct"], votes=[1], selections=["labelled"]), **settings,
    )  # fmt: skip


def test_the_winner_is_a_compiled_module_and_the_report_says_that_no_test_was_read(
    examples: Any, mood: Any, rule_engine: Any, store: Store
) -> None:
    student = dspy.Predict(mood)
    program = teleprompter(rule_engine(rule).lm(), store).compile(student, trainset=examples)
    assert isinstance(program, dspy.Module)
    assert program._compiled
    assert program(text="rain at last").mood == "sad"
    assert student.demos == []
    report = program.compiled.report
    assert report.winner.name == "formats"
    assert report.sizes == {
        "train": report.sizes["train"], "dev": len(examples) - report.sizes["train"], "test": 0
    }  # fmt: skip
    assert all(rung.test is None for rung in report.rungs)
    assert "No test was sealed" in str(report)
    assert "Sealed test, read" not in str(report)
    assert report.test_reads == 0
    scored = dspy.Evaluate(devset=examples, metric=METRIC, num_threads=2)(program)
    assert scored.score == 100.0


def test_a_valset_is_what_candidates_race_on(examples: Any, mood: Any, rule_engine: Any, store: Store) -> None:
    engine = rule_engine(rule)
    program = teleprompter(engine.lm(), store).compile(
        dspy.Predict(mood), trainset=examples[:40], valset=[*examples[60:], *examples[60:65]]
    )
    assert program.compiled.report.sizes == {"train": 40, "dev": 40, "test": 0}
    shown = program.compiled.candidate.predictors["self"].demonstrations or ()
    assert shown
    train = {example_hash(example) for example in examples[:40]}
    assert all(example_hash(dspy.Example(**each)) in train for each in shown)
    seen = "\n".join(engine.prompts)
    assert not any(f"{example.text}\n" in seen for example in examples[40:60])


def test_with_a_valset_a_few_examples_suffice(examples: Any, mood: Any, rule_engine: Any, store: Store) -> None:
    """They were refused where a split of train and valset together, which nobody uses, would have been empty."""
    for few in range(1, 4):
        program = teleprompter(rule_engine(rule).lm(), store, calls=30).compile(
            dspy.Predict(mood), trainset=examples[: few + 1], valset=examples[few : 2 * few]
        )
        report = program.compiled.report
        assert report.sizes == {"train": few, "dev": few, "test": 0}
        assert "1 examples of the trainset were dropped, for they stand in the valset." in report.notes
        assert any(note.startswith("No test was sealed") for note in report.notes)


def test_the_lm_of_dspys_settings_serves(examples: Any, mood: Any, rule_engine: Any, store: Store) -> None:
    with dspy.context(lm=rule_engine(rule).lm()):
        program = teleprompter(None, store, calls=100).compile(dspy.Predict(mood), trainset=examples)
    assert program.compiled.report.lm == "rule/one"


def test_bad_input_is_told_before_anything_is_spent(examples: Any, mood: Any, rule_engine: Any, store: Store) -> None:
    engine = rule_engine(rule)
    ours = teleprompter(engine.lm(), store)
    with pytest.raises(ps.DataError, match="with_inputs"):
        ours.compile(dspy.Predict(mood), trainset=[*examples, dspy.Example(text="sun", mood="glad")])
    with pytest.raises(ps.DataError, match="the trainset is empty"):
        ours.compile(dspy.Predict(mood), trainset=[])
    with pytest.raises(ps.DataError, match="the valset is empty: leave it out"):
        ours.compile(dspy.Predict(mood), trainset=examples[:10], valset=[])
    with pytest.raises(ps.DataError, match=r"stands in the valset, too, .* leave the valset out"):
        ours.compile(dspy.Predict(mood), trainset=examples[:20], valset=examples)
    with pytest.raises(ps.ProgramError, match="lms="):
        ours.compile(dspy.Predict(mood), trainset=examples, teacher=dspy.Predict(mood))
    with pytest.raises(ps.ProgramError, match="LM"):
        teleprompter(None, store).compile(dspy.Predict(mood), trainset=examples)
    assert engine.prompts == []


def test_a_dspy_teleprompter_joins_the_search(examples: Any, mood: Any, rule_engine: Any, store: Store) -> None:
    peer = ps.optimizers.FromDSPy(dspy.LabeledFewShot(k=6))
    ours = teleprompter(rule_engine(partial(rule, wanted=6)).lm(), store, proposers=[peer])
    report = ours.compile(dspy.Predict(mood), trainset=examples).compiled.report
    tried = [each for rung in report.rungs for each in rung.tried if each.proposer == "LabeledFewShot"]
    assert len(tried) == 1
