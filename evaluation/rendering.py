"""Draws evaluations, comparisons and reports: as text for a terminal or a pipe, and as a page."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from . import numbers
from .evaluation import Comparison, Evaluation
from .findings import Findings, Measured, RungReport, TrainingReport
from .statistics import Interval

__all__ = ["as_text", "comparison_view", "evaluation_view", "report_page", "report_text", "report_view"]


_COLUMNS = ("rung", "dev", "test", "95 %", "gain", "tokens", "calls", "s")


def as_text(view: RenderableType, width: int = 110) -> str:
    """Gives what a terminal of that width would show, without colours."""
    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False)
    console.print(view)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def report_text(report: Findings) -> str:
    """The report as plain text."""
    return as_text(report_view(report))


def report_view(report: Findings) -> RenderableType:
    """The ladder as a table, and below it what it says."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    table.add_column("rung", overflow="fold", min_width=18, max_width=44)
    for column in _COLUMNS[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    for rung in report.rungs:
        style = "bold" if rung is report.winner else None if rung.kept else "dim"
        table.add_row(*_rung_cells(rung), style=style)
    return Group(table, *(Text(line) for line in report_lines(report)))


def _rung_cells(rung: RungReport) -> list[str]:
    test, against = rung.test, rung.versus_baseline
    return [
        f"{rung.name}: {rung.choice}" + ("" if rung.kept else " — not kept"),
        numbers.percent(rung.dev.score),
        numbers.percent(test.score) if test else "",
        numbers.interval(_interval(test)) if test else "",
        numbers.points(against.difference) if against else "",
        numbers.count(test.tokens if test else rung.dev.tokens),
        numbers.count(rung.calls),
        numbers.count(rung.seconds),
    ]


def report_lines(report: Findings) -> list[str]:
    """What a person should take from the report, in sentences."""
    winner, sizes = report.winner, report.sizes
    lines = []
    if winner.versus_baseline and winner.test and report.baseline.test:
        against = winner.versus_baseline
        lines.append(
            f"Winner: {winner.choice}. On {numbers.count(winner.test.n)} sealed test examples "
            f"{numbers.percent(report.baseline.test.score)} → {numbers.percent(winner.test.score)}: "
            f"{numbers.points(against.difference)} points "
            f"[{numbers.points(against.low)}, {numbers.points(against.high)}], p {_p(against.p_value)} "
            f"({against.wins} better, {against.losses} worse)."
        )
    elif winner is not report.baseline:
        lines.append(
            f"Winner: {winner.choice}. On dev {numbers.percent(report.baseline.dev.score)} → "
            f"{numbers.percent(winner.dev.score)}, {numbers.percent(winner.shrunken)} with the luck taken off."
        )
    if (confirmed := winner.confirmed) and winner is not report.baseline:
        lines.append(
            f"On the {confirmed.n} dev examples that no race looked at: {numbers.percent(confirmed.score)} "
            f"[{numbers.interval(_interval(confirmed))}]."
        )
    if winner is report.baseline:
        lines.append(
            "Winner: the program as declared; nothing that was tried did better on dev: "
            "no gain that can be told from luck."
        )
    lines += [_rung_line(rung) for rung in report.rungs[1:]]
    if len(report.rungs) > 1 and winner.test:
        told = ", ".join(f"{numbers.percent(score)} after {numbers.count(calls)}" for calls, score in report.curve)
        lines.append(f"Held-out score by calls: {told}.")
    bought = sum(rung.bought for rung in report.rungs)
    asked = sum(rung.calls for rung in report.rungs)
    known = "" if bought >= asked else f" ({numbers.count(asked - bought)} of them answered before, and free)"
    read = (
        f" Sealed test, read after the search: {numbers.count(report.test_calls)} calls, "
        f"{numbers.duration(report.test_seconds)}."
    )
    lines.append(
        f"{report.lm}, seed {report.seed}: {sizes['train']} train, {sizes['dev']} dev, {sizes['test']} test examples. "
        f"Search: {numbers.count(asked)} calls{known}, {numbers.duration(sum(rung.seconds for rung in report.rungs))}."
        f"{read if sizes['test'] else ''}"
    )
    failed = sum(rung.test.failed for rung in report.rungs if rung.test)
    if failed:
        lines.append(f"The LM gave no answer to {failed} test examples; they are in no score.")
    if report.test_reads > 1:
        lines.append(
            f"The sealed test of this task has now been read {report.test_reads} times: what is chosen by looking at "
            "it is no longer proven by it."
        )
    return [*lines, *report.notes]


def _rung_line(rung: RungReport) -> str:
    """Why a rung was kept or not, and why it ended."""
    kept = "kept" if rung.kept else "not kept"
    fresh = rung.fresh
    told = (
        f"; on fresh dev examples {numbers.points(fresh.difference)} points ({fresh.wins} better, {fresh.losses} worse)"
        if fresh
        else ""
    )
    stopped = f" It stopped: {rung.stopped}." if rung.stopped else ""
    line = f"{rung.name}: {rung.candidates} candidates; {kept}: {rung.reason}{told}.{stopped}"
    return line if rung.training is None else f"{line} {_training_line(rung.training)}"


def _training_line(training: TrainingReport) -> str:
    """What weights cost to train, what they changed, and when that has paid."""
    before, after = training.before, training.after
    took = [numbers.duration(training.seconds)] if training.seconds is not None else []
    took += [f"{training.usd:.2f} USD"] if training.usd else []
    paid = (
        f"it has paid for itself after {numbers.count(training.payback)} examples"
        if training.payback
        else "when it has paid for itself is not known"
        if training.pace is None
        else "it saves nothing that would pay for it"
    )
    pace = "" if training.pace is None else f", {' → '.join(map(numbers.duration, training.pace))} of the clock"
    return (
        f"Trained on {numbers.count(training.examples)} examples ({training.source}), "
        f"{numbers.count(training.tokens)} tokens{''.join(f', {each}' for each in took)}: "
        f"{numbers.percent(before.score)} → {numbers.percent(after.score)}, "
        f"{numbers.count(before.input_tokens)} → {numbers.count(after.input_tokens)} input tokens an example{pace}; "
        f"{paid}."
    )


def _p(p: float) -> str:
    told = numbers.p_value(p)
    return told if told.startswith("<") else f"= {told}"


def _interval(measured: Measured) -> Interval:
    return Interval(measured.low, measured.high, measured.level, measured.method)


def evaluation_view(evaluation: Evaluation, *, worst: int = 5) -> RenderableType:
    """The score of a program, what it cost, and some examples that went wrong."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ["program", "score", "95 %", "n", "failed", "errors", "calls", "tokens/example", "time/example"]:
        table.add_column(column, justify="left" if column == "program" else "right")
    table.add_row(
        evaluation.name,
        numbers.percent(evaluation.score),
        numbers.interval(evaluation.interval),
        numbers.count(evaluation.n),
        numbers.count(evaluation.failed),
        numbers.count(evaluation.errors),
        numbers.count(evaluation.calls),
        numbers.count(evaluation.tokens_per_example),
        numbers.duration(evaluation.seconds),
    )
    wrong = sorted(
        (row for row in evaluation.rows if row.score is not None and row.score < 1), key=lambda r: r.score or 0
    )
    lines = [
        Text(f"{_shown(row.inputs)}\n    {row.error or row.feedback or _shown(row.output)}") for row in wrong[:worst]
    ]
    return Group(table, *([Text(f"The first {len(lines)} of {len(wrong)} that fell short:"), *lines] if lines else []))


def _shown(values: dict[str, object]) -> str:
    told = ", ".join(f"{name}: {value}" for name, value in values.items())
    return told if len(told) <= 160 else told[:159] + "…"


def comparison_view(comparison: Comparison) -> RenderableType:
    """Two programs side by side, and the paired test."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ["program", "score", "95 %", "n", "tokens/example", "calls"]:
        table.add_column(column, justify="left" if column == "program" else "right")
    for side in (comparison.a, comparison.b):
        table.add_row(
            side.name,
            numbers.percent(side.score),
            numbers.interval(side.interval),
            numbers.count(side.n),
            numbers.count(side.tokens_per_example),
            numbers.count(side.calls),
        )
    test = comparison.test
    line = (
        f"{comparison.a.name} − {comparison.b.name}: {numbers.points(test.difference)} points "
        f"[{numbers.points(test.interval.low)}, {numbers.points(test.interval.high)}], p {_p(test.p_value)} "
        f"({test.method}; {test.wins_a} better, {test.wins_b} worse, {test.ties} alike)."
    )
    return Group(table, Text(line))


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #68707a; --line: #d8dde3; --paper: #fff; --mark: #1f6feb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --dim: #98a2ad; --line: #343b44; --paper: #14171b; --mark: #6ea8ff; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--dim); font-weight: 500; } td:first-child { white-space: normal; min-width: 14rem; }
th:first-child, td:first-child { text-align: left; }
tr.winner td { font-weight: 600; } tr.lost td { color: var(--dim); }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; } svg .dim { fill: var(--dim); }
svg line { stroke: var(--dim); stroke-width: 2; } svg .grid { stroke: var(--line); stroke-width: 1; }
svg circle { fill: var(--dim); } svg .winner { fill: var(--mark); }
"""


def report_page(report: Findings) -> str:
    """The report as one HTML page that needs nothing else; every text in it is escaped."""
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    body = "".join(
        f'<tr class="{_class(rung, report)}">' + "".join(map(_table_cell, _rung_cells(rung))) + "</tr>"
        for rung in report.rungs
    )
    sentences = "".join(f"<p>{html.escape(line)}</p>" for line in report_lines(report))
    front = "".join(
        f"<tr><td>{html.escape(point.choice)}</td><td>{numbers.percent(point.score)}</td>"
        f"<td>{numbers.count(point.tokens)}</td></tr>"
        for point in report.front
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(report.task)} — progspace</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(report.task)}</h1>{sentences}"
        f'<h2>The ladder</h2><div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
        f"<h2>Score on the sealed test, with its interval</h2>{_plot(report.rungs, report)}"
        f"<h2>Held-out score against calls</h2>{_curve(report)}"
        f"<h2>Who proposed, and what came of it</h2>{_proposers(report)}"
        f'<h2>Pareto front on dev</h2><div class="scroll"><table><tr><th>choice</th><th>score</th><th>tokens</th></tr>'
        f"{front}</table></div></html>\n"
    )


def _table_cell(text: str) -> str:
    return f"<td>{html.escape(text)}</td>"


def _class(rung: RungReport, report: Findings) -> str:
    return "winner" if rung is report.winner else "kept" if rung.kept else "lost"


def _plot(rungs: Sequence[RungReport], report: Findings) -> str:
    """A dot and its interval for each rung, from 0 to 100 %."""
    left, width, step = 150, 620, 36
    height = step * len(rungs) + 40

    def x(share: float) -> float:
        return left + width * min(1.0, max(0.0, share))

    parts = [
        f'<line class="grid" x1="{x(tick / 4)}" x2="{x(tick / 4)}" y1="8" y2="{height - 30}"/>'
        f'<text class="dim" x="{x(tick / 4)}" y="{height - 10}" text-anchor="middle">{25 * tick} %</text>'
        for tick in range(5)
    ]
    for index, rung in enumerate(rungs):
        if rung.test is None:
            continue
        y = step * index + 26
        parts.append(
            f'<text x="{left - 14}" y="{y + 5}" text-anchor="end">{html.escape(rung.name)}</text>'
            f'<line x1="{x(rung.test.low):.1f}" x2="{x(rung.test.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="{_class(rung, report)}" cx="{x(rung.test.score):.1f}" cy="{y}" r="6">'
            f"<title>{numbers.percent(rung.test.score)} [{numbers.interval(_interval(rung.test))}]</title></circle>"
        )
    return f'<svg viewBox="0 0 {left + width + 40} {height}" width="100%" role="img">{"".join(parts)}</svg>'


def _proposers(report: Findings) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(f'{rung.name}: {each.name}')}</td><td>{numbers.count(each.candidates)}</td>"
        f"<td>{numbers.count(each.calls)}</td><td>{each.promise:.1f}</td></tr>"
        for rung in report.rungs
        for each in rung.proposers
        if each.candidates
    )
    head = "<th>proposer</th><th>candidates</th><th>calls</th><th>better, in expectation</th>"
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _curve(report: Findings) -> str:
    """The held-out score of what was best so far, as steps over the calls asked."""
    left, width, height = 60, 700, 220
    points = report.curve
    most = max(1, points[-1][0])

    def place(calls: float, score: float) -> tuple[float, float]:
        return left + width * calls / most, 10 + (height - 50) * (1 - min(1.0, max(0.0, score)))

    parts = [
        f'<line class="grid" x1="{left}" x2="{left + width}" y1="{place(0, tick / 4)[1]:.1f}" '
        f'y2="{place(0, tick / 4)[1]:.1f}"/>'
        f'<text class="dim" x="{left - 8}" y="{place(0, tick / 4)[1] + 4:.1f}" text-anchor="end">{25 * tick} %</text>'
        for tick in range(5)
    ]
    before = points[0]
    for point in points[1:]:
        (x0, y0), (x1, y1) = place(*before), place(*point)
        parts.append(f'<line x1="{x0:.1f}" x2="{x1:.1f}" y1="{y0:.1f}" y2="{y0:.1f}"/>')
        parts.append(f'<line x1="{x1:.1f}" x2="{x1:.1f}" y1="{y0:.1f}" y2="{y1:.1f}"/>')
        before = point
    for index, (rung, point) in enumerate(zip(report.rungs, points, strict=True)):
        x, y = place(*point)
        anchor = "start" if index == 0 else "end"
        parts.append(
            f'<circle class="{_class(rung, report)}" cx="{x:.1f}" cy="{y:.1f}" r="5">'
            f"<title>{html.escape(rung.name)}: {numbers.percent(point[1])} after {numbers.count(point[0])} calls"
            "</title>"
            f'</circle><text x="{x:.1f}" y="{height - 6}" class="dim" text-anchor="{anchor}">'
            f"{numbers.count(point[0])}</text>"
        )
    return f'<svg viewBox="0 0 {left + width + 20} {height}" width="100%" role="img">{"".join(parts)}</svg>'
