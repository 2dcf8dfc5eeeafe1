"""Replays races on recorded matrices: how good is the chosen candidate, for so many cells?

    python -m progspace.benchmarks.replay [--runs 1000] [--tasks …] [--races …] [--plot] [--bounds]

Each run draws 120 of a recording's 200 examples as dev, their order, and the order of the 64 candidates; then a race
buys cells of that matrix until so many are spent. Its *regret* is the best dev mean minus that of the candidate it
chose, both over all 120 examples: what was lost by not buying everything, which is what a race can be blamed for. That
a dev set of 120 is itself but a sample is another matter, and no race can mend it: ``regret_all`` takes the mean over
all 200 examples for the truth, and the ``full`` line of each task is the regret of someone who bought every cell.

No race knows the recordings beforehand. The shape of ``posterior_halving`` (rank by posterior mean, halve, begin with
one example) and the one number that was tuned, ``least_own``, were chosen on ``movie-sentiment`` and on made-up
matrices (``synthetic_matrix`` in ``benchmarks/selection.py``); the regrets on ``sports-understanding`` had
been seen before that number was fixed, and ``boolean-expressions`` was replayed only afterwards.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..optimizers.board import Board
from ..optimizers.races.base import Race, RaceMaker
from ..optimizers.races.registry import DEFAULT_RACE, RACES
from ..optimizers.races.wilcoxon import Wilcoxon
from .bounds import BOUNDS, Told
from .results import read_results, write_results
from .simulations import half_width, simulation_parser, workers

__all__ = ["Recording", "recordings", "replay", "summary"]

RECORDINGS = Path(__file__).parent / "recordings"
CELLS = (250, 500, 1000, 2000, 4000)
DEV = 120
CHUNK = 25  # runs that a worker does at a time
PEERS = ("blocks", "wilcoxon", "successive_halving")

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recording:
    """A full matrix.

    Attributes:
        task: Its name.
        scores: Candidates × examples.
        tokens: Of each candidate, an example.
        groups: Candidates × what they are made of: format, hints, instruction, number of demonstrations.
        shown: How many demonstrations each has; empty where that is not known.
    """

    task: str
    scores: Array
    tokens: Array
    groups: NDArray[np.int64]
    shown: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def recordings(tasks: Sequence[str] | None = None) -> list[Recording]:
    """Reads the recorded matrices, or those of some tasks."""
    read = []
    for path in sorted(RECORDINGS.glob("*.json")):
        if tasks is not None and path.stem not in tasks:
            continue
        recorded = json.loads(path.read_text(encoding="utf-8"))
        candidates = recorded["candidates"]
        parts = [
            (each["format"].replace(", hints", ""), "hints" in each["format"], each["instruction"],
             each["demonstrations"]) for each in candidates
        ]  # fmt: skip
        codes = [
            {value: code for code, value in enumerate(dict.fromkeys(column))} for column in zip(*parts, strict=True)
        ]
        read.append(
            Recording(
                recorded["task"],
                np.array([each["scores"] for each in candidates], np.float64),
                np.array([each["tokens"] for each in candidates], np.float64),
                np.array([[code[value] for code, value in zip(codes, row, strict=True)] for row in parts], np.int64),
                np.array([each["demonstrations"] for each in candidates], np.int64),
            )
        )
    return read


def replay(race: Race, matrix: Recording, marks: Sequence[int]) -> list[tuple[int, int, Board]]:
    """Lets a race buy until the last mark; gives at each mark whom it would choose, the cells bought, and the board.

    At a mark it has bought no more cells than that.
    """
    scores = np.full(matrix.scores.shape, np.nan)
    bought, tokens = np.zeros(len(scores), np.int64), np.full(len(scores), np.nan)
    spent, waiting, told = 0, list(marks), []
    while True:
        board = Board(scores, bought, tokens, matrix.groups, marks[-1] - spent)
        purchase = race.step(board)
        rows = [] if purchase is None else [row for row in purchase.candidates if bought[row] < purchase.until]
        until = 0 if purchase is None else purchase.until
        cost = sum(until - int(bought[row]) for row in rows)
        if cost > marks[-1] - spent:
            raise RuntimeError(f"{type(race).__name__} buys {cost} cells with {marks[-1] - spent} left")
        while waiting and spent + cost > waiting[0]:
            told.append((race.best(board), spent, board))
            waiting.pop(0)
        if purchase is None or (not rows and spent >= marks[-1]):
            return told + [(race.best(board), spent, board)] * len(waiting)
        if rows:
            scores, bought, tokens = scores.copy(), bought.copy(), tokens.copy()
        for row in rows:
            scores[row, bought[row] : until] = matrix.scores[row, bought[row] : until]
            bought[row], tokens[row] = until, matrix.tokens[row]
        spent += cost


def drawn(matrix: Recording, dev: int, seed: int) -> tuple[Recording, Array, Array]:
    """Draws a dev set, its order and that of the candidates; gives the true means over dev, and over all examples."""
    generator = np.random.default_rng(seed)
    candidates = generator.permutation(len(matrix.scores))
    examples = generator.permutation(matrix.scores.shape[1])[:dev]
    shown = matrix.scores[np.ix_(candidates, examples)]
    taken = Recording(matrix.task, shown, matrix.tokens[candidates], matrix.groups[candidates])
    return taken, shown.mean(axis=1), matrix.scores[candidates].mean(axis=1)


def _maker(name: str, matrix: Recording) -> RaceMaker:
    if name == "wilcoxon":
        return lambda seed: Wilcoxon(seed, verdicts=_VERDICTS)
    if name in BOUNDS:
        return lambda seed: Told(seed, matrix.scores, matrix.groups, name)
    return RACES[name]


_VERDICTS: dict[tuple[float, ...], bool] = {}  # a worker process' own: Optuna's pruner takes a while to say the same


def _chunk(job: tuple[Recording, str, int, int, tuple[int, ...]]) -> list[tuple[int, float, float, int]]:
    """Runs a race some times; gives cells allowed, the two regrets, and cells spent."""
    matrix, name, first, runs, cells = job
    outcomes = []
    for seed in range(first, first + runs):
        taken, dev, everything = drawn(matrix, DEV, seed)
        # What is affordable shapes most races, so that each limit is a race of its own; Optuna's pruner does not ask.
        limits = [cells] if name == "wilcoxon" else [(limit,) for limit in cells]
        for marks in limits:
            told = replay(_maker(name, taken)(seed), taken, marks)
            for limit, (best, spent, _) in zip(marks, told, strict=True):
                regret = float(dev.max() - dev[best]), float(everything.max() - everything[best])
                outcomes.append((limit, *regret, spent))
    return outcomes


def _run(matrix: Recording, names: Sequence[str], runs: int, pool: Any) -> Iterator[dict[str, Any]]:
    full = []
    for seed in range(runs):
        _, dev, everything = drawn(matrix, DEV, seed)
        full.append(float(everything.max() - everything[dev.argmax()]))
    size = matrix.scores.shape
    yield _line(matrix.task, "full", size[0] * DEV, np.zeros(runs), np.array(full), np.full(runs, size[0] * DEV))
    for name in names:
        started = time.monotonic()
        jobs = [(matrix, name, first, min(CHUNK, runs - first), CELLS) for first in range(0, runs, CHUNK)]
        outcomes = np.array([outcome for chunk in pool.imap(_chunk, jobs) for outcome in chunk])
        for limit in CELLS:
            of_limit = outcomes[outcomes[:, 0] == limit]
            yield _line(matrix.task, name, limit, of_limit[:, 1], of_limit[:, 2], of_limit[:, 3])
        print(f"{matrix.task}: {name}, {time.monotonic() - started:.0f} s", flush=True)


def _keep(lines: list[dict[str, Any]], folder: Path, name: str) -> None:
    """Writes what is new in place of what it says anew; other tasks and races stay."""
    told = {(line["task"], line["race"]) for line in lines}
    path = folder / f"{name}.jsonl"
    before = read_results(name, folder) if path.exists() else []
    kept = [line for line in before if (line["task"], line["race"]) not in told] + lines
    order = ["full", *RACES, *BOUNDS]
    kept.sort(key=lambda line: (line["task"], order.index(line["race"]), line["cells"]))
    write_results(name, kept, folder)


def _line(task: str, race: str, cells: int, regret: Array, regret_all: Array, spent: Array) -> dict[str, Any]:
    half, half_all = half_width(regret), half_width(regret_all)
    mean, mean_all = float(regret.mean()), float(regret_all.mean())
    return {
        "task": task, "race": race, "cells": cells, "runs": int(regret.size), "dev": DEV,
        "regret": round(mean, 5), "low": round(max(0.0, mean - half), 5), "high": round(mean + half, 5),
        "regret_all": round(mean_all, 5), "low_all": round(max(0.0, mean_all - half_all), 5),
        "high_all": round(mean_all + half_all, 5), "spent": round(float(spent.mean()), 1),
    }  # fmt: skip


def summary(lines: Sequence[dict[str, Any]]) -> str:
    """Tells the regrets in points, and how the default race's compares with each peer's: means over tasks."""
    tasks = list(dict.fromkeys(line["task"] for line in lines))
    races = [race for race in dict.fromkeys(line["race"] for line in lines) if race != "full"]
    found = {(line["task"], line["race"], line["cells"]): line for line in lines}
    told = []
    for task in [*tasks, "mean"]:
        told.append(f"{task:24}" + "".join(f"{cells:>8}" for cells in CELLS) + "   regret, points")
        for race in races:
            row = [_mean(found, tasks if task == "mean" else [task], race, cells) for cells in CELLS]
            ratios = [
                f"{_mean(found, tasks if task == 'mean' else [task], DEFAULT_RACE, cells) / value:8.2f}"
                if value
                else " " * 8
                for cells, value in zip(CELLS, row, strict=True)
            ]
            compared = f"   {DEFAULT_RACE} / it:" + "".join(ratios) if race in PEERS else ""
            told.append(f"  {race:22}" + "".join(f"{100 * value:8.2f}" for value in row) + compared)
    return "\n".join(told)


def _mean(found: dict[tuple[str, str, int], dict[str, Any]], tasks: Sequence[str], race: str, cells: int) -> float:
    values = [found[task, race, cells]["regret"] for task in tasks if (task, race, cells) in found]
    return sum(values) / len(values) if values else math.nan


def plot(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws regret against cells, a panel a task.

    Raises:
        ImportError: matplotlib is missing: ``pip install "progspace[plots]"``.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(line["task"] for line in lines))
    races = [race for race in RACES if any(line["race"] == race for line in lines)]
    colours = dict(
        zip(RACES, ("#c1272d", "#1f77b4", "#2a9d5c", "#7a7a7a", "#e08e0b", "#8e5bb5", "#444444"), strict=False)
    )
    columns = len(tasks) if len(tasks) <= 3 else math.ceil(math.sqrt(len(tasks)))
    rows = math.ceil(len(tasks) / columns)
    figure, panels = pyplot.subplots(rows, columns, figsize=(4.6 * columns, 3.6 * rows), squeeze=False, sharex=True)
    for panel, task in zip(panels.flat, tasks, strict=False):
        for race in races:
            of_race = [line for line in lines if line["task"] == task and line["race"] == race]
            cells, default, colour = [line["cells"] for line in of_race], race == DEFAULT_RACE, colours[race]
            regret, low, high = ([100 * line[key] for line in of_race] for key in ("regret", "low", "high"))
            width = 2.4 if default else 1.3
            panel.plot(cells, regret, "o-", color=colour, label=race.replace("_", " "), markersize=3.5, linewidth=width)
            panel.fill_between(cells, low, high, color=colour, alpha=0.15, linewidth=0)
        panel.set_title(task, fontsize=11)
        panel.set_xscale("log", base=2)
        panel.set_xticks(CELLS, [str(each) for each in CELLS])
        panel.minorticks_off()
        panel.set_ylim(bottom=0)
        panel.grid(axis="y", color="#dddddd", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in list(panels.flat)[len(tasks) :]:
        panel.set_visible(False)
    for row in panels:
        row[0].set_ylabel("regret, points")
    for panel in panels[-1]:
        panel.set_xlabel("cells bought at most")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=min(6, len(labels)), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.3 / figure.get_figheight(), 1, 1))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Replays the races; writes ``results/replay.jsonl`` and a chart."""
    parser = simulation_parser(__doc__, runs=1000)
    parser.add_argument("--tasks", nargs="*", help="recordings; all that there are by default")
    parser.add_argument("--races", nargs="*", default=list(RACES), choices=list(RACES))
    parser.add_argument("--plot", action="store_true", help="draw the chart of the results that there are, and no more")
    parser.add_argument(
        "--bounds", action="store_true",
        help="what a model could spare that is told what it has to learn, beside the races; into replay_bounds.jsonl",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    name, races = "replay", arguments.races
    if arguments.bounds:
        name, races = "replay_bounds", [*races, *BOUNDS]
    if not arguments.plot:
        matrices = recordings(arguments.tasks)
        if not matrices:
            parser.error(f"there are no recordings in {RECORDINGS}: python -m progspace.benchmarks.record")
        with workers(arguments.workers) as pool:
            for matrix in matrices:
                _keep(list(_run(matrix, races, arguments.runs, pool)), arguments.results, name)
    lines = read_results(name, arguments.results)
    print(summary(lines))
    if not arguments.bounds:
        plot(lines, arguments.results / "replay.svg")


if __name__ == "__main__":
    main()
