"""Passages on their way into a prompt: made ours, and fitted to what the LM holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import dspy
from dspy.utils.exceptions import ContextWindowExceededError

from ..lms.context import Context, context_of
from ..retrievers.passage import Passage, Passages
from .wording import passage_text

__all__ = ["Read", "aread", "as_passages", "read", "room_for"]

_FORMAT_TOKENS = 512
"""What a prompt format may write around the values: DSPy's chat format takes about 300."""
_ANSWER_TOKENS = 256
_LEAST_TOKENS = 64


def as_passages(found: Any) -> Passages:
    """Takes what any retriever gives as passages: ours, ``dspy.Retrieve``'s, a list of texts or of mappings.

    >>> [passage.text for passage in as_passages(["It rains.", {"text": "It snows.", "source": "winter.md"}])]
    ['It rains.', 'It snows.']
    """
    if isinstance(found, Passages):
        return found
    if isinstance(found, dspy.Prediction):
        found = found.get("passages") or []
    return Passages(_as_passage(each) for each in found)


def _as_passage(found: Any) -> Passage:
    if isinstance(found, Passage):
        return found
    get = found.get if hasattr(found, "get") else lambda name: getattr(found, name, None)
    text, source = passage_text(found), "" if isinstance(found, str) else str(get("source") or get("title") or "")
    own = None if isinstance(found, str) else get("id")
    return Passage(str(own), text, source) if own else Passage.of(text, source=source)


def room_for(predictor: dspy.Predict, inputs: Mapping[str, Any], lm: dspy.BaseLM | None) -> tuple[int, Context]:
    """Tells how many tokens an LM has left for passages, beside the rest of the prompt and the answer.

    Args:
        predictor: Asks; its instruction and demonstrations are in the prompt.
        inputs: Its other inputs.
        lm: Answers.
    """
    context = context_of(lm)
    wanted = {**(getattr(lm, "kwargs", None) or {}), **predictor.config}.get("max_tokens") or _ANSWER_TOKENS
    reserved = min(int(wanted), context.length // 4)
    texts = [predictor.signature.instructions, *map(str, inputs.values())]
    texts += [str(value) for demonstration in predictor.demos for value in dict(demonstration).values()]
    return max(_LEAST_TOKENS, context.length - reserved - _FORMAT_TOKENS - sum(map(context.count, texts))), context


class Read(NamedTuple):
    """What an LM made of passages.

    Attributes:
        given: Its outputs.
        shown: The passages that it saw.
    """

    given: dspy.Prediction
    shown: Passages


def read(predictor: dspy.Predict, found: Passages, inputs: Mapping[str, Any], *, max_tokens: int | None = None) -> Read:
    """Gives an LM as many passages as it takes, as its input ``passages``.

    How long a prompt gets is known for sure only to who formats it. So the LM is asked with what should fit, and, where
    it refuses the prompt as too long, with half as much, and half of that.

    Args:
        predictor: Asks.
        found: The passages, best first.
        inputs: Its other inputs.
        max_tokens: Of the passages, at most; None for as many as the LM holds.

    Raises:
        ContextWindowExceededError: The LM takes not even a few words of a passage.
    """
    refusal: Exception | None = None
    for shown, text in _readings(predictor, found, inputs, max_tokens):
        try:
            return Read(predictor(passages=text, **inputs), shown)
        except ContextWindowExceededError as fault:
            refusal = fault
    raise refusal or AssertionError("a reading was tried")


async def aread(
    predictor: dspy.Predict, found: Passages, inputs: Mapping[str, Any], *, max_tokens: int | None = None
) -> Read:
    """As `read`, for tasks."""
    refusal: Exception | None = None
    for shown, text in _readings(predictor, found, inputs, max_tokens):
        try:
            return Read(await predictor.acall(passages=text, **inputs), shown)
        except ContextWindowExceededError as fault:
            refusal = fault
    raise refusal or AssertionError("a reading was tried")


def _readings(
    predictor: dspy.Predict, found: Passages, inputs: Mapping[str, Any], max_tokens: int | None
) -> Iterator[tuple[Passages, str]]:
    """Gives the passages that should fit with their text, then ever fewer."""
    room, context = room_for(predictor, inputs, predictor.lm or dspy.settings.lm)
    room = room if max_tokens is None else min(room, max_tokens)
    while True:
        shown, text = _fitted(found, room, context.count)
        yield shown, text
        room = min(room, context.count(text)) // 2
        if room < _LEAST_TOKENS:
            return


def _fitted(found: Passages, room: int, count: Callable[[str], int]) -> tuple[Passages, str]:
    for number in range(len(found), 1, -1):
        shown = found[:number]
        if count(text := shown.text()) <= room:
            return shown, text
    one = found[:1]
    return one, one.text(max_tokens=room, count=count)
