"""Searches that are killed (``kill -9``) at random moments and begun again, on SQLite and on PostgreSQL.

    python -m progspace.benchmarks.kills
    python -m progspace.benchmarks.kills --postgres postgresql+psycopg://me@/scratch

A server of ours on loopback answers by a rule and keeps what it was asked. A search is killed and begun again until it
ends, then another one follows with a store of its own, until there were so many kills. An answer that was under way
when its search was killed has to be asked for again, nothing else may be; so ``asked_twice`` must not exceed
``under_way``, no answer that was stored may be missing later, and each search must end with the winner of one that
nobody killed. The database that is given is emptied after each search.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import progspace as ps

from ..programs import sentiment
from ..store import schema
from ..store.database import Store, open_store
from .fault_server import KEY, Server, serving, text_of
from .results import write_results

CALLS = 600
SECONDS = 0.02  # that the server takes
_LONGEST = 15.0  # seconds until a kill: what is known is searched through again, which takes some itself
_GIVEN_UP = 120.0
_NEW = multiprocessing.get_context("spawn")


def main() -> None:
    """Runs it and writes ``results/kills.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--postgres", help="the URL of an empty database, beside SQLite")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(10**9))
        stores: dict[str, Callable[[], str]] = {"sqlite": lambda: str(Path(folder, f"{next(numbers)}.db"))}
        if arguments.postgres:
            stores["postgresql"] = lambda: str(arguments.postgres)
        for name, new in stores.items():
            line = run(name, new, arguments.kills, arguments.seed, Path(folder, "winner.json"))
            print(json.dumps(line, indent=2), flush=True)
            lines.append(line)
    write_results("kills", lines)


def run(name: str, new: Callable[[], str], kills: int, seed: int, out: Path) -> dict[str, Any]:
    """Kills searches on one kind of store; gives what was counted."""
    drawn = random.Random(seed)  # noqa: S311 — reproducible, not secret
    with serving(answer=Rule(), seconds=SECONDS) as server:
        wanted, alone = next(_search(server, new(), seed, out, lambda: None))["winner"], _asked(server)
        told: dict[str, Any] = {
            "task": "sentiment", "optimizer": "progspace", "budget": CALLS, "seed": seed, "store": name,
            "requests_unkilled": len(server.bodies), "asked_twice_unkilled": len(server.bodies) - len(alone),
            "kills": 0, "searches": 0, "requests": 0, "asked_twice": 0, "under_way": 0, "lost": 0, "other_winners": 0,
        }  # fmt: skip
        started = time.monotonic()
        while told["kills"] < kills:
            server.bodies.clear()
            print(f"{name}: {json.dumps(told)}", file=sys.stderr, flush=True)  # what was counted, should it be stopped
            for event in _search(server, new(), seed, out, lambda: drawn.uniform(0.1, _LONGEST)):
                told["kills"] += "winner" not in event
                told["under_way"] += event.get("under_way", 0)
                told["lost"] += event.get("lost", 0)
                told["other_winners"] += event.get("winner", wanted) != wanted
            told["searches"] += 1
            told["requests"] += len(server.bodies)
            told["asked_twice"] += len(server.bodies) - len(_asked(server))
        return {**told, "seconds": round(time.monotonic() - started, 1)}


def _search(
    server: Server, store: str, seed: int, out: Path, until: Callable[[], float | None]
) -> Iterator[dict[str, Any]]:
    """Runs one search to its end, killed on the way; tells of each kill, and of the winner."""
    out.unlink(missing_ok=True)
    stored: set[str] = set()
    while not out.exists():
        begun = _NEW.Event()
        # Daemons end with this process, should it be stopped.
        child = _NEW.Process(target=_compile, args=(server.url, store, seed, str(out), begun), daemon=True)
        child.start()
        begun.wait(_GIVEN_UP)
        child.join(until() or _GIVEN_UP)
        if child.is_alive():
            os.kill(child.pid or 0, signal.SIGKILL)
            child.join()
            _quiet(server)
        elif child.exitcode:
            raise SystemExit(f"the search itself failed with status {child.exitcode}")
        if not out.exists():
            with open_store(store) as opened:
                now = _keys(opened)
            yield {"under_way": len(_asked(server)) - len(now), "lost": len(stored - now)}
            stored = now
    with open_store(store) as opened:
        lost = len(stored - _keys(opened))
        if opened.dialect == "postgresql":
            opened.run("DROP SCHEMA public CASCADE")
            opened.run("CREATE SCHEMA public")
    yield {"winner": json.loads(out.read_text(encoding="utf-8")), "lost": lost}


def _compile(url: str, store: str, seed: int, out: str, begun: Event) -> None:
    task, compile_task = sentiment.task(seed=seed), ps.compile
    lm = ps.lm("openai/rule", base_url=url, api_key=KEY, concurrency=16)
    begun.set()  # what takes seconds is imported
    compiled = compile_task(task, lm=lm, budget=ps.Budget(calls=CALLS), store=store, seed=seed)
    winner = [compiled.candidate.hash, [(rung.choice, rung.dev.score, rung.calls) for rung in compiled.report.rungs]]
    draft = Path(f"{out}.part")
    draft.write_text(json.dumps(winner), encoding="utf-8")
    draft.replace(out)


def _keys(store: Store) -> set[str]:
    return {row.key for row in store.read(sa.select(schema.answers.c.key))}


def _asked(server: Server) -> set[str]:
    with server.lock:
        return {json.dumps(body, sort_keys=True) for body in server.bodies}


def _quiet(server: Server) -> None:
    """Waits until the server has answered all that the dead have asked."""
    while server.under_way:
        time.sleep(0.01)


class Rule:
    """Answers a review: rightly more often, the more examples are shown; the same prompt always the same."""

    def __init__(self) -> None:
        task = sentiment.task()
        self._labels = {row.review: row.sentiment for row in (*task.train, *task.dev, *task.unseal_test("the rule"))}

    def __call__(self, body: Mapping[str, Any]) -> str:
        """Answers a request's body."""
        prompt = "\n".join(text_of(message) for message in body["messages"])
        asked = prompt[-1500:]
        found = [(asked.rfind(review), label) for review, label in self._labels.items() if review in asked]
        if not found:
            return "Say whether the reviewer liked it."  # an instruction was asked for
        right = max(found)[1]
        shown = min(4, sum(prompt.count(review) for review in self._labels) - 1)
        drawn = hashlib.sha256(json.dumps(body["messages"]).encode()).digest()[0] / 256
        label = right if drawn < 0.6 + 0.08 * shown else {"positive": "negative", "negative": "positive"}[right]
        if "[[ ## sentiment ## ]]" in prompt:
            return f"[[ ## sentiment ## ]]\n{label}\n\n[[ ## completed ## ]]"
        return json.dumps({"sentiment": label}) if "JSON" in prompt else label


if __name__ == "__main__":
    main()
