"""Edge cases: read from the matrix, told from luck, kept as a suite that a gate reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest
from numpy.typing import NDArray

import progspace as ps
from progspace.evaluation.shown import as_text
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.store.database import Store

SCORED = Format(kind="compact", decoding="scored")
ROWS = [
    {
        "text": f"{'sun' if i % 2 else 'rain'} {'in the hills' if i % 5 == 0 else 'on day'} {i}",
        "mood": "glad" if i % 2 else "sad",
        "place": "hills" if i % 5 == 0 else "elsewhere",
    }
    for i in range(200)
]


def logprobs(prompt: str, choice: str) -> float:
    """Errs in the hills, where it is not sure; told to look closely, it errs on what ends in 7 instead."""
    asked = prompt.rsplit("Text:", 1)[-1].splitlines()[0]
    glad = "sun" in asked
    if "closely" in prompt:
        glad ^= asked.rstrip().endswith("7")
    elif "hills" in asked:
        glad = not glad
    sure = 0.1 if "hills" in asked else 3.0
    return 0.0 if (choice.strip() == "glad") == glad else -sure


class Letters:
    """An embedder that hears of hills, days and the sea only."""

    name = "letters"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [[1 + 9 * ("hills" in text), 1 + 9 * ("day" in text), 50.0 * ("sea" in text)] for text in texts]
        jitter = [[len(text) % 7 / 100, sum(map(ord, text)) % 11 / 100, 0.0] for text in texts]
        vectors = np.asarray(rows, np.float32) + np.asarray(jitter, np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def task(mood: Any) -> ps.Task:
    return ps.Task(program=dspy.Predict(mood), examples=ROWS, metric=ps.metrics.choice("mood"), name="mood")


@pytest.fixture
def programs(task: ps.Task) -> dict[str, dspy.Module]:
    candidate = Candidate.declared(task.program).with_choice(format=SCORED)
    return {
        "plain": candidate.apply(task.program),
        "close": candidate.with_choice(instruction="Look closely.").apply(task.program),
    }


def test_what_good_programs_fail_on(
    task: ps.Task, programs: dict[str, dspy.Module], rule_engine: Any, store: Store, tmp_path: Path
) -> None:
    lm = rule_engine(str, logprobs=logprobs).lm()
    for program in programs.values():
        ps.evaluate(program, task, lm=lm, store=store)
    asked = len(lm._engine_spec.prompts)
    # Without a program: the better one of the store, and no call.
    found = ps.edge_cases(task, store=store, by=["place"], embedder=Letters())
    assert len(lm._engine_spec.prompts) == asked
    assert (found.programs, found.rows) == (2, len(task.dev))
    assert all(case.inputs["text"].endswith("7") for case in found.cases if "failed" in case.why)

    plain = ps.edge_cases(
        task, programs["plain"], lm=lm, store=store, by={"place": "place"}, embedder=Letters(), name="plain"
    )
    assert len(lm._engine_spec.prompts) == asked
    hills = {row.text for row in task.dev if "hills" in row.text}
    assert {case.inputs["text"] for case in plain.cases if "failed" in case.why} == hills
    assert {case.inputs["text"] for case in plain.cases if "unsure" in case.why} == hills
    sevens = {row.text for row in task.dev if row.text.endswith("7")}
    assert {case.inputs["text"] for case in plain.cases if "disagree" in case.why} == hills ^ sevens
    weak = {(each.by, each.value) for each in plain.slices if each.weak}
    assert ("place", "hills") in weak
    assert any(by == "cluster" and "hills" in value for by, value in weak)
    assert any("hills" in each.name and each.cases == each.n for each in plain.clusters)
    text = str(plain)
    assert "Worse than the rest" in text
    letters = [sorted(filter(str.isalnum, as_text(plain.view(), width))) for width in (20, 60, 400)]
    assert letters[0] == letters[1] == letters[2]  # a narrow terminal cuts nothing off
    assert json.loads(json.dumps(plain.to_dict()))["programs"] == 2

    # A suite that a gate reads, and that grows by what is new only.
    suite = tmp_path / "suites" / "hills.jsonl"
    assert plain.suite(suite, task) == len(plain.cases)
    assert plain.suite(suite, task) == 0
    rows = [json.loads(line) for line in suite.read_text(encoding="utf-8").splitlines()]
    assert rows[0]["edge_case"] == {"suite": "hills", "why": list(plain.cases[0].why)}
    told = ps.gate(programs["plain"], programs["close"], task, lm=lm, data=suite, store=store)
    assert (told.test.n, len(told.broken)) == (len(rows), len(hills - sevens))
    again = ps.edge_cases(task, programs["plain"], lm=lm, data=suite, store=store, embedder=None)
    assert again.suite(suite, task) == 0


def test_far_from_train(task: ps.Task, programs: dict[str, dspy.Module], rule_engine: Any, store: Store) -> None:
    lm = rule_engine(str, logprobs=logprobs).lm()
    data = [*ROWS[:20], {"text": "sun over the sea", "mood": "glad"}]
    found = ps.edge_cases(task, programs["close"], lm=lm, data=data, store=store, embedder=Letters())
    far = [case.inputs["text"] for case in found.cases if "far" in case.why]
    assert "sun over the sea" in far
    assert len(far) <= 3


def test_what_is_refused(task: ps.Task, rule_engine: Any, store: Store, tmp_path: Path) -> None:
    with pytest.raises(ps.DataError, match="give a program to run"):
        ps.edge_cases(task, store=store, embedder=None)
    with pytest.raises(ps.DataError, match="takes an LM"):
        ps.edge_cases(task, task.program, store=store)
    lm = rule_engine(lambda _: "what?").lm()
    found = ps.edge_cases(task, task.program, lm=lm, store=store, embedder=None)
    assert (found.score, len(found.cases)) == (0, found.rows)
    with pytest.raises(ps.DataError, match="a suite is a"):
        found.suite(tmp_path / "suite.csv", task)
