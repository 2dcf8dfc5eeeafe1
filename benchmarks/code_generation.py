"""Code for a library that the LM has not read of: closed book against retrieved documentation, on the embedded LM.

    python -m progspace.benchmarks.code_generation

Of the ready-made task's 50 rows every fifth gives demonstrations; the other 40 are scored, by running the code on their
checks in a sandbox. Nothing is searched: each pair of programs differs in the documentation alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy

import progspace as ps

from ..evaluation import numbers
from ..programs import library_code
from ..programs.candidate import Candidate
from ..programs.code_generation import CodeGeneration
from ..programs.formats import Format
from ..retrievers import ingest
from ..retrievers.passage import Passages
from .results import write_results

FOUND, SHOWN, MAX_TOKENS = 3, 3, 160
COMPACT = Format(kind="compact")

Retriever = Callable[[str], Passages]


def rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows that may be shown, and those that are scored."""
    path = library_code.documentation().with_suffix(".jsonl")
    every = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return every[4::5], [row for number, row in enumerate(every) if number % 5 != 4]


def programs(retriever: Retriever | None, shown: list[dict[str, Any]]) -> dict[str, dspy.Module]:
    """The module as declared, in a compact prompt, and with demonstrations besides."""
    module = CodeGeneration(retriever)
    declared = Candidate.declared(module)
    compact = declared.with_choice(predictor="write", format=COMPACT)
    demonstrations = tuple(
        {
            **({} if retriever is None else {"documentation": retriever(row["task"]).text()}),
            "task": row["task"],
            "code": row["code"],
        }
        for row in shown[:: len(shown) // SHOWN][:SHOWN]
    )
    few = compact.with_choice(predictor="write", demonstrations=demonstrations)
    return {"as declared": declared.apply(module), "compact": compact.apply(module), "few-shot": few.apply(module)}


def recall(retriever: Retriever, scored: list[dict[str, Any]]) -> float:
    """The share of tasks for which all pages are found that the reference solution needs."""
    found = 0
    for row in scored:
        pages = {Path(passage.source).stem for passage in retriever(row["task"])}
        found += set(re.findall(r"orrin\.(\w+)", row["code"])) <= pages
    return found / len(scored)


def main() -> None:
    """Runs the benchmark; prints a table and writes ``results/code_generation.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(".progspace/benchmark-code.db"))
    parser.add_argument("--collections", type=Path, default=Path(".progspace/collections"))
    arguments = parser.parse_args()
    logging.getLogger("dspy").setLevel(logging.ERROR)
    shown, scored = rows()
    found = ingest(library_code.documentation(), collection="orrin", path=arguments.collections).with_search(k=FOUND)
    lm = ps.lm("local", max_tokens=MAX_TOKENS)
    reached = recall(found, scored)
    print(f"all pages that a task needs are among {FOUND}: {numbers.percent(reached)} of {len(scored)} tasks")
    runs = []
    for book, retriever in (("closed book", None), ("documentation", found)):
        task = ps.Task(
            program=CodeGeneration(retriever),
            examples=shown,
            test=scored,
            inputs=["task"],
            metric=library_code.task(None).metric,
            name="library-code",
        )
        for prompt, program in programs(retriever, shown).items():
            done = ps.evaluate(program, task, lm=lm, split="test", store=arguments.store, name=f"{book}, {prompt}")
            solved = sum(row.score == 1 for row in done.rows)
            runs.append(
                {
                    "task": task.name,
                    "optimizer": "no search",
                    "book": book,
                    "prompt": prompt,
                    "budget": None,
                    "seed": 0,
                    "score": done.score,
                    "low": done.interval.low,
                    "high": done.interval.high,
                    "solved": solved,
                    "n_test": done.n,
                    "errors": done.errors,
                    "calls": done.calls,
                    "input_tokens": done.input_tokens,
                    "output_tokens": done.output_tokens,
                    "seconds_per_example": round(done.seconds, 1),
                    "recall": None if retriever is None else reached,
                }
            )
            print(
                f"{done.name:<30}{numbers.percent(done.score):>8} of checks "
                f"[{numbers.percent(done.interval.low)}, {numbers.percent(done.interval.high)}], "
                f"{solved} of {done.n} solved, {done.errors} unreadable",
                flush=True,
            )
    write_results("code_generation", runs)


if __name__ == "__main__":
    main()
