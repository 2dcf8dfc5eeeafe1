"""The matrix as the page shows it: rows of scores, with the texts of their cells each kept once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from ...store.records import Cell
from .content import CellsView, EdgeCase

__all__ = ["Texts", "cells_view", "edge_cases"]

_LONGEST = 600  # characters of a text in a cell
_MOST = 4_000_000  # characters of all of them: a page that a phone opens
_GOOD = 5  # candidates whose failures are told
_SHOWN = 12


class Texts:
    """Texts, each kept once; those that come when there is no room are left out."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._size = 0
        self.cut = False

    @property
    def all(self) -> list[str]:
        """In the order of their indices."""
        return list(self._places)

    def place(self, text: str | None) -> int:
        """Gives a text's index; −1 for none."""
        if not text:
            return -1
        text = shortened(text, _LONGEST)
        if text not in self._places:
            if self._size + len(text) > _MOST:
                self.cut = True
                return -1
            self._size += len(text)
            self._places[text] = len(self._places)
        return self._places[text]


def shortened(text: str, longest: int) -> str:
    """Cuts a text that is too long.

    >>> shortened("a long text", 7)
    'a long…'
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def cells_view(cells: Mapping[str, Cell], examples: Sequence[str], texts: Texts) -> CellsView:
    """Shows a candidate's cells on all examples, where it has them."""
    scores: list[float | None] = []
    outputs, remarks = [], []
    for example in examples:
        cell = cells.get(example)
        scores.append(None if cell is None or cell.score is None else round(cell.score, 4))
        outputs.append(-1 if cell is None else texts.place(_output(cell)))
        remarks.append(-1 if cell is None else texts.place(cell.error or cell.feedback))
    return CellsView(scores=scores, outputs=outputs, remarks=remarks)


def _output(cell: Cell) -> str:
    values = (
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in cell.output.items()
    )
    return "\n".join(f"{name}: {value}" for name, value in values)


def edge_cases(rows: Mapping[int, CellsView], good: Iterable[int], examples: int) -> list[EdgeCase]:
    """Finds the examples on which good candidates fail or disagree: a plain read of the matrix, the worst first.

    Args:
        rows: By candidate.
        good: Numbers of good candidates, the best first.
        examples: How many there are.
    """
    shown = list(good)[:_GOOD]
    found = []
    for example in range(examples):
        scores = [score for number in shown if (score := rows[number].scores[example]) is not None]
        if len(scores) < 2 or min(scores) >= 1:
            continue
        kind = "fail" if max(scores) < 0.5 else "disagree" if max(scores) - min(scores) >= 0.5 else None
        if kind is not None:
            found.append(EdgeCase(example=example, kind=kind, score=sum(scores) / len(scores), n=len(scores)))
    return sorted(found, key=lambda each: (each.score, -each.n, each.example))[:_SHOWN]
