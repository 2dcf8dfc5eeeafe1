"""Proposes demonstrations: which examples stand in the prompt, how many, and in which order."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

from ..evaluation.matrix import Matrix
from ..programs.candidate import Candidate, demonstration
from ..programs.fields import choices_of, write_field

__all__ = ["bootstrap_pools", "label_pools", "propose_demonstrations"]

Pool = Mapping[str, Sequence[dict[str, Any]]]
"""Demonstrations that may be shown, by the predictor's name."""

SIZES = (2, 4, 8, 16)


def label_pools(module: dspy.Module, examples: Sequence[dspy.Example]) -> Pool:
    """Gives the examples that hold every field of a predictor, as its demonstrations, as they are labelled."""
    pools = {}
    for name, predictor in module.named_predictors():
        fields = list(predictor.signature.fields)
        pools[name] = [
            demonstration({field: example[field] for field in fields})
            for example in examples
            if all(field in example for field in fields)
        ]
    return pools


def bootstrap_pools(
    teacher: Candidate, module: dspy.Module, examples: Sequence[dspy.Example], matrix: Matrix, *, threshold: float = 1.0
) -> Pool:
    """Gives what a teacher's predictors did on the examples that it solved: for chains, with all steps between.

    (Khattab et al. 2023, `DSPy <https://arxiv.org/abs/2310.03714>`_.)

    Args:
        teacher: The program that shows how it is done.
        module: What the teacher is a candidate for.
        examples: Of train; never of dev or test.
        matrix: Runs the teacher, and counts it.
        threshold: The least score of a run that is worth showing.

    Raises:
        BudgetExceeded: Nothing is left to spend.
    """
    program = teacher.apply(module)
    fields = {name: list(predictor.signature.fields) for name, predictor in program.module.named_predictors()}
    pools: dict[str, list[dict[str, Any]]] = {name: [] for name in fields}
    runs = matrix.traces(program, examples)
    for key in sorted(runs):
        run = runs[key]
        if run.cell.score is None or run.cell.score < threshold:
            continue
        for name, inputs, prediction in run.trace:
            values = {**inputs, **prediction.toDict()}
            pools[name].append(demonstration({field: values[field] for field in fields[name] if field in values}))
    return pools


def propose_demonstrations(
    incumbents: Sequence[Candidate],
    module: dspy.Module,
    pools: Mapping[str, Pool],
    *,
    draws: int,
    seed: int,
    sizes: Sequence[int] = SIZES,
) -> list[Candidate]:
    """Gives each incumbent with sets of demonstrations, several draws of each size from each pool.

    Where a predictor's output is a choice, a set shows each choice equally often, as far as the pool allows. A draw is
    an order as well. What is drawn depends on the seed, the draw and the pool's content alone.

    Args:
        incumbents: The candidates to add to, the best first.
        module: Theirs.
        pools: Pools by what they are called in a candidate's origin: ``labelled``, ``bootstrapped``.
        draws: Sets of each size from each pool.
        seed: Of the draws.
        sizes: Demonstrations a predictor.
    """
    signatures = {name: predictor.signature for name, predictor in module.named_predictors()}
    proposals = []
    for draw in range(draws):
        for size in sizes:
            for kind, pool in pools.items():
                for incumbent in incumbents:
                    candidate = incumbent
                    for name, available in pool.items():
                        shown = _draw(available, signatures[name], size, f"{seed}:{kind}:{draw}:{size}:{name}")
                        if shown:
                            candidate = candidate.with_choice(predictor=name, demonstrations=shown)
                    if candidate != incumbent:
                        origin = f"{_format_label(incumbent)}, {size} {kind} demonstrations (draw {draw + 1})"
                        proposals.append(candidate.model_copy(update={"origin": origin}))
    return proposals


def _draw(
    pool: Sequence[dict[str, Any]], signature: type[dspy.Signature], size: int, seed: str
) -> tuple[dict[str, Any], ...]:
    generator = random.Random(hashlib.sha256(seed.encode()).digest())  # noqa: S311 — reproducible, not secret
    shuffled = list(pool)
    generator.shuffle(shuffled)
    if not shuffled:
        return ()
    balanced = _interleave(shuffled, _class_of(signature))[:size]
    generator.shuffle(balanced)
    return tuple(balanced)


def _class_of(signature: type[dspy.Signature]) -> Callable[[dict[str, Any]], str]:
    """Tells the class of a demonstration, by those of its outputs that are choices."""
    chosen = [(name, info.annotation) for name, info in signature.output_fields.items() if choices_of(info.annotation)]
    return lambda shown: "|".join(write_field(shown.get(name), annotation) for name, annotation in chosen)


def _interleave(pool: Sequence[dict[str, Any]], class_of: Callable[[dict[str, Any]], str]) -> list[dict[str, Any]]:
    """Orders a pool so that every beginning of it shows the classes equally often, while there are any left."""
    classes: dict[str, list[dict[str, Any]]] = {}
    for shown in pool:
        classes.setdefault(class_of(shown), []).append(shown)
    rows = max(map(len, classes.values()))
    return [members[row] for row in range(rows) for members in classes.values() if row < len(members)]


def _format_label(candidate: Candidate) -> str:
    formats = {choice.format.label if choice.format else "as declared" for choice in candidate.predictors.values()}
    return " / ".join(sorted(formats))
