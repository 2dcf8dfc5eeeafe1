"""How a predictor comes to its answer: at once, after reasoning, or by a vote of several samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dspy
from dspy.adapters.utils import serialize_for_json
from dspy.utils.exceptions import AdapterParseError
from pydantic import BaseModel, ConfigDict, Field

from .compact import CompactAdapter

__all__ = ["Answering", "AnsweringAdapter"]

REASONING = "reasoning"
_ASKED = "Think step by step."
_TEMPERATURE = 0.7


class Answering(BaseModel):
    """A way to answer; immutable, and the same wherever it is equal.

    Attributes:
        reasoning: Whether a chain of thought comes before the outputs (`Wei et al. 2022
            <https://arxiv.org/abs/2201.11903>`_).
        votes: How many sampled answers vote, by majority of all outputs together; 1 for a single one, unsampled
            (self-consistency: `Wang et al. 2023 <https://arxiv.org/abs/2203.11171>`_).

    >>> Answering(reasoning=True, votes=3).label
    'chain of thought, 3 votes'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reasoning: bool = False
    votes: int = Field(default=1, ge=1, le=99)

    @property
    def label(self) -> str:
        """What a person reads."""
        way = "chain of thought" if self.reasoning else "direct"
        return way if self.votes == 1 else f"{way}, {self.votes} votes"

    def adapter(self, inner: dspy.Adapter) -> dspy.Adapter:
        """Makes the adapter that answers so in a format."""
        return inner if self == Answering() else AnsweringAdapter(self, inner)


class AnsweringAdapter(dspy.Adapter):
    """Answers in a way of its own through another adapter, which holds the format.

    Reasoning is one more output, before the signature's own. Where the format scores or constrains a choice, which an
    LM cannot do after free text in one call, the reasoning is asked for first and given back as an input.

    Args:
        way: How to answer.
        inner: The format.
    """

    def __init__(self, way: Answering, inner: dspy.Adapter) -> None:
        super().__init__()
        self.way, self.inner = way, inner

    def __call__(
        self,
        lm: dspy.BaseLM,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Asks the LM as often as the way to answer wants; gives one answer."""
        steps = _Steps(self, signature, demos, inputs)
        votes: list[dict[str, Any]] = []
        faults: list[AdapterParseError] = []
        for settings in self._samples(lm, lm_kwargs):
            try:
                known: dict[str, Any] = {}
                for adapter, asked, shown, given in steps.of(known):
                    known.update(adapter(lm, settings, asked, shown, given)[0])
                votes.append(known)
            except AdapterParseError as fault:
                faults.append(fault)
        return [_elected(votes, faults, signature)]

    async def acall(
        self,
        lm: dspy.BaseLM,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """As a call, for tasks."""
        steps = _Steps(self, signature, demos, inputs)
        votes: list[dict[str, Any]] = []
        faults: list[AdapterParseError] = []
        for settings in self._samples(lm, lm_kwargs):
            try:
                known: dict[str, Any] = {}
                for adapter, asked, shown, given in steps.of(known):
                    known.update((await adapter.acall(lm, settings, asked, shown, given))[0])
                votes.append(known)
            except AdapterParseError as fault:
                faults.append(fault)
        return [_elected(votes, faults, signature)]

    def format(
        self, signature: type[dspy.Signature], demos: list[dict[str, Any]], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Gives the first prompt's messages."""
        _, asked, shown, given = next(iter(_Steps(self, signature, demos, inputs).of({})))
        messages: list[dict[str, Any]] = self.inner.format(asked, shown, given)
        return messages

    def _samples(self, lm: dspy.BaseLM, lm_kwargs: dict[str, Any]) -> list[dict[str, Any]]:
        if self.way.votes == 1:
            return [lm_kwargs]
        temperature = lm_kwargs.get("temperature") or lm.kwargs.get("temperature") or _TEMPERATURE
        base = lm_kwargs.get("rollout_id") or 0
        seeded = "seed" in getattr(lm, "supported_params", ())
        return [
            {
                **lm_kwargs,
                "temperature": temperature,
                "rollout_id": base * self.way.votes + vote,
                **({"seed": vote} if seeded else {}),
            }
            for vote in range(1, self.way.votes + 1)
        ]


Step = tuple[dspy.Adapter, type[dspy.Signature], list[dict[str, Any]], dict[str, Any]]


class _Steps:
    """The LM calls of one answer: what is asked, shown and given in each."""

    def __init__(
        self,
        owner: AnsweringAdapter,
        signature: type[dspy.Signature],
        demos: Sequence[Mapping[str, Any]],
        inputs: dict[str, Any],
    ) -> None:
        self.inner, self.signature, self.inputs = owner.inner, signature, inputs
        self.demos = [dict(demo) for demo in demos]
        self.reasoning = owner.way.reasoning and REASONING not in signature.fields
        self.apart = isinstance(owner.inner, CompactAdapter) and owner.inner.decoding != "free"

    def of(self, known: dict[str, Any]) -> Iterator[Step]:
        """Gives the calls one after the other; what an earlier one gave stands in ``known``."""
        if not self.reasoning:
            yield self.inner, self.signature, self.demos, self.inputs
            return
        thinking = self.signature.prepend(REASONING, dspy.OutputField(desc=_ASKED), str)
        reasoned = [demo for demo in self.demos if demo.get(REASONING)]
        if not self.apart:
            # Demonstrations without a reasoning would show how to leave it out.
            yield self.inner, thinking, reasoned, self.inputs
            return
        alone = self.signature
        for name in self.signature.output_fields:
            alone = alone.delete(name)
        alone = alone.append(REASONING, dspy.OutputField(desc=_ASKED), str)
        yield CompactAdapter(), alone, reasoned, self.inputs
        given = self.signature
        given = given.insert(len(given.input_fields), REASONING, dspy.InputField(), str)
        yield self.inner, given, reasoned or self.demos, {**self.inputs, REASONING: known[REASONING]}


def _elected(
    votes: list[dict[str, Any]], faults: list[AdapterParseError], signature: type[dspy.Signature]
) -> dict[str, Any]:
    """Gives the first of the answers that most votes agree with in every output of the signature."""
    if not votes:
        raise faults[0]
    outputs = [name for name in signature.output_fields if name != REASONING]

    def ballot(vote: dict[str, Any]) -> str:
        told = {name: serialize_for_json(vote.get(name)) for name in outputs}
        return json.dumps(told, sort_keys=True, default=repr).casefold()

    counts = Counter(map(ballot, votes))
    best = max(counts.values())
    return next(vote for vote in votes if counts[ballot(vote)] == best)
