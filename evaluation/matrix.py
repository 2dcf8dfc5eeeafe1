"""The matrix of programs × examples: a cell is bought once, and everything is read from it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dspy

from ..lms.answers import Answers, StoredAnswer
from ..lms.batch import Batches
from ..lms.budget import Meter, check_priced
from ..lms.factory import check_lm
from ..lms.identity import lm_identity
from ..lms.journal import JournaledLM
from ..programs.copying import copied
from ..programs.examples import example_hash
from ..programs.metrics import OFFLINE, JudgeMetric, metric_identity
from ..programs.program import Program
from ..programs.structure_hash import all_predictors
from ..programs.task import Task
from ..store.database import Store
from ..store.records import Answer, Cell
from .batches import run_waves
from .executor import Executor, Threads
from .identity import program_identity
from .repeats import mean_cell
from .runner import Run, Scoring, Work, run_cells
from .sharing import share_limits

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

    def claim(self, key: str) -> bool:
        """Claims a key; False where another worker on the store asks for it."""
        return self._store.claims.take(key)

    def give_back(self, key: str) -> None:
        """Ends a claim."""
        self._store.claims.give_back(key)


class Matrix:
    """Cells of many programs on the examples of one task.

    Args:
        store: Remembers cells and answers.
        metric: Scores outputs. One that asks an LM is served by its own, or by that of ``dspy.settings`` where the
            caller has set one, or by ``lm``; whichever it is, its calls are counted too.
        lm: Answers; it is asked through a journal, so that the same prompt is never bought twice.
        meter: Counts what is bought.
        workers: How many examples run at a time, None for as many as the LM takes well; or what runs them.
        on_cells: Is told how many cells are now filled, each time that some are.
        batches: Ask the LM, within a day and at half the price; None to ask it at once.
        scored_by: Identity of the metric, as the task knows it; None to find it.
        given: Tells which inputs a program is given, where those are other than what it takes of the examples' fields.
    """

    def __init__(
        self,
        store: Store,
        metric: Callable[..., Any],
        lm: dspy.BaseLM,
        meter: Meter,
        *,
        workers: int | Executor | None = None,
        on_cells: Callable[[int], None] | None = None,
        batches: Batches | None = None,
        scored_by: str | None = None,
        given: Callable[[dspy.Module], Sequence[str] | None] | None = None,
    ) -> None:
        self.metric, self.meter = metric, meter
        self._scored_by = scored_by or metric_identity(metric)  # once: a metric may count, or remember, its calls
        self._given = given
        self._store = store
        self.lm = self.journaled(lm)
        self._executor = Threads(workers) if workers is None or isinstance(workers, int) else workers
        self._batches = batches
        self._on_cells = on_cells or (lambda _: None)
        self._in_turn = False

    @classmethod
    def of(cls, task: Task, store: Store, lm: dspy.BaseLM, meter: Meter, **how: Any) -> Matrix:
        """Makes the matrix of a task, scored by its metric as that was when the task was made."""
        return cls(store, task.metric, lm, meter, scored_by=task.metric_identity, given=task.given, **how)

    @property
    def concurrency(self) -> int:
        """How many cells it runs at a time: as many as it runs well, or one `in_turn`."""
        return 1 if self._in_turn else self._executor.concurrency(self.lm)

    @contextmanager
    def in_turn(self) -> Iterator[bool]:
        """Has cells run one after the other: which of them a budget holds then hangs on their order alone."""
        self._in_turn = True
        try:
            yield True
        finally:
            self._in_turn = False

    def fill(self, program: dspy.Module, examples: Sequence[dspy.Example], *, repeats: int = 1) -> list[Cell]:
        """Gives the program's cells on the examples, in their order; buys and stores those that are not known.

        Where the LM failed on some in a way that may pass, they are tried once more at the end.

        Args:
            program: Any module.
            examples: With inputs set.
            repeats: How often each example is run: for programs that answer differently each time. Each repeat is a
                cell of its own in the store; what is given is one cell an example, of means: see
                `progspace.evaluation.repeats.mean_cell`.

        Raises:
            BudgetExceeded: Nothing is left to buy one; those that were bought are stored.
            MetricError: The metric raised.
        """
        identity = self.identity(program)
        metered, scoring = self._metered(program), self._scoring()
        hashes = [example_hash(example) for example in examples]
        runs = [self._fill(metered, identity, scoring, examples, hashes, repeat) for repeat in range(repeats)]
        return runs[0] if repeats == 1 else [mean_cell(cells) for cells in zip(*runs, strict=True)]

    def identity(self, program: dspy.Module) -> str:
        """Under which name a program's cells stand in the store."""
        identity = program_identity(program, self.lm)
        given = self._given(program) if self._given is not None else None
        if given is None:  # as nearly always: cells of older releases, which did not ask, stay known
            return identity
        return hashlib.sha256(json.dumps([identity, sorted(given)]).encode()).hexdigest()[: len(identity)]

    @property
    def metric_identity(self) -> str:
        """Under which name of the metric they do."""
        return self._scoring().identity

    def _fill(
        self,
        program: dspy.Module,
        identity: str,
        scoring: Scoring,
        examples: Sequence[dspy.Example],
        hashes: Sequence[str],
        repeat: int,
    ) -> list[Cell]:
        known = self._store.cells(identity, scoring.identity, hashes, repeat)
        for cell in known.values():
            self._recall(cell)
        self._on_cells(len(known))
        missing = {key: example for key, example in zip(hashes, examples, strict=True) if key not in known}
        again: dict[str, dspy.Example] = {}
        for run in self._bought(program, identity, scoring, list(missing.values()), repeat):
            known[run.cell.example] = run.cell
            if run.transient:
                again[run.cell.example] = missing[run.cell.example]
        if len(again) < len(missing):  # an LM that never answers is not asked twice
            for run in self._bought(program, identity, scoring, list(again.values()), repeat, counted=False):
                known[run.cell.example] = run.cell
        return [known[key] for key in hashes]

    def _bought(
        self,
        program: dspy.Module,
        identity: str,
        scoring: Scoring,
        examples: Sequence[dspy.Example],
        repeat: int,
        *,
        counted: bool = True,
    ) -> Iterator[Run]:
        """Buys cells, and stores them."""
        fresh: list[Cell] = []
        stored = time.monotonic()
        try:
            for runs in self._run(program, examples, scoring, identity, repeat=repeat):
                fresh += [run.cell for run in runs]
                if counted:
                    self._on_cells(len(runs))
                # The answers are stored already, so a cell may wait for others: to lose it costs no call.
                if time.monotonic() - stored > _STORE_EVERY:
                    self._store.put_cells(fresh)
                    fresh, stored = [], time.monotonic()
                yield from runs
        finally:
            self._store.put_cells(fresh)

    def traces(self, program: dspy.Module, examples: Sequence[dspy.Example]) -> dict[str, Run]:
        """Runs a program anew, with DSPy's traces, by the example's hash; prompts that were answered cost nothing.

        In the traces a predictor stands by its name.
        """
        runs = self._run(self._metered(program), examples, self._scoring(), self.identity(program), traced=True)
        return {run.cell.example: run for ended in runs for run in ended}

    def runs(
        self, program: dspy.Module, examples: Sequence[dspy.Example], *, identity: str, repeat: int = 0
    ) -> Iterator[Run]:
        """Runs a program anew and scores it; nothing but the answers is stored.

        Args:
            program: Any module.
            examples: With inputs set.
            identity: Stands in the cells.
            repeat: Another one has answers of its own, the metric's too.
        """
        for ended in self._run(self._metered(program), examples, self._scoring(), identity, repeat=repeat):
            yield from ended

    def _metered(self, program: dspy.Module) -> dspy.Module:
        """Gives a program whose own LMs, where it, programs in it or predictors have any, are metered and journaled."""
        programs = list(program.named_sub_modules(Program))
        owns = [each.own_lm for _, each in programs] + [each.lm for _, each in all_predictors(program)]
        if all(own is None for own in owns):
            return program
        metered = copied(program)
        for (_, each), (_, original) in zip(list(metered.named_sub_modules(Program)), programs, strict=True):
            if original.own_lm is not None:
                each.own_lm = self.journaled(original.own_lm)
        pairs = zip(all_predictors(metered), all_predictors(program), strict=True)
        for (_, predictor), (_, original) in pairs:
            if original.lm is not None:
                predictor.lm = self.journaled(original.lm)
        return metered

    def journaled(self, lm: dspy.BaseLM) -> JournaledLM:
        """Gives an LM that is counted by this matrix's meter, and whose answers are remembered.

        Raises:
            LMError: It is no LM.
            BudgetExceeded: Money is limited, and its price is not known.
        """
        check_lm(lm)
        check_priced(self.meter.budget, lm)
        if isinstance(lm, JournaledLM) and lm.meter is self.meter:
            return lm
        lm = lm.lm if isinstance(lm, JournaledLM) else lm
        share_limits(lm, self._store)
        return JournaledLM(lm, self.meter, StoreAnswers(self._store))

    def _recall(self, cell: Cell) -> None:
        """Counts what a known cell asked, as though it were asked now: a search that goes on keeps to the same plan."""
        for key, input_tokens, output_tokens, *paid in cell.asked:
            self.meter.ask(key)
            usd = paid[0] if paid else self.lm.worth(input_tokens, output_tokens)
            self.meter.answered(key, input_tokens, output_tokens, usd)

    def _scoring(self) -> Scoring:
        """How outputs are scored now: by which metric, and by which LM where it asks one and brings none."""
        metric, lm, identity = self.metric, None, self._scored_by
        if isinstance(metric, OFFLINE):
            return Scoring(metric, identity)
        if isinstance(metric, JudgeMetric):
            own = None if metric.lm is None else self.journaled(metric.lm)
            metric = replace(metric, program=self._metered(metric.program), lm=own)
        configured = dspy.settings.lm
        if isinstance(configured, dspy.BaseLM) and lm_identity(configured) != lm_identity(self.lm):
            # The cells that another LM judged are not these.
            lm = self.journaled(configured)
            told = json.dumps(lm_identity(configured), sort_keys=True)
            identity += f"+{hashlib.sha256(told.encode()).hexdigest()[:12]}"
        return Scoring(metric, identity, lm)

    def _run(
        self,
        program: dspy.Module,
        examples: Sequence[dspy.Example],
        scoring: Scoring,
        identity: str,
        *,
        traced: bool = False,
        repeat: int = 0,
    ) -> Iterator[list[Run]]:
        work = Work(program, scoring, identity, self.lm, traced, repeat)
        if self._batches is not None:
            return run_waves(work, examples, self._batches, self.meter)
        return run_cells(self._executor.place(work), examples, lambda: self.concurrency)
