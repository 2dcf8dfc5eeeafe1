"""Writes a search down as a study of Optuna's, in the store's own database: optuna-dashboard shows it."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Sequence
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import distribution_to_json
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from ..errors import StoreError
from ..evaluation.judging import told
from ..programs.task import Task
from ..store.database import Store
from .proposers.parts import Parts
from .quiet import quiet
from .standing import Standing

__all__ = ["record_study", "study_name"]

_OF_A_TRIAL = ("trial_params", "trial_values", "trial_user_attributes")
_PAUSES = (0.1, 0.3, 1.0, 3.0)  # seconds, in which another search has made Optuna's tables


def study_name(task: Task, seed: int) -> str:
    """The name of a search's study."""
    return f"{task.name}, seed {seed} ({task.identity[:8]})"


def record_study(store: Store, task: Task, seed: int, standings: Sequence[Standing]) -> optuna.Study:
    """Writes the standings of a search as trials of a study: ``optuna-dashboard sqlite:///runs.db`` shows them.

    What an earlier run of the same task and seed has written gives way, so that a search which is run again leaves one
    study behind. A store in memory gets a study in memory.

    Args:
        store: Whose database holds it.
        task: Names the study, together with the seed.
        seed: Of the search.
        standings: Those that have scores become trials; their values are the mean scores with the luck taken off.

    Raises:
        StoreError: It cannot be written.
    """
    measured = [each for each in standings if each.scores]
    parts = Parts.of(measured, [name for name, _ in task.program.named_predictors()], most=None)
    trials = parts.trials(measured)
    with quiet():
        if store.where == ":memory:":
            study = optuna.create_study(study_name=study_name(task, seed), direction="maximize")
            study.add_trials(trials)
            return study
        for pause in (*_PAUSES, None):
            try:
                return _written(store, study_name(task, seed), trials)
            # Optuna makes its tables without a lock: of two searches that end at once, one is refused what the other
            # makes, and finds it made a moment later. A RuntimeError tells of tables of another release of Optuna.
            except (SQLAlchemyError, OptunaError, RuntimeError) as error:
                if pause is None or isinstance(error, RuntimeError):
                    why = told(error.__cause__ or error)
                    raise StoreError(f"{store.where}: no study of Optuna's can be written ({why})") from error
                time.sleep(pause)
        raise AssertionError  # the last pause is None


def _written(store: Store, name: str, trials: Sequence[FrozenTrial]) -> optuna.Study:
    # SQLite's: how long another writer is waited for.
    settings = {"connect_args": {"timeout": 60}} if store.dialect == "sqlite" else {}
    storage = optuna.storages.RDBStorage(store.url, engine_kwargs=settings)
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
    _replace_trials(storage.engine, study._study_id, trials)
    # The storage that wrote them has seen none of them.
    storage = optuna.storages.RDBStorage(store.url, engine_kwargs=settings)
    return optuna.load_study(study_name=name, storage=storage)


def _replace_trials(engine: sa.Engine, study: int, trials: Sequence[FrozenTrial]) -> None:
    """Writes all trials in one transaction: one by one, as Optuna does, they take longer than a rung of the search."""
    found = sa.MetaData()
    found.reflect(engine, only=["trials", *_OF_A_TRIAL])
    tables = found.tables
    own = sa.select(tables["trials"].c.trial_id).where(tables["trials"].c.study_id == study)
    now = datetime.datetime.now()  # naive, as Optuna's own
    with engine.begin() as connection:
        for name in _OF_A_TRIAL:
            connection.execute(sa.delete(tables[name]).where(tables[name].c.trial_id.in_(own)))
        connection.execute(sa.delete(tables["trials"]).where(tables["trials"].c.study_id == study))
        if not trials:
            return
        connection.execute(
            sa.insert(tables["trials"]),
            [
                {"number": number, "study_id": study, "state": "COMPLETE", "datetime_start": now,
                 "datetime_complete": now}
                for number in range(len(trials))
            ],
        )  # fmt: skip
        ids = connection.scalars(own.order_by(tables["trials"].c.number)).all()
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _OF_A_TRIAL}
        for trial_id, trial in zip(ids, trials, strict=True):
            for name, rest in _rows(trial):
                rows[name].append({"trial_id": trial_id, **rest})
        for name, some in rows.items():
            if some:
                connection.execute(sa.insert(tables[name]), some)


def _rows(trial: FrozenTrial) -> list[tuple[str, dict[str, Any]]]:
    """What stands of a trial in Optuna's tables, each row with its table."""
    rows: list[tuple[str, dict[str, Any]]] = [
        ("trial_values", {"objective": 0, "value": trial.value, "value_type": "FINITE"})
    ]
    for name, distribution in trial.distributions.items():
        value = distribution.to_internal_repr(trial.params[name])
        told = distribution_to_json(distribution)
        rows.append(("trial_params", {"param_name": name, "param_value": value, "distribution_json": told}))
    rows += [
        ("trial_user_attributes", {"key": key, "value_json": json.dumps(value)})
        for key, value in trial.user_attrs.items()
    ]
    return rows
