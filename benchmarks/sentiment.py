"""Sentiment of movie reviews on the embedded LM: what a budget of 2,000 calls buys over the program as declared.

    python -m progspace.benchmarks.sentiment --data path/to/movie-sentiment

``path/to/movie-sentiment`` holds ``train.jsonl`` and ``test.jsonl`` with ``text`` and ``label``. Each seed draws 200
rows of train for train and dev together; the test rows are read by the final report alone.
"""

from __future__ import annotations

import argparse
import logging
import random
from pathlib import Path
from typing import Any

import dspy
from rich.console import Console

import progspace as ps

from ..evaluation import numbers
from ..evaluation.report import Report
from ..programs.sentiment import Sentiment
from ..progress import CompileProgress
from .results import write_results
from .tasks import read_lines

BUDGET = 2000
TRAIN_ROWS = 200


def task(data: Path, seed: int) -> ps.Task:
    """The task of one seed."""
    train, test = ([row(line) for line in read_lines(data / f"{part}.jsonl")] for part in ("train", "test"))
    return ps.Task(
        program=dspy.Predict(Sentiment),
        examples=random.Random(seed).sample(train, TRAIN_ROWS),  # noqa: S311 — reproducible, not secret
        test=test,
        inputs=["review"],
        metric=ps.metrics.choice("sentiment"),
        name="movie-sentiment",
        seed=seed,
    )


def row(line: dict[str, Any]) -> dict[str, Any]:
    """Names a row's fields as the signature does."""
    return {"review": line["text"], "sentiment": line["label"]}


def lines(report: Report, seed: int) -> list[dict[str, Any]]:
    """What is kept of a run: a line for each rung."""
    return [
        {
            "task": report.task,
            "optimizer": f"progspace/{rung.name}",
            "budget": BUDGET,
            "seed": seed,
            "score": rung.test.score,
            "low": rung.test.low,
            "high": rung.test.high,
            "n_test": rung.test.n,
            "calls": rung.calls,
            "bought": rung.bought,
            "input_tokens": rung.input_tokens,
            "output_tokens": rung.output_tokens,
            "seconds": round(rung.seconds, 1),
            "dev": rung.dev.score,
            "tokens_per_example": rung.test.tokens,
            "choice": rung.choice,
            "winner": rung is report.winner,
        }
        for rung in report.rungs
        if rung.test
    ]


def main() -> None:
    """Runs the benchmark; prints a table and writes ``results/sentiment.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--store", type=Path, default=Path(".progspace/benchmark-sentiment.db"))
    arguments = parser.parse_args()
    logging.getLogger("dspy").setLevel(logging.ERROR)
    runs: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        with CompileProgress(Console(stderr=True)) as progress:
            compiled = ps.compile(
                task(arguments.data, seed),
                lm=ps.lm("local"),
                budget=ps.Budget(calls=BUDGET),
                store=arguments.store,
                seed=seed,
                progress=progress,
            )
        print(f"\nseed {seed}\n{compiled.report}")
        runs += lines(compiled.report, seed)
    write_results("sentiment", runs)
    print(f"\nmean over {arguments.seeds} seeds, {runs[0]['n_test']:,} test examples each:")
    for rung in dict.fromkeys(run["optimizer"] for run in runs):
        scores = [run["score"] for run in runs if run["optimizer"] == rung]
        print(f"  {rung:<28}{numbers.percent(sum(scores) / len(scores))}")
    winners = [run["score"] for run in runs if run["winner"]]
    print(f"  {'progspace':<28}{numbers.percent(sum(winners) / len(winners))}")


if __name__ == "__main__":
    main()
