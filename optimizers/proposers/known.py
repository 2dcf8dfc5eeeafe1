"""A candidate that is known from elsewhere: yesterday's program, say."""

from __future__ import annotations

from ...errors import ProgramError
from ...programs.candidate import Candidate
from .base import SearchState
from .novelty import novel

__all__ = ["KnownProposer"]


class KnownProposer:
    """Proposes one candidate, as it is; nothing where the task's program cannot take it.

    Args:
        candidate: Say, that of an artifact.
        origin: What a person is told of it.

    >>> import dspy
    >>> KnownProposer(Candidate.declared(dspy.Predict("text -> label")), "yesterday's").name
    "yesterday's"
    """

    def __init__(self, candidate: Candidate, origin: str) -> None:
        self.candidate, self.name = candidate.model_copy(update={"origin": origin}), origin

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives the candidate, where it is not measured yet."""
        try:
            self.candidate.apply(state.task.program, lms=state.lms)
        except ProgramError:
            return []
        return novel([self.candidate], state, count)
