"""Against other optimizers: score against budget, and races on recorded matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from ...evaluation import numbers
from ...optimizers.races.registry import DEFAULT_RACE
from ..peer_runs import PROGSPACE
from ..peer_table import LAYOUTS, Entry, Place, calls_to_reach, entries, losses
from .cards import span
from .content import Chart, Mark, Plot, Point, Series, Suite, Table, Verdict, columns
from .reading import Run, heading, parsed

__all__ = ["PeerRun", "ReplayRun", "peers", "replay"]

Found = Mapping[Place, Mapping[tuple[str, str], Entry]]


class PeerRun(Run):
    """An optimizer on a task at a budget, as ``peers`` writes it."""

    task: str
    optimizer: str
    format: str
    budget: int
    seed: int
    score: float
    low: float
    high: float
    calls: int
    fell_back: bool
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0


def peers(name: str, file: str, lines: Sequence[Mapping[str, Any]]) -> Suite:
    """Shows optimizers side by side, task by task.

    Raises:
        DataError: A line is no such run.
    """
    runs = parsed(PeerRun, lines, file)
    found = entries([run.model_dump() for run in runs])
    tasks = list(dict.fromkeys(task for task, _ in found))
    return Suite(
        **heading(name, file, lines, like="peers"),
        rule="At the same budget: a win needs the best peer's mean below progspace's interval; a higher mean of any "
        "peer is a loss.",
        verdicts=tuple(_verdicts(found)),
        tables=tuple(_table(task, found, runs) for task in tasks),
        charts=tuple(_chart(task, found) for task in tasks),
        notes=tuple(_reached(found)),
    )


def _verdicts(found: Found) -> Iterator[Verdict]:
    unrun = []
    for (task, budget), by_name in found.items():
        own = next((entry for name, entry in by_name.items() if name[0] == PROGSPACE), None)
        others = {" ".join(name): entry for name, entry in by_name.items() if name[0] != PROGSPACE}
        if own is None:
            unrun.append(f"{task}, {numbers.count(budget)} calls")
            continue
        lost = losses(task, budget, by_name)
        yield from (Verdict(kind="loss", text=text) for text in lost)
        if lost or not others:
            continue
        best = max(others, key=lambda name: others[name].score)
        gain = own.score - others[best].score
        told = f"{task}, {numbers.count(budget)} calls: {numbers.points(gain)} points over {best}"
        beyond = others[best].score < own.low
        yield Verdict(kind="win" if beyond else "open", text=told + ("" if beyond else ", within progspace's interval"))
    if unrun:
        yield Verdict(kind="open", text=f"progspace has not been run beside these peers: {'; '.join(unrun)}")


def _reached(found: Found) -> Iterator[str]:
    for budget, (layout, told) in product(sorted({budget for _, budget in found}), LAYOUTS.items()):
        for task, (peer, calls) in calls_to_reach(found, budget, layout).items():
            with_calls = "at no budget that it was run with" if calls is None else f"with {numbers.count(calls)}"
            yield f"{task}: {peer}'s score with {numbers.count(budget)} calls {told} is progspace's {with_calls}."


def _table(task: str, found: Found, runs: Sequence[PeerRun]) -> Table:
    rows, strong = list[tuple[str | Plot, ...]](), list[int]()
    for (other, budget), by_name in found.items():
        if other != task:
            continue
        for (optimizer, layout), entry in by_name.items():
            own = [run for run in runs if (run.task, run.budget, run.optimizer, run.format)
                   == (task, budget, optimizer, layout)]  # fmt: skip
            if optimizer == PROGSPACE:
                strong.append(len(rows))
            mark = Mark(score=entry.score, low=entry.low, high=entry.high, kind="won" if optimizer == PROGSPACE else "")
            rows.append((
                f"{optimizer}\n{layout} format", numbers.count(budget), numbers.percent(entry.score), span(entry),
                Plot(marks=(mark,)), str(entry.seeds), f"{entry.fell_back} of {entry.seeds}",
                numbers.count(_mean([run.calls for run in own])),
                numbers.count(_mean([run.input_tokens for run in own])),
                numbers.count(_mean([run.output_tokens for run in own])),
                numbers.duration(_mean([run.seconds for run in own])),
            ))  # fmt: skip
    return Table(
        caption=f"{task}: held-out score by optimizer; calls, tokens and time of its search",
        columns=columns(
            "optimizer", "budget", "score", "95 %", "interval", "seeds", "fell back", "calls", "tokens in",
            "tokens out", "time",
        ),
        rows=tuple(rows),
        strong=tuple(strong),
    )  # fmt: skip


def _chart(task: str, found: Found) -> Chart:
    series: dict[tuple[str, str], list[Point]] = {}
    for (other, budget), by_name in found.items():
        for name, entry in by_name.items() if other == task else ():
            told = f"{numbers.percent(entry.score)} [{span(entry)}] at {numbers.count(budget)} calls"
            point = Point(x=budget, y=entry.score, low=entry.low, high=entry.high, about=told)
            series.setdefault(name, []).append(point)
    looks = list(dict.fromkeys(name for by_name in found.values() for name in by_name if name[0] != PROGSPACE))
    several = {optimizer for optimizer, _ in series if sum(each == optimizer for each, _ in series) > 1}
    return Chart(
        title=f"{task}: score against calls",
        x_name="calls allowed",
        y_name="held-out score",
        series=tuple(
            Series(
                name=f"{optimizer}, {layout}" if optimizer in several else optimizer,
                points=tuple(points),
                look=0 if optimizer == PROGSPACE else looks.index((optimizer, layout)) + 1,
                own=optimizer == PROGSPACE,
            )
            for (optimizer, layout), points in series.items()
        ),
    )


class ReplayRun(Run):
    """A race's regret at a number of cells, as ``replay`` writes it."""

    task: str
    race: str
    cells: int
    runs: int
    regret: float
    low: float
    high: float


_ALL = "full"  # the matrix bought whole


def replay(name: str, file: str, lines: Sequence[Mapping[str, Any]]) -> Suite:
    """Shows the regret of races by cells bought.

    Raises:
        DataError: A line is no such run.
    """
    runs = [run for run in parsed(ReplayRun, lines, file) if run.race != _ALL]
    tasks = list(dict.fromkeys(run.task for run in runs))
    races = sorted(dict.fromkeys(run.race for run in runs), key=lambda race: race != DEFAULT_RACE)
    marks = sorted({run.cells for run in runs})
    regrets = {
        (race, cells): _mean([run.regret for run in runs if (run.race, run.cells) == (race, cells)])
        for race in races
        for cells in marks
        if {run.task for run in runs if (run.race, run.cells) == (race, cells)} == set(tasks)
    }
    rows = [
        (race, *(_regret(regrets[race, cells]) if (race, cells) in regrets else "–" for cells in marks))
        for race in races
    ]
    return Suite(
        **heading(name, file, lines, like="replay"),
        rule=f"Regret of {DEFAULT_RACE}, the default, against each: in the mean of tasks; and, where it is beyond the "
        "interval, its losses on a task alone.",
        verdicts=tuple(_race_verdicts(regrets, runs)),
        tables=(
            Table(
                caption=f"Regret in points, by cells bought at most: the mean of {len(tasks)} tasks",
                columns=columns("race", *map(numbers.count, marks)),
                rows=tuple(rows),
                strong=(0,) if races[:1] == [DEFAULT_RACE] else (),
            ),
        ),
        charts=tuple(_regret_chart(task, runs, races) for task in tasks),
    )


def _race_verdicts(regrets: Mapping[tuple[str, int], float], runs: Sequence[ReplayRun]) -> Iterator[Verdict]:
    ours = {(run.task, run.cells): run for run in runs if run.race == DEFAULT_RACE}
    for race in dict.fromkeys(run.race for run in runs if run.race != DEFAULT_RACE):
        told: dict[bool, list[str]] = {True: [], False: []}
        for cells in sorted({cells for other, cells in regrets if other == race}):
            mean = regrets.get((DEFAULT_RACE, cells))
            if mean is not None:
                told[mean < regrets[race, cells]].append(_against(mean, regrets[race, cells], cells))
        alone = {
            task: "; ".join(
                _against(own.regret, run.regret, run.cells)
                for run in runs
                if (run.race, run.task) == (race, task) and (own := ours.get((task, run.cells))) and run.high < own.low
            )
            for task in dict.fromkeys(run.task for run in runs)
        }
        if told[True]:
            yield Verdict(kind="win", text=f"{race}: {'; '.join(told[True])}")
        if told[False]:
            yield Verdict(kind="loss", text=f"{race}: {'; '.join(told[False])}")
        yield from (Verdict(kind="loss", text=f"{race} on {task}: {told}") for task, told in alone.items() if told)


def _against(own: float, its: float, cells: int) -> str:
    return f"{_regret(own)} against {_regret(its)} points with {numbers.count(cells)} cells"


def _regret(share: float) -> str:
    return numbers.figure(round(100 * share, 2))


def _regret_chart(task: str, runs: Sequence[ReplayRun], races: Sequence[str]) -> Chart:
    def points(race: str) -> Iterator[Point]:
        for run in sorted((run for run in runs if (run.task, run.race) == (task, race)), key=lambda run: run.cells):
            regret, low, high = map(_regret, (run.regret, run.low, run.high))
            told = f"{regret} points [{low}, {high}] with {numbers.count(run.cells)} cells"
            yield Point(x=run.cells, y=run.regret, low=run.low, high=run.high, about=told)

    return Chart(
        title=f"{task}: regret against cells",
        x_name="cells bought at most",
        y_name="regret",
        log=True,
        series=tuple(
            Series(name=race, points=tuple(points(race)), look=look, own=race == DEFAULT_RACE)
            for look, race in enumerate(races)
        ),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
