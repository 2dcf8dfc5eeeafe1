"""One allowance for all processes that use a store."""

from __future__ import annotations

import json
import multiprocessing
import urllib.request
from pathlib import Path
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.benchmarks.fault_server import KEY, Limits, serving
from progspace.evaluation.matrix import Matrix
from progspace.evaluation.sharing import SharedLedger
from progspace.lms.budget import Meter
from progspace.store.database import Store, open_store


def evaluate(url: str, path: Path, start: int, ready: Any) -> None:
    rows = [dspy.Example(q=f"{start + i}", a="x").with_inputs("q") for i in range(60)]
    with open_store(path) as store:
        matrix = Matrix(store, ps.metrics.exact_match("a"), ps.lm("openai/tiny", base_url=url, api_key=KEY), Meter())
        ready.wait(timeout=120)
        cells = matrix.fill(dspy.Predict("q -> a"), rows)
    assert not [cell.error for cell in cells if cell.error]


def test_two_processes_ask_no_more_than_is_granted_to_both(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    open_store(tmp_path / "store.db").close()  # two that make the same new file at once are not what is tried here
    limits = Limits(requests=20, tokens=1e9, window=2.0)
    with serving(answer=lambda _: "[[ ## a ## ]]\nx", limits=limits, seconds=0.05) as server:
        ready = context.Barrier(2)
        work = [
            context.Process(target=evaluate, args=(server.url, tmp_path / "store.db", 1000 * i, ready))
            for i in range(2)
        ]
        for each in work:
            each.start()
        for each in work:
            each.join()
        with urllib.request.urlopen(server.url) as response:  # noqa: S310 — our own server
            statuses = [status for _, status, _ in json.load(response)["log"]]
    assert [each.exitcode for each in work] == [0, 0]
    assert statuses.count(200) == 120
    # Nothing is known of the limit before the first answers; then nothing is refused.
    assert statuses[40:].count(429) <= 4


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
