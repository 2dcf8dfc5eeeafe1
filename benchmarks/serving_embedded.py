"""50 requests in flight on the embedded LM: through ``progspace serve``, by calls of the program, by the engine alone.

    python -m progspace.benchmarks.serving_embedded [--seconds 30] [--rounds 4]

The three take turns, each in processes of its own, so that what else the machine does troubles them alike; what
counts are the shares of one round:

- *served*: the server is a process, its clients are tasks of another one, each with a connection that it keeps. Both
  share the machine, so a client does as little as HTTP allows.
- *called*: tasks that call the same guarded program in their own process.
- *engine*: the token ids and options that the program asks the engine with, made beforehand, and nothing of DSPy's:
  each answer's callback submits the next prompt.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import dspy

import progspace as ps

from ..lms.embedded import EmbeddedEngine, engine_for
from ..lms.generation import Generation, GenerationOptions
from ..lms.local import local_lm
from ..lms.models import DEFAULT_MODEL
from .cold_start import sample_artifact
from .results import write_results
from .serving import server

__all__ = ["main"]

IN_FLIGHT = 50
LABELS = ("positive", "negative")
FASTEST = 60  # answers a second, more than any machine gave: so many prompts are made beforehand

Call = Callable[[str], Awaitable[str]]


def _review(number: int) -> str:
    return f"{number} reasons to see it twice."


def served(artifact: Path, seconds: float) -> dict[str, Any]:
    """Asks a server."""
    arguments = ["serve", str(artifact), "--lm", "local", "--port", "0", "--timeout", "600"]
    with server(["-m", "progspace.cli", *arguments]) as (port, _):
        return asyncio.run(_served(port, seconds))


async def _served(port: int, seconds: float) -> dict[str, Any]:
    return await in_flight([await _client(port) for _ in range(IN_FLIGHT)], seconds)


async def _client(port: int) -> Call:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def call(review: str) -> str:
        body = json.dumps({"review": review}).encode()
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        told = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = told.partition(b"content-length:")[2].partition(b"\r\n")[0]
        return str(json.loads(await reader.readexactly(int(length))).get("sentiment"))

    return call


def called(artifact: Path, seconds: float) -> dict[str, Any]:
    """Calls the program in this process."""
    program = ps.guarded(ps.load(artifact, lm=ps.lm("local")))

    async def call(review: str) -> str:
        return str((await program.acall(review=review)).sentiment)

    with dspy.context(disable_history=True):  # as the server does
        return asyncio.run(in_flight([call] * IN_FLIGHT, seconds))


async def in_flight(calls: Sequence[Call], seconds: float) -> dict[str, Any]:
    """Keeps a call of each caller in flight, each with a review of its own; counts those that gave a label."""
    await calls[0]("A first one.")
    taken, lost, numbers, began = list[float](), 0, itertools.count(), time.perf_counter()

    async def client(call: Call) -> None:
        nonlocal lost
        while (start := time.perf_counter()) < began + seconds:
            if await call(_review(next(numbers))) in LABELS:
                taken.append(time.perf_counter() - start)
            else:
                lost += 1

    await asyncio.gather(*map(client, calls))
    return _figures(taken, lost, time.perf_counter() - began)


def engine(artifact: Path, seconds: float) -> dict[str, Any]:
    """Asks the engine what the program would ask it."""
    asked = iter(_asked(artifact, [_review(number) for number in range(int(FASTEST * seconds))]))
    embedded = engine_for(DEFAULT_MODEL, "f32")
    embedded.generate(*next(asked)).result()
    taken, lost, free, began = list[float](), list[str](), threading.Semaphore(0), time.perf_counter()

    def ask() -> None:
        start = time.perf_counter()

        def answered(future: Future[Generation]) -> None:
            if (text := future.result().text).strip() in LABELS:
                taken.append(time.perf_counter() - start)
            else:
                lost.append(text)
            if time.perf_counter() < began + seconds:
                ask()
            else:
                free.release()

        embedded.generate(*next(asked)).add_done_callback(answered)

    for _ in range(IN_FLIGHT):
        ask()
    for _ in range(IN_FLIGHT):
        free.acquire()
    return _figures(taken, len(lost), time.perf_counter() - began)


def _asked(artifact: Path, reviews: Sequence[str]) -> list[tuple[list[int], GenerationOptions]]:
    """Gives what the program asks the engine about each review."""
    asked: list[tuple[list[int], GenerationOptions]] = []

    class Written(EmbeddedEngine):
        def generate(self, prompt: list[int], options: GenerationOptions, _: Any = None) -> Future[Generation]:
            asked.append((prompt, options))
            future: Future[Generation] = Future()
            future.set_result(Generation(LABELS[0], 1, "stop"))
            return future

    lm, shared = local_lm(), engine_for(DEFAULT_MODEL, "f32")
    lm.engine.engine = Written(shared.folder, shared.context_length, "f32")
    program = ps.load(artifact, lm=lm)
    with dspy.context(disable_history=True):
        for review in reviews:
            program(review=review)
    return asked


def _figures(taken: list[float], lost: int, seconds: float) -> dict[str, Any]:
    cuts = statistics.quantiles(taken, n=100)
    return {
        "clients": IN_FLIGHT,
        "requests": len(taken),
        "lost": lost,
        "p50_ms": round(1000 * cuts[49]),
        "p99_ms": round(1000 * cuts[98]),
        "per_second": round(len(taken) / seconds, 2),
        "load": round(os.getloadavg()[0], 1),
    }


WAYS = {"served": served, "called": called, "engine": engine}


def measure(seconds: float, rounds: int, ways: Sequence[str]) -> list[dict[str, Any]]:
    """Runs each way so often, in turns."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        artifact = sample_artifact(Path(folder), "constrained")
        for turn in range(rounds):
            for way in ways:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                    found = process.submit(WAYS[way], artifact, seconds).result()
                runs.append({"way": way, "round": turn, **found})
                print(runs[-1], flush=True)
    return runs


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, prints and keeps its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30, help="of each way and round")
    parser.add_argument("--rounds", type=int, default=4)
    told = parser.parse_args(arguments)
    runs = measure(told.seconds, told.rounds, list(WAYS))
    rates = {way: [run["per_second"] for run in runs if run["way"] == way] for way in WAYS}
    for way, found in rates.items():
        shares = [one / other for one, other in zip(found, rates["engine"], strict=True)]
        told_shares = f"{statistics.median(shares):.1%} of the engine's ({min(shares):.1%} to {max(shares):.1%})"
        print(f"{way:8} {statistics.median(found):6.2f} a second, {told_shares}")
    write_results("serving_embedded", runs)


if __name__ == "__main__":
    main()
