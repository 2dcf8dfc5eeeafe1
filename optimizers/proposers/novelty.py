"""What of a proposer's candidates is new, and how a changed candidate tells where it came from."""

from __future__ import annotations

from collections.abc import Iterable

from ...programs.candidate import Candidate
from .base import SearchState

__all__ = ["novel", "retold", "unfitted"]


def unfitted(candidate: Candidate) -> Candidate:
    """Takes off what a calibration was fitted to: candidates that differ in nothing else are one.

    >>> from progspace.programs.formats import Format
    >>> import dspy
    >>> plain = Candidate.declared(dspy.Predict("text -> label")).with_choice(format=Format(decoding="calibrated"))
    >>> fitted = plain.with_choice(format=Format(decoding="calibrated", biases=(("a", 0.5),)))
    >>> unfitted(fitted) == plain
    True
    """
    for name, choice in candidate.predictors.items():
        if choice.format is not None and choice.format.biases:
            candidate = candidate.with_choice(predictor=name, format=choice.format.model_copy(update={"biases": ()}))
    return candidate


def novel(candidates: Iterable[Candidate], state: SearchState, count: int) -> list[Candidate]:
    """Gives the first candidates, at most so many, that were not measured yet and are not given twice."""
    known = {unfitted(standing.candidate).hash for standing in state.standings}
    known.add(unfitted(state.incumbent.candidate).hash)
    found: list[Candidate] = []
    for proposed in candidates if count > 0 else ():
        candidate = unfitted(proposed)
        if candidate.hash not in known:
            known.add(candidate.hash)
            found.append(candidate)
            if len(found) == count:
                break
    return found


def retold(origin: str, what: str, told: str) -> str:
    """Adds a change to where a candidate came from; an earlier change of the same kind is told no more.

    >>> retold("compact, free; instruction: read", "instruction", "brief")
    'compact, free; instruction: brief'
    """
    kept = [part for part in origin.split("; ") if not part.startswith(f"{what}:")]
    return "; ".join([*kept, f"{what}: {told}"])
