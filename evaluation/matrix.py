"""The matrix of programs × examples: a cell is bought once, and everything is read from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import dspy

from ..lms.budget import Meter
from ..lms.journal import Answers, JournaledLM, StoredAnswer, concurrency
from ..programs.examples import example_hash
from ..programs.metrics import metric_identity
from ..programs.program import Program
from ..store.database import Store
from ..store.records import Answer, Cell
from .identity import program_identity
from .runner import Run, run_cells

__all__ = ["Matrix", "StoreAnswers"]

_STORE_EVERY = 0.05  # seconds


class StoreAnswers(Answers):
    """Lets an LM's journal remember in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: str) -> StoredAnswer | None:
        """Gives the answer to a key, where it is known."""
        found = self._store.answer(key)
        if found is None:
            return None
        return StoredAnswer(found.key, found.value, found.input_tokens, found.output_tokens, found.seconds)

    def put(self, answer: StoredAnswer) -> None:
        """Remembers an answer."""
        self._store.put_answer(
            Answer(answer.key, answer.value, answer.input_tokens, answer.output_tokens, answer.seconds)
        )


class Matrix:
    """Cells of many programs on the examples of one task.

    Args:
        store: Remembers cells and answers.
        metric: Scores outputs.
        lm: Answers; it is asked through a journal, so that the same prompt is never bought twice.
        meter: Counts what is bought.
        workers: How many examples run at a time; None for as many as the LM takes well.
        on_cells: Is told how many cells are now filled, each time that some are.
    """

    def __init__(
        self,
        store: Store,
        metric: Callable[..., Any],
        lm: dspy.BaseLM,
        meter: Meter,
        *,
        workers: int | None = None,
        on_cells: Callable[[int], None] | None = None,
    ) -> None:
        self.metric, self.meter = metric, meter
        self.lm = JournaledLM(lm, meter, StoreAnswers(store))
        self._store = store
        self._workers = workers or concurrency(lm)
        self._on_cells = on_cells or (lambda _: None)

    def fill(self, program: dspy.Module, examples: Sequence[dspy.Example]) -> list[Cell]:
        """Gives the program's cells on the examples, in their order; buys and stores those that are not known.

        Raises:
            BudgetExceeded: Nothing is left to buy one; those that were bought are stored.
            MetricError: The metric raised.
        """
        identity = program_identity(program, self.lm)
        hashes = [example_hash(example) for example in examples]
        known = self._store.cells(identity, metric_identity(self.metric), hashes)
        for cell in known.values():
            self._recall(cell)
        self._on_cells(len(known))
        missing = [example for example, key in zip(examples, hashes, strict=True) if key not in known]
        fresh: list[Cell] = []
        stored = time.monotonic()
        try:
            for runs in self._run(self._metered(program), missing, identity, traced=False):
                fresh += [run.cell for run in runs]
                known.update((run.cell.example, run.cell) for run in runs)
                self._on_cells(len(runs))
                # The answers are stored already, so a cell may wait for others: to lose it costs no call.
                if time.monotonic() - stored > _STORE_EVERY:
                    self._store.put_cells(fresh)
                    fresh, stored = [], time.monotonic()
        finally:
            self._store.put_cells(fresh)
        return [known[key] for key in hashes]

    def traces(self, program: dspy.Module, examples: Sequence[dspy.Example]) -> dict[str, Run]:
        """Runs a program anew, with DSPy's traces, by the example's hash; prompts that were answered cost nothing.

        In the traces a predictor stands by its name.
        """
        identity = program_identity(program, self.lm)
        metered = self._metered(program)
        module = metered.module if isinstance(metered, Program) else metered
        names = {id(predictor): name for name, predictor in module.named_predictors()}
        runs = [run for ended in self._run(metered, examples, identity, traced=True) for run in ended]
        for run in runs:
            run.trace = [(names[id(step[0])], *step[1:]) for step in run.trace if id(step[0]) in names]
        return {run.cell.example: run for run in runs}

    def _metered(self, program: dspy.Module) -> dspy.Module:
        """Gives a program whose own LMs, where it or its predictors have any, are metered and journaled as well."""
        own = program.own_lm if isinstance(program, Program) else None
        if own is None and all(predictor.lm is None for predictor in program.predictors()):
            return program
        metered: dspy.Module = program.deepcopy()
        if own is not None:
            metered.own_lm = self._journaled(own)
        for predictor, original in zip(metered.predictors(), program.predictors(), strict=True):
            if original.lm is not None:
                predictor.lm = self._journaled(original.lm)
        return metered

    def _journaled(self, lm: dspy.BaseLM) -> JournaledLM:
        return JournaledLM(lm, self.meter, StoreAnswers(self._store))

    def _recall(self, cell: Cell) -> None:
        """Counts what a known cell asked, as though it were asked now: a search that goes on keeps to the same plan."""
        for key, input_tokens, output_tokens in cell.asked:
            if self.meter.ask(key):
                self.meter.answered(input_tokens, output_tokens)

    def _run(self, program: dspy.Module, examples: Sequence[dspy.Example], identity: str, *, traced: bool) -> Any:
        return run_cells(
            program, examples, self.metric, identity=identity, lm=self.lm, workers=self._workers, traced=traced
        )
