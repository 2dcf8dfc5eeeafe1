"""What a search costs besides its LM: time in which no call is under way, and memory as cells are bought.

    python -m progspace.benchmarks.search_overhead [--calls 2000]
    python -m progspace.benchmarks.search_overhead --instant --calls 8000

Compiles the ready-made sentiment task on the embedded LM with an empty store. The LM's engine is watched: the time in
which at least one call is under way is the LM's, the rest is the search's own (proposals by rule, embeddings, the
quality model, the store, Python). Memory is the process's resident set at each tenth of the calls; most of it are the
embedded LM's weights and caches. With ``--instant`` an LM that says anything, at once, is in its place: what memory
grows then is the search's own.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, Usage

import progspace as ps

from ..lms.local import LocalEngine
from ..programs import sentiment
from .results import RESULTS, write_results

__all__ = ["WatchedEngine", "main"]

TENTHS = 10


class ArbitraryEngine:
    """Answers at once, with one of the two labels, whichever the prompt's hash says."""

    concurrency = 8
    supported_params = frozenset({"temperature", "max_tokens"})

    def complete(self, request: Request) -> Response:
        """Gives a label, as DSPy's chat format and as a compact prompt want it."""
        told = str([*request.messages, request.system])
        label = "positive" if hashlib.sha256(told.encode()).digest()[0] % 2 else "negative"
        text = label if "[[ ##" not in told else f"[[ ## sentiment ## ]]\n{label}\n\n[[ ## completed ## ]]"
        return Response(None, request.model, Message.assistant(text), "stop", Usage(input_tokens=1, output_tokens=1))


class WatchedEngine:
    """An LM's engine, with a clock that runs while it has something to do.

    Attributes:
        busy: Seconds with at least one call under way.
        calls: How many have ended.
        memory: Of the process, in MB, by calls ended.
    """

    def __init__(self, engine: LocalEngine | ArbitraryEngine, calls: int) -> None:
        self.engine, self.concurrency, self.supported_params = engine, engine.concurrency, engine.supported_params
        self.supports_response_schema = isinstance(engine, LocalEngine)
        self.busy, self.calls = 0.0, 0
        self.memory: dict[int, int] = {}
        self._step = max(1, calls // TENTHS)
        self._under_way, self._since = 0, 0.0
        self._clock = threading.Lock()

    def complete(self, request: Request) -> Response:
        """Answers, and watches the clock."""
        with self._clock:
            if not self._under_way:
                self._since = time.perf_counter()
            self._under_way += 1
        try:
            return self.engine.complete(request)
        finally:
            with self._clock:
                self._under_way -= 1
                self.calls += 1
                if not self._under_way:
                    self.busy += time.perf_counter() - self._since
                if self.calls % self._step == 0:
                    self.memory[self.calls] = _resident()


def _resident() -> int:
    """Megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() // 10**6


def main(argv: Sequence[str] | None = None) -> None:
    """Compiles once; writes ``results/search_overhead.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--instant", action="store_true", help="an LM that says anything, at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    engine = WatchedEngine(ArbitraryEngine() if arguments.instant else LocalEngine(), arguments.calls)
    lm = dspy.LM("local/watched", engine=engine, cache=False, num_retries=0, max_tokens=48)
    task = sentiment.task()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        compiled = ps.compile(
            task, lm=lm, budget=ps.Budget(calls=arguments.calls), store=Path(folder) / "store.db", seed=arguments.seed,
            test_rows=1,
        )  # fmt: skip
        seconds = time.perf_counter() - started
    rungs = compiled.report.rungs
    line: dict[str, Any] = {
        "task": task.name,
        "budget": arguments.calls,
        "seed": arguments.seed,
        "calls": sum(rung.calls for rung in rungs),
        "answered": engine.calls,
        "candidates": sum(rung.candidates for rung in rungs),
        "seconds": round(seconds, 1),
        "lm_seconds": round(engine.busy, 1),
        "own_share": round(1 - engine.busy / seconds, 4),
        "memory_mb": engine.memory,
    }
    write_results("search_overhead_instant" if arguments.instant else "search_overhead", [line], arguments.results)
    print(f"{line['calls']} calls asked, {line['answered']} answered anew, {line['candidates']} candidates")
    print(f"{seconds:.0f} s, the LM at work in {engine.busy:.0f} s of them: own share {100 * line['own_share']:.1f} %")
    print("memory, MB: " + ", ".join(f"{count}: {size}" for count, size in engine.memory.items()))


if __name__ == "__main__":
    main()
