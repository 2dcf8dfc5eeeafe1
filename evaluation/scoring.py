"""``ps.evaluate`` and ``ps.compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy

from ..errors import DataError
from ..lms.batch import Batches
from ..lms.budget import Budget, Meter
from ..programs.examples import deduplicate
from ..programs.task import Task
from ..store.database import Store, open_store
from ..store.records import Cell
from .batches import StoreBatches
from .checks import check_at_least
from .evaluation import Comparison, Evaluation, check_cells, compare_cells, evaluate_cells
from .executor import Workers, executor_of
from .matrix import Matrix

__all__ = ["DEFAULT_STORE", "compare", "evaluate", "examples_of", "run_both"]

DEFAULT_STORE = ".progspace/store.db"


def evaluate(
    program: dspy.Module,
    task: Task,
    *,
    lm: dspy.BaseLM,
    split: str = "dev",
    store: str | Path | Store = DEFAULT_STORE,
    budget: Budget | None = None,
    workers: Workers = None,
    seed: int = 0,
    name: str = "program",
    batch: bool = False,
) -> Evaluation:
    """Scores a program on a split of a task; what is in the store already costs nothing.

    Args:
        program: Any module: the user's own, a compiled one, a loaded one.
        task: Gives the examples and the metric.
        lm: Answers for predictors without an LM of their own.
        split: ``dev``, ``train``, or ``test``: the sealed one, and the task remembers that it was read.
        store: A file, or an open store.
        budget: What may be spent; None for no limit.
        workers: Examples that run at a time; None for as many as the LM takes well; ``"ray"``, as in ``ps.compile``.
        seed: Of the interval.
        name: Of the program, in what is printed.
        batch: Ask by OpenAI's Batch API: answers come within a day, at half the price. Stopped or killed, it goes
            on where it was, and sends nothing again. How long answers take is not measured.

    Raises:
        DataError: There is no such split, ``workers`` is below 1, or ``seed`` below 0.
        BudgetExceeded: Nothing is left to spend; what was bought is stored.
        LMError: The LM answered on no example, or takes no batches.
        ProgramError: The program fails on every example.
    """
    if not isinstance(store, Store):
        with open_store(store) as opened:
            return evaluate(
                program, task, lm=lm, split=split, store=opened, budget=budget, workers=workers, seed=seed, name=name,
                batch=batch,
            )  # fmt: skip
    check_at_least(0, seed=seed)
    examples = examples_of(task, split)
    batches = Batches(lm, StoreBatches(store)) if batch else None
    with executor_of(workers, store) as executor:
        matrix = Matrix.of(task, store, lm, Meter(budget), workers=executor, batches=batches)
        cells = matrix.fill(program, examples)
    check_cells(cells, name)
    return evaluate_cells(cells, examples, name=name, seed=seed)


def compare(
    a: dspy.Module,
    b: dspy.Module,
    task: Task,
    *,
    lm: dspy.BaseLM,
    split: str = "dev",
    store: str | Path | Store = DEFAULT_STORE,
    budget: Budget | None = None,
    workers: Workers = None,
    seed: int = 0,
    names: tuple[str, str] = ("a", "b"),
    data: Any = None,
) -> Comparison:
    """Compares two programs on the same examples, with a paired test; arguments and errors are those of `evaluate`.

    Args:
        a: The first program.
        b: The second program.
        task: As in `evaluate`.
        lm: As in `evaluate`.
        split: As in `evaluate`.
        store: As in `evaluate`.
        budget: As in `evaluate`.
        workers: As in `evaluate`.
        seed: As in `evaluate`.
        names: Of the programs, in what is printed.
        data: Examples to compare on in place of a split, in any form that a task's may have.

    Returns:
        The difference of the first program's score and the second's, its interval and p-value, and who wins where.
    """
    examples, cells = run_both(
        a, b, task, lm=lm, split=split, data=data, store=store, budget=budget, workers=workers, seed=seed
    )
    for own, name in zip(cells, names, strict=True):
        check_cells(own, name)
    return compare_cells(*cells, examples, names=names, seed=seed)


def run_both(
    a: dspy.Module,
    b: dspy.Module,
    task: Task,
    *,
    lm: dspy.BaseLM,
    split: str,
    data: Any,
    store: str | Path | Store,
    budget: Budget | None,
    workers: Workers,
    seed: int,
) -> tuple[Sequence[dspy.Example], tuple[list[Cell], list[Cell]]]:
    """Gives the examples that two programs are compared on, and the cells of each; arguments are those of `compare`."""
    if not isinstance(store, Store):
        with open_store(store) as opened:
            return run_both(
                a, b, task, lm=lm, split=split, data=data, store=opened, budget=budget, workers=workers, seed=seed
            )
    check_at_least(0, seed=seed)
    examples = examples_of(task, split, data)
    with executor_of(workers, store) as executor:
        matrix = Matrix.of(task, store, lm, Meter(budget), workers=executor)
        return examples, (matrix.fill(a, examples), matrix.fill(b, examples))


def examples_of(task: Task, split: str, data: Any = None) -> Sequence[dspy.Example]:
    """Gives what is scored: a split of the task, or, in its place, rows of the caller's own.

    Raises:
        DataError: There is no such split, or the rows are not as they must be.
    """
    if data is not None:
        return deduplicate(task.read(data, labelled=True))[0]
    if split == "test":
        return task.unseal_test("evaluation")
    if split not in ("dev", "train"):
        raise DataError(f"there is no split {split!r}; there is train, dev and test")
    examples: Sequence[dspy.Example] = task.dev if split == "dev" else task.train
    return examples
