"""Draws of demonstrations: which of a pool, how many, in which order."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import dspy

from ...programs.candidate import PredictorChoice
from ...programs.fields import choices_of, write_field
from .base import SearchState

__all__ = [
    "HANDFUL",
    "Order",
    "balanced",
    "class_of",
    "fitting",
    "has_classes",
    "interleaved",
    "mixed_sizes",
    "room_for_demonstrations",
]

HANDFUL = 4
"""Demonstrations by which a first look tells whether they help at all."""
Order = Literal["shuffled", "interleaved", "typical last"]
"""How drawn demonstrations stand in the prompt: by chance; class by class in turn; those most like the rest last."""

_CHARACTERS = 4  # of a token, about
_FIELD = 16  # characters that a field's name and its line take


def has_classes(signature: type[dspy.Signature]) -> bool:
    """Tells whether an output of the signature is a choice."""
    return any(choices_of(info.annotation) for info in signature.output_fields.values())


def class_of(signature: type[dspy.Signature]) -> Callable[[Mapping[str, Any]], str]:
    """Tells the class of a demonstration, by those of its outputs that are choices."""
    chosen = [(name, info.annotation) for name, info in signature.output_fields.items() if choices_of(info.annotation)]
    return lambda shown: "|".join(write_field(shown.get(name), annotation) for name, annotation in chosen)


def interleaved(pool: Sequence[dict[str, Any]], signature: type[dspy.Signature]) -> list[dict[str, Any]]:
    """Orders a pool so that every beginning of it shows the classes equally often, while there are any left."""
    tell = class_of(signature)
    classes: dict[str, list[dict[str, Any]]] = {}
    for shown in pool:
        classes.setdefault(tell(shown), []).append(shown)
    rows = max(map(len, classes.values()), default=0)
    return [members[row] for row in range(rows) for members in classes.values() if row < len(members)]


def balanced(
    pool: Sequence[dict[str, Any]], signature: type[dspy.Signature], size: int, generator: random.Random
) -> list[dict[str, Any]]:
    """Draws so many, each class equally often as far as the pool allows, the classes in turn."""
    shuffled = list(pool)
    generator.shuffle(shuffled)
    return interleaved(shuffled, signature)[:size]


def mixed_sizes(sizes: Sequence[int], generator: random.Random) -> list[int]:
    """Orders sizes by chance, such that 2 to 8, which most often do best, tend to stand first.

    >>> sorted(mixed_sizes([0, 2, 4, 16], random.Random(0)))
    [2, 4, 16]
    """
    # Efraimidis & Spirakis 2006: keys u^(1/w) order a set by weighted draws without replacement.
    keys = {size: generator.random() ** (1 / (4 if 2 <= size <= 8 else 1)) for size in sizes if size > 0}
    return sorted(keys, key=keys.__getitem__, reverse=True)


def room_for_demonstrations(state: SearchState) -> float:
    """Gives how many characters of demonstrations a prompt may hold, about; ∞ where prompts are not limited."""
    limit = state.space.max_prompt_tokens
    if limit is None:
        return math.inf
    cells, choices = state.incumbent.cells, state.incumbent.candidate.predictors.values()
    prompt = sum(cell.input_tokens for cell in cells) / max(1, sum(cell.calls for cell in cells))
    shown = sum(map(_characters_shown, choices)) / max(1, len(choices))
    return _CHARACTERS * limit - max(0.0, _CHARACTERS * prompt - shown)


def _characters_shown(choice: PredictorChoice) -> float:
    if choice.nearest is not None:
        return choice.nearest.count * sum(map(_characters, choice.nearest.pool)) / max(1, len(choice.nearest.pool))
    return sum(map(_characters, choice.demonstrations or ()))


def _characters(shown: Mapping[str, Any]) -> int:
    return sum(_FIELD + len(value if isinstance(value, str) else repr(value)) for value in shown.values())


def fitting(shown: Sequence[dict[str, Any]], room: float) -> list[dict[str, Any]]:
    """Gives the first demonstrations, as many as there is room for.

    >>> len(fitting([{"text": "x" * 84}] * 5, room=250))
    2
    """
    kept: list[dict[str, Any]] = []
    for each in shown:
        room -= _characters(each)
        if room < 0:
            break
        kept.append(each)
    return kept
