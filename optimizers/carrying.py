"""What a candidate is made of, part by part, so that another LM can be asked what each part is worth to it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import dspy

from ..programs.answering import Answering
from ..programs.candidate import Candidate, PredictorChoice, known_lms
from ..programs.formats import Format
from .space import Space

__all__ = ["Kind", "Part", "narrowed", "parts_of", "without_part"]

Kind = Literal["instruction", "demonstrations", "format", "decoding", "answering", "lm", "retrieval"]


@dataclass(frozen=True, slots=True)
class Part:
    """A choice of a candidate that is not as declared.

    Attributes:
        where: The predictor's name, or the retriever's path.
        kind: Of the choice.
        told: What it is, in words.
        impossible: Why another LM cannot have it at all; None where it can be tried.
    """

    where: str
    kind: Kind
    told: str
    impossible: str | None = None


def parts_of(
    candidate: Candidate, module: dspy.Module, lm: dspy.BaseLM, space: Space, weights: Collection[str] = ()
) -> list[Part]:
    """Gives the parts of a candidate.

    Args:
        candidate: What was compiled for another LM.
        module: What it was made for.
        lm: The new LM.
        space: What may be chosen on it: its ``lms`` are those that predictors may run on besides.
        weights: Names of the candidate's LMs that are trained weights.
    """
    predictors = dict(module.named_predictors())
    parts = [
        part
        for name, choice in candidate.predictors.items()
        for part in _parts(name, choice, predictors[name], lm, space, weights)
    ]
    return [*parts, *(Part(path, "retrieval", chosen.label) for path, chosen in candidate.retrievals.items())]


def _parts(
    name: str, choice: PredictorChoice, predictor: Any, lm: dspy.BaseLM, space: Space, weights: Collection[str]
) -> Iterator[Part]:
    if choice.lm is not None and choice.lm not in known_lms(predictor):
        lost = "weights belong to the LM that they were trained on" if choice.lm in weights else None
        if lost is None and choice.lm not in space.lms:
            lost = "the space gives no LM of this name"
        yield Part(name, "lm", choice.lm, lost)
    if choice.format is not None:
        yield from _of_format(name, choice.format, predictor, lm)
    if choice.instruction not in (None, predictor.signature.instructions):
        yield Part(name, "instruction", choice.instruction)
    if choice.nearest is not None:
        yield Part(name, "demonstrations", choice.nearest.label)
    elif choice.demonstrations is not None and list(choice.demonstrations) != [dict(each) for each in predictor.demos]:
        yield Part(name, "demonstrations", f"{len(choice.demonstrations)} demonstrations")
    if choice.answering is not None and choice.answering != Answering():
        yield Part(name, "answering", choice.answering.label)


def _of_format(name: str, format: Format, predictor: Any, lm: dspy.BaseLM) -> Iterator[Part]:  # noqa: A002
    if format.kind != "chat" or format.hints:
        yield Part(name, "format", f"{format.kind}{', hints' if format.hints else ''}")
    if format.decoding != "free":
        served = {(each.kind, each.decoding) for each in Space().formats_for([predictor.signature], lm)}
        lost = None if (format.kind, format.decoding) in served else "the LM does not offer it"
        yield Part(name, "decoding", format.decoding, lost)


def without_part(candidate: Candidate, part: Part) -> Candidate:
    """Gives the candidate with one part as declared.

    >>> candidate = Candidate.declared(dspy.Predict("text -> label")).with_choice(instruction="Look.", lm="large")
    >>> without_part(candidate, Part("self", "lm", "large")).predictors["self"].lm is None
    True
    """
    if part.kind == "retrieval":
        return candidate.with_retrieval(None, path=part.where)
    if part.kind == "decoding":
        own = candidate.predictors[part.where].format
        if own is None:  # it went with its format
            return candidate
        return candidate.with_choice(
            predictor=part.where, format=own.model_copy(update={"decoding": "free", "biases": ()})
        )
    changed: Mapping[str, Any] = {part.kind: None}
    if part.kind == "demonstrations":
        changed = {"demonstrations": None, "nearest": None}
    return candidate.with_choice(predictor=part.where, **changed)


def narrowed(space: Space, parts: Collection[Part]) -> Space:
    """Gives a space in which nothing may be chosen but these parts."""
    kinds = {part.kind for part in parts}
    names = tuple(dict.fromkeys(part.where for part in parts if part.kind != "retrieval"))
    nothing: dict[str, Any] = {"predictors": names or None, "finetuning": space.finetuning if "lm" in kinds else None}
    if not kinds & {"format", "decoding"}:
        nothing["formats"] = ()
    if "instruction" not in kinds:
        nothing["instructions"] = ()
    if "demonstrations" not in kinds:
        nothing["demonstrations"] = ()
    if "answering" not in kinds:
        nothing |= {"answers": ("direct",), "votes": (1,)}
    if "retrieval" not in kinds:
        nothing["retrieval"] = None
    return space.model_copy(update=nothing)
