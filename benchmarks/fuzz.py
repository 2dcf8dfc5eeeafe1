"""Spoilt artifacts are loaded, and spoilt requests are sent: does anything crash, or run?

    python -m progspace.benchmarks.fuzz [--cases 10000]

``artifacts``: valid ones spoilt as trees (values, keys and parts replaced, lost, moved, doubled; mostly with a hash
that fits), as JSON and as bytes; read and loaded, with an LM at hand and by the LM that they name. Each is a program or
a `ProgspaceError`, and an audit hook hears of nothing that was run. ``requests``: to the application of ``progspace
serve`` in this process; ``raw requests``: as bytes over a socket to a server in a process of its own. A case that fails
ends the run, and is told by its number, which makes it again: ``--first N --cases 1``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version

from .fuzz_artifacts import fuzz_artifacts
from .fuzz_requests import fuzz_application, fuzz_server
from .results import write_results

__all__ = ["main"]

PARTS = {"artifacts": fuzz_artifacts, "requests": fuzz_application, "raw requests": fuzz_server}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, prints its figures as JSON Lines, and keeps them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="of each part")
    parser.add_argument("--seed", type=int, default=0, help="another one spoils otherwise")
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--part", choices=list(PARTS), action="append", help="only this one; may be given again")
    parser.add_argument("--show", action="store_true", help="only show the figures; the results are left alone")
    told = parser.parse_args(arguments)
    versions = {name: version(name) for name in ("dspy", "pydantic", "starlette", "uvicorn")}
    kept = []
    for part in told.part or PARTS:
        began = time.perf_counter()
        outcomes = PARTS[part](range(told.first, told.first + told.cases), told.seed)
        kept.append({
            "task": part, "seed": told.seed, "cases": told.cases, "outcomes": dict(outcomes.most_common()),
            "seconds": round(time.perf_counter() - began, 1), "python": platform.python_version(), **versions,
        })  # fmt: skip
        print(json.dumps(kept[-1]), flush=True)
    if not told.show:
        write_results("fuzz", kept)


if __name__ == "__main__":
    main()
