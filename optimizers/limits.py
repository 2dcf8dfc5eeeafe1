"""What a person should know where the winner is beyond a limit: of its prompts, or of what else is wanted."""

from __future__ import annotations

from ..evaluation import numbers
from .arena import Arena
from .promotion import Promotion
from .standing import Standing

__all__ = ["limit_notes"]


def limit_notes(promotion: Promotion, arena: Arena, winner: Standing) -> list[str]:
    """Says which limits the winner breaks, and whether anything that was tried keeps them.

    Args:
        promotion: Has the limits.
        arena: Where all that was tried was measured.
        winner: As it stands there.
    """
    notes, objectives, key = list[str](), promotion.objectives, arena.key_of(winner)
    if arena.too_long(key):
        notes.append(
            f"No program was found whose prompts have at most {arena.max_prompt_tokens} tokens; the winner's have "
            f"{numbers.count(winner.prompt_tokens)}."
        )
    values = promotion.values(arena, key)
    if not (broken := objectives.broken(values)):
        return notes
    told = ", ".join(
        f"{name} is {numbers.figure(values[name])}, {'at least' if objectives.higher_is_better(name) else 'at most'} "
        f"{numbers.figure(objectives.limits[name])} is allowed"
        for name in broken
    )
    tried = [key for key, each in arena.standings.items() if each.scores]
    kept = any(objectives.allowed(promotion.values(arena, key)) for key in tried)
    others = "" if kept else " Nothing that was tried keeps all limits: loosen them, or widen the space."
    return [*notes, f"The winner breaks the limits: {told}.{others}"]
