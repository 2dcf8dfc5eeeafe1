"""Does selection fool itself? The dev score told of the chosen candidate, against its score on examples not seen.

    python -m progspace.benchmarks.selection [--runs 1000]

The best of many candidates on few examples is often a lucky one (the winner's curse). Each run draws a dev
set and a held-out set of examples, chooses a candidate, and compares the dev score that is told of it with its mean on
the held-out examples:

- ``argmax``: the cells are spread evenly over all candidates; the highest mean is chosen, and told.
- ``race, raw``: the default race chooses on three quarters of dev, as in a compile; the mean over the chosen one's own
  cells is told.
- ``race, model``: the same, and then the chosen one and the first candidate run on the last quarter of dev; the
  posterior mean by the quality model is told. This is what a rung is kept by.
- ``confirm set``: the chosen one's mean on that last quarter, which no race looked at. The report tells it too.

All that is bought counts as cells. How much easier the dev examples are than those held out, for all candidates alike,
is the luck of the draw: it is taken off, as it is 0 on average and but blurs the picture.

On recorded matrices 120 examples are dev and the other 80 held out, drawn anew for each run. Made-up matrices are drawn
anew too, with 2,000 examples held out: a logistic model with effects of format, demonstrations and instruction, effects
that are a candidate's own, and examples of different difficulty, some of it for one format only; in
``synthetic, alike`` nearly all candidates are equally good, which is where luck fools most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..evaluation.quality import posterior
from ..optimizers.arena import RACED
from ..optimizers.races.registry import DEFAULT_RACE, RACES
from .replay import DEV, Array, Recording, recordings, replay
from .results import write_results
from .simulations import half_width, simulation_parser, workers

__all__ = ["simulate", "synthetic_matrix"]

CELLS = (500, 1000, 2000)
HELD_OUT = 2000
MADE_UP = {"synthetic, apart": (0.8, 0.3), "synthetic, alike": (0.05, 0.05)}


def synthetic_matrix(
    seed: int, *, candidates: int = 64, examples: int = DEV + HELD_OUT, shared: float = 0.8, own: float = 0.3
) -> Recording:
    """Makes up a matrix of 0/1 scores.

    Args:
        seed: Of all draws.
        candidates: Rows.
        examples: Columns.
        shared: Standard deviation, in logits, of the formats' effects; those of demonstrations are half as large, those
            of instructions a fifth.
        own: Standard deviation of what is a candidate's own.
    """
    generator = np.random.default_rng(seed)
    groups = np.stack([generator.integers(0, kinds, candidates) for kinds in (6, 2, 6, 4)], axis=1)
    quality = 0.3 + generator.normal(0, own, candidates)
    for column, scale in zip(groups.T, (1.0, 0.1, 0.2, 0.5), strict=True):
        quality = quality + generator.normal(0, shared * scale, 6)[column]
    logits = quality[:, None] + generator.normal(0, 1.2, examples)
    logits = logits + generator.normal(0, 0.7, (6, examples))[groups[:, 0]]
    logits = logits + generator.normal(0, 0.7, (candidates, examples))
    scores = (generator.random(logits.shape) < 1 / (1 + np.exp(-1.5 * logits))).astype(float)
    return Recording("synthetic", scores, generator.uniform(40, 400, candidates), groups)


def _told(matrix: Recording, dev: int, name: str, seed: int, cells: int) -> dict[str, tuple[int, float, float]]:
    """By each way, whom it chooses, which dev score it tells, and how easy the examples are that it tells it of.

    Args:
        matrix: Its first ``dev`` examples are those of dev.
        dev: How many.
        name: Of the race.
        seed: Of the race.
        cells: What may be bought.
    """
    scores, raced = matrix.scores[:, :dev], round(RACED * dev)
    evenly = max(1, min(dev, cells // len(scores)))
    means = scores[:, :evenly].mean(axis=1)
    shown = Recording(matrix.task, scores[:, :raced], matrix.tokens, matrix.groups)
    ((best, _, board),) = replay(RACES[name](seed), shown, [cells - 2 * (dev - raced)])
    known = np.full(scores.shape, np.nan)
    known[:, :raced] = board.scores
    known[[best, 0], raced:] = scores[[best, 0], raced:]
    model = posterior(replace(board, scores=known)).mean
    ease, fresh_ease = float(scores.mean()), float(scores[:, raced:].mean())
    return {
        "argmax": (int(means.argmax()), float(means.max()), ease),
        "race, raw": (best, float(board.means[best]), ease),
        "race, model": (best, float(model[best]), ease),
        "confirm set": (best, float(scores[best, raced:].mean()), fresh_ease),
    }


def simulate(job: tuple[Recording | str, int, int]) -> list[tuple[str, int, float, float]]:
    """One run on a recording, or on a made-up matrix of a name: way, cells, told minus true, true score."""
    source, dev, seed = job
    if isinstance(source, str):
        shared, own = MADE_UP[source]
        matrix = synthetic_matrix(seed, shared=shared, own=own)
    else:
        matrix = source
    generator = np.random.default_rng(seed)
    rows, columns = generator.permutation(len(matrix.scores)), generator.permutation(matrix.scores.shape[1])
    drawn = Recording(matrix.task, matrix.scores[np.ix_(rows, columns)], matrix.tokens[rows], matrix.groups[rows])
    truth = drawn.scores[:, dev:].mean(axis=1)
    outcomes = []
    for cells in CELLS:
        for way, (best, told, ease) in _told(drawn, dev, DEFAULT_RACE, seed, cells).items():
            easier = ease - float(truth.mean())
            outcomes.append((way, cells, told - float(truth[best]) - easier, float(truth[best])))
    return outcomes


def _lines(task: str, outcomes: Sequence[tuple[str, int, float, float]], runs: int) -> list[dict[str, Any]]:
    lines = []
    for way, cells in dict.fromkeys((way, cells) for way, cells, _, _ in outcomes):
        off: Array = np.array([each[2] for each in outcomes if each[:2] == (way, cells)])
        true = np.mean([each[3] for each in outcomes if each[:2] == (way, cells)])
        half = half_width(off)
        lines.append(
            {
                "task": task, "way": way, "cells": cells, "runs": runs, "bias": round(float(off.mean()), 5),
                "low": round(float(off.mean()) - half, 5), "high": round(float(off.mean()) + half, 5),
                "rmse": round(float(np.sqrt((off**2).mean())), 5), "held_out": round(float(true), 5),
            }
        )  # fmt: skip
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the simulation; writes ``results/selection.jsonl``."""
    arguments = simulation_parser(__doc__, runs=1000).parse_args(argv)
    lines: list[dict[str, Any]] = []
    print(f"{'told minus true, points':26}{'cells':>6}{'bias':>8}{'95 %':>16}{'rmse':>8}{'held out':>10}")
    with workers(arguments.workers) as pool:
        sources: list[Recording | str] = [*recordings(), *MADE_UP]
        for source in sources:
            task = source if isinstance(source, str) else source.task
            jobs = [(source, DEV, seed) for seed in range(arguments.runs)]
            outcomes = [outcome for run in pool.imap(simulate, jobs, chunksize=25) for outcome in run]
            fresh = _lines(task, outcomes, arguments.runs)
            lines += fresh
            print(task)
            for line in fresh:
                bias, low, high, rmse = (100 * line[key] for key in ("bias", "low", "high", "rmse"))
                print(f"  {line['way']:24}{line['cells']:>6}{bias:>+8.2f}{low:>+8.2f}{high:>+8.2f}{rmse:>8.2f}"
                      f"{100 * line['held_out']:>10.2f}", flush=True)  # fmt: skip
    write_results("selection", lines, arguments.results)


if __name__ == "__main__":
    main()
