"""How searches ran: events in their order, small; scores and outputs stay in the cells."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from . import schema
from .database import Store, as_json

__all__ = ["Event", "Search", "add_events", "begin_search", "events", "forget_searches", "searches"]

FINISHED = "finished"
"""The kind of a search's last event."""

_QUIET = 60.0  # seconds after which a search that says nothing may give way to the same one, begun again


@dataclass(frozen=True, slots=True)
class Search:
    """A search that has run or is running.

    Attributes:
        id: Of this run.
        task: Its name.
        task_hash: Of its examples, their split and the metric.
        lm: The LM's model.
        seed: Of the search.
        began: Seconds since 1970.
        updated: When its last event was stored.
        finished: Whether it came to its end.
    """

    id: str
    task: str
    task_hash: str
    lm: str
    seed: int
    began: float
    updated: float = 0.0
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: What: see `progspace.optimizers.stored_log`.
        value: JSON values.
    """

    kind: str
    value: Mapping[str, Any]


def begin_search(store: Store, *, task: str, task_hash: str, lm: str, seed: int) -> Search:
    """Takes down a search; earlier runs of the same give way, but for one that is still running.

    >>> from .database import open_store
    >>> with open_store(":memory:") as store:
    ...     search = begin_search(store, task="mood", task_hash="t", lm="rule/one", seed=0)
    ...     add_events(store, search.id, [Event("rung", {"name": "baseline"})], first=0)
    ...     [each.task for each in searches(store)], [event.value["name"] for event in events(store, search.id)]
    (['mood'], ['baseline'])
    """
    now = time.time()
    for old in searches(store):
        same = (old.task, old.task_hash, old.lm, old.seed) == (task, task_hash, lm, seed)
        if same and (old.finished or old.updated < now - _QUIET):
            _forget(store, old.id)
    begun = Search(uuid.uuid4().hex[:12], task, task_hash, lm, seed, now, now)
    store.run(
        "INSERT INTO searches (id, task, task_hash, lm, seed, began) VALUES (?, ?, ?, ?, ?, ?)",
        [(begun.id, task, task_hash, lm, seed, now)],
    )
    return begun


def add_events(store: Store, search: str, happened: Iterable[Event], *, first: int) -> None:
    """Stores events of a search; the first has that number."""
    now = time.time()
    rows = [(search, first + index, each.kind, as_json(each.value), now) for index, each in enumerate(happened)]
    if rows:
        store.run(
            "INSERT INTO search_events (search, number, kind, value, created) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            rows,
        )


def forget_searches(store: Store, before: float) -> None:
    """Deletes the searches that were heard of last before a time, in seconds since 1970."""
    for old in searches(store):
        if old.updated < before:
            _forget(store, old.id)


def _forget(store: Store, search: str) -> None:
    store.run("DELETE FROM search_events WHERE search = ?", [(search,)])
    store.run("DELETE FROM searches WHERE id = ?", [(search,)])


def searches(store: Store) -> list[Search]:
    """Gives all searches of a store, the one that was heard of last first."""
    table, told = schema.searches, schema.search_events
    last = (
        sa.select(
            told.c.search,
            sa.func.max(told.c.created).label("updated"),
            sa.func.max(sa.case((told.c.kind == FINISHED, 1), else_=0)).label("finished"),
        )
        .group_by(told.c.search)
        .subquery()
    )
    query = sa.select(table, last.c.updated, last.c.finished).outerjoin(last, last.c.search == table.c.id)
    found = [
        Search(
            row.id, row.task, row.task_hash, row.lm, row.seed, row.began, row.updated or row.began, bool(row.finished)
        )
        for row in store.read(query)
    ]
    return sorted(found, key=lambda each: (each.updated, each.began), reverse=True)


def events(store: Store, search: str) -> Sequence[Event]:
    """Gives the events of a search, in their order."""
    table = schema.search_events
    query = sa.select(table.c.kind, table.c.value).where(table.c.search == search).order_by(table.c.number)
    return [Event(row.kind, json.loads(row.value)) for row in store.read(query)]
