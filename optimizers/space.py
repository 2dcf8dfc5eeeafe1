"""Program space: which choices a search may make, for each predictor of a module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import dspy
from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..errors import LMError, ProgramError
from ..lms.factory import check_lm
from ..programs.answering import Answering
from ..programs.compact import offers
from ..programs.fields import choices_of, is_text, type_hint
from ..programs.formats import Decoding, Format, FormatKind
from ..programs.retrieval import retrievers_of
from .finetuning_space import FineTuning
from .retrieval_space import RetrievalChoices, RetrievalSpace

__all__ = ["Choices", "Selection", "Space"]

Selection = Literal["labelled", "bootstrapped", "covering", "hard", "nearest"]
"""How demonstrations are chosen: drawn from labelled examples; from a teacher's successes; for coverage of the inputs;
from examples that the incumbent fails on; or, for each input anew, its nearest neighbours."""


class Space(BaseModel):
    """What a search may choose; narrowed or widened in one line.

    Each setting that is None stands for all that the LM can serve. What the program declares is a choice always.

    Attributes:
        formats: Prompt formats: ``chat``, ``json``, ``compact``.
        decodings: ``free``, ``constrained``, ``scored``, ``calibrated``.
        instructions: Where they come from besides the author's own: ``rules`` (no LM), ``writer`` (an LM reads what
            went wrong). Empty for the author's own only.
        demonstrations: How many a predictor may be shown; 0 is always allowed.
        selections: How they are chosen; None for all that this machine can.
        answers: Ways to answer: ``direct``, ``chain_of_thought``.
        votes: How many sampled answers vote; 1 for none.
        lms: Other LMs that a predictor may run on, by a name for the report.
        retrieval: How a program that looks things up may do so; None to leave it as declared.
        passages_in_demonstrations: Whether demonstrations may hold retrieved passages. They would stand in the
            artifact, and be shown to whoever uses it, whatever that person's rights.
        finetuning: How the LM may be trained, as the last rung; None for not at all.
        predictors: Names of those that may be changed; None for all.
        max_prompt_tokens: Candidates whose prompts are longer on average are dropped.

    >>> Space(formats=["compact"], demonstrations=[4], answers=["direct"]).demonstrations
    (4,)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    formats: tuple[FormatKind, ...] | None = None
    decodings: tuple[Decoding, ...] | None = None
    instructions: tuple[Literal["rules", "writer"], ...] = ("rules", "writer")
    demonstrations: tuple[int, ...] = (2, 4, 8, 16)
    selections: tuple[Selection, ...] | None = None
    answers: tuple[Literal["direct", "chain_of_thought"], ...] = ("direct", "chain_of_thought")
    votes: tuple[Annotated[int, Field(ge=1, le=99)], ...] = (1, 3, 5)
    lms: Mapping[str, Any] = Field(default_factory=dict)
    retrieval: RetrievalSpace | None = RetrievalSpace()
    passages_in_demonstrations: bool = False
    finetuning: FineTuning | None = None
    predictors: tuple[str, ...] | None = None
    max_prompt_tokens: int | None = Field(default=None, gt=0)

    @field_validator("demonstrations", "votes")
    @classmethod
    def _counts(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        if any(count < 0 for count in counts):
            raise ValueError("a number of demonstrations is not negative")
        return tuple(sorted(set(counts)))

    @field_validator("predictors")
    @classmethod
    def _some(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names == ():
            raise ValueError("no predictor may be changed: name those that may, or leave it out for all")
        return names

    @field_validator("lms")
    @classmethod
    def _made(cls, lms: Mapping[str, Any]) -> Mapping[str, Any]:
        for each in lms.values():
            try:
                check_lm(each)
            except LMError as error:
                raise ValueError(str(error)) from error
        return lms

    def searched(self, module: dspy.Module) -> dict[str, Any]:
        """The predictors of a module that may be changed, by name.

        Raises:
            ProgramError: The space names a predictor that the module does not have.
        """
        predictors = dict(module.named_predictors())
        if unknown := set(self.predictors or ()) - set(predictors):
            raise ProgramError(
                f"the space names the predictors {', '.join(sorted(unknown))}; the program has {', '.join(predictors)}"
            )
        return {name: each for name, each in predictors.items() if self.predictors is None or name in self.predictors}

    def formats_for(self, signatures: list[type[dspy.Signature]], lm: dspy.BaseLM | None) -> list[Format]:
        """The formats that an LM can serve for some signatures, besides DSPy's own; the likelier ones first.

        Args:
            signatures: Of the predictors.
            lm: Theirs; None for one that can do all.
        """
        single_choice = any(
            len(signature.output_fields) == 1 and choices_of(next(iter(signature.output_fields.values())).annotation)
            for signature in signatures
        )

        written = all(is_text(info.annotation) for each in signatures for info in each.input_fields.values())
        # Hints of plain text say nothing: the prompts would be the same.
        hinted = any(type_hint(info.annotation) for each in signatures for info in each.output_fields.values())
        with_hints = (False, True) if hinted else (False,)

        def can(parameter: str) -> bool:
            return lm is None or offers(lm, parameter)

        structured = can("structured_outputs") or can("response_format")
        scorable = single_choice and can("choice_logprobs")
        served: list[Format] = []
        for decoding, served_here in (
            ("calibrated", scorable), ("scored", scorable), ("constrained", structured), ("free", True)
        ):  # fmt: skip
            if served_here:
                served += [Format(kind="compact", decoding=decoding, hints=hints) for hints in with_hints]
        if can("response_format"):
            served.append(Format(kind="json", decoding="constrained"))
        served.append(Format(kind="json", decoding="free"))
        return [
            each
            for each in served
            if (written or each.kind != "compact")
            and (self.formats is None or each.kind in self.formats)
            and (self.decodings is None or each.decoding in self.decodings)
        ]

    def selects(self, kind: str) -> bool:
        """Tells whether demonstrations may be chosen in a way."""
        return self.selections is None or kind in self.selections

    def answerings(self) -> list[Answering]:
        """The ways to answer, the cheaper ones first."""
        return [
            Answering(reasoning=way == "chain_of_thought", votes=votes)
            for votes in self.votes or (1,)
            for way in self.answers
        ]

    def choices(self, module: dspy.Module, lm: dspy.BaseLM | None = None) -> dict[str, Choices]:
        """What may be chosen for each predictor that may be changed, by its name."""
        return {
            name: Choices(
                formats=("as declared", *(each.label for each in self.formats_for([predictor.signature], lm))),
                instructions=("as declared", *self.instructions),
                demonstrations=tuple(sorted({0, *self.demonstrations})),
                selections=get_args(Selection) if self.selections is None else self.selections,
                answers=tuple(each.label for each in self.answerings()),
                lms=("as given", *self.lms),
            )
            for name, predictor in self.searched(module).items()
        }

    def retrieval_choices(self, module: dspy.Module) -> dict[str, RetrievalChoices]:
        """What may be chosen for each retriever that the module holds, by its path."""
        own = self.retrieval
        return {} if own is None else {path: own.choices(each) for path, each in retrievers_of(module).items()}


@dataclass(frozen=True, slots=True)
class Choices:
    """What may be chosen for one predictor, each choice by its label."""

    formats: tuple[str, ...]
    instructions: tuple[str, ...]
    demonstrations: tuple[int, ...]
    selections: tuple[str, ...]
    answers: tuple[str, ...]
    lms: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many combinations there are, each way to an instruction and each way to demonstrations counted once.

        Every draw of demonstrations and every instruction that is written is one more: the real space has no end.
        """
        shown = sum(len(self.selections) if count else 1 for count in self.demonstrations)
        return math.prod(
            [max(1, len(self.formats)), len(self.instructions), shown, max(1, len(self.answers)), len(self.lms)]
        )
