"""Proposes what comes of crossing good candidates, with small mutations; no LM call."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from ...programs.candidate import Candidate, PredictorChoice
from ..space import Space
from ..standing import Standing
from .base import SearchState
from .novelty import novel
from .pools import label_pools

__all__ = ["CrossoverProposer"]

_PARENTS = 6
_ATTEMPTS = 40
_PARTS = (("instruction",), ("demonstrations", "nearest"), ("format",), ("answering",), ("lm",))
"""What is inherited together: a predictor has either demonstrations or a pool to choose them from."""


class CrossoverProposer:
    """Recombines the best candidates: the instruction of one, the demonstrations of another, the format of a third.

    A chain's predictors may come whole from different parents, or part by part. A child that is like a parent, and now
    and then another one, is mutated: demonstrations change their order, one is left out or gives way to another, hints
    come or go. (The crossover of whole predictors is GEPA's merge, `Agrawal et al. 2025
    <https://arxiv.org/abs/2507.19457>`_; the mutations of demonstrations are CAPO's, `Zehle et al. 2025
    <https://arxiv.org/abs/2504.16005>`_.)

    Args:
        mutations: How often a child is mutated as well.
    """

    name = "crossover"

    def __init__(self, mutations: float = 0.4) -> None:
        self.mutations = mutations

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many children that were not measured yet."""
        return novel(self._all(state, count), state, count)

    def _all(self, state: SearchState, count: int) -> Iterator[Candidate]:
        parents = [each for each in state.standings if each.cells][:_PARENTS]
        if all(each.candidate != state.incumbent.candidate for each in parents):
            parents = [state.incumbent, *parents[: _PARENTS - 1]]
        searched = state.space.searched(state.task.program)
        generator = random.Random(state.seed)  # noqa: S311 — reproducible, not secret
        pools = label_pools(state.task.program, state.task.train, partial=True)
        for _ in range(_ATTEMPTS * count):
            child, told = _cross(parents, list(searched), generator)
            if any(child == parent.candidate for parent in parents) or generator.random() < self.mutations:
                name = generator.choice(list(searched))
                child, how = _mutate(child, name, pools[name], state.space, generator)
                told = f"{told}, {how}" if how else told
            yield child.model_copy(update={"origin": told})


def _cross(parents: Sequence[Standing], names: Sequence[str], generator: random.Random) -> tuple[Candidate, str]:
    """Gives a child of two or three parents; the better a parent, the likelier it is one."""
    weights = [1 / (rank + 1) for rank in range(len(parents))]
    child = generator.choices(parents, weights)[0].candidate
    told = child.origin
    whole = len(names) > 1 and generator.random() < 0.5
    for name in names:
        for parts in [sum(_PARTS, ())] if whole else _PARTS:
            if generator.random() < 0.5:
                continue
            other = generator.choices(parents, weights)[0].candidate
            given = {part: getattr(other.predictors[name], part) for part in parts}
            if any(getattr(child.predictors[name], part) != value for part, value in given.items()):
                child = child.with_choice(predictor=name, **given)
                what = name if whole else parts[0] if len(names) == 1 else f"{parts[0]} of {name}"
                told = f"{_brief(told)} × {what}: {_brief(other.origin)}"
    return child, told


def _brief(origin: str) -> str:
    return origin if len(origin) <= 120 else f"{origin[:119]}…"


def _mutate(
    candidate: Candidate, name: str, pool: Sequence[dict[str, Any]], space: Space, generator: random.Random
) -> tuple[Candidate, str]:
    """Changes a small thing of one predictor; gives what was done, empty where nothing can be."""
    choice = candidate.predictors[name]
    shown = list(choice.demonstrations or ())
    moves = [*_moves(shown, pool, space), *(["hints"] if _hints_are_free(choice) else [])]
    if not moves:
        return candidate, ""
    move = generator.choice(moves)
    if move == "hints" and choice.format is not None:
        changed = choice.format.model_copy(update={"hints": not choice.format.hints})
        return candidate.with_choice(predictor=name, format=changed), "hints swapped"
    if move == "reordered":
        generator.shuffle(shown)
    elif move == "one left out":
        del shown[generator.randrange(len(shown))]
    else:
        shown[generator.randrange(len(shown))] = generator.choice([each for each in pool if each not in shown])
    return candidate.with_choice(predictor=name, demonstrations=tuple(shown)), f"demonstrations: {move}"


def _moves(shown: Sequence[dict[str, Any]], pool: Sequence[dict[str, Any]], space: Space) -> list[str]:
    """What may be done to demonstrations; a space that has one number of them keeps to it."""
    moves = ["reordered"] if len(shown) > 1 else []
    if len(shown) > 1 and len(space.demonstrations) > 1:
        moves.append("one left out")
    if shown and any(each not in shown for each in pool):
        moves.append("one replaced")
    return moves


def _hints_are_free(choice: PredictorChoice) -> bool:
    return choice.format is not None and choice.format.kind == "compact"
