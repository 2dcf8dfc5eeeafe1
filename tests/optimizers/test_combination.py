"""Combinations of known parts by TPE, and the study that a search leaves behind."""

from __future__ import annotations

import random
import sqlite3
from typing import Any

import dspy
import optuna
import pytest
import sqlalchemy as sa

import progspace as ps
from progspace.evaluation.matrix import Matrix
from progspace.lms.budget import Meter
from progspace.optimizers.proposers.base import SearchState
from progspace.optimizers.proposers.combination import CombinationProposer
from progspace.optimizers.space import Space
from progspace.optimizers.standing import Standing
from progspace.optimizers.study import record_study, study_name
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.store.database import Store, open_store
from progspace.store.records import Cell

INSTRUCTIONS = [None, *(f"Tell the mood, way {number}." for number in range(7))]
FORMATS = [Format(kind=kind, hints=hints) for kind in ("chat", "json", "compact") for hints in (False, True)]


def truth(candidate: Candidate) -> float:
    """The parts' own worth: each adds something."""
    choice = candidate.predictors["self"]
    return (
        0.1
        + 0.05 * INSTRUCTIONS.index(choice.instruction)
        + 0.05 * FORMATS.index(choice.format or FORMATS[0])
        + (0.2 if choice.demonstrations else 0.0)
    )


def standing(candidate: Candidate, order: int, n: int = 40) -> Standing:
    score = truth(candidate)
    cells = tuple(Cell("p", str(example), "m", score=float(example < score * n)) for example in range(n))
    return Standing(candidate, cells, order, "test")


def drawn(task: ps.Task, mood_rows: Any, count: int) -> list[Standing]:
    generator = random.Random(0)
    demonstrations = [None, *(tuple(mood_rows[at : at + 4]) for at in (0, 10, 20))]
    seen: dict[str, Candidate] = {}
    while len(seen) < count:
        candidate = Candidate.declared(task.program).with_choice(
            instruction=generator.choice(INSTRUCTIONS),
            demonstrations=generator.choice(demonstrations),
            format=generator.choice(FORMATS),
            origin=f"draw {len(seen)}",
        )
        seen.setdefault(candidate.hash, candidate)
    found = [standing(each, order) for order, each in enumerate(seen.values())]
    return sorted(found, key=lambda each: (-each.mean, each.order))


def state_of(task: ps.Task, standings: list[Standing], store: Store, lm: dspy.BaseLM, seed: int = 5) -> SearchState:
    matrix = Matrix(store, task.metric, lm, Meter())
    return SearchState(task, Space(), matrix, matrix.lm, standings[0], standings, seed)


def test_combinations_are_new_of_known_parts_and_better_than_chance(
    task: ps.Task, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    standings = drawn(task, mood_rows, 40)
    proposed = [
        candidate
        for seed in range(5)
        for candidate in CombinationProposer().propose(state_of(task, standings, store, rule_engine(str).lm(), seed), 4)
    ]
    known = {each.candidate.hash for each in standings}
    assert len(proposed) == 20
    for candidate in proposed:
        choice = candidate.predictors["self"]
        assert candidate.hash not in known
        assert choice.instruction in INSTRUCTIONS
        assert choice.format in FORMATS
    chance = sum(each.mean for each in standings) / len(standings)
    assert sum(map(truth, proposed)) / len(proposed) > chance + 0.1


def test_the_same_standings_give_the_same_whatever_a_study_holds(
    task: ps.Task, mood_rows: Any, rule_engine: Any, store: Store
) -> None:
    standings = drawn(task, mood_rows, 20)
    state = state_of(task, standings, store, rule_engine(str).lm())
    first = [each.hash for each in CombinationProposer().propose(state, 4)]
    record_study(store, task, 0, standings[:7])
    assert [each.hash for each in CombinationProposer().propose(state, 4)] == first
    other = state_of(task, standings, store, rule_engine(str).lm(), seed=6)
    assert [each.hash for each in CombinationProposer().propose(other, 4)] != first


def test_there_is_nothing_to_combine_of_one_candidate_or_when_all_is_known(
    task: ps.Task, rule_engine: Any, store: Store
) -> None:
    declared = Candidate.declared(task.program)
    lm = rule_engine(str).lm()
    assert CombinationProposer().propose(state_of(task, [standing(declared, 0)], store, lm), 3) == []
    unmeasured = [Standing(declared, ()), Standing(declared.with_choice(instruction="Tell the mood, way 1."), ())]
    assert CombinationProposer().propose(state_of(task, unmeasured, store, lm), 3) == []
    grid = [
        declared.with_choice(instruction=instruction, format=way)
        for instruction in INSTRUCTIONS[:2] for way in FORMATS[:2]
    ]  # fmt: skip
    state = state_of(task, [standing(each, order) for order, each in enumerate(grid[:3])], store, lm)
    assert [each.hash for each in CombinationProposer().propose(state, 3)] == [grid[3].hash]
    state = state_of(task, [standing(each, order) for order, each in enumerate(grid)], store, lm)
    assert CombinationProposer().propose(state, 3) == []


def test_a_search_leaves_one_study_that_optuna_reads(task: ps.Task, mood_rows: Any, store: Store) -> None:
    standings = drawn(task, mood_rows, 30)
    record_study(store, task, 0, standings[:10])
    record_study(store, task, 0, standings)
    record_study(store, task, 1, standings[:3])
    storage = optuna.storages.RDBStorage(store.url)
    names = {each.study_name for each in optuna.get_all_study_summaries(storage)}
    assert names == {study_name(task, 0), study_name(task, 1)}
    study = optuna.load_study(study_name=study_name(task, 0), storage=storage)
    assert len(study.trials) == 30
    assert study.best_trial.user_attrs["hash"] == standings[0].candidate.hash
    assert study.best_trial.user_attrs["origin"] == standings[0].candidate.origin
    assert set(study.best_trial.params) == {"self.instruction", "self.demonstrations", "self.format"}
    assert study.best_value == pytest.approx(standings[0].mean, abs=0.1)
    # Who goes on with Optuna itself can.
    study.optimize(lambda trial: len(trial.suggest_categorical(
        "self.format", list(study.trials[0].distributions["self.format"].choices)) or ""), n_trials=1)  # fmt: skip
    assert len(study.trials) == 31
    with sqlite3.connect(store.where) as connection:
        assert connection.execute("SELECT count(*) FROM cells").fetchone() == (0,)


def test_two_searches_that_end_at_once_on_a_new_store_both_leave_a_study(
    task: ps.Task, mood_rows: Any, store: Store
) -> None:
    """Optuna finds that its tables are missing, and makes them, without a lock."""
    standings, between = drawn(task, mood_rows, 5), [1]

    def another(*_: Any, **__: Any) -> None:
        while between:
            record_study(store, task, between.pop(), standings)

    tables = optuna.storages._rdb.models.BaseModel.metadata
    sa.event.listen(tables, "before_create", another)
    try:
        record_study(store, task, 0, standings)
    finally:
        sa.event.remove(tables, "before_create", another)
    assert not between
    found = optuna.get_all_study_summaries(store.url)
    assert {each.study_name: each.n_trials for each in found} == {study_name(task, seed): 5 for seed in (0, 1)}


def test_a_store_in_memory_gets_a_study_in_memory(task: ps.Task, mood_rows: Any) -> None:
    with open_store(":memory:") as store:
        study = record_study(store, task, 0, drawn(task, mood_rows, 5))
    assert len(study.trials) == 5
