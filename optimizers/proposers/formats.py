"""Proposes prompt formats and decodings: the cheapest change there is, and for a small LM the greatest."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import chain

from ...programs.candidate import Candidate
from ...programs.formats import Format
from .base import SearchState
from .draws import HANDFUL, balanced, fitting, room_for_demonstrations
from .novelty import novel, retold
from .pools import labelled_demonstrations

__all__ = ["FormatProposer"]


class FormatProposer:
    """Gives the incumbent in every format that the LM can serve: first the same for all predictors, then one by one.

    A predictor that cannot use a decoding (no single choice to score, say) decodes as freely as it must. A format that
    an LM cannot follow when it is told may be the best when it is shown: so each is also given with a few labelled
    demonstrations, the same for all formats, where the space has any.
    """

    name = "formats"

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many formats that were not measured yet."""
        incumbent, searched = state.incumbent.candidate, state.space.searched(state.task.program)
        formats = state.space.formats_for([each.signature for each in searched.values()], state.matrix.lm)
        bare = list(_alike(incumbent, list(searched), formats))
        shown = [] if _shows(incumbent) else list(_shown(bare, state))
        # Side by side, so that where there is room for few, the likeliest formats stand there in both ways.
        both = chain.from_iterable(zip(bare, shown, strict=True)) if shown else bare
        return novel(chain(both, _one_by_one(state)), state, count)


def _alike(incumbent: Candidate, predictors: Sequence[str], formats: Sequence[Format]) -> Iterator[Candidate]:
    """Each format for all predictors."""
    for each in formats:
        candidate = incumbent
        for name in predictors:
            candidate = candidate.with_choice(predictor=name, format=each)
        yield candidate.model_copy(update={"origin": each.label})


def _one_by_one(state: SearchState) -> Iterator[Candidate]:
    """Of a chain: each format for one predictor, the others as they are."""
    incumbent, searched = state.incumbent.candidate, state.space.searched(state.task.program)
    for name, predictor in searched.items() if len(searched) > 1 else ():
        for each in state.space.formats_for([predictor.signature], state.matrix.lm):
            origin = f"{incumbent.origin}; {name}: {each.label}"
            yield incumbent.with_choice(predictor=name, format=each, origin=origin)


def _shows(candidate: Candidate) -> bool:
    return any(choice.demonstrations or choice.nearest for choice in candidate.predictors.values())


def _shown(candidates: Sequence[Candidate], state: SearchState) -> Iterator[Candidate]:
    """Gives candidates with a few labelled demonstrations, one draw for all: formats are compared, not draws."""
    sizes = [size for size in state.space.demonstrations if size]
    if not sizes or not state.space.selects("labelled"):
        return
    size = min(sizes, key=lambda each: abs(each - HANDFUL))
    room, generator = room_for_demonstrations(state), random.Random(state.seed)  # noqa: S311 — reproducible, not secret
    signatures = {name: each.signature for name, each in state.space.searched(state.task.program).items()}
    drawn = {
        name: tuple(fitting(balanced(pool, signatures[name], size, generator), room))
        for name, pool in labelled_demonstrations(state).items()
    }
    largest = max(map(len, drawn.values()), default=0)
    for candidate in candidates if largest else ():
        origin = retold(candidate.origin, "demonstrations", f"{largest} labelled")
        for name, shown in drawn.items():
            if shown:
                candidate = candidate.with_choice(predictor=name, demonstrations=shown)
        yield candidate.model_copy(update={"origin": origin})
