"""One point of program space."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Any

import dspy
from dspy.adapters.utils import serialize_for_json
from pydantic import BaseModel, ConfigDict, Field

from ..errors import ProgramError
from ..lms.identity import lm_identity
from .answering import Answering
from .copying import copied
from .examples import in_order
from .formats import Format
from .nearest import Nearest
from .program import Manner, Program
from .retrieval import ChosenRetriever, RetrievalChoice, declared_retriever, place_retriever, retriever_at
from .structure import Settings, describe, settings_of

__all__ = ["Candidate", "PredictorChoice", "known_lms"]


class PredictorChoice(BaseModel):
    """What a candidate chooses for one predictor; None leaves it as declared.

    Attributes:
        instruction: The signature's instruction.
        demonstrations: Examples shown in the prompt, each a value by field name, as JSON.
        nearest: Instead of these, those of a pool that are nearest to the input.
        format: Prompt format and decoding.
        answering: At once, after reasoning, by a vote.
        lm: Another LM to run on, by its name in the space.
        settings: How it asks its LM. No search chooses them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    instruction: str | None = None
    demonstrations: tuple[dict[str, Any], ...] | None = None
    nearest: Nearest | None = None
    format: Format | None = None
    answering: Answering | None = None
    lm: str | None = None
    settings: Settings | None = None


class Candidate(BaseModel):
    """Immutable, and the same wherever its content is: ``origin`` only tells a person where it came from.

    Attributes:
        predictors: What is chosen for each predictor, by its name in ``named_predictors()``.
        retrievals: What is chosen for a retrieval step, by its retriever's path; those left out stay as declared.
        origin: Where it came from, in a few words.

    >>> module = dspy.Predict("text -> label")
    >>> candidate = Candidate.declared(module).with_choice(format=Format(kind="compact"))
    >>> candidate.apply(module).manners["self"].format.kind, module.demos
    ('compact', [])
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    predictors: Mapping[str, PredictorChoice]
    retrievals: Mapping[str, RetrievalChoice] = Field(default_factory=dict)
    origin: str = Field(default="as declared", exclude=True)

    @classmethod
    def declared(cls, module: dspy.Module) -> Candidate:
        """The program as its author wrote it."""
        return cls(predictors={name: PredictorChoice() for name, _ in module.named_predictors()})

    @property
    def hash(self) -> str:
        """Of the content, 16 hexadecimal digits."""
        # What is left as declared is left out: a choice that is added to the space gives no old candidate a new name.
        content = self.model_dump(mode="json", exclude_none=True, exclude=None if self.retrievals else {"retrievals"})
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def lms(self) -> set[str]:
        """Names of the LMs that its predictors run on in the place of the program's own."""
        return {choice.lm for choice in self.predictors.values() if choice.lm is not None}

    def with_choice(self, *, origin: str | None = None, predictor: str | None = None, **choice: Any) -> Candidate:
        """Chooses anew for one predictor, or for all of them.

        Args:
            origin: Of the new candidate; None keeps this one's.
            predictor: Its name; None for all.
            choice: Fields of `PredictorChoice`.
        """
        changed = {
            name: old.model_copy(update=choice) if predictor in (None, name) else old
            for name, old in self.predictors.items()
        }
        return self.model_copy(update={"predictors": changed, "origin": self.origin if origin is None else origin})

    def with_retrieval(self, choice: RetrievalChoice | None, *, path: str, origin: str | None = None) -> Candidate:
        """Chooses anew for one retrieval step; None leaves it as declared."""
        changed = {key: own for key, own in self.retrievals.items() if key != path}
        if choice is not None:
            changed[path] = choice
        return self.model_copy(update={"retrievals": changed, "origin": self.origin if origin is None else origin})

    def complete(self, module: dspy.Module, lms: Mapping[str, dspy.BaseLM] | None = None) -> Candidate:
        """Says outright what it leaves as declared, so that it makes the same program of a bare module.

        Of a class of the app's own that is also each predictor's instruction and settings, for its instances may have
        others than it gives them; those of ``dspy.Predict`` and ``dspy.ChainOfThought`` stand in their structure.

        Args:
            module: What the candidate was made for.
            lms: The LMs that predictors may run on instead, by name; see `known_lms`.
        """
        predictors, named = dict(module.named_predictors()), known_lms(module, lms)
        bare = describe(module)["kind"] == "class"
        whole = self
        for name, choice in self.predictors.items():
            declared, stated = predictors[name], dict[str, Any]()
            if choice.demonstrations is None and declared.demos:
                stated["demonstrations"] = tuple(demonstration(dict(each)) for each in declared.demos)
            if choice.lm is None and declared.lm is not None:
                stated["lm"] = _name_of(declared.lm, named)
            if choice.instruction is None and bare:
                stated["instruction"] = declared.signature.instructions
            if choice.settings is None and bare:
                stated["settings"] = settings_of(declared)
            whole = whole.with_choice(predictor=name, **stated)
        return whole

    def apply(
        self, module: dspy.Module, lm: dspy.BaseLM | None = None, lms: Mapping[str, dspy.BaseLM] | None = None
    ) -> Program:
        """Makes a program of a copy of the module; the module itself is not touched.

        Args:
            module: What the candidate was made for.
            lm: The program's own LM; None for the one of ``dspy.settings``.
            lms: The LMs that predictors may run on instead, by name. Those that the module's predictors have of their
                own need not be among them; see `known_lms`.

        Raises:
            ProgramError: The module has other predictors than the candidate was made for, or an LM is not among those
                given.
        """
        copy = copied(module)
        predictors = dict(copy.named_predictors())
        if set(predictors) != set(self.predictors):
            raise ProgramError(
                f"the candidate chooses for the predictors {', '.join(self.predictors)}, and the module has "
                f"{', '.join(predictors)}"
            )
        manners = {}
        known = dict(lms or {}) if self.lms <= set(lms or {}) else known_lms(module, lms)
        for name, choice in self.predictors.items():
            predictor = predictors[name]
            if choice.instruction is not None:
                predictor.signature = predictor.signature.with_instructions(choice.instruction)
            if choice.demonstrations is not None:
                predictor.demos = [dspy.Example(dict(demonstration)) for demonstration in choice.demonstrations]
            if choice.lm is not None:
                if choice.lm not in known:
                    raise ProgramError(f"the predictor {name} runs on the LM {choice.lm!r}: give it, lms={{…}}")
                predictor.lm = known[choice.lm]
            if choice.settings is not None:
                predictor.update_config(**choice.settings.model_dump(exclude_none=True))
            manner = Manner(format=choice.format, answering=choice.answering, nearest=choice.nearest)
            if manner != Manner():
                manners[name] = manner
        for path, chosen in self.retrievals.items():
            place_retriever(copy, path, ChosenRetriever(declared_retriever(retriever_at(copy, path)), chosen))
        return Program(copy, manners, lm)


def known_lms(module: dspy.Module, lms: Mapping[str, dspy.BaseLM] | None = None) -> dict[str, dspy.BaseLM]:
    """Gives LMs by name: those that are given, and those that predictors have of their own, by their model's name.

    >>> module = dspy.Predict("text -> label")
    >>> module.set_lm(dspy.LM("openai/gpt-4o-mini"))
    >>> list(known_lms(module))
    ['openai/gpt-4o-mini']
    """
    known = dict(lms or {})
    for own in (predictor.lm for predictor in module.predictors()):
        if own is not None and _name_of(own, known) is None:
            others = (f"{own.model} ({number})" for number in count(2))
            known[next(name for name in chain([own.model], others) if name not in known)] = own
    return known


def _name_of(lm: dspy.BaseLM, lms: Mapping[str, dspy.BaseLM]) -> str | None:
    identity = lm_identity(lm)
    return next((name for name, each in lms.items() if lm_identity(each) == identity), None)


def demonstration(values: Mapping[str, Any]) -> dict[str, Any]:
    """Gives a demonstration's values as JSON.

    >>> demonstration({"text": "Superb.", "label": "positive"})
    {'text': 'Superb.', 'label': 'positive'}
    """
    plain: dict[str, Any] = serialize_for_json(in_order(values))
    return plain


def unshown(examples: Sequence[dspy.Example], program: dspy.Module) -> list[dspy.Example]:
    """Gives the examples that a program does not show: none of its own demonstrations has their inputs.

    A step of a chain may be given some of them only, under the same names or, where it has none of these, under others.
    """
    shown = [demonstration(dict(each)) for predictor in program.predictors() for each in predictor.demos]

    def stands_there(example: dspy.Example) -> bool:
        inputs = demonstration(example.inputs().toDict())
        for each in shown:
            if held := each.keys() & inputs.keys():
                if all(each[name] == inputs[name] for name in held):
                    return True
            elif any(value in inputs.values() for value in each.values()):
                return True
        return False

    return [each for each in examples if not stands_there(each)]
