"""What is shown of results, as data: the terminal and the page only draw it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "Chart",
    "Column",
    "Kind",
    "Mark",
    "Plot",
    "Point",
    "Results",
    "Series",
    "Suite",
    "Table",
    "Verdict",
    "columns",
]

Kind = Literal["won", "worse", ""]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mark(_Frozen):
    """A share of one with its interval; ``kind`` is how it is coloured."""

    score: float
    low: float
    high: float
    label: str = ""
    kind: Kind = ""


class Plot(_Frozen):
    """Intervals to be drawn, on a scale that all rows of a table share."""

    marks: tuple[Mark, ...]


class Column(_Frozen):
    """A column of a table; ``plot`` is left out where nothing can be drawn."""

    name: str
    kind: Literal["text", "number", "plot"] = "number"


def columns(first: str, *others: str) -> tuple[Column, ...]:
    """Makes columns of their names: text, then numbers; what is called ``interval`` is drawn.

    >>> [column.kind for column in columns("task", "score", "interval")]
    ['text', 'number', 'plot']
    """
    return (
        Column(name=first, kind="text"),
        *(Column(name=each, kind="plot" if each == "interval" else "number") for each in others),
    )


class Table(_Frozen):
    """A table, its numbers formatted.

    Attributes:
        caption: What it is of.
        columns: The first one tells the rows apart.
        rows: A cell for each column; of the first one, lines after its first tell more.
        strong: Numbers of rows that are progspace's own.
        folded: Whether a person has to ask for it.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str | Plot, ...], ...]
    strong: tuple[int, ...] = ()
    folded: bool = False


class Point(_Frozen):
    """A point of a chart; ``y`` is a share of one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    about: str = ""


class Series(_Frozen):
    """Points that belong together; ``own`` are progspace's; ``look`` numbers its colour and shape."""

    name: str
    look: int
    points: tuple[Point, ...]
    own: bool = False


class Chart(_Frozen):
    """Shares of one against what they took; ``log``: by powers of ten."""

    title: str
    x_name: str
    y_name: str
    series: tuple[Series, ...]
    log: bool = False


class Verdict(_Frozen):
    """What a comparison came to, in a sentence.

    Attributes:
        kind: ``win``, ``loss``, or ``open``: the data cannot tell.
        text: What was compared, and by how much they differ.
    """

    kind: Literal["win", "loss", "open"]
    text: str


def judged(text: str, gain: float, sure: bool) -> Verdict:
    """A win has to be sure; any lower mean is a loss."""
    return Verdict(kind="loss" if gain < 0 else "win" if gain > 0 and sure else "open", text=text)


class Suite(_Frozen):
    """What the runs of a suite say.

    Attributes:
        name: Of the suite.
        file: That its runs stand in.
        about: What it measures.
        runs: Lines in the file.
        rule: When a comparison is a win and when a loss; empty where nothing is compared.
        verdicts: Of its comparisons.
        tables: The main one first.
        charts: After the main table.
        notes: What else has to be known.
    """

    name: str
    file: str
    about: str = ""
    runs: int = 0
    rule: str = ""
    verdicts: tuple[Verdict, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    notes: tuple[str, ...] = ()

    def count(self, kind: str) -> int:
        """How many verdicts are of a kind."""
        return sum(verdict.kind == kind for verdict in self.verdicts)


class Results(_Frozen):
    """All that is shown."""

    suites: tuple[Suite, ...]

    @property
    def lines(self) -> Iterable[str]:
        """In plain text: each suite's verdicts."""
        for suite in self.suites:
            yield f"{suite.name}: {suite.about}"
            yield from (f"  {verdict.kind}: {verdict.text}" for verdict in suite.verdicts)
