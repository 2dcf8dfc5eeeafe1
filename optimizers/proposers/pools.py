"""Where demonstrations come from: labels of train examples, and what programs did on those that they solved."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dspy

from ...errors import MetricError
from ...evaluation.runner import Run
from ...programs.answering import REASONING
from ...programs.candidate import PredictorChoice, demonstration, unshown
from ...programs.examples import example_hash
from ...retrievers.recording import holds_passage
from .base import SearchState
from .draws import balanced

__all__ = [
    "MOST_RUNS",
    "Pool",
    "bootstrapped_demonstrations",
    "label_pools",
    "labelled_demonstrations",
    "labelled_or_bootstrapped",
    "labels_are_shown",
    "runs_on_train",
    "traced",
]

Pool = Mapping[str, Sequence[dict[str, Any]]]
"""Demonstrations that may be shown, by the predictor's name."""

MOST_RUNS = 64
"""Train examples that a program is run on, in one look."""
_LARGEST = 500  # demonstrations of a pool: all of them are embedded, and an artifact would hold them
_AT_A_TIME, _FEWEST = 16, 4
_SHARE = 0.06  # of the calls that are left, which one look at train may take


def label_pools(module: dspy.Module, examples: Sequence[dspy.Example], *, partial: bool = False) -> Pool:
    """Gives the examples that hold every field of a predictor, as its demonstrations, as they are labelled.

    Args:
        module: Its predictors are shown them.
        examples: Of train.
        partial: Where no example holds every field, give what those hold that have all outputs and some input: a late
            step of a chain is labelled, but for what the steps before it say.

    >>> example = dspy.Example(text="Superb.", label="positive")
    >>> label_pools(dspy.Predict("text -> label"), [example])
    {'self': [{'text': 'Superb.', 'label': 'positive'}]}
    >>> label_pools(dspy.Predict("text, gist -> label"), [example], partial=True)
    {'self': [{'text': 'Superb.', 'label': 'positive'}]}
    """
    pools = {}
    for name, predictor in module.named_predictors():
        signature = predictor.signature
        held = [[field for field in signature.fields if field in example] for example in examples]
        whole = [len(fields) == len(signature.fields) for fields in held]
        if partial and not any(whole):
            outputs, inputs = set(signature.output_fields), set(signature.input_fields)
            whole = [outputs <= set(fields) and not inputs.isdisjoint(fields) for fields in held]
        pools[name] = [
            demonstration({field: example[field] for field in fields})
            for example, fields, taken in zip(examples, held, whole, strict=True)
            if taken
        ]
    return pools


def labels_are_shown(choice: PredictorChoice, signature: type[dspy.Signature]) -> bool:
    """Tells whether a demonstration without a reasoning stands in the predictor's prompt.

    One that reasons in the same call as it answers is shown none: they would show how to leave the reasoning out.
    """
    reasons = choice.answering is not None and choice.answering.reasoning and REASONING not in signature.fields
    apart = choice.format is not None and choice.format.kind == "compact" and choice.format.decoding != "free"
    return not reasons or apart


def traced(program: dspy.Module, runs: Sequence[Run], *, passages: bool = False) -> Pool:
    """Gives what each predictor did in some runs, its reasoning included where it has one.

    Args:
        program: The one that ran.
        runs: Its runs, with traces.
        passages: Whether values that hold retrieved passages stay.
    """
    module = getattr(program, "module", program)
    fields = {name: list(predictor.signature.fields) for name, predictor in module.named_predictors()}
    pools: dict[str, list[dict[str, Any]]] = {name: [] for name in fields}
    for run in runs:
        for name, inputs, prediction in run.trace:
            values = {**inputs, **prediction.toDict()}
            wanted = dict.fromkeys([*fields[name], REASONING])
            shown = demonstration({field: values[field] for field in wanted if field in values})
            if not passages and run.passages:
                shown = {field: value for field, value in shown.items() if not holds_passage(value, run.passages)}
            pools[name].append(shown)
    return pools


def runs_on_train(program: dspy.Module, state: SearchState, *, most: int) -> Iterator[list[tuple[dspy.Example, Run]]]:
    """Runs a program on train examples, some at a time, until the caller has seen enough; gives each with its run.

    Always the same examples in the same order: what two proposers look at is paid once. Those that the program has in
    its own prompt, with the answer, are left out.

    Args:
        program: Any; its calls are charged.
        state: Its train examples are taken.
        most: Examples at most; fewer where that would take more than 6 % of the calls that are left, and none where
            that holds hardly any.

    Raises:
        BudgetExceeded: Nothing is left to spend.
    """
    if (left := state.matrix.meter.calls_left) is not None:
        known = state.incumbent
        each = known.asked / len(known.cells) if known.cells else len(program.predictors())
        most = min(most, int(_SHARE * left / max(1.0, each)))
        if most < _FEWEST:
            return
    fresh = unshown(state.task.train, program)[:most]
    for start in range(0, len(fresh), _AT_A_TIME):
        examples = fresh[start : start + _AT_A_TIME]
        try:
            runs = state.matrix.traces(program, examples)
        except MetricError:  # the race meets it too, and says so
            return
        yield [(example, runs[example_hash(example)]) for example in examples if example_hash(example) in runs]


def labelled_demonstrations(state: SearchState, examples: Sequence[dspy.Example] | None = None) -> Pool:
    """Gives labelled demonstrations for each predictor that may be changed and would show them.

    Args:
        state: The incumbent's ways to answer and formats count.
        examples: Of train; None for all of it, or as many, classes equally often, as a prompt's pool may hold.
    """
    pools = label_pools(state.task.program, state.task.train if examples is None else examples, partial=True)
    choices = state.incumbent.candidate.predictors
    generator = random.Random(state.task.seed)  # noqa: S311 — reproducible, not secret
    return {
        name: _bounded(pools[name], predictor.signature, generator)
        if labels_are_shown(choices[name], predictor.signature)
        else []
        for name, predictor in state.space.searched(state.task.program).items()
    }


def _bounded(
    pool: Sequence[dict[str, Any]], signature: type[dspy.Signature], generator: random.Random
) -> Sequence[dict[str, Any]]:
    return pool if len(pool) <= _LARGEST else balanced(pool, signature, _LARGEST, generator)


def bootstrapped_demonstrations(state: SearchState, wanted: int, teacher: dspy.Module | None = None) -> Pool:
    """Gives traces of a program's successes on train for each predictor that may be changed: all steps of a chain.

    Where no run scores 1, the best quarter of those above 0 is taken.
    (Khattab et al. 2023, `DSPy <https://arxiv.org/abs/2310.03714>`_.)

    Args:
        state: Its train examples are run, some at a time.
        wanted: Successes that are enough.
        teacher: The program; None for the incumbent.

    Raises:
        BudgetExceeded: Nothing is left to spend.
    """
    program = teacher or state.incumbent.candidate.apply(state.task.program, lms=state.lms)
    solved: list[Run] = []
    others: list[Run] = []
    for runs in runs_on_train(program, state, most=MOST_RUNS):
        for _, run in runs:
            (solved if (run.cell.score or 0.0) >= 1.0 else others).append(run)
        if len(solved) >= wanted:
            break
    if not solved:
        best = sorted(others, key=lambda run: -(run.cell.score or 0.0))[: (len(others) + 3) // 4]
        solved = [run for run in best if run.cell.score]
    pools = traced(program, solved, passages=state.space.passages_in_demonstrations)
    return {name: pools.get(name, ()) for name in state.space.searched(state.task.program)}


def labelled_or_bootstrapped(state: SearchState, wanted: int) -> Pool:
    """Gives labelled demonstrations; where no predictor has any, the traces of the incumbent's successes.

    Raises:
        BudgetExceeded: Nothing is left to spend.
    """
    pools = labelled_demonstrations(state)
    return pools if any(pools.values()) else bootstrapped_demonstrations(state, wanted)
