"""progspace as a DSPy teleprompter: ``ps.teleprompters.Progspace(metric=…).compile(student, trainset=…)``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dspy
from dspy.teleprompt import Teleprompter

from .artifacts.compiled import Compiled
from .compiler import compile as compile_task
from .errors import DataError, ProgramError
from .evaluation.scoring import DEFAULT_STORE
from .lms.budget import Budget
from .optimizers.space import Space
from .programs.examples import deduplicate, inputs_hash
from .programs.splits import NO_TEST, Splits
from .programs.task import Task
from .store.database import Store

__all__ = ["Progspace"]


class Progspace(Teleprompter):
    """``ps.compile`` with the face of a DSPy teleprompter.

    A teleprompter is given no test: who uses one keeps the test elsewhere. So every example is used for the search, a
    ``trainset`` alone is split into train and dev (two to three), and the report says that no test was read and that
    its scores are those on which the winner was chosen. Score the program on examples of your own, with
    ``dspy.Evaluate`` or ``ps.evaluate``.

    Args:
        metric: As DSPy's: ``(example, prediction, trace=None)``, or one of ``ps.metrics``.
        lm: What the program runs on; None for the one of ``dspy.settings``.
        budget: What the search may spend; 2,000 calls by default.
        space: What may be chosen.
        seed: Of the split and of draws.
        store: A file, or an open store.
        compile_kwargs: Further arguments of ``ps.compile``: ``writer``, ``proposers``, ``workers``, …

    >>> import progspace as ps
    >>> teleprompter = Progspace(metric=ps.metrics.exact_match("label"), budget=ps.Budget(calls=500))
    >>> teleprompter.budget.calls
    500
    """

    def __init__(
        self,
        *,
        metric: Callable[..., Any],
        lm: dspy.BaseLM | None = None,
        budget: Budget | None = None,
        space: Space | None = None,
        seed: int = 0,
        store: str | Path | Store = DEFAULT_STORE,
        **compile_kwargs: Any,
    ) -> None:
        super().__init__()
        self.metric, self.lm, self.budget, self.space = metric, lm, budget, space
        self.seed, self.store, self.compile_kwargs = seed, store, compile_kwargs

    def compile(
        self,
        student: dspy.Module,
        *,
        trainset: Sequence[dspy.Example],
        teacher: dspy.Module | None = None,
        valset: Sequence[dspy.Example] | None = None,
        **kwargs: Any,
    ) -> dspy.Module:
        """Searches for the program that does best.

        Args:
            student: The program; it is not changed.
            trainset: Examples with their inputs set (``with_inputs``).
            teacher: Not used: what shows how it is done is the best program so far. Name a stronger LM for some
                predictors in ``space`` (``lms``) instead.
            valset: Examples on which candidates race; with it, ``trainset`` is for demonstrations and proposals alone.
            kwargs: Further arguments of ``ps.compile``, before those of the constructor.

        Returns:
            The winner, a module with its formats and LM. Its ``compiled`` is what ``ps.compile`` gives: the report, the
            Pareto front, ``save``.

        Raises:
            DataError: An example has no inputs set, there are too few, or the valset holds all of the trainset.
            ProgramError: A teacher is given, or there is no LM.
            BudgetExceeded: The budget does not even hold the baseline.
        """
        if teacher is not None:
            raise ProgramError("Progspace takes no teacher; give its LM as Space(lms={'teacher': …}) to let it compete")
        lm = self.lm or dspy.settings.lm
        if lm is None:
            raise ProgramError("there is no LM: Progspace(lm=…), or dspy.configure(lm=…)")
        task = _task(student, self.metric, list(trainset), None if valset is None else list(valset), self.seed)
        given = {"budget": self.budget, "space": self.space, "seed": self.seed, "store": self.store}
        compiled = compile_task(task, lm=lm, **{**given, **self.compile_kwargs, **kwargs})
        return _module(compiled)


def _module(compiled: Compiled) -> dspy.Module:
    """Gives the winner as DSPy's teleprompters do: marked as compiled, and with what is known of it."""
    program = compiled.program
    program._compiled = True
    program.compiled = compiled
    return program


def _task(
    student: dspy.Module,
    metric: Callable[..., Any],
    trainset: list[dspy.Example],
    valset: list[dspy.Example] | None,
    seed: int,
) -> Task:
    if not trainset:
        raise DataError("the trainset is empty: give examples with their inputs set, dspy.Example(…).with_inputs(…)")
    if valset is not None and not valset:
        raise DataError("the valset is empty: leave it out, and the trainset is split")
    for row, example in enumerate([*trainset, *(valset or ())], 1):
        if not isinstance(example, dspy.Example) or not example._input_keys:
            raise DataError("has no inputs set: dspy.Example(…).with_inputs(…)", file="trainset or valset", row=row)
    inputs = sorted(trainset[0]._input_keys)
    if valset is None:
        return Task(student, trainset, inputs, metric=metric, test=(), seed=seed)
    return _Apart(student, trainset, valset, inputs, metric, seed)


class _Apart(Task):
    """A task whose train and dev are told apart already."""

    def __init__(
        self,
        student: dspy.Module,
        trainset: list[dspy.Example],
        valset: list[dspy.Example],
        inputs: list[str],
        metric: Callable[..., Any],
        seed: int,
    ) -> None:
        self._for_train = len(trainset)
        super().__init__(student, [*trainset, *valset], inputs, metric=metric, test=(), seed=seed)

    def _split(self, examples: list[dspy.Example], test: list[dspy.Example] | None) -> Splits:  # noqa: ARG002
        trainset, dev = (deduplicate(part)[0] for part in (examples[: self._for_train], examples[self._for_train :]))
        raced = {inputs_hash(example) for example in dev}
        train = [example for example in trainset if inputs_hash(example) not in raced]
        if not train:
            raise DataError(
                "each example of the trainset stands in the valset, too, so none is left to learn from: leave the "
                "valset out, and the trainset is split"
            )
        dropped = len(trainset) - len(train)
        told = [f"{dropped} examples of the trainset were dropped, for they stand in the valset."] if dropped else []
        return Splits(tuple(train), tuple(dev), (), (*told, NO_TEST))
