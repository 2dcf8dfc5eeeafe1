"""The sealed test: read once, at the end, for the program as declared and each rung's best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dspy

from ..errors import LMError
from ..evaluation.evaluation import Comparison, compare_cells
from ..evaluation.matrix import Matrix
from ..lms.budget import Spent
from ..store.records import Cell
from .arena import Arena
from .rung import Climb, Rung
from .standing import Standing

__all__ = ["Sealed", "read_sealed"]

_DEAR = 1.5


@dataclass(frozen=True, slots=True)
class Sealed:
    """What the sealed test says.

    Attributes:
        rows: How many examples were read.
        compared: Each rung's best with the program as declared; None where it was not read.
        paces: Seconds of the clock that each took an example; None where some answers were known already.
        spent: What it took; no part of a search's budget.
        unread: Why it could not be scored; None where it was, or where there is none.
    """

    rows: int
    compared: tuple[Comparison | None, ...]
    paces: tuple[float | None, ...]
    spent: Spent
    unread: str | None = None


def read_sealed(
    climbed: Climb, winner: Standing, arena: Arena, matrix: Matrix, *, test_rows: int | None, seed: int
) -> Sealed:
    """Scores each rung's best on the sealed test, but for one that lost and asks far more than the winner.

    Args:
        climbed: The whole ladder.
        winner: What its highest rung came to, as it ships.
        arena: Where it was climbed.
        matrix: Runs on the test, with a meter of its own.
        test_rows: Read only so many examples; None for all.
        seed: Of intervals.
    """
    test: Sequence[dspy.Example] = ()
    if arena.task.test_size:
        test = arena.task.unseal_test("final report")[:test_rows]
    compared: list[Comparison | None] = [None] * len(climbed.rungs)
    paces: list[float | None] = [None] * len(climbed.rungs)
    unread, declared = None, list[Cell]()
    for index, rung in enumerate(climbed.rungs if test else ()):
        if index and not _worth_reading(rung, climbed):
            continue
        before = matrix.meter.spent
        try:
            cells = matrix.fill(_program(rung, winner, climbed, arena), test)
            compared[index] = compare_cells(cells, declared or cells, test, seed=seed)
        except LMError as error:  # what the search found is paid for
            if index and rung is not climbed.winner:
                continue
            compared, paces = [None] * len(compared), [None] * len(paces)
            unread = f"The sealed test could not be scored: {error}. Run the same again: only that is left to do."
            break
        took = matrix.meter.spent - before
        declared = declared or cells
        paces[index] = took.seconds / len(test) if took.calls and took.bought == took.calls else None
    return Sealed(len(test), tuple(compared), tuple(paces), matrix.meter.spent, unread)


def _program(rung: Rung, winner: Standing, climbed: Climb, arena: Arena) -> dspy.Module:
    """Gives what of a rung is scored: the module itself, or its best candidate; of the winner's, what ships."""
    if rung is climbed.rungs[0]:
        return arena.task.program
    return arena.apply((winner if rung is climbed.winner else rung.best).candidate)


def _worth_reading(rung: Rung, climbed: Climb) -> bool:
    def asks(standing: Standing) -> float:
        return sum(cell.calls for cell in standing.cells) / max(1, len(standing.cells))

    return rung.kept or asks(rung.best) <= _DEAR * max(1.0, asks(climbed.winner.best))
