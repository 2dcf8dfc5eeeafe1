"""Proposes weights: the LM, trained on what programs did well, asked without instruction and demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dspy

from ...errors import DataError, FineTuningError, LMError, ModelNotFound
from ...lms.journal import JournaledLM
from ...lms.training.cost import Cost
from ...lms.training.examples import write_jsonl
from ...lms.training.jobs import Event
from ...lms.training.provider import ProviderJob, TrainingProvider, training_examples
from ...programs.candidate import Candidate
from ...programs.task import Task
from ...programs.teaching import bare, training_rows
from ..finetuning_space import FineTuning, Weights
from ..space import Space
from .base import SearchState
from .pools import Pool
from .taught import labels, taught, thinned

__all__ = ["FineTuningProposer", "foreseen", "trainable"]

_LEAST = 20  # examples: fewer teach a model to repeat them
_PROOF = 40  # dev examples on which trained weights are measured at least


def trainable(lm: dspy.BaseLM) -> dspy.LM | None:
    """Gives the LM that can be trained in the place of this one, if it can."""
    lm = lm.lm if isinstance(lm, JournaledLM) else lm
    return lm if isinstance(lm, dspy.LM) and getattr(lm.provider, "finetunable", False) else None


def foreseen(task: Task, lm: dspy.BaseLM, space: Space) -> str | None:
    """Says what a training would take, as far as it can be known before the search; None where none is planned."""
    own, how = trainable(lm), space.finetuning
    if own is None or how is None:
        return None
    signatures, labelled = _signatures(space, task.program), labels(task, how)
    if not all(labelled.get(name) for name in signatures):
        return "Training: what it takes is known when a teacher has run on train, and told before it begins."
    try:
        rows, form, _ = _rows(own, signatures, labelled, task.seed)
        return f"Training, beside the calls: {_estimated(own, rows, form, how.settings)}."
    except (FineTuningError, DataError, ModelNotFound) as fault:
        return f"Training: {fault}."


class FineTuningProposer:
    """Trains the task's LM, once, on train examples, and proposes programs that ask it bare inputs.

    Each predictor that may be changed is taught together with the others, in one training: as its examples are
    labelled, or as the best program did where it succeeded (Khattab et al. 2023, `DSPy
    <https://arxiv.org/abs/2310.03714>`_, section 4; prompt distillation: Snell et al. 2022,
    `Learning by Distilling Context <https://arxiv.org/abs/2209.15189>`_). Dev and test examples are never looked at.

    What cannot be trained, or not within the budget, is told in the report.

    Args:
        progress: Is told how the training goes on.
    """

    name = "finetuning"

    def __init__(self, progress: Callable[[Event], None] | None = None) -> None:
        self._progress = progress
        self._done = False

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives programs on trained weights, in the first round; none in later ones.

        Raises:
            BudgetExceeded: Nothing is left to spend on a teacher.
        """
        how = state.space.finetuning
        if self._done or how is None or count < 1:
            return []
        self._done = True
        try:
            weights = self._trained(state, how)
        except (FineTuningError, DataError, LMError) as fault:
            state.tell(f"fine-tuning: {fault}.")
            return []
        state.add_weights(weights)
        return bare(state.incumbent.candidate, _signatures(state.space, state.task.program), weights.name)[:count]

    def _trained(self, state: SearchState, how: FineTuning) -> Weights:
        lm = trainable(state.matrix.lm)
        if lm is None:
            raise FineTuningError(f"{state.matrix.lm.model} cannot be trained: its provider offers no fine-tuning")
        left = state.matrix.meter.calls_left
        if left is not None and left < min(_PROOF, len(state.task.dev)):
            raise FineTuningError(f"{left} calls are left, too few to measure what would be trained; give more")
        signatures = _signatures(state.space, state.task.program)
        pools, source = taught(state, how)
        rows, form, longer = _rows(lm, signatures, pools, state.task.seed)
        if longer:
            state.tell(f"fine-tuning: {longer} of {longer + len(rows)} examples are longer than the model reads.")
        if len(rows) < _LEAST:
            raise FineTuningError(
                f"{len(rows)} examples to train on ({source}) are too few, {_LEAST} are the least: give more train "
                "examples, a better teacher, a lower FineTuning(threshold=…), or, where retrieved passages are to be "
                "learnt from, Space(passages_in_demonstrations=True)"
            )
        if how.export is not None:
            _export(rows, form, how.export)
        cost = _estimated(lm, rows, form, how.settings)
        _allow(cost, how, state)
        settings = dict(how.settings)
        if isinstance(lm.provider, TrainingProvider):
            settings |= {"progress": self._progress} if self._progress else {}
            settings |= {"confirm": lambda _: True} if cost.usd != 0 else {}  # it was, just now
        trained, seconds = _train(lm, rows, form, settings)
        if cost.usd:
            state.matrix.meter.paid(cost.usd)
        told = Cost(cost.examples, cost.tokens, cost.epochs, cost.usd, seconds)
        return Weights(trained, source, told)


def _signatures(space: Space, module: dspy.Module) -> dict[str, type[dspy.Signature]]:
    return {name: each.signature for name, each in space.searched(module).items()}


def _export(rows: list[dict[str, Any]], form: str, path: Path) -> None:
    try:
        write_jsonl(training_examples(rows, form), path)
    except OSError as error:
        raise FineTuningError(f"{path}: what would be trained on cannot be written: {error.strerror}") from error


def _rows(
    lm: dspy.LM, signatures: Mapping[str, type[dspy.Signature]], pools: Pool, seed: int
) -> tuple[list[dict[str, Any]], str, int]:
    """Gives what is trained on, in which of DSPy's formats it is, and how many more would be too long."""
    shown = {name: thinned(values, signatures[name], seed) for name, values in pools.items()}
    rows, form = training_rows(signatures, shown, lm)
    provider = lm.provider
    fit = provider.fitting(lm.model, rows, form) if isinstance(provider, TrainingProvider) else rows
    return fit, form, len(rows) - len(fit)


def _estimated(lm: dspy.LM, rows: list[dict[str, Any]], form: str, settings: Mapping[str, Any]) -> Cost:
    provider = lm.provider
    cost = provider.estimate(lm.model, rows, form, settings) if isinstance(provider, TrainingProvider) else None
    return cost or Cost(len(rows), 0, 1, usd=None)


def _allow(cost: Cost, how: FineTuning, state: SearchState) -> None:
    """Asks, and looks whether the budget holds a training, before anything is spent.

    Raises:
        FineTuningError: It does not, or nobody said yes.
    """
    budget, spent = state.matrix.meter.budget, state.matrix.meter.spent
    if budget.minutes is not None and cost.seconds is not None and spent.seconds + cost.seconds > 60 * budget.minutes:
        left = max(0.0, 60 * budget.minutes - spent.seconds)
        raise FineTuningError(f"the training takes {cost}, and {left / 60:.1f} min of the budget are left")
    if budget.usd is not None:
        usd = budget.usd - spent.counted_usd
        if cost.usd is None or cost.usd > usd:
            raise FineTuningError(f"the training takes {cost}, and {usd:g} USD of the budget are left")
    if how.confirm is not None:
        if not how.confirm(cost):
            raise FineTuningError(f"the training was not confirmed ({cost})")
    elif cost.usd != 0:
        raise FineTuningError(
            f"the training takes {cost}, and nobody confirmed it: Space(finetuning=FineTuning(confirm=function)), "
            "which is told the cost and returns True"
        )


def _train(
    lm: dspy.LM, rows: list[dict[str, Any]], form: str, settings: Mapping[str, Any]
) -> tuple[dspy.LM, float | None]:
    """Trains; an interrupt ends the training too, which goes on from there when it is asked for again."""
    from dspy.clients.utils_finetune import TrainDataFormat

    job = lm.finetune(rows, TrainDataFormat(form), dict(settings))
    try:
        result = job.result()
    except BaseException:
        job.cancel()
        job.thread.join()
        raise
    if isinstance(result, Exception):
        raise result
    return result, job.trained.seconds if isinstance(job, ProviderJob) and job.trained else None
