"""What perturbed inputs cost on the embedded LM: the ready-made sentiment task in a compact format, or as declared.

    python -m progspace.benchmarks.robustness --rows 78 --declared-rows 0

The rows are the first of the task's sealed test; nothing was chosen on them. The program as declared asks some
twenty times as many tokens, so it runs on demand only. Answers are limited to 60 tokens. No time is told: it
says nothing of robustness.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dspy

import progspace as ps

from ..programs import sentiment
from ..programs.candidate import Candidate
from ..programs.formats import Format
from .results import RESULTS, write_results

PROGRAMS = {"compact, scored": Format(kind="compact", decoding="scored"), "as declared": None}


def measured(
    task: ps.Task, rows: dict[str, list[dspy.Example]], lm: dspy.BaseLM, *, store: str | Path, seed: int
) -> Iterator[dict[str, Any]]:
    """Gives a line for each program and perturbation."""
    for name, format_ in PROGRAMS.items():
        if not rows[name]:
            continue
        declared = Candidate.declared(task.program)
        program = task.program if format_ is None else declared.with_choice(format=format_).apply(task.program)
        told = ps.robustness(program, task, lm=lm, data=rows[name], store=store, seed=seed, name=name)
        print(told, flush=True)
        shared = {
            "task": task.name,
            "optimizer": name,
            "budget": None,
            "seed": seed,
            "n_test": told.original.n,
            "calls": told.original.calls,
            "input_tokens": told.original.input_tokens,
            "output_tokens": told.original.output_tokens,
            "score": told.original.score,
            "worst": told.worst,
        }
        yield from (
            {
                **shared,
                "perturbation": each.name,
                "perturbed": each.test.mean_a,
                "difference": each.test.difference,
                "low": each.test.interval.low,
                "high": each.test.interval.high,
                "level": each.test.interval.level,
                "p_value": each.p_value,
                "broken": each.test.wins_b,
                "mended": each.test.wins_a,
            }
            for each in told.perturbed
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark; prints tables and writes ``results/robustness.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=78)
    parser.add_argument("--declared-rows", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, default=Path(".progspace/benchmark-robustness.db"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    logging.getLogger("dspy").setLevel(logging.ERROR)
    task = sentiment.task(seed=arguments.seed)
    test = list(task.unseal_test("robustness"))
    rows = {"compact, scored": test[: arguments.rows], "as declared": test[: arguments.declared_rows]}
    lines: list[dict[str, Any]] = []
    for line in measured(task, rows, ps.lm("local", max_tokens=60), store=arguments.store, seed=arguments.seed):
        lines.append(line)
        write_results("robustness", lines, arguments.results)  # it takes long, and may be stopped


if __name__ == "__main__":
    main()
