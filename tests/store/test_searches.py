"""How searches ran, on SQLite and on PostgreSQL."""

from __future__ import annotations

import time

from progspace.store.database import Store
from progspace.store.searches import Event, Search, add_events, begin_search, events, searches
from progspace.store.upkeep import collect


def begun(store: Store, seed: int = 0) -> Search:
    return begin_search(store, task="mood", task_hash="t", lm="rule/one", seed=seed)


def test_a_search_that_is_run_again_replaces_what_ended_and_nothing_else(store: Store) -> None:
    first, other = begun(store), begun(store, seed=1)
    add_events(store, first.id, [Event("rung", {"name": "half a character \ud800, a NUL \0"})], first=0)
    running = begun(store)  # the first one may still be running elsewhere
    assert {each.id for each in searches(store)} == {first.id, other.id, running.id}
    assert [dict(each.value) for each in events(store, first.id)] == [{"name": "half a character \ud800, a NUL \0"}]
    add_events(store, first.id, [Event("finished", {})], first=1)
    assert [each.finished for each in searches(store) if each.id == first.id] == [True]
    last = begun(store)
    assert {each.id for each in searches(store)} == {other.id, running.id, last.id}
    assert list(events(store, first.id)) == []


def test_old_searches_go_with_old_cells(store: Store) -> None:
    old, new = begun(store), begun(store, seed=1)
    for search in (old, new):
        add_events(store, search.id, [Event("rung", {"name": "baseline"})], first=0)
    store.run("UPDATE search_events SET created = ? WHERE search = ?", [(time.time() - 1000, old.id)])
    collect(store, older_than=500)
    assert [each.id for each in searches(store)] == [new.id]
    assert list(events(store, old.id)) == []
