"""What watching adds to a call, with an LM that answers at once.

    python -m progspace.benchmarks.watching [--calls 2000]

A compiled program of one predictor, guarded as ``progspace serve`` guards it, is called watched and not watched in
turns, which goes first by chance; what counts are the differences of neighbours, so that a busy machine troubles both
alike. ``cpu`` is the calling thread's own time, which other work does not touch; ``clock`` is what the caller waits,
the writer's thread and the machine's load (``load``) included. Ways: traces alone; with content, personal data taken
out; with OTLP besides, to an address where nobody answers; and a store whose disk is full.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import dspy

import progspace as ps

from ..monitoring.redaction import personal
from .cold_start import sample_artifact
from .results import write_results
from .serving import INPUTS, program_at

__all__ = ["main", "pairs"]

WARMING = 100
WAYS: dict[str, dict[str, Any]] = {
    "traces": {},
    "traces, content": {"content": True, "redact": [personal]},
    "traces, content, OTLP to nobody": {"content": True, "redact": [personal], "telemetry": True},
    "a full disk": {},
}


def _taken(program: dspy.Module) -> tuple[float, float]:
    clock, cpu = time.perf_counter(), time.thread_time()
    answer = program(**INPUTS)
    taken = time.perf_counter() - clock, time.thread_time() - cpu
    if answer.sentiment != "positive":
        raise RuntimeError("the program did not do the work")
    return taken


def pairs(plain: dspy.Module, watched: dspy.Module, calls: int) -> list[tuple[float, ...]]:
    """Seconds of so many neighbours: plain on the clock and of CPU, then watched."""
    draw, found = random.Random(0), list[tuple[float, ...]]()  # noqa: S311 — the order of measurements
    with dspy.context(disable_history=True):
        for _ in range(WARMING):
            _taken(plain), _taken(watched)
        for _ in range(calls):
            first = draw.random() < 0.5
            one = _taken(plain if first else watched)
            two = _taken(watched if first else plain)
            found.append((*one, *two) if first else (*two, *one))
    return found


def _measure(way: str, settings: dict[str, Any], artifact: Path, folder: Path, calls: int) -> dict[str, Any]:
    program = program_at(artifact)
    store = folder / f"{list(WAYS).index(way)}.db"
    watched = ps.watch(program, store=store, **settings)
    gc.collect()
    with _full_disk(store) if way == "a full disk" else nullcontext():
        found = pairs(program, watched, calls)
        watched.close()
    cpu, clock = [each[3] - each[1] for each in found], [each[2] - each[0] for each in found]
    return {
        "task": "sentiment", "way": way, "calls": calls,
        "cpu_ms": round(1000 * statistics.mean(each[1] for each in found), 3),
        "added_cpu_ms": round(1000 * statistics.mean(cpu), 3),
        "added_cpu_ms_p99": round(1000 * statistics.quantiles(cpu, n=100)[98], 3),
        "added_clock_ms_median": round(1000 * statistics.median(clock), 3),
        "added_clock_ms_mean": round(1000 * statistics.mean(clock), 3),
        "lost": dict(watched.lost), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


@contextmanager
def _full_disk(store: Path) -> Iterator[None]:
    """Lets no file of this process grow beyond what the store has already; Linux and macOS."""
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(path.stat().st_size for path in store.parent.glob(f"{store.name}*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, allowed[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, prints and keeps its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000, help="pairs of each way")
    calls = parser.parse_args(arguments).calls
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
    for name in ("opentelemetry", "progspace"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    kept = []
    with tempfile.TemporaryDirectory() as folder:
        artifact = sample_artifact(Path(folder))
        for way, settings in WAYS.items():
            kept.append(_measure(way, {"telemetry": False, **settings}, artifact, Path(folder), calls))
            print(kept[-1], flush=True)
    write_results("watching", kept)


if __name__ == "__main__":
    main()
