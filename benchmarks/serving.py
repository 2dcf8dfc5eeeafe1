"""What the server adds to a call, and how it holds under many clients, with an LM that answers at once.

    python -m progspace.benchmarks.serving

The server is a process of its own, the clients are threads of this one, each with a connection that it keeps; both
share the machine. Latency is on the clock, as a client sees it. CPU is the server process's own, for a request: on a
busy machine it tells more. ``/health`` is what uvicorn and Starlette take by themselves, and a call in this process,
without any server, what the program takes.

The embedded LM is served in `progspace.benchmarks.serving_embedded`. Linux, for the CPU of another process.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, Usage

import progspace as ps

from ..serving.http import application
from ..serving.server import run
from .cold_start import sample_artifact
from .results import write_results

CLIENTS = (1, 8, 32)
INPUTS = {"review": "A joy from start to finish."}
WARMING = 200  # requests before those that count


class Instant:
    """Answers every request at once."""

    def complete(self, request: Request) -> Response:
        """Gives the one answer."""
        return Response(None, request.model, Message.assistant("positive"), "stop", Usage(1, 1))


class AsyncInstant:
    """The same, in a task."""

    async def complete(self, request: Request) -> Response:
        """Gives the one answer."""
        return Instant().complete(request)


def program_at(artifact: Path) -> dspy.Module:
    """Loads the program, guarded as ``progspace serve`` guards it."""
    lm = dspy.LM("instant/one", engine=Instant(), async_engine=AsyncInstant(), cache=False)
    return ps.guarded(ps.load(artifact, lm=lm))


def serve(artifact: str) -> None:
    """What the server's process runs."""
    run(application(program_at(Path(artifact))), host="127.0.0.1", port=0)


def _instant(artifact: Path) -> list[str]:
    return ["-c", f"from progspace.benchmarks.serving import serve; serve({str(artifact)!r})"]


@contextmanager
def server(arguments: list[str]) -> Iterator[tuple[int, int]]:
    """Gives the server's port and process."""
    with subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 — our own code
        if process.stderr is None:
            raise RuntimeError("the server has no standard error")
        told = next(line for line in process.stderr if "running on" in line)
        # A pipe that nobody reads stops who writes to it.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield int(told.split("running on http://127.0.0.1:")[1].split()[0]), process.pid
        finally:
            process.terminate()


def _cpu(process: int) -> float:
    """Seconds of CPU that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ask(port: int, path: str, requests: int, taken: list[float]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    body = json.dumps(INPUTS).encode()
    for _ in range(requests):
        began = time.perf_counter()
        if path == "/predict":
            connection.request("POST", path, body, {"Content-Type": "application/json"})
        else:
            connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
        taken.append(time.perf_counter() - began)
        if answer.status != 200 or (path == "/predict" and json.loads(content) != {"sentiment": "positive"}):
            raise RuntimeError(f"the server did not do the work: {answer.status}")
    connection.close()


def under(port: int, process: int, path: str, clients: int, requests: int) -> dict[str, Any]:
    """Asks by so many clients at once; latencies and CPU in milliseconds a request."""
    taken: list[float] = []
    threads = [
        threading.Thread(target=_ask, args=(port, path, requests // clients, taken)) for _ in range(clients)
    ]  # fmt: skip
    cpu, began = _cpu(process), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, cpu = time.perf_counter() - began, _cpu(process) - cpu
    if len(taken) != clients * (requests // clients):
        raise RuntimeError("a request was lost")
    cuts = statistics.quantiles(taken, n=100)
    return {
        "way": path,
        "clients": clients,
        "requests": len(taken),
        "p50_ms": round(1000 * cuts[49], 2),
        "p99_ms": round(1000 * cuts[98], 2),
        "cpu_ms": round(1000 * cpu / len(taken), 3),
        "per_second": round(len(taken) / seconds),
    }


async def direct(program: dspy.Module, requests: int) -> dict[str, Any]:
    """Calls the program in this process, one call after the other."""
    taken = []
    with dspy.context(disable_history=True):
        for _ in range(WARMING):
            await program.acall(**INPUTS)
        cpu, began = time.process_time(), time.perf_counter()
        for _ in range(requests):
            start = time.perf_counter()
            await program.acall(**INPUTS)
            taken.append(time.perf_counter() - start)
        cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    cuts = statistics.quantiles(taken, n=100)
    return {
        "way": "no server",
        "clients": 1,
        "requests": requests,
        "p50_ms": round(1000 * cuts[49], 2),
        "p99_ms": round(1000 * cuts[98], 2),
        "cpu_ms": round(1000 * cpu / requests, 3),
        "per_second": round(requests / seconds),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, prints and keeps its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3200, help="of each way and number of clients")
    requests = parser.parse_args(arguments).requests
    with tempfile.TemporaryDirectory() as folder:
        artifact = sample_artifact(Path(folder))
        runs = [asyncio.run(direct(program_at(artifact), requests))]
        with server(_instant(artifact)) as (port, process):
            under(port, process, "/predict", 1, WARMING)
            for path in ("/health", "/predict"):
                runs += [under(port, process, path, clients, requests) for clients in CLIENTS]
    for each in runs:
        each["load"] = round(os.getloadavg()[0], 1)
        print(
            f"{each['way']:10} {each['clients']:3} clients  p50 {each['p50_ms']:.2f} ms  p99 {each['p99_ms']:.2f} ms  "
            f"{each['cpu_ms']:.2f} ms of CPU  {each['per_second']}/s"
        )
    print(f"load of the machine: {runs[-1]['load']}")
    write_results("serving", runs)


if __name__ == "__main__":
    main()
