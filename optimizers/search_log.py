"""What an arena tells of a search while it runs."""

from __future__ import annotations

from collections.abc import Sequence

import dspy

from ..store.records import Cell
from .standing import Standing

__all__ = ["SearchLog"]


class SearchLog:
    """Is told how a search runs, and keeps nothing."""

    def joined(self, standing: Standing, program: dspy.Module) -> None:
        """A candidate has been let in."""

    def bought(self, standing: Standing, cells: Sequence[Cell], *, fresh: bool = False) -> None:
        """A candidate has these cells on the first examples of the race, or on the fresh ones."""

    def dropped(self, standing: Standing, reason: str) -> None:
        """A race gave a candidate up."""

    def flush(self) -> None:
        """What was told so far is to be seen."""
