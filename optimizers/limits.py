"""What a person should know where the winner does not keep the limits that were set."""

from __future__ import annotations

from ..evaluation import numbers
from .arena import Arena
from .promotion import Promotion
from .standing import Standing

__all__ = ["limit_notes"]


def limit_notes(promotion: Promotion, arena: Arena, winner: Standing) -> list[str]:
    """Says which limits the winner breaks, and whether anything that was tried keeps all of them.

    Args:
        promotion: Has the limits.
        arena: Where all that was tried was measured.
        winner: As it stands there.
    """
    objectives = promotion.objectives
    values = promotion.values(arena, arena.key_of(winner))
    if not (broken := objectives.broken(values)):
        return []
    told = ", ".join(
        f"{name} is {numbers.figure(values[name])}, {'at least' if objectives.higher_is_better(name) else 'at most'} "
        f"{numbers.figure(objectives.limits[name])} is allowed"
        for name in broken
    )
    tried = [key for key, each in arena.standings.items() if each.scores]
    kept = any(objectives.allowed(promotion.values(arena, key)) for key in tried)
    others = "" if kept else " Nothing that was tried keeps all limits: loosen them, or widen the space."
    return [f"The winner breaks the limits: {told}.{others}"]
