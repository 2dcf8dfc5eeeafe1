from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy import stats

from progspace.optimizers.pruner import PairedPruner


def study_of(pruner: PairedPruner, best: NDArray[np.float64], direction: str = "maximize") -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=direction, pruner=pruner)
    study.add_trial(create_trial(value=float(best.mean()), intermediate_values=dict(enumerate(best.tolist()))))
    return study


def running(scores: NDArray[np.float64]) -> FrozenTrial:
    trial = create_trial(state=TrialState.RUNNING, intermediate_values=dict(enumerate(scores.tolist())))
    trial.number = 1
    return trial


def ever_pruned(pruner: PairedPruner, study: optuna.Study, scores: NDArray[np.float64]) -> int | None:
    """After how many examples a trial is pruned that asks after each."""
    return next((n for n in range(1, len(scores) + 1) if pruner.prune(study, running(scores[:n]))), None)


@pytest.mark.parametrize("kind", ["binary", "graded"])
def test_who_is_no_worse_is_seldom_pruned_although_asked_after_each_example(kind: str) -> None:
    generator, wrong, trials = np.random.default_rng(0), 0, 120
    for _ in range(trials):
        if kind == "binary":
            # Equally good on the whole set, and apart on a third of it.
            pairs = np.repeat([[1, 0], [0, 1], [1, 1], [0, 0]], [15, 15, 40, 20], axis=0)
        else:
            pairs = generator.random((90, 2))
            pairs[:, 1] *= pairs[:, 0].mean() / pairs[:, 1].mean()
            pairs = pairs / pairs.max()
        pairs = generator.permutation(pairs).astype(float)
        pruner = PairedPruner(alpha=0.05)
        wrong += ever_pruned(pruner, study_of(pruner, pairs[:, 0]), pairs[:, 1]) is not None
    assert wrong <= stats.binom.ppf(0.999, trials, 0.05)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("kind", ["binary", "graded"])
def test_who_is_worse_is_pruned_and_who_is_better_is_not(direction: str, kind: str) -> None:
    generator = np.random.default_rng(1)
    if kind == "binary":
        good, bad = (generator.random((2, 200)) < np.array([[0.9], [0.5]])).astype(float)
    else:
        good, bad = generator.beta(8, 2, 200), generator.beta(2, 2, 200)
    if direction == "minimize":
        good, bad = 1 - good, 1 - bad
    pruner = PairedPruner()
    pruned = ever_pruned(pruner, study_of(pruner, good, direction), bad)
    assert pruned is not None
    assert pruned < 100
    assert ever_pruned(pruner, study_of(pruner, bad, direction), good) is None
    stricter = ever_pruned(PairedPruner(trials=50), study_of(pruner, good, direction), bad)
    assert stricter is None or stricter > pruned


def test_a_study_runs_with_it_and_finds_the_best() -> None:
    generator = np.random.default_rng(2)
    difficulty = generator.random(150)
    pruner = PairedPruner(trials=20)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial({"skill": 0.9})

    def objective(trial: optuna.Trial) -> float:
        skill = trial.suggest_float("skill", 0.0, 1.0)
        scores = []
        for example, difficult in enumerate(difficulty):
            scores.append(float(difficult < skill))
            trial.report(scores[-1], example)
            if trial.should_prune():
                raise optuna.TrialPruned
        return sum(scores) / len(scores)

    study.optimize(objective, n_trials=20)
    skills = [trial.params["skill"] for trial in study.trials]
    assert study.best_params["skill"] == max(skills)
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert len(pruned) > 8
    asked = sum(len(trial.intermediate_values) for trial in study.trials)
    assert asked < 0.6 * 20 * 150


def test_where_nothing_can_be_compared_nothing_is_pruned() -> None:
    pruner = PairedPruner()
    empty = optuna.create_study(direction="maximize", pruner=pruner)
    assert not pruner.prune(empty, running(np.zeros(50)))
    study = study_of(pruner, np.ones(50))
    assert pruner.prune(study, running(np.zeros(50)))
    assert not pruner.prune(study, running(np.array([])))
    assert not pruner.prune(study, running(np.array([0.0] * 49 + [math.nan])))
    elsewhere = create_trial(state=TrialState.RUNNING, intermediate_values={100 + step: 0.0 for step in range(50)})
    elsewhere.number = 1
    assert not pruner.prune(study, elsewhere)


def test_what_is_no_level_is_refused() -> None:
    with pytest.raises(ValueError, match="α"):
        PairedPruner(alpha=1.5)
    for span in (0, math.nan, math.inf):
        with pytest.raises(ValueError, match="span"):
            PairedPruner(span=span)
    pruner = PairedPruner()
    with pytest.raises(ValueError, match="bound"):
        pruner.prune(study_of(pruner, np.full(5, 40.0)), running(np.full(5, 3.0)))
