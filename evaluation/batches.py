"""Runs a program on examples by batches: all that it asks first, then all that it asks next, …"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dspy
import sqlalchemy as sa

from ..errors import BudgetExceeded, ProgramError
from ..lms.batch import Batches, BatchLog, BatchRecord
from ..lms.budget import Meter
from ..lms.waves import Wanted, collecting
from ..store import schema
from ..store.database import Store
from .runner import Run, Work

__all__ = ["StoreBatches", "run_waves"]

_MOST_WAVES = 50
_PAUSE = 0.2  # seconds
_PUT = (
    "INSERT INTO batches (input_file, endpoint, id, requests, created) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (input_file) DO UPDATE SET id = excluded.id, requests = excluded.requests"
)


class StoreBatches(BatchLog):
    """Remembers batches in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, endpoint: str) -> list[BatchRecord]:
        """Gives those of an endpoint, the oldest first."""
        table = schema.batches
        rows = self._store.read(sa.select(table).where(table.c.endpoint == endpoint).order_by(table.c.created))
        return [BatchRecord(row.endpoint, row.input_file, frozenset(json.loads(row.requests)), row.id) for row in rows]

    def put(self, record: BatchRecord) -> None:
        """Remembers one."""
        requests = json.dumps(sorted(record.requests))
        self._store.run(_PUT, [(record.input_file, record.endpoint, record.id, requests, time.time())])

    @contextmanager
    def alone(self, endpoint: str) -> Iterator[None]:
        """Lets nobody else on the store begin batches at the endpoint meanwhile."""
        key = f"batches of {endpoint}"
        while not self._store.claims.take(key):
            time.sleep(_PAUSE)
        try:
            yield
        finally:
            self._store.claims.give_back(key)


def run_waves(work: Work, examples: Sequence[dspy.Example], batches: Batches, meter: Meter) -> Iterator[list[Run]]:
    """Runs a program on examples as `progspace.evaluation.runner.run_cells` does; gives runs as waves of them end.

    A run's seconds are those of the program itself, for whom the answers were there already.

    Raises:
        BudgetExceeded: A wave has more calls than are left; nothing of it was sent.
        LMError: The endpoint refused a batch, or did not answer for long.
        MetricError: The metric raised.
        ProgramError: The program asks something else each time that it is run.
    """
    wave, waiting = batches.wave(), list(examples)
    for _ in range(_MOST_WAVES):
        ended: list[Run] = []
        held: list[dspy.Example] = []
        with collecting(wave):
            for example in waiting:
                try:
                    run = work.run(example)
                except Wanted:
                    held.append(example)
                else:
                    ended.append(run)
        if ended:
            yield ended
        if not held:
            return
        left = meter.calls_left
        if left is not None and len(wave.wanted) > left:
            raise BudgetExceeded(f"{left:,} calls are left, and the next batch would be {len(wave.wanted):,}")
        batches.answer(wave)
        waiting = held
    raise ProgramError(
        f"{len(waiting)} examples still ask after {_MOST_WAVES} batches: does the program ask something else each time?"
    )
