"""Reads what the page shows: from a search that was written down in a store, or from findings alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...store.database import Store
from ...store.records import Cell
from ...store.searches import Event, Search, events
from ..evaluation import measured_cells
from ..findings import Findings, Measured
from ..rendering import report_lines
from ..repeats import mean_cell
from .content import CandidateView, CellsView, ExampleView, PageContent, RungView, Step
from .matrix_view import Texts, cells_view, edge_cases, shortened

__all__ = ["content_of", "read_content"]

_LONGEST = 2_000  # characters of an example's field
_PROMPT = 20_000  # characters of a prompt


def content_of(findings: Findings, provenance: Mapping[str, str] | None = None) -> PageContent:
    """Shows findings alone, as an artifact holds them: without prompts, the race, and the matrix."""
    calls, rungs, candidates = 0, list[RungView](), list[CandidateView]()
    on_front = {(point.choice, point.score) for point in findings.front}
    for rung in findings.rungs:
        rungs.append(_rung_view(findings, rung.name, begun_after=calls))
        calls += rung.calls
        candidates += [
            CandidateView(
                number=len(candidates) + index,
                choice=each.choice,
                proposer=each.proposer,
                rung=rung.name,
                score=each.score,
                n=each.n,
                tokens=each.tokens,
                dropped=each.dropped,
                front=(each.choice, each.score) in on_front,
            )
            for index, each in enumerate(rung.tried)
        ]
    return PageContent(
        task=findings.task,
        lm=findings.lm,
        seed=findings.seed,
        state="file",
        calls=calls,
        seconds=findings.seconds,
        usd=sum(rung.usd for rung in findings.rungs),
        lines=tuple(report_lines(findings)),
        rungs=tuple(rungs),
        candidates=tuple(candidates),
        test_calls=findings.test_calls,
        test_seconds=findings.test_seconds,
        test_usd=findings.test_usd,
        provenance={**_data(findings.sizes), **(provenance or {})},
    )


def read_content(store: Store, search: Search) -> PageContent:
    """Shows a search that has run, or is running.

    Raises:
        StoreError: The store cannot be read, or a cell of it is damaged.
    """
    told = _Told(events(store, search.id))
    known = _Cells(store, told)
    rows = {number: known.now(number) for number in told.joined}
    candidates = [_candidate(number, told, known, list(rows[number].values())) for number in told.joined]
    best_first = sorted(
        (each for each in candidates if each.score is not None), key=lambda each: (-each.n, -(each.score or 0))
    )
    texts = Texts()
    # Those that ran on most examples come first: if anything has to be left out, it is what others said.
    cells = {
        str(each.number): cells_view(rows[each.number], told.examples, texts)
        for each in best_first
        if rows[each.number]
    }
    most = max((each.n for each in best_first), default=0)
    good = sorted((each for each in best_first if 2 * each.n >= most), key=lambda each: -(each.score or 0))
    findings = told.findings
    begun, last = told.begun, told.last
    return PageContent(
        task=search.task,
        lm=search.lm,
        seed=search.seed,
        state="finished" if findings else "running",
        updated=search.updated,
        calls=int(last.get("calls", 0)),
        seconds=float(last.get("seconds", 0)),
        usd=float(last.get("usd", 0)),
        budget=begun.get("budget", {}),
        lines=tuple(report_lines(findings)) if findings else (),
        rungs=tuple(_rungs(told, rows)),
        winner=told.winner,
        candidates=tuple(candidates),
        examples=tuple(
            ExampleView(inputs=_cut(each["inputs"]), labels=_cut(each["labels"]), fresh=place >= begun["raced"])
            for place, each in enumerate(begun.get("examples", []))
        ),
        cells=cells,
        texts=texts.all,
        cut=texts.cut,
        edge_cases=tuple(_edge_cases(cells, good, len(told.examples))),
        test_calls=findings.test_calls if findings else 0,
        test_seconds=findings.test_seconds if findings else 0.0,
        test_usd=findings.test_usd if findings else 0.0,
        provenance=_provenance(store, search, told),
    )


def _cut(values: Mapping[str, str]) -> dict[str, str]:
    return {name: shortened(value, _LONGEST) for name, value in values.items()}


def _edge_cases(cells: Mapping[str, CellsView], good: Sequence[CandidateView], examples: int) -> Iterable[Any]:
    return edge_cases({int(number): row for number, row in cells.items()}, [each.number for each in good], examples)


@dataclass
class _Told:
    """The events of a search, by what they tell of."""

    all: Sequence[Event]
    begun: Mapping[str, Any] = field(default_factory=dict)
    last: Mapping[str, Any] = field(default_factory=dict)
    joined: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    bought: dict[int, list[Mapping[str, Any]]] = field(default_factory=dict)
    dropped: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    rungs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    climbed: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    finished: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for event in self.all:
            value = event.value
            match event.kind:
                case "begun":
                    self.begun = value
                case "rung":
                    self.rungs[value["name"]] = value
                case "joined":
                    self.joined[value["candidate"]] = value
                    self.bought[value["candidate"]] = []
                case "bought":
                    for step in value["steps"]:
                        number = step["candidate"]
                        self.bought[number].append({**step, "calls": value["calls"]})
                        if not step["fresh"]:  # who runs on was taken back
                            self.dropped.pop(number, None)
                case "dropped":
                    self.dropped[value["candidate"]] = value
                case "climbed":
                    self.climbed[value["rung"]] = value
                case "finished":
                    self.finished = value
            self.last = value

    @property
    def examples(self) -> list[str]:
        """Their hashes, in the race's order."""
        return [each["hash"] for each in self.begun.get("examples", [])]

    @property
    def findings(self) -> Findings | None:
        return None if self.finished is None else Findings.model_validate(self.finished["findings"])

    @property
    def winner(self) -> int | None:
        """The final one, or the best of the last rung that was kept so far."""
        if self.finished is not None:
            return int(self.finished["winner"])
        kept = [each["candidate"] for each in self.climbed.values() if each["kept"]]
        return kept[-1] if kept else None


class _Cells:
    """The cells that events name; those of a program are read once."""

    def __init__(self, store: Store, told: _Told) -> None:
        self._store, self._told = store, told
        self._known: dict[str, dict[str, Cell]] = {}

    def of(self, program: str) -> dict[str, Cell]:
        """A program's cells by example."""
        if program not in self._known:
            metric, repeats = self._told.begun["metric"], self._told.begun["repeats"]
            runs = [self._store.cells(program, metric, self._told.examples, repeat) for repeat in range(repeats)]
            some = set().union(*runs)
            self._known[program] = (
                runs[0]
                if repeats == 1
                else {each: mean_cell([run[each] for run in runs if each in run]) for each in some}
            )
        return self._known[program]

    def on(self, step: Mapping[str, Any]) -> dict[str, Cell]:
        """The cells of a step."""
        raced = self._told.begun["raced"]
        hashes = self._told.examples[raced:] if step["fresh"] else self._told.examples[: min(step["examples"], raced)]
        cells = self.of(step["program"])
        return {each: cells[each] for each in hashes if each in cells}

    def now(self, number: int) -> dict[str, Cell]:
        """A candidate's cells, as it was measured last."""
        return {example: cell for step in self._told.bought[number] for example, cell in self.on(step).items()}


def _candidate(number: int, told: _Told, known: _Cells, cells: Sequence[Cell]) -> CandidateView:
    joined, dropped = told.joined[number], told.dropped.get(number)
    steps, scores = list[Step](), dict[str, float]()
    for bought in told.bought[number]:
        scores |= {example: cell.score for example, cell in known.on(bought).items() if cell.score is not None}
        if scores:
            mean = sum(scores.values()) / len(scores)
            step = Step(calls=bought["calls"], score=round(mean, 4), n=len(scores))
            steps = [*steps[:-1], step] if steps and steps[-1].calls == step.calls else [*steps, step]
    n = max(1, len(cells))
    return CandidateView(
        number=number,
        choice=joined["origin"],
        proposer=joined["proposer"],
        rung=joined["rung"],
        score=_mean(cells),
        n=len(cells),
        tokens=sum(cell.input_tokens + cell.output_tokens for cell in cells) / n if cells else None,
        seconds=sum(cell.seconds for cell in cells) / n if cells else None,
        dropped=dropped["reason"] if dropped else None,
        dropped_after=dropped["calls"] if dropped else None,
        steps=tuple(steps),
        prompts={name: shortened(text, _PROMPT) for name, text in joined["prompts"].items()},
        front=told.finished is not None and number in told.finished["front"],
    )


def _mean(cells: Sequence[Cell]) -> float | None:
    scores = [cell.score for cell in cells if cell.score is not None]
    return sum(scores) / len(scores) if scores else None


def _rungs(told: _Told, rows: Mapping[int, Mapping[str, Cell]]) -> Iterable[RungView]:
    findings = told.findings
    shown = {each.name for each in findings.rungs} if findings else set()
    for name, rung in told.rungs.items():
        climbed = told.climbed.get(name)
        begun_after = int(rung["calls"])
        best = climbed["candidate"] if climbed else None
        if findings and name in shown:
            yield _rung_view(findings, name, best=best, begun_after=begun_after)
        elif climbed is None:
            yield RungView(name=name, begun_after=begun_after)
        else:
            spent = {key: value for key, value in climbed["spent"].items() if key in RungView.model_fields}
            yield RungView(
                name=name,
                choice=told.joined[climbed["candidate"]]["origin"],
                best=best,
                kept=climbed["kept"],
                reason=climbed["reason"],
                stopped=climbed["stopped"],
                candidates=sum(each["rung"] == name for each in told.joined.values()),
                dev=_measured(list(rows[climbed["candidate"]].values())),
                begun_after=begun_after,
                **spent,
            )


def _rung_view(findings: Findings, name: str, *, best: int | None = None, begun_after: int) -> RungView:
    rung = next(each for each in findings.rungs if each.name == name)
    return RungView(
        name=name,
        choice=rung.choice,
        best=best,
        kept=rung.kept,
        reason=rung.reason,
        stopped=rung.stopped,
        candidates=rung.candidates,
        dev=rung.dev,
        test=rung.test,
        gain=rung.versus_baseline,
        fresh=rung.fresh,
        calls=rung.calls,
        bought=rung.bought,
        input_tokens=rung.input_tokens,
        output_tokens=rung.output_tokens,
        seconds=rung.seconds,
        usd=rung.usd,
        proposers=rung.proposers,
        begun_after=begun_after,
    )


def _measured(cells: Sequence[Cell]) -> Measured | None:
    return measured_cells(cells) if any(cell.score is not None for cell in cells) else None


def _data(sizes: Mapping[Any, int]) -> dict[str, str]:
    return {"examples": ", ".join(f"{count:,} {split}" for split, count in sizes.items())}


def _provenance(store: Store, search: Search, told: _Told) -> dict[str, str]:
    kept = (told.finished or {}).get("provenance", {})
    shown = {
        **_data(told.begun.get("sizes", {})),
        "metric": str(told.begun.get("metric", "")),
        "LM": search.lm,
        "seed": str(search.seed),
        "hash of the task": search.task_hash,
        "store": store.where,
        "search": search.id,
        "made": str(kept.get("created", "")),
    }
    shown |= {f"{name} version": value for name, value in kept.get("versions", {}).items()}
    return {name: value for name, value in shown.items() if value}
