"""By what rule should a rung's best take the place of the program below it? Rules replayed on recorded matrices.

    python -m progspace.benchmarks.promotion [--runs 500]

Each run draws 110 of a recording's 200 examples as dev: 86 to race on, 24 fresh. Ten candidates race for 110 cells, and
the best of them is the incumbent; then 18 others join, all race for 250 more cells (or for 60, as where a budget ends),
and the likeliest of the others meets the incumbent on the fresh examples. Each rule then says whether it takes its
place. What a rule *gains* is what that is worth on the 90 examples that neither was seen on, in points, a mean over
runs: 0 for a rule that keeps every incumbent.

Then the last word of a search: a program without demonstrations stands for the one as declared, 28 others race for 350
cells, and the likeliest of them and the declared one run on all of dev. It ships if it is better with a probability of
90 %: by dev, or, where that leaves it open, by 60 more examples as well, which stand for train; the gain is that on
the last 30.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.quality import posterior
from ..optimizers.arena import FIRST as FIRST_LOOK
from ..optimizers.board import Board
from ..optimizers.objectives import Objectives
from ..optimizers.promotion import CHEAPER
from ..optimizers.races.posterior_halving import PosteriorHalving
from .replay import Recording, recordings
from .results import write_results
from .simulations import half_width, simulation_parser, workers

__all__ = ["RULES", "Meeting", "meet", "prove"]

RACED, FRESH = 86, 24
BELOW, ABOVE = 10, 18
FIRST = 110
CELLS = (60, 250)
TRAIN, ALL = 60, 350
PROVEN = ("proven on dev", "proven on dev and train")
SURE = Objectives().sure
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


class _Races:
    """Rows of a matrix, and what was bought of them: of the first columns for races, the others are fresh."""

    def __init__(self, matrix: Recording, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        self.full = matrix.scores[np.ix_(rows, columns)]
        self.bought = np.zeros(len(rows), np.int64)
        self._tokens, self._groups = matrix.tokens[rows], matrix.groups[rows]

    def board(self, order: Sequence[int], affordable: int, fresh: Sequence[int] = (), width: int = RACED) -> Board:
        """What is known: of these rows, in this order, some of them on the fresh columns too, up to a width."""
        bought, tokens = self.bought[order], self._tokens[order]
        scores = np.where(np.arange(width) < bought[:, None], self.full[order, :width], np.nan)
        for row in fresh:
            scores[row, RACED:] = self.full[order[row], RACED:width]
        return Board(scores, bought, np.where(bought, tokens, np.nan), self._groups[order], affordable)

    def run(self, order: Sequence[int], affordable: int, seed: int) -> int:
        """Races for so many cells; gives the best row."""
        race = PosteriorHalving(seed)
        while (purchase := race.step(self.board(order, affordable))) is not None:
            wanted = [order[row] for row in purchase.candidates if self.bought[order[row]] < purchase.until]
            if not wanted and not purchase.dropped:
                break
            affordable -= int((purchase.until - self.bought[wanted]).sum())
            self.bought[wanted] = purchase.until
        return order[race.best(self.board(order, affordable))]

    def likeliest(self, order: Sequence[int], width: int, fresh: Sequence[int] = ()) -> int:
        """The place in the order of the best of what was bought, but for the first."""
        likely = np.where(self.bought[order] > 0, posterior(self.board(order, 0, fresh, width)).mean, -math.inf)
        likely[0] = -math.inf
        return int(likely.argmax())


def meet(job: tuple[Recording, int, int]) -> Meeting:
    """One run: the matrix, the cells of the second race, and the seed."""
    matrix, cells, seed = job
    generator = np.random.default_rng(seed)
    columns = generator.permutation(matrix.scores.shape[1])
    rows = generator.permutation(len(matrix.scores))[: BELOW + ABOVE]
    dev = RACED + FRESH
    races = _Races(matrix, rows, columns[:dev])
    unseen = matrix.scores[np.ix_(rows, columns[dev:])].mean(axis=1)
    incumbent = races.run(range(BELOW), FIRST, seed)
    order = [incumbent, *(row for row in range(len(rows)) if row != incumbent)]
    races.run(order, cells, seed + 1)
    best = races.likeliest(order, dev, [0])
    quality, other = posterior(races.board(order, 0, [0, best], dev)), order[best]
    both = int(min(races.bought[other], races.bought[incumbent]))
    lead = races.full[other] - races.full[incumbent]
    return Meeting(
        better=float(quality.probability_better(0)[best]),
        clearly=float(quality.probability_better(0, by=TOLERANCE)[best]),
        dearer=bool(matrix.tokens[rows[other]] > matrix.tokens[rows[incumbent]] / CHEAPER),
        paired=float(np.concatenate([lead[:both], lead[RACED:]]).mean()),
        fresh=float(lead[RACED:].mean()),
        raced=int(races.bought[other]),
        gain=float(unseen[other] - unseen[incumbent]),
    )


def prove(job: tuple[Recording, int]) -> tuple[bool, bool, float]:
    """One run, the matrix and the seed: whether the winner ships by dev, and by train as well; and its gain."""
    matrix, seed = job
    generator = np.random.default_rng(seed)
    columns = generator.permutation(matrix.scores.shape[1])
    bare = np.flatnonzero(matrix.shown == 0)
    declared = bare[seed % bare.size]
    others = [row for row in generator.permutation(len(matrix.scores)) if row != declared]
    rows = np.array([declared, *others[: BELOW + ABOVE]])
    dev, known = RACED + FRESH, RACED + FRESH + TRAIN
    races, order = _Races(matrix, rows, columns[:known]), range(len(rows))
    unseen = matrix.scores[np.ix_(rows, columns[known:])].mean(axis=1)
    races.bought[0] = FIRST_LOOK
    races.run(order, ALL, seed)
    best = races.likeliest(order, RACED)
    races.bought[[0, best]] = RACED

    def better(width: int) -> float:
        return float(posterior(races.board(order, 0, [0, best], width)).probability_better(0)[best])

    by_dev = in_all = better(dev)
    for width in range(dev + 10, known + 1, 10):
        if not 0.5 < in_all <= SURE:
            break
        in_all = better(width)
    return by_dev > SURE, in_all > SURE, float(unseen[best] - unseen[0])


def _line(task: str, rule: str, cells: int, kept: Sequence[bool], leads: Sequence[float]) -> dict[str, Any]:
    gains: Array = np.array(leads) * np.array(kept)
    gain, half = float(gains.mean()), half_width(gains)
    return {
        "task": task, "rule": rule, "cells": cells, "runs": len(kept), "kept": round(float(np.mean(kept)), 4),
        "gain": round(gain, 5), "low": round(gain - half, 5), "high": round(gain + half, 5),
    }  # fmt: skip


def summary(lines: Sequence[dict[str, Any]]) -> str:
    """Tells each rule's gain in points, by task and in the mean."""
    tasks = list(dict.fromkeys(line["task"] for line in lines))
    told = []
    for cells in dict.fromkeys(line["cells"] for line in lines):
        told.append(f"gain, points; {cells} cells".ljust(46) + "".join(f"{task[:12]:>14}" for task in [*tasks, "mean"]))
        for rule in dict.fromkeys(line["rule"] for line in lines if line["cells"] == cells):
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
                met = list(pool.imap(meet, jobs, chunksize=25))
                leads = [each.gain for each in met]
                lines += [
                    _line(matrix.task, name, cells, [rule(each) for each in met], leads) for name, rule in RULES.items()
                ]
                print(f"{matrix.task}, {cells} cells: done", flush=True)
        for matrix in recordings():
            ends = list(pool.imap(prove, [(matrix, seed) for seed in range(arguments.runs)], chunksize=25))
            *shipped, leads = map(list, zip(*ends, strict=True))
            lines += [_line(matrix.task, rule, ALL, kept, leads) for rule, kept in zip(PROVEN, shipped, strict=True)]
            print(f"{matrix.task}, the last word: done", flush=True)
    write_results("promotion", lines, arguments.results)
    print(summary(lines))


if __name__ == "__main__":
    main()
