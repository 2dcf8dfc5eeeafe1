"""What a compile is worth on each thing that people use LMs for: a score card for every task of a suite.

    python -m progspace.benchmarks.core --suite quick
    python -m progspace.benchmarks.core --data path/to/data
    python -m progspace.benchmarks.core --table
    python -m progspace.benchmarks.core --compare results/core.jsonl.old

``quick`` is three small tasks without robust scores, on no data but ours; ``core`` takes hours on two cores, and public
data (`tasks`). Each task is compiled on the embedded LM; the program as declared and the winner are scored on the same
sealed rows. Lines are added to ``results/SUITE.jsonl`` as they come; what stands there is not run again. *Worst* is the
robust score of `progspace.robustness` on the first sealed rows: a row counts by the lowest score that it gets as it is,
or changed in a way that keeps its label. Fine-tuning has its own benchmark, ``finetune``. Toxicity is on no card:
outputs are labels and facts, and no model of it ships.

``--compare`` reads the results of an earlier version: where the sealed rows are the same, winner against winner by the
paired test.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dspy
from rich.console import Console

import progspace as ps

from ..evaluation.evaluation import compare_cells
from ..evaluation.matrix import Matrix
from ..evaluation.shown import as_text
from ..evaluation.statistics import mean_interval
from ..lms.budget import Meter
from ..programs.examples import example_hash
from ..progress import CompileProgress
from ..store.database import Store, open_store
from ..store.records import Cell
from .results import RESULTS, append_results, read_runs
from .shown.cards import cards
from .shown.content import Results
from .shown.rendering import results_view
from .suites import SUITES, Entry

__all__ = ["main"]

_WIDTH = 130  # characters of a line


def main(argv: Sequence[str] | None = None) -> None:
    """Runs what has not been run yet, or prints tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=list(SUITES), default="core")
    parser.add_argument("--data", type=Path, help="the folder of public data")
    parser.add_argument("--tasks", nargs="*", help="of the suite; all by default")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--store", type=Path, default=Path(".progspace/benchmark-core.db"))
    parser.add_argument("--results", type=Path, help="results/SUITE.jsonl by default")
    parser.add_argument("--table", action="store_true", help="print what the results say, and run nothing")
    parser.add_argument("--compare", type=Path, help="results of an earlier version")
    arguments = parser.parse_args(argv)
    path: Path = arguments.results or RESULTS / f"{arguments.suite}.jsonl"
    known = read_runs(path) if path.exists() else []
    if not (arguments.table or arguments.compare):
        entries = [each for each in SUITES[arguments.suite] if each.name in (arguments.tasks or [each.name])]
        if arguments.data is None and (lacking := [each.name for each in entries if each.public]):
            parser.error(f"--data is needed for {', '.join(lacking)}")
        for seed in arguments.seeds:
            for entry in entries:
                if any((line["task"], line["seed"]) == (entry.name, seed) for line in known):
                    continue
                lm = ps.lm("local", max_tokens=entry.max_tokens)
                lines = run(entry, arguments.data, seed, arguments.store, lm)
                append_results(path, lines)
                known += lines
    print(table(known, read_runs(arguments.compare) if arguments.compare else (), arguments.suite))


def run(entry: Entry, data: Path | None, seed: int, store_path: Path, lm: dspy.BaseLM) -> list[dict[str, Any]]:
    """Compiles one task; gives the score cards of the program as declared and of the winner."""
    print(f"{entry.name}, seed {seed}", file=sys.stderr, flush=True)
    started = time.monotonic()
    with (
        entry.make(data, seed) as task,
        open_store(store_path) as store,
        CompileProgress(Console(stderr=True)) as progress,
    ):
        compiled = ps.compile(
            task, lm=lm, budget=ps.Budget(calls=entry.calls), store=store, seed=seed, progress=progress,
            space=entry.space,
        )  # fmt: skip
        took = time.monotonic() - started
        print(compiled.report, flush=True)
        test = list(task.unseal_test("a score card of the same rows"))
        matrix = Matrix(store, task.metric, lm, Meter())
        declared, winner = (matrix.fill(program, test) for program in (task.program, compiled.program))
        borne = [
            _borne(program, task, test[: entry.robust_rows], lm, store, seed)
            for program in (task.program, compiled.program)
        ]
    compared = compare_cells(winner, declared, test, seed=seed)
    between = compared.interval  # of one program there is none: it is no different, for certain
    low, high = (0.0, 0.0) if compared.same else (between.low, between.high)
    own = {
        "task": entry.name, "budget": entry.calls, "seed": seed, "lm": lm.model,
        "test": hashlib.sha256("".join(map(example_hash, test)).encode()).hexdigest()[:16],
        "versions": {name: version(name) for name in ("progspace", "dspy-ai", "openvino-genai")},
        "python": platform.python_version(), "machine": platform.machine(),
    }  # fmt: skip
    rungs = [rung.name for rung in compiled.report.rungs]
    won = {
        "choice": compiled.report.winner.choice, "rung": compiled.report.winner.name, "rungs": rungs,
        "difference": compared.difference, "difference_low": low, "difference_high": high, "p_value": compared.p_value,
        "compile_seconds": round(took, 1), "search_calls": sum(rung.calls for rung in compiled.report.rungs),
    }  # fmt: skip
    return [
        {**own, "optimizer": "baseline", **score_card(declared, test, seed), **borne[0]},
        {**own, "optimizer": "progspace", **score_card(winner, test, seed), **borne[1], **won},
    ]


def _borne(
    program: dspy.Module, task: ps.Task, rows: Sequence[dspy.Example], lm: dspy.BaseLM, store: Store, seed: int
) -> dict[str, Any]:
    """Scores the first sealed rows under changes of their inputs that keep the labels."""
    if not rows:
        return {}
    told = ps.robustness(program, task, lm=lm, data=rows, store=store, seed=seed)
    return {
        "worst": told.worst, "n_worst": told.original.n, "before_worst": told.original.score,
        "perturbed": {each.name: each.test.difference for each in told.perturbed},
    }  # fmt: skip


def score_card(cells: Sequence[Cell], examples: Sequence[dspy.Example], seed: int) -> dict[str, Any]:
    """Quality with its interval, speed, tokens, and quality by slice."""
    scores = [cell.score or 0.0 for cell in cells]
    between = mean_interval(scores, seed=seed)
    lengths = [len(str(example.inputs().toDict())) for example in examples]
    middle = sorted(lengths)[len(lengths) // 2]
    slices = {
        "shorter inputs": [score for score, length in zip(scores, lengths, strict=True) if length < middle],
        "longer inputs": [score for score, length in zip(scores, lengths, strict=True) if length >= middle],
    }
    return {
        "score": sum(scores) / len(scores), "low": between.low, "high": between.high, "n_test": len(scores),
        "failed": sum(cell.score is None for cell in cells),
        "calls": sum(cell.calls for cell in cells), "input_tokens": sum(cell.input_tokens for cell in cells),
        "output_tokens": sum(cell.output_tokens for cell in cells),
        "seconds": round(sum(cell.seconds for cell in cells) / len(cells), 3),
        "slices": {name: sum(part) / len(part) for name, part in slices.items() if part},
        "scores": [round(score, 4) for score in scores],
    }  # fmt: skip


def table(lines: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]] = (), suite: str = "core") -> str:
    """What the results say, as text; also against those of an earlier version."""
    return as_text(results_view(Results(suites=(cards(suite, f"{suite}.jsonl", lines, before),))), width=_WIDTH)


if __name__ == "__main__":
    main()
