"""By what rule should a rung's best take the place of the program below it? Rules replayed on recorded matrices.

    python -m progspace.benchmarks.promotion [--runs 500]

Each run draws 110 of a recording's 200 examples as dev: 86 to race on, 24 fresh. Ten candidates race for 110 cells, and
the best of them is the incumbent; then 18 others join, all race for 250 more cells (or for 60, as where a budget ends),
and the likeliest of the others meets the incumbent on the fresh examples. Each rule then says whether it takes its
place. What a rule *gains* is what that is worth on the 90 examples that neither was seen on, in points, a mean over
runs: 0 for a rule that keeps every incumbent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.quality import posterior
from ..optimizers.board import Board
from ..optimizers.objectives import Objectives
from ..optimizers.promotion import CHEAPER
from ..optimizers.races.posterior_halving import PosteriorHalving
from .replay import Recording, recordings
from .results import write_results
from .simulations import half_width, simulation_parser, workers

__all__ = ["RULES", "Meeting", "meet"]

RACED, FRESH = 86, 24
BELOW, ABOVE = 10, 18
FIRST = 110
CELLS = (60, 250)
TOLERANCE = Objectives().tolerance

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Meeting:
    """A rung's best and the incumbent.

    Attributes:
        better: How probably it is better, by the quality model.
        clearly: How probably by more than the tolerance.
        dearer: Whether it takes more tokens.
        paired: Its lead on all examples that both ran on, fresh ones too.
        fresh: Its lead on the fresh ones.
        raced: Cells that the race bought of it.
        gain: Its lead on unseen examples.
    """

    better: float
    clearly: float
    dearer: bool
    paired: float
    fresh: float
    raced: int
    gain: float

    @property
    def kept(self) -> bool:
        """The rule of the search: better, and by more than the tolerance where it is dearer."""
        return (self.clearly if self.dearer else self.better) > 0.5


RULES: dict[str, Callable[[Meeting], bool]] = {
    "the search's": lambda each: each.kept,
    "better, whatever it costs": lambda each: each.better > 0.5,
    "better with 70 %": lambda each: each.better > 0.7,
    "better with 90 %": lambda each: each.better > 0.9,
    "the search's, and ahead where both ran": lambda each: each.kept and each.paired > 0,
    "the search's, and not behind on fresh ones": lambda each: each.kept and each.fresh >= 0,
    "the search's, and raced on ten": lambda each: each.kept and each.raced >= 10,
    "ahead on fresh ones": lambda each: each.fresh > 0,
}


def meet(job: tuple[Recording, int, int]) -> Meeting:
    """One run: the matrix, the cells of the second race, and the seed."""
    matrix, cells, seed = job
    generator = np.random.default_rng(seed)
    columns = generator.permutation(matrix.scores.shape[1])
    rows = generator.permutation(len(matrix.scores))[: BELOW + ABOVE]
    full = matrix.scores[np.ix_(rows, columns[: RACED + FRESH])]
    unseen = matrix.scores[np.ix_(rows, columns[RACED + FRESH :])].mean(axis=1)
    tokens, groups = matrix.tokens[rows], matrix.groups[rows]
    bought = np.zeros(len(rows), np.int64)

    def board(order: Sequence[int], affordable: int, fresh: Sequence[int] = ()) -> Board:
        scores = np.where(np.arange(RACED + FRESH) < bought[order][:, None], full[order], np.nan)
        for row in fresh:
            scores[row, RACED:] = full[order[row], RACED:]
        shown = scores if fresh else scores[:, :RACED]
        return Board(shown, bought[order], np.where(bought[order], tokens[order], np.nan), groups[order], affordable)

    def raced(order: Sequence[int], affordable: int, seed: int) -> int:
        race = PosteriorHalving(seed)
        while (purchase := race.step(board(order, affordable))) is not None:
            wanted = [order[row] for row in purchase.candidates if bought[order[row]] < purchase.until]
            if not wanted and not purchase.dropped:
                break
            affordable -= int((purchase.until - bought[wanted]).sum())
            bought[wanted] = purchase.until
        return order[race.best(board(order, affordable))]

    below = list(range(BELOW))
    incumbent = raced(below, FIRST, seed)
    order = [incumbent, *(row for row in range(len(rows)) if row != incumbent)]
    raced(order, cells, seed + 1)
    likely = np.where(bought[order] > 0, posterior(board(order, 0, [0])).mean, -math.inf)
    likely[0] = -math.inf
    best = int(likely.argmax())
    quality, other = posterior(board(order, 0, [0, best])), order[best]
    both = int(min(bought[other], bought[incumbent]))
    lead = full[other] - full[incumbent]
    return Meeting(
        better=float(quality.probability_better(0)[best]),
        clearly=float(quality.probability_better(0, by=TOLERANCE)[best]),
        dearer=bool(tokens[other] > tokens[incumbent] / CHEAPER),
        paired=float(np.concatenate([lead[:both], lead[RACED:]]).mean()),
        fresh=float(lead[RACED:].mean()),
        raced=int(bought[other]),
        gain=float(unseen[other] - unseen[incumbent]),
    )


def _lines(task: str, cells: int, meetings: Sequence[Meeting]) -> list[dict[str, Any]]:
    lines = []
    for name, rule in RULES.items():
        kept = np.array([rule(each) for each in meetings])
        gains: Array = np.array([each.gain for each in meetings]) * kept
        half = half_width(gains)
        lines.append(
            {
                "task": task, "rule": name, "cells": cells, "runs": len(meetings), "kept": round(float(kept.mean()), 4),
                "gain": round(float(gains.mean()), 5), "low": round(float(gains.mean()) - half, 5),
                "high": round(float(gains.mean()) + half, 5),
            }
        )  # fmt: skip
    return lines


def summary(lines: Sequence[dict[str, Any]]) -> str:
    """Tells each rule's gain in points, by task and in the mean."""
    tasks = list(dict.fromkeys(line["task"] for line in lines))
    told = []
    for cells in dict.fromkeys(line["cells"] for line in lines):
        told.append(f"gain, points; {cells} cells".ljust(46) + "".join(f"{task[:12]:>14}" for task in [*tasks, "mean"]))
        for rule in RULES:
            gains = [line["gain"] for line in lines if (line["cells"], line["rule"]) == (cells, rule)]
            told.append(f"  {rule:44}" + "".join(f"{100 * gain:>14.2f}" for gain in [*gains, sum(gains) / len(gains)]))
    return "\n".join(told)


def main(argv: Sequence[str] | None = None) -> None:
    """Replays the rules; writes ``results/promotion.jsonl``."""
    arguments = simulation_parser(__doc__, runs=500).parse_args(argv)
    lines: list[dict[str, Any]] = []
    with workers(arguments.workers) as pool:
        for cells in CELLS:
            for matrix in recordings():
                jobs = [(matrix, cells, seed) for seed in range(arguments.runs)]
                lines += _lines(matrix.task, cells, list(pool.imap(meet, jobs, chunksize=25)))
                print(f"{matrix.task}, {cells} cells: done", flush=True)
    write_results("promotion", lines, arguments.results)
    print(summary(lines))


if __name__ == "__main__":
    main()
