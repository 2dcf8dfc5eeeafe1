"""A pruner for any Optuna study: stops a trial on evidence, however often it looks, that it is worse than the best."""

from __future__ import annotations

import math

import numpy as np
import optuna
from optuna.study import StudyDirection

from ..evaluation.sequential import betting_e_values, e_threshold, mcnemar_e_values

__all__ = ["PairedPruner"]


class PairedPruner(optuna.pruners.BasePruner):
    """Prunes a trial when its scores, paired with the best trial's example by example, show that it is worse.

    As for Optuna's ``WilcoxonPruner``, an intermediate value is one example's score, and the step is the example's
    number; every trial asks in the same random order of examples. That pruner's test is made for one look, and looking
    after each example makes it wrong far more often than its level says. Here the evidence is an e-value that may be
    looked at any time (McNemar's where all scores are 0 or 1, else that of bets on paired differences, drawn without
    replacement: :mod:`progspace.evaluation.sequential`): a trial that is no worse than the best on these examples is
    ever pruned by comparison with it with probability α at most; with ``trials``, α bounds the probability that any of
    so many is.

    A trial that has a value which is not finite is not pruned. The best trial is the one whose value is the best among
    those that ran to their end; a pruned trial that returned its mean so far counts as well, as in Optuna.

    Args:
        alpha: How probably a trial that is no worse is pruned, at most.
        trials: m, how many trials α covers together: a trial goes at E ≥ m/α. 1 for each by itself.
        examples: How many examples there are; None for as many as the best trial has.
        span: The range of the scores, highest minus lowest possible.

    Raises:
        ValueError: α is not between 0 and 1, or another argument is not positive.

    >>> import random
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> examples = random.Random(0).choices(range(10), k=200)
    >>> def objective(trial):
    ...     limit = trial.suggest_int("limit", 0, 9)
    ...     scores = []
    ...     for step, difficulty in enumerate(examples):
    ...         scores.append(float(difficulty <= limit))
    ...         trial.report(scores[-1], step)
    ...         if trial.should_prune():
    ...             raise optuna.TrialPruned()
    ...     return sum(scores) / len(scores)
    >>> study = optuna.create_study(direction="maximize", pruner=PairedPruner())
    >>> study.enqueue_trial({"limit": 8})
    >>> study.enqueue_trial({"limit": 2})
    >>> study.optimize(objective, n_trials=2)
    >>> [(trial.state.name, len(trial.intermediate_values)) for trial in study.trials]
    [('COMPLETE', 200), ('PRUNED', 7)]
    """

    def __init__(self, *, alpha: float = 0.05, trials: int = 1, examples: int | None = None, span: float = 1.0) -> None:
        if not 0 < span < math.inf or (examples is not None and examples < 1):
            raise ValueError(f"the span and the number of examples are positive and finite: {span}, {examples}")
        self._threshold = e_threshold(alpha, trials)
        self._examples, self._span = examples, span

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Says whether a trial has been shown to be worse than the best one.

        Raises:
            ValueError: Two scores of an example differ by more than the span.
        """
        try:
            best = study.best_trial
        except ValueError:  # none has ended yet
            return False
        if best.number == trial.number:
            return False
        own, others = trial.intermediate_values, best.intermediate_values
        # As they came: what is drawn next must not have been known.
        pairs = np.array([(own[step], others[step]) for step in own if step in others])
        if not pairs.size or not np.isfinite(pairs).all():
            return False
        lead = pairs[:, 0] - pairs[:, 1]
        if study.direction == StudyDirection.MINIMIZE:
            lead = -lead
        return self._evidence(lead, bool(np.isin(pairs, (0.0, 1.0)).all()), len(others)) >= self._threshold

    def _evidence(self, lead: np.ndarray[tuple[int, ...], np.dtype[np.float64]], binary: bool, known: int) -> float:
        if binary:
            return float(mcnemar_e_values((lead > 0).sum(), (lead < 0).sum(), alternative="less"))
        population = max(self._examples or known, lead.size)
        evidence = float(betting_e_values(lead, population, alternative="less", bound=self._span)[-1])
        return evidence if not math.isnan(evidence) else 0.0
