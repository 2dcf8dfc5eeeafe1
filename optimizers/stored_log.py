"""How a search runs, as events for its report and for who watches: small, and without a score that a cell holds.

=============  =========================================================================================================
kind           value
=============  =========================================================================================================
``begun``      what is searched: LM, budget, metric's identity, examples of dev in the race's order (never the test's)
``rung``       a rung begins, after so many calls
``joined``     a candidate: number, proposer, rung, what is chosen, its prompts
``bought``     after so many calls: of each candidate its number, the identity of its program, how many examples, fresh
``dropped``    a candidate was given up, after so many calls, and why
``climbed``    a rung is over: its best, whether it is kept, what it spent
``finished``   the findings, what each rung cost in US dollars, the winner and the Pareto front
=============  =========================================================================================================
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dspy

from ..artifacts.artifact import Provenance
from ..evaluation.findings import Findings
from ..evaluation.matrix import Matrix
from ..programs.examples import example_hash
from ..programs.prompt_text import prompt_texts
from ..programs.task import Task
from ..store.database import Store
from ..store.records import Cell
from ..store.searches import Event, Search, add_events, begin_search
from .rung import Rung
from .search_log import SearchLog
from .standing import Standing

__all__ = ["StoredLog"]


class StoredLog(SearchLog):
    """Writes a search down in its store; threads may tell it things.

    Args:
        store: Where.
        matrix: Knows what was spent, and under which names cells stand in the store.
        task: What is searched.
        lm: Its model.
        seed: Of the search.
        raced: Dev examples that races look at, in their order.
        fresh: The others.
        repeats: Of each cell.
    """

    def __init__(
        self,
        store: Store,
        matrix: Matrix,
        task: Task,
        *,
        lm: str,
        seed: int,
        raced: Sequence[dspy.Example],
        fresh: Sequence[dspy.Example],
        repeats: int,
    ) -> None:
        self._store, self._matrix = store, matrix
        self._lock = threading.Lock()
        self._pending: list[Event] = []
        self._steps: list[dict[str, Any]] = []
        self._number, self._rung = 0, ""
        self.search: Search = begin_search(store, task=task.name, task_hash=task.identity, lm=lm, seed=seed)
        self._tell(
            "begun",
            budget=asdict(matrix.meter.budget),
            metric=matrix.metric_identity,
            repeats=repeats,
            raced=len(raced),
            sizes={"train": len(task.train), "dev": len(raced) + len(fresh), "test": task.test_size},
            examples=[_example(each) for each in (*raced, *fresh)],
        )
        self.flush()

    def rung(self, name: str) -> None:
        """A rung begins."""
        self._rung = name
        self._tell("rung", name=name)
        self.flush()

    def joined(self, standing: Standing, program: dspy.Module) -> None:  # noqa: D102
        self._tell(
            "joined",
            candidate=standing.order,
            origin=standing.candidate.origin,
            proposer=standing.proposer,
            rung=self._rung,
            prompts=prompt_texts(program),
        )

    def bought(self, standing: Standing, cells: Sequence[Cell], *, fresh: bool = False) -> None:  # noqa: D102
        if not cells:
            return
        # As the last of them stand in the store: a program whose state changes as it runs is another one by now.
        step = {
            "candidate": standing.order,
            "program": cells[-1].program,
            "examples": len(cells),
            "fresh": fresh,
        }
        with self._lock:
            self._steps.append(step)

    def dropped(self, standing: Standing, reason: str) -> None:  # noqa: D102
        self._tell("dropped", candidate=standing.order, reason=reason)

    def climbed(self, rung: Rung) -> None:
        """A rung is over."""
        self.flush()
        self._tell(
            "climbed",
            rung=rung.name,
            candidate=rung.best.order,
            kept=rung.kept,
            shrunken=rung.shrunken,
            reason=rung.verdict.reason if rung.verdict else "",
            stopped=rung.stopped,
            spent=asdict(rung.spent),
        )
        self.flush()

    def finished(self, findings: Findings, provenance: Provenance, winner: int, front: Iterable[int]) -> None:
        """The report stands."""
        self.flush()
        self._tell(
            "finished",
            findings=findings.to_dict(),
            provenance=provenance.model_dump(mode="json"),
            winner=winner,
            front=list(front),
        )
        self.flush()

    def flush(self) -> None:
        """Stores what was told so far."""
        with self._lock:
            steps, self._steps = sorted(self._steps, key=lambda each: each["candidate"]), []
        if steps:
            self._tell("bought", steps=steps)
        with self._lock:
            pending, self._pending = self._pending, []
            first, self._number = self._number, self._number + len(pending)
        add_events(self._store, self.search.id, pending, first=first)

    def _tell(self, kind: str, **value: Any) -> None:
        spent = self._matrix.meter.spent
        told = {**value, "calls": spent.calls, "seconds": round(spent.seconds, 3), "usd": spent.usd}
        with self._lock:
            self._pending.append(Event(kind, told))


def _example(example: dspy.Example) -> Mapping[str, Any]:
    inputs, labels = (
        {name: str(value) for name, value in part.items()} for part in (example.inputs(), example.labels())
    )
    return {"hash": example_hash(example), "inputs": inputs, "labels": labels}
