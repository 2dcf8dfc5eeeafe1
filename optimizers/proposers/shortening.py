"""Proposes what saves tokens, in the hope that the score stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import dspy

from ...programs.answering import Answering
from ...programs.candidate import Candidate, PredictorChoice
from ..space import Space
from .base import SearchState
from .novelty import novel, retold

__all__ = ["ShorteningProposer"]


class ShorteningProposer:
    """Takes something off the incumbent: votes, demonstrations, half of an instruction's sentences, hints.

    Where two programs are as good, the cheaper one wins; these are the moves that look for it. They cost no LM call.
    """

    name = "shortening"

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many shorter candidates that were not measured yet, those that save most first."""
        return novel(self._all(state), state, count)

    @staticmethod
    def _all(state: SearchState) -> Iterator[Candidate]:
        incumbent, searched = state.incumbent.candidate, state.space.searched(state.task.program)
        savings = {
            name: dict(_savings(incumbent.predictors[name], predictor, state.space))
            for name, predictor in searched.items()
        }
        groups = [list(searched), *([[name] for name in searched] if len(searched) > 1 else [])]
        for told in dict.fromkeys(told for each in savings.values() for told in each):
            for names in groups:
                candidate = incumbent
                for name in names:
                    candidate = candidate.with_choice(predictor=name, **savings[name].get(told, {}))
                if candidate != incumbent:
                    whom = "" if names == list(searched) else f"{names[0]} "
                    yield candidate.model_copy(update={"origin": retold(incumbent.origin, "shorter", whom + told)})


def _savings(choice: PredictorChoice, predictor: dspy.Predict, space: Space) -> Iterator[tuple[str, dict[str, Any]]]:
    """Gives what may be taken off one predictor, with the words for it."""
    answering = choice.answering or Answering()
    for votes in sorted({1, *space.votes}, reverse=True):
        if votes < answering.votes:
            yield f"{votes} of {answering.votes} votes", {"answering": answering.model_copy(update={"votes": votes})}
    if answering.reasoning and "direct" in space.answers:
        yield "no reasoning", {"answering": answering.model_copy(update={"reasoning": False})}
    if choice.nearest is not None:
        for size in _fewer(choice.nearest.count, space):
            changed = {"nearest": choice.nearest.model_copy(update={"count": size}) if size else None}
            yield f"{size} of {choice.nearest.count} nearest demonstrations", changed
    elif shown := choice.demonstrations:
        for size in _fewer(len(shown), space):
            # The last ones stand nearest to the question, and tell a small LM most.
            yield f"the last {size} of {len(shown)} demonstrations", {"demonstrations": shown[len(shown) - size :]}
            if size:
                yield f"the first {size} of {len(shown)} demonstrations", {"demonstrations": shown[:size]}
    if space.instructions:
        text = choice.instruction or predictor.signature.instructions
        for told, shorter in _shorter(text):
            yield told, {"instruction": shorter}
    if choice.format is not None and choice.format.hints:
        yield "no hints", {"format": choice.format.model_copy(update={"hints": False})}


def _fewer(count: int, space: Space) -> list[int]:
    """Numbers of demonstrations that the space allows below one, the next lower ones first."""
    return sorted((size for size in {0, *space.demonstrations} if size < count), reverse=True)


def _shorter(text: str) -> Iterator[tuple[str, str]]:
    """Gives an instruction's shorter sentences, its first and its last ones; nothing where it has only one.

    >>> dict(_shorter("Read the whole review. Be brief."))["the shorter sentences"]
    'Be brief.'
    """
    sentences = [part for part in re.split(r"(?<=[.!?])\s+|\n+", text.strip()) if part.strip()]
    if len(sentences) < 2:
        return
    half = (len(sentences) + 1) // 2
    short = set(sorted(range(len(sentences)), key=lambda at: (len(sentences[at]), at))[:half])
    found = {
        "the shorter sentences": [part for at, part in enumerate(sentences) if at in short],
        "the first sentences": sentences[:half],
        "the last sentences": sentences[half:],
    }
    yield from ((told, " ".join(parts)) for told, parts in found.items())
