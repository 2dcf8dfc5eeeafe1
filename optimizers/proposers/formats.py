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

_FEW = 6  # formats: of choices that an LM scores there are more, and much the same


class FormatProposer:
    """Gives the incumbent in every format that the LM can serve: first the same for all predictors, then one by one.

    A predictor that cannot use a decoding (no single choice to score, say) decodes as freely as it must. A format that
    an LM cannot follow when it is told may be the best when it is shown: so each is also given with a few labelled
    demonstrations, where the space has any, and where formats are few, with others once more. What is drawn for one
    format is not drawn for the next (but where both ask the same): a poor draw would speak against all of them.
    """

    name = "formats"

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many formats that were not measured yet."""
        incumbent, searched = state.incumbent.candidate, state.space.searched(state.task.program)
        formats = state.space.formats_for([each.signature for each in searched.values()], state.matrix.lm)
        bare = list(_alike(incumbent, list(searched), formats))
        # Side by side, so that where there is room for few, the likeliest formats stand there in both ways.
        both = chain.from_iterable(zip(bare, _shown(bare, state, 1), strict=True))
        again = _shown(bare, state, 2) if len(bare) <= _FEW else ()
        return novel(chain(both, again, _one_by_one(state)), state, count)


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


def _shown(candidates: Sequence[Candidate], state: SearchState, draw: int) -> Iterator[Candidate]:
    """Gives the candidates with a few labelled demonstrations, or as they are where there are none to show."""
    sizes = [size for size in state.space.demonstrations if size]
    if not sizes or not state.space.selects("labelled") or _shows(state.incumbent.candidate):
        yield from candidates
        return
    size = min(sizes, key=lambda each: abs(each - HANDFUL))
    room, pools = room_for_demonstrations(state), labelled_demonstrations(state)
    signatures = {name: each.signature for name, each in state.space.searched(state.task.program).items()}
    for candidate in candidates:
        counts = []
        for name, pool in pools.items():
            layout = candidate.predictors[name].format
            asked = layout.asked.label if layout else ""
            generator = random.Random(f"{state.seed} {draw} {asked}")  # noqa: S311 — reproducible, not secret
            if drawn := fitting(balanced(pool, signatures[name], size, generator), room):
                candidate = candidate.with_choice(predictor=name, demonstrations=tuple(drawn))
                counts.append(len(drawn))
        told = f"{max(counts, default=0)} labelled" + (f" (draw {draw})" if draw > 1 else "")
        yield candidate.model_copy(update={"origin": retold(candidate.origin, "demonstrations", told)})
