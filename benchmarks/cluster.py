"""A search on Ray's workers beside the same search in threads, and what a cell costs on its way to a worker.

    python -m progspace.benchmarks.cluster

First part: a server of ours, in a process of its own, takes two seconds an answer, and each process asks it at most
two at a time: as an endpoint does that limits each client, or a machine each of its connections. The same search runs
in one process, on one worker and on two; and in one process that may ask as many at a time as two workers, or eight
times as many, which is the cheaper remedy wherever it is granted. All have to end with the same winner. Starting Ray
is told apart.

Second part: an LM that answers at once, so that what is measured is everything else: cells a second, and the CPU time
that the search's own process and the workers' machine spend on one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, Usage

import progspace as ps

from ..evaluation.executor import Workers, executor_of
from ..evaluation.matrix import Matrix
from ..lms.budget import Meter
from ..programs import sentiment
from ..programs.sentiment import Sentiment
from ..store.database import open_store
from .fault_server import KEY, serving
from .kills import Rule
from .overhead import examples
from .results import write_results

CALLS = 200
TEST_ROWS = 20
SECONDS = 2.0  # that the server takes
AT_A_TIME = 2
WAYS = (
    ("one process", None, AT_A_TIME),
    ("ray:1", "ray:1", AT_A_TIME),
    ("ray:2", "ray:2", AT_A_TIME),
    ("one process", None, 2 * AT_A_TIME),
    ("one process", None, 8 * AT_A_TIME),
)
CELLS = 400


def main() -> None:
    """Runs both parts; prints a line each and writes ``results/cluster.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["OPENAI_API_KEY"] = KEY  # workers take it from there
    lines = []

    def told(line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)
        lines.append(line)
        write_results("cluster", lines)

    with tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(1000))

        def new() -> Path:
            return Path(folder, f"{next(numbers)}.db")

        with _server_apart() as url:
            for name, workers, at_a_time in WAYS:
                told(search(url, name, workers, at_a_time, arguments.seed, new()))
        for name in ("one process", "ray:1", "ray:2"):
            told(overhead(name, None if name == "one process" else name, new))


def search(url: str, name: str, workers: Workers, at_a_time: int, seed: int, path: Path) -> dict[str, Any]:
    """Runs one search; gives its winner and its seconds."""
    task = sentiment.task(seed=seed)
    lm = ps.lm("openai/rule", base_url=url, concurrency=at_a_time)
    begun = time.monotonic()
    with open_store(path) as store, executor_of(workers, store) as executor:
        while isinstance(workers, str) and len(executor.processes) < int(workers[4:]):  # type: ignore[attr-defined]
            time.sleep(0.1)
        started = time.monotonic()
        budget = ps.Budget(calls=CALLS)
        compiled = ps.compile(task, lm=lm, budget=budget, store=store, seed=seed, workers=executor, test_rows=TEST_ROWS)
        seconds = time.monotonic() - started
    rungs = compiled.report.rungs
    return {
        "task": "sentiment", "optimizer": "progspace", "budget": CALLS, "seed": seed, "workers": name,
        "at_a_time_each": at_a_time, "server_seconds": SECONDS, "seconds": round(seconds, 1),
        "start_seconds": round(started - begun, 1), "calls": sum(rung.calls for rung in rungs),
        "test_calls": compiled.report.test_calls, "winner": compiled.candidate.hash,
        "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


class Instant:
    """An engine that answers every review alike, at once."""

    concurrency = 16
    supported_params = frozenset({"temperature", "max_tokens"})

    def complete(self, request: Request) -> Response:
        """Answers a request."""
        text = "[[ ## sentiment ## ]]\npositive\n\n[[ ## completed ## ]]"
        return Response(None, request.model, Message.assistant(text), "stop", Usage(input_tokens=100, output_tokens=1))


def overhead(name: str, workers: Workers, new: Callable[[], Path]) -> dict[str, Any]:
    """Fills cells that cost nothing but their way; the first fill warms up."""
    lm = dspy.LM("instant/one", engine=Instant(), cache=False, num_retries=0)
    rows = examples(2 * CELLS)
    metric = ps.metrics.exact_match("sentiment")
    with open_store(new()) as store, executor_of(workers, store) as executor:
        matrix = Matrix(store, metric, lm, Meter(), workers=executor)
        matrix.fill(dspy.Predict(Sentiment), rows[:CELLS])
        load, started, own = os.getloadavg()[0], time.monotonic(), time.process_time()
        matrix.fill(dspy.Predict(Sentiment), rows[CELLS:])
        seconds, own = time.monotonic() - started, time.process_time() - own
    return {
        "task": "overhead", "workers": name, "cells": CELLS, "seconds": round(seconds, 2),
        "cells_per_second": round(CELLS / seconds, 1), "own_cpu_ms_per_cell": round(1000 * own / CELLS, 2),
        "load": round(load, 1),
    }  # fmt: skip


def _serve(told: Connection) -> None:
    with serving(answer=Rule(), seconds=SECONDS) as server:
        told.send(server.url)
        told.recv()


@contextmanager
def _server_apart() -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,))
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("stop")
        process.join()


if __name__ == "__main__":
    main()
