"""Draws edge cases and robustness for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from . import numbers
from .edge_findings import EdgeCase, EdgeCases
from .rendering import whole
from .robustness import Robustness
from .slices import Slice
from .statistics import Interval

__all__ = ["edge_cases_view", "robustness_view"]

_SLICES, _CASES, _BROKEN, _LONGEST = 8, 10, 3, 140


def edge_cases_view(found: EdgeCases) -> RenderableType:
    """The slices, the clusters and the first cases."""
    why = Counter(reason for case in found.cases for reason in case.why)
    counted = ", ".join(f"{count} {reason}" for reason, count in why.most_common())
    good = f"{found.programs} programs" if found.programs > 1 else "one program"
    score = numbers.percent(found.score)
    if found.programs:
        line = (
            f"{found.program}: {score} on {numbers.count(found.rows)} rows; {len(found.cases)} edge cases among {good}"
        )
    else:
        line = f"{found.program}: {score} of {numbers.count(found.rows)} calls without trouble; "
        line += f"{len(found.cases)} edge cases, {len(found.examples)} of them with a label"
    parts: list[RenderableType] = [
        Text(f"{line}{f': {counted}' if counted else ''}."),
        Text(_weak(found.slices)),
    ]
    if found.slices:
        parts.append(_slices(found.slices))
    if found.clusters:
        parts.append(_clusters(found))
    shown = found.cases[:_CASES]
    if shown:
        parts.append(
            Text(f"The first {len(shown)} of {len(found.cases)}:" if len(shown) < len(found.cases) else "All:")
        )
    parts += [Text(_case(case)) for case in shown]
    return Group(*parts, *(Text(note) for note in found.notes))


def _weak(slices: Sequence[Slice]) -> str:
    looked_at = f"of {len(slices)} slices that were looked at"
    weak = [f"{each.by}: {each.value}" for each in slices if each.weak]
    if not weak:
        return f"No slice is shown to be worse than the rest, {looked_at}."
    return f"Worse than the rest, {looked_at}: {'; '.join(weak)}."


def _slices(slices: Sequence[Slice]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ["slice", "n", "score", "the rest", "difference", "p"]:
        table.add_column(column, justify="left" if column == "slice" else "right")
    for each in slices[:_SLICES]:
        style = "red" if each.weak else None
        table.add_row(
            Text(f"{each.by}: {each.value}"), numbers.count(each.n), numbers.percent(each.score),
            numbers.percent(each.outside), _difference(each.difference, each.interval), numbers.p_value(each.p_value),
            style=style,
        )  # fmt: skip
    return whole(table)


def _clusters(found: EdgeCases) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ["cluster", "rows", "edge cases", "of class"]:
        table.add_column(column, justify="right" if column in ("rows", "edge cases") else "left")
    for each in found.clusters:
        table.add_row(Text(each.name), str(each.n), str(each.cases), Text(", ".join(each.classes)))
    return whole(table)


def _case(case: EdgeCase) -> str:
    right = "" if case.right is None else f"; {numbers.percent(case.right)} of the programs are right"
    was = _values(case.output) or _line(case.said or "nothing")
    return (
        f"{case.example}  {', '.join(case.why)}{right}\n    {_values(case.inputs) or 'inputs were not kept'}\n"
        f"    expected {_values(case.expected) or 'was not told'}; was {was}"
    )


def robustness_view(found: Robustness) -> RenderableType:
    """The scores by perturbation, and some of what broke."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ["perturbation", "rows", "as it is", "perturbed", "difference", "p", "broke", "mended"]:
        table.add_column(column, justify="left" if column == "perturbation" else "right")
    for each in found.perturbed:
        test = each.test
        table.add_row(
            Text(each.name), numbers.count(test.n), numbers.percent(test.mean_b), numbers.percent(test.mean_a),
            _difference(test.difference, test.interval), numbers.p_value(each.p_value), str(test.wins_b),
            str(test.wins_a), style="red" if each.p_value < 0.05 and test.difference < 0 else None,
        )  # fmt: skip
    original = found.original
    line = (
        f"{found.program}: {numbers.percent(original.score)} [{numbers.interval(original.interval)}] as it is; "
        f"{numbers.percent(found.worst)} [{numbers.interval(found.interval)}] if each of "
        f"{numbers.count(original.n)} rows counts as in the worst case. Changed: {', '.join(found.fields)}."
    )
    parts: list[RenderableType] = [Text(line), whole(table)]
    for each in found.perturbed:
        if each.broken:
            first = "" if len(each.broken) <= _BROKEN else f", the first {_BROKEN} of {len(each.broken)}"
            parts.append(Text(f"Broke by {each.name}{first}:"))
            parts += [
                Text(f"  {_values(change.inputs)}\n    was {_values(change.old)}; now {_values(change.new)}")
                for change in each.broken[:_BROKEN]
            ]
    if unanswered := sum(each.unanswered for each in found.perturbed):
        parts.append(Text(f"The LM left {numbers.count(unanswered)} rows without an answer; they are in no score."))
    return Group(*parts)


def _difference(difference: float, interval: Interval) -> str:
    return f"{numbers.points(difference)} {numbers.points_between(interval.low, interval.high)}"


def _values(values: Mapping[str, Any]) -> str:
    told = {name: value for name, value in values.items() if name != "choice_logprobs"}
    return _line(", ".join(f"{name}: {value}" for name, value in told.items()))


def _line(text: str) -> str:
    text = text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")  # what was changed is to be seen
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
