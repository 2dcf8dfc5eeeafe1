"""What a race may still buy of what it wants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..board import Board
from .base import Purchase

__all__ = ["affordable_purchase", "cheapest_of_best", "highest_mean"]


def affordable_purchase(
    board: Board, rows: Sequence[int], until: int, dropped: Iterable[tuple[int, str]] = ()
) -> Purchase | None:
    """Gives the purchase, or as much of it as is affordable; None where there is nothing to buy.

    Where the cells do not suffice, each candidate gets fewer examples; where they do not suffice for one each, the
    candidates that are named first get one.

    >>> board = Board(np.full((3, 9), np.nan), np.zeros(3, int), np.full(3, np.nan), affordable=7)
    >>> affordable_purchase(board, [0, 1, 2], 5)
    Purchase(candidates=(0, 1, 2), until=2, dropped=())
    """
    until = min(until, board.examples)
    wanted = [row for row in rows if board.bought[row] < until]
    if not wanted:
        return None
    if board.affordable is not None:
        bought = board.bought[wanted]
        while until > 0 and np.maximum(until - bought, 0).sum() > board.affordable:
            until -= 1
        wanted = [row for row in rows if board.bought[row] < until]
        if not wanted:  # the next example is too dear for all of those who are behind
            until = int(bought.min()) + 1
            wanted = [row for row in rows if board.bought[row] < until][: max(0, board.affordable)]
    return Purchase(tuple(wanted), until, tuple(dropped)) if wanted else None


def highest_mean(board: Board, rows: Sequence[int]) -> int:
    """Gives the row of the highest mean score; of equals the one of fewer tokens, then the first."""
    return cheapest_of_best(board, rows, board.means)


def cheapest_of_best(
    board: Board, rows: Sequence[int], values: Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> int:
    """Gives the row of the highest value among those that have cells; the first row where none has.

    Of equals it is the one of fewer tokens, then the first.
    """
    measured = [row for row in rows if board.bought[row] > 0]
    tokens = np.nan_to_num(board.tokens, nan=np.inf)
    return min(measured, key=lambda row: (-round(float(values[row]), 9), float(tokens[row]), row), default=0)
