"""How much of an endpoint's limit is used, and what its faults do to scores: progspace beside ``dspy.Evaluate``.

    python -m progspace.benchmarks.faults

A server of ours on loopback, in a process of its own, grants 600 requests and 100,000 tokens a minute: buckets that
hold ten seconds' worth and fill again, told by headers as OpenAI does. It takes 0.3 s an answer. Both harnesses
evaluate the same program on the same rows, first without faults, then with one of 14 faults in 20 % of the requests
that are let through: progspace with ``ps.lm``, in one process and in two that share a store, ``dspy.Evaluate`` with
eight threads and a stock ``dspy.LM``, all with a timeout of five seconds. What is used of the limit, and the share of
refusals (429, injected ones left out), are those of the first minute, in which there is always more to ask. The right
answer is known of every row: a cell differs where it is not that answer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import multiprocessing
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dspy

import progspace as ps

from ..evaluation.matrix import Matrix
from ..lms.budget import Meter
from ..programs.sentiment import Sentiment
from ..store.database import open_store
from .fault_server import KEY, Limits, serving, sometimes, text_of
from .overhead import examples
from .results import write_results

THREADS = 8
SHARE = 0.2
TIMEOUT = 5.0
REQUESTS, TOKENS, WINDOW = 100, 100_000 / 6, 10.0
_HOLDS = 60.0  # seconds that are measured
_SETTLED = 10.0


def labelled(text: str) -> str:
    """Gives the one right answer to a text."""
    return ("positive", "negative")[hashlib.sha256(text.encode()).digest()[0] % 2]


def answer(body: Mapping[str, Any]) -> str:
    """Answers in DSPy's chat format, by what stands between its marks."""
    review = text_of(body["messages"][-1]).partition("[[ ## review ## ]]\n")[2].partition("\n")[0]
    return f"[[ ## sentiment ## ]]\n{labelled(review)}\n\n[[ ## completed ## ]]"


def _serve(share: float, told: Connection) -> None:
    limits = Limits(requests=REQUESTS, tokens=TOKENS, window=WINDOW)
    with serving(answer=answer, limits=limits, seconds=0.3, fault=sometimes(share)) as server:
        told.send(server.url)
        told.recv()


@contextmanager
def server_apart(share: float) -> Iterator[tuple[str, Callable[[], list[Any]]]]:
    """Runs the server in another process; gives its address, and what gives its log."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(share, there))
    process.start()
    try:
        url = here.recv()

        def log() -> list[Any]:
            with urllib.request.urlopen(url) as response:  # noqa: S310 — our own server
                seen: list[Any] = json.load(response)["log"]
                return seen

        yield url, log
    finally:
        here.send("stop")
        process.join()


def by_progspace(url: str, rows: list[dspy.Example]) -> list[str | None]:
    """Evaluates as progspace does; gives the labels."""
    with tempfile.TemporaryDirectory() as folder:
        return _evaluated(url, rows, Path(folder) / "store.db")


def by_two_processes(url: str, rows: list[dspy.Example]) -> list[str | None]:
    """Evaluates as progspace does, half of the rows in each of two processes, which share a store."""
    half = len(rows) // 2
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(2) as pool:
        work = [(url, part, Path(folder) / "store.db") for part in (rows[:half], rows[half:])]
        return [label for labels in pool.starmap(_evaluated, work) for label in labels]


def _evaluated(url: str, rows: list[dspy.Example], path: Path) -> list[str | None]:
    lm = ps.lm("openai/tiny", base_url=url, api_key=KEY, timeout=TIMEOUT)
    with open_store(path) as store:
        cells = Matrix(store, ps.metrics.exact_match("sentiment"), lm, Meter()).fill(dspy.Predict(Sentiment), rows)
    return [cell.output.get("sentiment") for cell in cells]


def by_dspy(url: str, rows: list[dspy.Example]) -> list[str | None]:
    """Evaluates as DSPy does, as it ships; gives the labels."""
    lm = dspy.LM("openai/tiny", api_base=url, api_key=KEY, timeout=TIMEOUT, cache=False)
    evaluate = dspy.Evaluate(
        devset=rows, metric=lambda e, p: e.sentiment == p.sentiment, num_threads=THREADS, max_errors=len(rows) + 1
    )
    with dspy.context(lm=lm):
        results = evaluate(dspy.Predict(Sentiment)).results
    return [getattr(prediction, "sentiment", None) for _, prediction, _ in results]


WAYS = {
    "progspace": by_progspace,
    "progspace, two processes": by_two_processes,
    "dspy.Evaluate, 8 threads": by_dspy,
}


def run(name: str, way: Callable[[str, list[dspy.Example]], list[str | None]], share: float, count: int) -> Any:
    """Evaluates once, and reads the server's log."""
    rows = examples(count)
    rows = [row.copy(sentiment=labelled(row.review)).with_inputs("review") for row in rows]
    with server_apart(share) as (url, log):
        started = time.time()
        labels = way(url, rows)
        seconds = time.time() - started
        seen = log()
    began = min(at for at, _, _ in seen)
    minute = [(at - began, status, fault) for at, status, fault in seen if at - began <= _HOLDS]
    let = [fault for _, _, fault in minute if fault != "limit"]
    later = [fault for at, _, fault in minute if at > _SETTLED]
    return {
        "benchmark": "faults",
        "harness": name,
        "faults": share,
        "rows": count,
        "seconds": seconds,
        "requests": len(seen),
        "used_of_limit": len(let) / (REQUESTS * (1 + _HOLDS / WINDOW)),
        "refused": sum(fault == "limit" for _, _, fault in minute) / len(minute),
        "refused_after_10_s": later.count("limit") / max(1, len(later)),
        "differing_cells": sum(row.sentiment != label for row, label in zip(rows, labels, strict=True)),
    }


def main() -> None:
    """Runs all six; prints a line each and writes ``results/faults.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=760)
    arguments = parser.parse_args()
    logging.getLogger("dspy").setLevel(logging.CRITICAL)
    runs = []
    for share in (0.0, SHARE):
        for name, way in WAYS.items():
            runs.append(told := run(name, way, share, arguments.rows))
            print(
                f"{name:<26}{100 * share:3.0f} % faults: {100 * told['used_of_limit']:5.1f} % of the limit, "
                f"{100 * told['refused_after_10_s']:4.1f} % refused after 10 s, {told['differing_cells']} of "
                f"{arguments.rows} cells differ, {told['seconds']:.0f} s",
                flush=True,
            )
    write_results("faults", runs)


if __name__ == "__main__":
    main()
