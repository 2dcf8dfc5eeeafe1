"""Proposes ways to answer: after reasoning, by a vote of samples, or both."""

from __future__ import annotations

from collections.abc import Iterator

from ...programs.answering import REASONING, Answering
from ...programs.candidate import Candidate, PredictorChoice
from .base import SearchState
from .novelty import novel

__all__ = ["AnswerProposer", "LMProposer"]


class AnswerProposer:
    """Gives the incumbent in every way to answer of the space, for all predictors, then for each alone.

    Samples of one scored choice are all alike, so votes want reasoning before it, or a decoding that samples.
    """

    name = "answers"

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many ways that were not measured yet."""
        return novel(self._all(state), state, count)

    @staticmethod
    def _all(state: SearchState) -> Iterator[Candidate]:
        incumbent, searched = state.incumbent.candidate, state.space.searched(state.task.program)
        groups = [list(searched), *([[name] for name in searched] if len(searched) > 1 else [])]
        for names in groups:
            for way in state.space.answerings():
                candidate = incumbent
                for name in names:
                    reasons = REASONING in searched[name].signature.output_fields
                    fitting = way.model_copy(update={"reasoning": way.reasoning and not reasons})
                    if _makes_a_difference(fitting, incumbent.predictors[name], reasons):
                        candidate = candidate.with_choice(predictor=name, answering=fitting)
                if candidate != incumbent:
                    whom = "" if names == list(searched) else f"{names[0]}: "
                    yield candidate.model_copy(update={"origin": f"{incumbent.origin}; {whom}{way.label}"})


def _makes_a_difference(way: Answering, choice: PredictorChoice, reasons: bool) -> bool:
    if way == (choice.answering or Answering()):
        return False
    scored = choice.format is not None and choice.format.decoding in ("scored", "calibrated")
    return way.votes == 1 or way.reasoning or reasons or not scored


class LMProposer:
    """Gives the incumbent on each other LM of the space: all predictors, then each alone."""

    name = "lms"

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many that were not measured yet."""
        return novel(self._all(state), state, count)

    @staticmethod
    def _all(state: SearchState) -> Iterator[Candidate]:
        incumbent, searched = state.incumbent.candidate, list(state.space.searched(state.task.program))
        groups = [searched, *([[name] for name in searched] if len(searched) > 1 else [])]
        for lm in state.space.lms:
            for names in groups:
                candidate = incumbent
                for name in names:
                    candidate = candidate.with_choice(predictor=name, lm=lm)
                whom = "" if names == searched else f"{names[0]} "
                yield candidate.model_copy(update={"origin": f"{incumbent.origin}; {whom}on {lm}"})
