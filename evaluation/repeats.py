"""A stochastic program is run several times on an example; here the runs become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..store.records import Cell

__all__ = ["mean_cell"]


def mean_cell(cells: Sequence[Cell]) -> Cell:
    """Gives one cell of the repeats of one program on one example: what a single run may be expected to do.

    Score, seconds, calls and tokens are means, for they stand for what one run scores and costs in an app (calls and
    tokens to the nearest whole number); ``asked`` holds the calls of all, for all of them were paid. Output, feedback
    and error are those of the first run with the lowest score. Repeats that have no score are left out; where none
    has one, the first is given.

    Averaging within an example first keeps the examples independent of each other: 5 repeats of 20 examples are 20
    observations, not 100 (`Miller 2024 <https://arxiv.org/abs/2411.00640>`_).

    >>> cells = [Cell("p", "e", "m", repeat=i, score=score, calls=1) for i, score in enumerate([1.0, 0.0, 1.0, 1.0])]
    >>> mean_cell(cells).score
    0.75
    """
    scores = [(cell.score, cell) for cell in cells if cell.score is not None]
    asked = tuple(call for cell in cells for call in cell.asked)
    if not scores:
        return replace(cells[0], asked=asked)
    worst = min(scores, key=lambda pair: pair[0])[1]
    count = len(scores)
    return replace(
        worst,
        repeat=0,
        score=sum(score for score, _ in scores) / count,
        calls=round(sum(cell.calls for _, cell in scores) / count),
        asked=asked,
        input_tokens=round(sum(cell.input_tokens for _, cell in scores) / count),
        output_tokens=round(sum(cell.output_tokens for _, cell in scores) / count),
        seconds=sum(cell.seconds for _, cell in scores) / count,
    )
