"""Several workers on one store: one asks, the others wait for its answer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.matrix import StoreAnswers
from progspace.lms.budget import Meter
from progspace.lms.journal import JournaledLM
from progspace.store.database import Store, open_store


def test_a_key_is_claimed_by_one_worker_at_a_time(where: str, store: Store) -> None:
    with open_store(where) as other:
        assert store.claims.take("k")
        assert not other.claims.take("k")
        assert not store.claims.take("k")  # another thread of the same worker
        assert other.claims.take("another")
        other.claims.give_back("k")  # it is not its own
        assert not other.claims.take("k")
        store.claims.give_back("k")
        assert other.claims.take("k")


def test_the_claim_of_a_dead_worker_is_taken_over_at_once(where: str, store: Store) -> None:
    script = (
        "import os, signal, sys\nfrom progspace.store.database import open_store\n"
        "store = open_store(sys.argv[1])\nassert store.claims.take('k')\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, where], check=False).returncode == -9
    assert store.claims.take("k")


def test_the_claim_of_a_worker_that_was_closed_before_it_could_end_it_is_taken_over_at_once(
    where: str, store: Store
) -> None:
    with open_store(where) as other:
        assert other.claims.take("k")
        assert not store.claims.take("k")
    assert store.claims.take("k")


def test_the_claim_of_a_machine_that_is_gone_runs_out(store: Store) -> None:
    store.run("INSERT INTO claims VALUES (?, ?, ?)", [("k", "elsewhere:1:x", time.time() + 1000)])
    assert not store.claims.take("k")
    store.run("UPDATE claims SET until = ?", [(time.time() - 1,)])
    assert store.claims.take("k")


def test_a_claim_is_renewed_while_its_worker_lives(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("progspace.store.claims._BEAT", 0.05)
    assert store.claims.take("k")
    (before,) = store.read(_until())
    for _ in range(200):
        time.sleep(0.05)
        (now,) = store.read(_until())
        if now[0] > before[0]:
            return
    pytest.fail("it is not renewed")


def test_a_store_that_is_closed_at_once_waits_for_no_renewal(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("progspace.store.claims._BEAT", 3600)
    for key in map(str, range(30)):
        assert store.claims.take(key)
        closing = threading.Thread(target=store.claims.close, daemon=True)
        closing.start()
        closing.join(60)
        assert not closing.is_alive()


def _until() -> Any:
    import sqlalchemy as sa

    return sa.text("SELECT until FROM claims")


def test_two_workers_buy_an_answer_once(where: str, rule_engine: Any) -> None:
    asked, both = [], threading.Barrier(2, timeout=10)

    def rule(prompt: str) -> str:
        asked.append(prompt)
        time.sleep(0.3)
        return f"answer {len(asked)}"

    def work(_: int) -> Any:
        with open_store(where) as store:
            lm = JournaledLM(rule_engine(rule).lm(), Meter(), StoreAnswers(store))
            both.wait()
            return lm("2 + 2?")

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, range(2)))
    assert len(asked) == 1
    assert found[0] == found[1]


def test_tasks_of_one_worker_buy_an_answer_once(store: Store, rule_engine: Any) -> None:
    engine = rule_engine(lambda prompt: "four")
    lm = JournaledLM(engine.lm(), Meter(), StoreAnswers(store))

    async def work() -> list[Any]:
        return await asyncio.gather(*(lm.acall("2 + 2?") for _ in range(8)))

    assert len({str(each) for each in asyncio.run(work())}) == 1
    assert len(engine.prompts) == 1


def test_a_worker_that_fails_leaves_the_question_to_the_next(where: str, rule_engine: Any) -> None:
    def fails(prompt: str) -> str:
        raise RuntimeError("no")

    with open_store(where) as store, open_store(where) as other:
        with pytest.raises(Exception, match="no"):
            JournaledLM(rule_engine(fails).lm(), Meter(), StoreAnswers(store))("2 + 2?")
        lm = JournaledLM(rule_engine(lambda prompt: "four").lm(), Meter(), StoreAnswers(other))
        answer = lm("2 + 2?")
        assert "four" in str(answer)
        assert other.read(_until()) == []


def test_a_free_lm_claims_nothing(store: Store, rule_engine: Any) -> None:
    class Free(rule_engine):  # type: ignore[misc]
        price = ps.Price(0.0, 0.0)

    lm = JournaledLM(Free(lambda prompt: "four").lm(), Meter(), StoreAnswers(store))
    taken: list[str] = []
    store.claims.take = lambda key: bool(taken.append(key))  # type: ignore[method-assign]
    assert "four" in str(lm("2 + 2?"))
    assert taken == []


def test_dspy_programs_run_through_it(store: Store, rule_engine: Any) -> None:
    lm = JournaledLM(rule_engine(lambda prompt: "[[ ## answer ## ]]\nfour").lm(), Meter(), StoreAnswers(store))
    with dspy.context(lm=lm):
        assert dspy.Predict("question -> answer")(question="2 + 2?").answer == "four"
