"""The base of every race."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..board import Board

__all__ = ["Purchase", "Race", "RaceMaker"]


@dataclass(frozen=True, slots=True)
class Purchase:
    """What to buy next.

    Attributes:
        candidates: Rows of the board.
        until: Buy each of them every example before this one that it does not have yet.
        dropped: Rows that the race gave up with this step, each with the reason in a few words.
    """

    candidates: tuple[int, ...]
    until: int
    dropped: tuple[tuple[int, str], ...] = ()


class Race(Protocol):
    """Decides which candidates earn more examples; made anew for each race, with a seed.

    The board only ever grows: more cells, and where new candidates join, more rows at its end.
    """

    def step(self, board: Board) -> Purchase | None:
        """Says what to buy next; None when the race is over. Never buys more cells than ``board.affordable``."""

    def best(self, board: Board) -> int:
        """Says which candidate it would choose now: a row that has cells."""


RaceMaker = Callable[[int], Race]
"""Makes a race of a seed."""
