"""Where the metric asks an LM: calls are put aside to measure that judge's own variance, and a note tells it."""

from __future__ import annotations

import dspy

from ..errors import BudgetExceeded, LMError
from ..evaluation.judges import asks_an_lm, judge_variance
from ..programs.outputs import prediction_of
from ..store.records import Cell
from .arena import Arena
from .standing import Standing

__all__ = ["judge_note", "put_aside"]

_OUTPUTS, _REPEATS = 10, 3
_SHARE = 0.08  # of all calls, that this may take


def put_aside(arena: Arena, baseline: Standing) -> None:
    """Keeps calls for the judge, if there is one: a search leaves none."""
    if (calls := arena.matrix.meter.budget.calls) is not None:
        wanted = _OUTPUTS * _REPEATS * _judge_calls(_single_runs(arena, baseline)[1])
        arena.matrix.meter.keep(int(min(wanted, _SHARE * calls)))


def judge_note(arena: Arena, best: Standing) -> str | None:
    """Tells how far a judge agrees with itself on some of the winner's answers; None where the metric asks no LM."""
    arena.matrix.meter.keep(0)
    try:
        examples, cells = _single_runs(arena, best)
        if not asks_an_lm(cells):
            return None
        left, calls = arena.matrix.meter.calls_left, _judge_calls(cells)
        outputs = _OUTPUTS if left is None else min(_OUTPUTS, int(left / (_REPEATS * calls)))
        said = [
            (example, prediction_of(cell.output, arena.task.program))
            for example, cell in zip(examples, cells, strict=True)
            if cell.output and cell.error is None
        ][:outputs]
        rows, answers = [row for row, _ in said], [answer for _, answer in said]
        return judge_variance(arena.matrix, rows, answers, repeats=_REPEATS).text
    except (BudgetExceeded, LMError):
        return "The judge's own variance was not measured: nothing was left to spend."


def _single_runs(arena: Arena, standing: Standing) -> tuple[list[dspy.Example], list[Cell]]:
    """The first run of each answered cell, which is known: of repeats, a cell holds the calls of all.

    None where no cell has more calls than the program made: then no metric asked, and nothing is read again.
    """
    if not asks_an_lm([*standing.cells, *standing.fresh]):
        return [], []
    pairs = [*zip(arena.raced, standing.cells, strict=False), *zip(arena.fresh, standing.fresh, strict=False)]
    examples = [example for example, cell in pairs if cell.score is not None]
    return examples, arena.matrix.fill(arena.apply(standing.candidate), examples)


def _judge_calls(cells: list[Cell]) -> float:
    return sum(len(cell.asked) - cell.calls for cell in cells) / max(1, len(cells))
