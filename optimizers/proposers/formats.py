"""Proposes prompt formats and decodings: the cheapest change there is, and for a small LM the greatest."""

from __future__ import annotations

from collections.abc import Iterator

from ...programs.candidate import Candidate
from .base import SearchState
from .novelty import novel

__all__ = ["FormatProposer"]


class FormatProposer:
    """Gives the incumbent in every format that the LM can serve: first the same for all predictors, then one by one.

    A predictor that cannot use a decoding (no single choice to score, say) decodes as freely as it must.
    """

    name = "formats"

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many formats that were not measured yet."""
        return novel(self._all(state), state, count)

    @staticmethod
    def _all(state: SearchState) -> Iterator[Candidate]:
        incumbent, searched = state.incumbent.candidate, state.space.searched(state.task.program)
        for format in state.space.formats_for([each.signature for each in searched.values()], state.matrix.lm):  # noqa: A001
            candidate = incumbent
            for name in searched:
                candidate = candidate.with_choice(predictor=name, format=format)
            yield candidate.model_copy(update={"origin": format.label})
        if len(searched) > 1:
            for name, predictor in searched.items():
                for format in state.space.formats_for([predictor.signature], state.matrix.lm):  # noqa: A001
                    yield incumbent.with_choice(
                        predictor=name, format=format, origin=f"{incumbent.origin}; {name}: {format.label}"
                    )
