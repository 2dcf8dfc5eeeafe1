"""What a model is taught: labels of train examples, and what a teacher did on those that it solved."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import dspy

from ...errors import DataError, FineTuningError, MetricError
from ...programs.examples import example_hash
from ...programs.task import Task
from ..finetuning_space import FineTuning
from .base import SearchState
from .draws import class_of, has_classes
from .pools import Pool, label_pools, traced

__all__ = ["labels", "taught", "thinned"]

_MAJORITY = 3  # times as frequent as the rarest class: what is more frequent than that, and than most, is thinned out
_SHARE = 0.5  # of the calls that are left, which the teacher may take


def labels(task: Task, how: FineTuning) -> Pool:
    """Gives what train examples are labelled with, by the predictor's name; none where labels are not taught."""
    return label_pools(task.program, task.train[: how.examples]) if how.labels else {}


def taught(state: SearchState, how: FineTuning) -> tuple[Pool, str]:
    """Gives what each predictor is taught, and where that comes from."""
    train = list(state.task.train)[: how.examples]
    labelled = labels(state.task, how)
    names = list(state.space.searched(state.task.program))
    if missing := [name for name in names if not labelled.get(name)]:
        solved, asked = _successes(state, how, train)
        labelled = {name: labelled.get(name) or solved.get(name, ()) for name in names}
        told = f"{asked[0]} successes on {asked[1]} train examples"
        return labelled, told if len(missing) == len(names) else f"labels, and {told}"
    return {name: labelled[name] for name in names}, f"labels of {len(train)} train examples"


def _successes(state: SearchState, how: FineTuning, train: Sequence[dspy.Example]) -> tuple[Pool, tuple[int, int]]:
    """Gives what a teacher's predictors did on train examples that it solved; how many these are, and how many ran."""
    teacher = how.teacher
    if isinstance(teacher, dspy.Module):
        program = teacher
    else:
        program = state.incumbent.candidate.apply(state.task.program, lms=state.lms)
        if teacher is not None:
            for predictor in program.predictors():
                predictor.lm = teacher
    left = state.matrix.meter.calls_left
    most = len(train) if left is None else int(_SHARE * left / max(1, len(program.predictors())))
    examples = list(train)[:most]
    try:
        runs = state.matrix.traces(program, examples)
    except MetricError as fault:
        raise FineTuningError(f"the metric raised on what the teacher did: {fault}") from fault
    ordered = [runs[key] for key in dict.fromkeys(map(example_hash, examples)) if key in runs]
    solved = [run for run in ordered if run.cell.score is not None and run.cell.score >= how.threshold]
    return traced(program, solved, passages=state.space.passages_in_demonstrations), (len(solved), len(ordered))


def thinned(
    values: Sequence[Mapping[str, Any]], signature: type[dspy.Signature], seed: int
) -> Sequence[Mapping[str, Any]]:
    """Thins out classes that are far more frequent than others; a model would learn to answer them to everything.

    Raises:
        DataError: All are of one class.
    """
    if not has_classes(signature) or not values:
        return values
    tell, classes = class_of(signature), dict[str, list[Mapping[str, Any]]]()
    for each in values:
        classes.setdefault(tell(each), []).append(each)
    if len(classes) == 1:
        raise DataError(
            f"all {len(values)} examples to train on are {next(iter(classes))!r}: a model that is trained on one class "
            "answers it to everything; give train examples of others"
        )
    sizes = sorted(map(len, classes.values()))
    most = max(_MAJORITY * sizes[0], sizes[(len(sizes) - 1) // 2])
    drawn = random.Random(seed)  # noqa: S311 — reproducible, not secret
    kept = {id(each) for group in classes.values() for each in drawn.sample(group, min(most, len(group)))}
    return [each for each in values if id(each) in kept]
