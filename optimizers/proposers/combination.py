"""Proposes combinations of parts that are known already, sampled by Optuna's TPE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import optuna

from ...programs.candidate import Candidate
from ..quiet import quiet
from ..standing import Standing
from .base import SearchState
from .novelty import novel, unfitted
from .parts import Parts

__all__ = ["CombinationProposer"]

_VALUES = 24
"""Values of a part that are combined, those of the best candidates: TPE learns nothing of more from so few trials."""
_ATTEMPTS = 12


class CombinationProposer:
    """Combines the parts of all candidates so far: instructions, demonstrations, formats, answers, LMs, retrieval.

    Each part of each predictor is a categorical parameter whose values are those measured; each standing is a finished
    trial, its value the mean score with the luck taken off; the tree-structured Parzen estimator (`Bergstra et al. 2011
    <https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization>`_; of all parameters together:
    `Falkner, Klein & Hutter 2018 <https://arxiv.org/abs/1807.01774>`_) is asked for more. MIPROv2 (`Opsahl-Ong et al.
    2024 <https://arxiv.org/abs/2406.11695>`_) searches so from nothing; this one starts from what the race knows.

    The study is made anew of the standings each time, in memory: the same state gives the same proposals, whatever an
    earlier run has left behind. `progspace.optimizers.study.record_study` writes it down.
    """

    name = "combinations"

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many combinations that were not measured yet; none before a part has two values."""
        measured = [each for each in state.standings if each.scores]
        if count < 1:
            return []
        parts = Parts.of(measured, sorted(state.space.searched(state.task.program)), most=_VALUES)
        if not parts.distributions:
            return []
        return novel(_asked(parts, measured, state, _ATTEMPTS * count), state, count)


def _asked(parts: Parts, measured: Sequence[Standing], state: SearchState, attempts: int) -> Iterator[Candidate]:
    """Gives what TPE asks for, one after the other; what is known already is answered at once."""
    base = unfitted(state.incumbent.candidate)
    means = {unfitted(each.candidate).hash: each.mean for each in measured}
    with quiet():
        sampler = optuna.samplers.TPESampler(multivariate=True, n_startup_trials=0, constant_liar=True, seed=state.seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(parts.trials(measured))
        for _ in range(attempts):
            trial = study.ask(parts.distributions)
            candidate = parts.combined(base, trial.params)
            if (mean := means.get(candidate.hash)) is not None:
                study.tell(trial, mean)
            yield candidate.model_copy(update={"origin": "combined: " + "; ".join(map(str, trial.params.values()))})
