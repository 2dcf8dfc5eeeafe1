"""What the results of the peers' benchmark say, as text."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ..evaluation import numbers
from .peer_runs import OPTIMIZERS, PROGSPACE

__all__ = ["LAYOUTS", "Entry", "calls_to_reach", "entries", "losses", "table"]


@dataclass(frozen=True, slots=True)
class Entry:
    """An optimizer on a task at a budget, over its seeds.

    Attributes:
        score: Mean held-out score.
        low: Mean lower end of the runs' 95 % intervals: seeds share test rows, so they do not narrow it.
        high: Mean upper end.
        seeds: Runs.
        fell_back: Runs that ended where they had started.
    """

    score: float
    low: float
    high: float
    seeds: int
    fell_back: int


LAYOUTS = {"default": "in DSPy's default format", "best": "in our best format"}
"""The formats that peers are run in, in words."""

Place = tuple[str, int]
"""A task and a budget."""


def entries(runs: Iterable[Mapping[str, Any]]) -> dict[Place, dict[tuple[str, str], Entry]]:
    """Gives, by task and budget, each optimizer's entry by its name and format."""
    groups: dict[Place, dict[tuple[str, str], list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        groups[run["task"], run["budget"]][run["optimizer"], run["format"]].append(run)
    return {
        place: {name: _entry(lines) for name, lines in sorted(by_name.items(), key=lambda item: _rank(item[0]))}
        for place, by_name in sorted(groups.items())
    }


def calls_to_reach(
    found: Mapping[Place, Mapping[tuple[str, str], Entry]], budget: int, layout: str
) -> dict[str, tuple[str, int | None]]:
    """Gives, by task, the best peer at a budget and the smallest budget at which progspace's mean reaches its score.

    None where no budget of progspace's reaches it. Tasks on which there is no such peer or no run of progspace are left
    out.

    Args:
        found: Entries.
        budget: The peers'.
        layout: Their format: ``default``, or ``best``, which is half of what progspace has to search.
    """
    reached: dict[str, tuple[str, int | None]] = {}
    for (task, each), by_name in found.items():
        peers = {name: entry for name, entry in by_name.items() if name[0] != PROGSPACE and name[1] == layout}
        own = sorted(
            (calls, entry.score)
            for (other, calls), named in found.items()
            for (optimizer, _), entry in named.items()
            if other == task and optimizer == PROGSPACE
        )
        if each == budget and peers and own:
            best = max(peers, key=lambda name: peers[name].score)
            reached[task] = (
                best[0],
                next((calls for calls, score in own if score >= peers[best].score), None),
            )
    return reached


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Gives scores by task, budget and optimizer, progspace's losses, and its calls to the best peer's score."""
    if not runs:
        return "no runs yet"
    found = entries(runs)
    lines: list[str] = []
    lost: list[str] = []
    for (task, budget), by_name in found.items():
        lines += ["", f"{task}, {budget:,} calls"]
        best = max(entry.score for entry in by_name.values())
        for (optimizer, layout), entry in by_name.items():
            mark = "*" if entry.score == best else " "
            back = f"  fell back {entry.fell_back} of {entry.seeds}" if entry.fell_back else ""
            lines.append(
                f" {mark} {optimizer:<34}{layout:<9}{numbers.percent(entry.score):>7}  "
                f"{_span(entry)}  {entry.seeds} seed{'s' if entry.seeds > 1 else ''}{back}"
            )
        lost += [f"  {each}" for each in losses(task, budget, by_name)]
    lines += ["", "Losses of progspace (a peer's mean is higher):", *(lost or ["  none"])]
    lines += ["", *_reached(found)]
    return "\n".join(lines[1:])


def losses(task: str, budget: int, by_name: Mapping[tuple[str, str], Entry]) -> list[str]:
    """Gives the peers whose mean is higher than progspace's; none where it has not been run."""
    own = next((entry for name, entry in by_name.items() if name[0] == PROGSPACE), None)
    if own is None:
        return []
    return [
        f"{task}, {budget:,} calls: {' '.join(name)} by {numbers.points(entry.score - own.score)} points, "
        f"{'within' if entry.score <= own.high else 'outside'} progspace's interval"
        for name, entry in by_name.items()
        if name[0] != PROGSPACE and entry.score > own.score
    ]


def _reached(found: Mapping[Place, Mapping[tuple[str, str], Entry]]) -> list[str]:
    lines: list[str] = []
    for budget, (layout, told) in product(sorted({budget for _, budget in found}), LAYOUTS.items()):
        reached = calls_to_reach(found, budget, layout)
        if not reached:
            continue
        lines.append(f"Calls of progspace to the final score of the best peer at {budget:,} calls, peers {told}:")
        for task, (peer, calls) in reached.items():
            needed = "not reached" if calls is None else f"{calls:,} calls, {calls / budget:.2f} of the peer's"
            lines.append(f"  {task:<21} {peer:<34} {needed}")
        ratios = [calls / budget for _, calls in reached.values() if calls is not None]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            lines.append(f"  geometric mean over the {len(ratios)} of {len(reached)} tasks that reached it: {mean:.2f}")
    return lines


def _entry(runs: Sequence[Mapping[str, Any]]) -> Entry:
    score, low, high = (sum(run[name] for run in runs) / len(runs) for name in ("score", "low", "high"))
    return Entry(score, low, high, len(runs), sum(bool(run["fell_back"]) for run in runs))


def _rank(name: tuple[str, str]) -> tuple[int, str]:
    optimizer, layout = name
    order = (PROGSPACE, *OPTIMIZERS)
    return order.index(optimizer) if optimizer in order else len(order), layout


def _span(entry: Entry) -> str:
    return f"{100 * entry.low:5.1f}–{100 * entry.high:<5.1f}"
