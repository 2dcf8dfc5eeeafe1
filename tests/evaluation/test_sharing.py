"""One allowance for all processes that use a store."""

from __future__ import annotations

import json
import multiprocessing
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.benchmarks.fault_server import KEY, Limits, serving
from progspace.evaluation.matrix import Matrix
from progspace.evaluation.sharing import SharedLedger
from progspace.lms.allowance import Allowance, Mark
from progspace.lms.budget import Meter
from progspace.store.database import Store, open_store


def evaluate(url: str, path: Path, start: int, ready: Any, told: Any) -> None:
    """Evaluates 60 rows; tells of each request's leave its place in the line, its wait, and the limit then known."""
    leaves, take = [], Allowance.take

    def noted(self: Allowance, tokens: float, now: float) -> Mark:
        wait, limit = self.wait(tokens, now), self.requests.limit
        mark = take(self, tokens, now)
        leaves.append((mark.requests, wait, limit))
        return mark

    Allowance.take = noted
    rows = [dspy.Example(q=f"{start + i}", a="x").with_inputs("q") for i in range(60)]
    with open_store(path) as store:
        matrix = Matrix(store, ps.metrics.exact_match("a"), ps.lm("openai/tiny", base_url=url, api_key=KEY), Meter())
        ready.wait(timeout=120)
        cells = matrix.fill(dspy.Predict("q -> a"), rows)
    told.put((leaves, [cell.error for cell in cells if cell.error]))


def test_two_processes_ask_no_more_than_is_granted_to_both(tmp_path: Path) -> None:
    """How many are refused hangs on when they arrive. Promised is one line, in which each waits for its turn."""
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    open_store(tmp_path / "store.db").close()  # two that make the same new file at once are not what is tried here
    limits = Limits(requests=20, tokens=1e9, window=2.0)
    with serving(answer=lambda _: "[[ ## a ## ]]\nx", limits=limits, seconds=0.05) as server:
        ready = context.Barrier(2)
        work = [
            context.Process(target=evaluate, args=(server.url, tmp_path / "store.db", 1000 * i, ready, told))
            for i in range(2)
        ]
        for each in work:
            each.start()
        done = [told.get(timeout=120) for _ in work]
        for each in work:
            each.join()
        with urllib.request.urlopen(server.url) as response:  # noqa: S310 — our own server
            statuses = [status for _, status, _ in json.load(response)["log"]]
    assert [each.exitcode for each in work] == [0, 0]
    assert statuses.count(200) == 120
    assert [errors for _, errors in done] == [[], []]
    leaves = sorted(leave for taken, _ in done for leave in taken)
    assert [place for place, _, _ in leaves] == list(range(1, len(statuses) + 1))
    assert {wait for _, wait, _ in leaves} == {0.0}
    # Nothing is known of the limit before the first answers.
    assert {limit for _, _, limit in leaves[40:]} == {20.0}


def test_no_two_have_the_same_place(store: Store) -> None:
    def places(name: int) -> list[float]:
        ledger, taken = SharedLedger(store.url, "here"), []
        for _ in range(150):
            with ledger.open() as allowance:
                taken.append(allowance.take(1, now=0.0).requests)
        return taken

    with ThreadPoolExecutor(3) as threads:
        assert sorted(chain(*threads.map(places, range(3)))) == list(range(1, 451))


def test_what_one_has_learnt_the_other_knows(store: Store) -> None:
    one, other = SharedLedger(store.url, "here"), SharedLedger(store.url, "here")
    with one.open() as allowance:
        mark = allowance.take(10, now=0.0)
        headers = {"limit": "10", "remaining": "0", "reset": "10s"}
        allowance.told({f"x-ratelimit-{word}-requests": value for word, value in headers.items()}, mark, now=0.0)
    with other.open() as allowance:
        assert allowance.wait(10, now=0.0) > 0.5
    with SharedLedger(store.url, "there").open() as allowance:
        assert allowance.wait(10, now=0.0) == 0.0


@pytest.mark.parametrize("state", ["", "{", '{"requests": 3}', '{"requests": {"limit": "much"}}'])
def test_a_state_that_cannot_be_read_is_learnt_anew(store: Store, state: str) -> None:
    import sqlalchemy as sa

    with SharedLedger(store.url, "here").open() as allowance:
        allowance.take(1, now=0.0)
    with sa.create_engine(store.url).begin() as connection:
        connection.execute(sa.text("UPDATE limits SET state = :state"), {"state": state})
    with SharedLedger(store.url, "here").open() as allowance:
        assert allowance.wait(1, now=0.0) == 0.0


def test_no_answer_is_lost_for_the_sake_of_a_limit(tmp_path: Path) -> None:
    ledger = SharedLedger(f"sqlite:///{tmp_path}/missing/store.db", "here")
    for _ in range(2):
        with ledger.open() as allowance:
            allowance.take(1, now=0.0)
    assert allowance.requests.taken == 2
