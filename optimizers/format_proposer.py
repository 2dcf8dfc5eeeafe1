"""Proposes prompt formats and decodings: the cheapest change there is, and for a small LM the greatest."""

from __future__ import annotations

from collections.abc import Iterator

import dspy

from ..programs.candidate import Candidate
from ..programs.compact import offers
from ..programs.fields import choices_of
from ..programs.formats import Decoding, Format

__all__ = ["propose_formats"]


def propose_formats(incumbent: Candidate, module: dspy.Module, lm: dspy.BaseLM) -> list[Candidate]:
    """Gives the incumbent in every format that the LM can serve, the same one for all predictors.

    A predictor that cannot use a decoding (no single choice to score, say) decodes as freely as it must.
    """
    return [incumbent.with_choice(format=proposed, origin=proposed.label) for proposed in _formats(module, lm)]


def _formats(module: dspy.Module, lm: dspy.BaseLM) -> Iterator[Format]:
    single_choice = any(
        len(predictor.signature.output_fields) == 1
        and choices_of(next(iter(predictor.signature.output_fields.values())).annotation)
        for predictor in module.predictors()
    )
    decodings: list[Decoding] = ["free"]
    if offers(lm, "structured_outputs") or offers(lm, "response_format"):
        decodings.append("constrained")
    if single_choice and offers(lm, "choice_logprobs"):
        decodings += ["scored", "calibrated"]
    # The likelier ones first: where the budget is short, the last ones do not start.
    for decoding in reversed(decodings):
        for hints in (False, True):
            yield Format(kind="compact", decoding=decoding, hints=hints)
    if offers(lm, "response_format"):
        yield Format(kind="json", decoding="constrained")
    yield Format(kind="json", decoding="free")
