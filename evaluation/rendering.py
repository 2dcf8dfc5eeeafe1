"""Draws evaluations, comparisons and reports: as text for a terminal or a pipe."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from . import numbers
from .evaluation import Comparison, Evaluation
from .findings import BREAKS_A_LIMIT, TOO_LONG, Findings, Measured, RungReport, TrainingReport
from .statistics import Interval

__all__ = ["comparison_view", "evaluation_view", "report_view", "whole"]


_NAME = 8  # characters of a name in a line, at least
_COLUMNS = ("rung", "dev", "test", "95 %", "gain", "tokens", "calls", "s")


def report_view(report: Findings) -> RenderableType:
    """The ladder as a table, and below it what it says."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    table.add_column("rung", max_width=44)
    for column in _COLUMNS[1:]:
        table.add_column(column, justify="right")
    for rung in report.rungs:
        style = "bold" if rung is report.winner else None if rung.kept else "dim"
        table.add_row(*_rung_cells(rung), style=style)
    return Group(whole(table), *(Text(line) for line in report_lines(report)))


def whole(table: Table) -> Table:
    """Has figures keep their width, be it beyond the terminal's: cut off or broken, one would be another one.

    Texts beside them go on in the next line, and keep some width too: else a narrow terminal leaves none to them.
    """
    for column in table.columns:
        column.overflow = "fold"
        longest = max((len(str(cell)) for cell in column.cells), default=0)
        column.min_width = column.min_width or max(1, longest if column.justify == "right" else min(longest, _NAME))
    return table


def _rung_cells(rung: RungReport) -> list[RenderableType]:
    test, against = rung.test, rung.versus_baseline
    return [
        Text(f"{rung.name}: {rung.choice}" + ("" if rung.kept else " — not kept")),
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
        against, n = winner.versus_baseline, winner.test.n
        before, after = report.baseline.test.score, winner.test.score
        if against.n is not None and against.baseline is not None and against.score is not None:
            n, before, after = against.n, against.baseline, against.score  # those that both answered
        lines.append(
            f"Winner: {winner.choice}. On {numbers.count(n)} sealed test examples "
            f"{numbers.percent(before)} → {numbers.percent(after)}: "
            f"{numbers.points(against.difference)} points "
            f"{numbers.points_between(against.low, against.high)}, p {numbers.p_told(against.p_value)} "
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
        refused = any(rung.reason.startswith((TOO_LONG, BREAKS_A_LIMIT)) for rung in report.rungs[1:])
        within = " within the limits" if refused else ""
        lines.append(
            f"Winner: the program as declared; nothing that was tried did better on dev{within}: "
            "no gain that can be told from luck."
        )
    lines += [_rung_line(rung) for rung in report.rungs[1:]]
    if len(report.rungs) > 1 and winner.test:
        told = ", ".join(f"{numbers.percent(score)} after {numbers.count(calls)}" for calls, score in report.curve)
        lines.append(f"Held-out score by calls: {told}.")
    spent = [(rung.seconds, rung.usd) for rung in report.rungs]
    read = (
        f" Sealed test, read after the search: {numbers.count(report.test_calls)} calls, "
        f"{_took(report.test_seconds, report.test_usd)}."
    )
    lines.append(
        f"{report.lm}, seed {report.seed}: {sizes['train']} train, {sizes['dev']} dev, {sizes['test']} test examples. "
        f"Search: {_calls_told(report)}, {_took(*(sum(each) for each in zip(*spent, strict=True)))}."
        f"{read if sizes['test'] else ''}"
    )
    failed = max((rung.test.failed for rung in report.rungs if rung.test), default=0)
    if failed:
        examples = "a test example" if failed == 1 else f"up to {numbers.count(failed)} test examples"
        lines.append(f"The LM left {examples} of a program without an answer: they are in no comparison of it.")
    if report.test_reads > 1:
        lines.append(
            f"The sealed test of this task has now been read {report.test_reads} times: what is chosen by looking at "
            "it is no longer proven by it."
        )
    return [*lines, *report.notes]


def _calls_told(report: Findings) -> str:
    """What the search asked, and what of it was not bought."""
    asked = sum(rung.calls for rung in report.rungs)
    failed = sum(rung.failed for rung in report.rungs)
    known = asked - failed - sum(rung.bought for rung in report.rungs)
    apart = [f"{numbers.count(known)} of them answered before, and free"] if known > 0 else []
    apart += [f"{numbers.count(failed)} of them never answered"] if failed > 0 else []
    return f"{numbers.count(asked)} calls" + (f" ({'; '.join(apart)})" if apart else "")


def _took(seconds: float, usd: float) -> str:
    return numbers.duration(seconds) + (f", {numbers.dollars(usd)} USD" if usd else "")


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
    took += [f"{numbers.dollars(training.usd)} USD"] if training.usd else []
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


def _interval(measured: Measured) -> Interval:
    return Interval(measured.low, measured.high, measured.level, measured.method)


def evaluation_view(evaluation: Evaluation, *, worst: int = 5) -> RenderableType:
    """The score of a program, what it cost, and some examples that went wrong."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    for column in ["program", "score", "95 %", "n", "failed", "errors", "calls", "tokens/example", "time/example"]:
        table.add_column(
            column, justify="left" if column == "program" else "right", no_wrap=column in ("score", "95 %")
        )
    table.add_row(
        Text(evaluation.name),
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
    return Group(
        whole(table), *([Text(f"The first {len(lines)} of {len(wrong)} that fell short:"), *lines] if lines else [])
    )


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
            Text(side.name),
            numbers.percent(side.score),
            numbers.interval(side.interval),
            numbers.count(side.n),
            numbers.count(side.tokens_per_example),
            numbers.count(side.calls),
        )
    test = comparison.test
    apart = {comparison.a.n, comparison.b.n} != {test.n}
    on = f" on the {numbers.count(test.n)} examples that both have a score on" if apart else ""
    line = (
        f"{comparison.a.name} − {comparison.b.name}: {numbers.points(test.difference)} points "
        f"{numbers.points_between(test.interval.low, test.interval.high)}{on}, "
        f"p {numbers.p_told(test.p_value)} ({test.method}; "
        f"{test.wins_a} better, {test.wins_b} worse, {test.ties} alike)."
    )
    return Group(whole(table), Text(line))
