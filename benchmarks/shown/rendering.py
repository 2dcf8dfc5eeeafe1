"""Draws results: for a terminal or a pipe, and as one page."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as Drawn
from rich.text import Text

from ...evaluation.page.html import assemble
from .content import Results, Suite, Table

__all__ = ["overview", "results_page", "results_view", "table_view"]

_LEAST = 15  # of a column, where it has so much to say


def results_page(results: Results) -> str:
    """Gives the results as one HTML page."""
    script = files(__package__).joinpath("assets").joinpath("results.js").read_text(encoding="utf-8")
    return assemble(results, script, title="benchmark results", plain="\n".join(results.lines))


def results_view(results: Results) -> RenderableType:
    """Gives the results for a terminal: each suite's verdicts and tables."""
    return Group(*(part for suite in results.suites for part in _suite(suite)))


def overview(results: Results) -> RenderableType:
    """Gives what there is, a line for each suite."""
    drawn = Drawn(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("suite", "runs", "wins", "losses", "cannot tell", "about"):
        drawn.add_column(name, justify="left" if name in ("suite", "about") else "right")
    for suite in results.suites:
        told = (str(suite.count(kind)) if suite.verdicts else "" for kind in ("win", "loss", "open"))
        drawn.add_row(*map(Text, (suite.name, str(suite.runs), *told, suite.about)))
    return drawn


def _suite(suite: Suite) -> Iterator[RenderableType]:
    yield Text(suite.name, style="bold")
    yield from (Text(told) for told in (suite.about, suite.rule) if told)
    for verdict in sorted(suite.verdicts, key=lambda verdict: ("win", "loss", "open").index(verdict.kind)):
        yield Text(f"  {verdict.kind:<5}{verdict.text}")
    for table in suite.tables:
        yield table_view(table)
    yield from (Text(note) for note in suite.notes)
    yield Text("")


def table_view(table: Table) -> RenderableType:
    """Gives a table for a terminal."""
    drawn = Drawn(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    shown = [index for index, column in enumerate(table.columns) if column.kind != "plot"]
    for index in shown:
        numeric = table.columns[index].kind == "number"
        longest = max((len(str(row[index])) for row in table.rows), default=0)
        drawn.add_column(
            Text(table.columns[index].name), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold",
            min_width=min(_LEAST, longest),
        )  # fmt: skip
    for number, row in enumerate(table.rows):
        drawn.add_row(*(Text(str(row[index])) for index in shown), style="bold" if number in table.strong else None)
    return Group(Text(table.caption, style="italic"), drawn)
