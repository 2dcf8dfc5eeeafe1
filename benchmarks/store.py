"""A million cells: how fast they are written and read again, and how large they are, on SQLite and on PostgreSQL.

    python -m progspace.benchmarks.store
    python -m progspace.benchmarks.store --postgres postgresql+psycopg://me@/scratch

A thousand programs on a thousand examples each, as a search writes them: a batch of cells at a time, each answer by
itself before it is used. Read again is all that a search, or a report, would read: each program's cells on all
examples. The database that is given must be empty; what is written there is left behind.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ..store.database import open_store
from ..store.records import Answer, Cell
from ..store.upkeep import size
from .results import write_results

PROGRAMS, EXAMPLES, BATCH = 1000, 1000, 50
ANSWERS = 10_000
_METRIC = "exact_match(sentiment)"


def main() -> None:
    """Runs it and writes ``results/store.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=PROGRAMS, help="of a thousand cells each")
    parser.add_argument("--postgres", help="the URL of an empty database, beside SQLite")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = [str(Path(folder, "store.db")), *([arguments.postgres] if arguments.postgres else [])]
        lines = [run(place, arguments.programs) for place in places]
    write_results("store", lines)


def run(where: str, programs: int) -> dict[str, Any]:
    """Writes and reads on one store; gives what was measured."""
    examples = [_hash(f"example {index}") for index in range(EXAMPLES)]
    with open_store(where) as store:
        started = time.perf_counter()
        for number in range(ANSWERS):
            store.put_answer(Answer(_hash(f"answer {number}"), {"text": "positive", "logprobs": []}, 60, 2, 0.02))
        answered = time.perf_counter() - started
        started = time.perf_counter()
        for number in range(programs):
            program = _hash(f"program {number}")
            for begin in range(0, EXAMPLES, BATCH):
                store.put_cells(_cell(program, example) for example in examples[begin : begin + BATCH])
            if number % 100 == 99:
                print(f"{store.dialect}: {number + 1} of {programs} programs", file=sys.stderr, flush=True)
        written = time.perf_counter() - started
        held = size(store)
        before = _memory()
        started, read = time.perf_counter(), 0
        for number in range(programs):
            read += len(store.cells(_hash(f"program {number}"), _METRIC, examples))
        seconds = time.perf_counter() - started
        if read != programs * EXAMPLES:
            raise SystemExit(f"{read} cells came back of {programs * EXAMPLES}")
        line = {
            "task": "store", "store": store.dialect, "cells": read, "answers_per_second": round(ANSWERS / answered),
            "cells_written_per_second": round(read / written), "cells_read_per_second": round(read / seconds),
            "read_seconds": round(seconds, 1), "bytes_per_cell": round((held.bytes) / read, 1),
            "memory_grown_mb": round(_memory() - before, 1), "seconds": round(answered + written + seconds, 1),
        }  # fmt: skip
    print(line, flush=True)
    return line


def _cell(program: str, example: str) -> Cell:
    score = float(int(example[:2], 16) % 2)
    return Cell(
        program, example, _METRIC, score=score, output={"sentiment": "positive"}, calls=1, asked=((example, 60, 2),),
        input_tokens=60, output_tokens=2, seconds=0.02,
    )  # fmt: skip


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _memory() -> float:
    """Megabytes at the most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
