"""Answers of LMs as they are remembered: as JSON, and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from dspy.lm15 import (
    ContinuationState,
    Message,
    RefusalPart,
    Response,
    TextPart,
    ThinkingPart,
    TokenLogprob,
    TopLogprob,
    Usage,
)

__all__ = ["Answers", "StoredAnswer", "answer_as_json", "answer_from_json"]

_PARTS = {"text": TextPart, "thinking": ThinkingPart, "refusal": RefusalPart}


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it is remembered: a JSON value, and what it cost when it was bought."""

    key: str
    value: Any
    input_tokens: int
    output_tokens: int
    seconds: float


class Answers(Protocol):
    """What remembers answers."""

    def get(self, key: str) -> StoredAnswer | None:
        """Gives the answer to a key, where it is known."""

    def put(self, answer: StoredAnswer) -> None:
        """Remembers an answer; it is safe when this returns."""

    def claim(self, key: str) -> bool:
        """Claims a key, which nobody else asks for then; False where somebody does."""

    def give_back(self, key: str) -> None:
        """Ends a claim."""


def answer_as_json(outputs: Any) -> Any:
    """Gives an answer as JSON, or None where it is more than text."""
    if isinstance(outputs, Response):
        parts = outputs.message.parts
        if not all(isinstance(part, TextPart | ThinkingPart | RefusalPart) for part in parts):
            return None
        text = "".join(part.text for part in parts if isinstance(part, TextPart))
        plain = outputs.message == Message.assistant(text)
        return {
            "text": text,
            **({} if plain else {"message": asdict(outputs.message)}),
            "model": outputs.model,
            "finish_reason": outputs.finish_reason,
            "usage": [outputs.usage.input_tokens, outputs.usage.output_tokens],
            "logprobs": [
                [token.token, token.logprob, [[top.token, top.logprob] for top in token.top]]
                for token in outputs.logprobs or ()
            ],
        }
    return list(outputs) if isinstance(outputs, list) and _are_texts(outputs) and _is_json(outputs) else None


def _are_texts(outputs: list[Any]) -> bool:
    """Tells whether outputs are those of a call without a ``Request``: texts, or objects with a text and more."""
    return all(each is None or isinstance(each, str | dict) for each in outputs)


def _is_json(value: Any) -> bool:
    """Tells whether a value comes back from JSON as it is; a client's objects, and DSPy's own dicts, do not."""
    if type(value) is dict:
        return all(type(name) is str and _is_json(each) for name, each in value.items())
    if type(value) is list:
        return all(_is_json(each) for each in value)
    return value is None or type(value) in (str, int, float, bool)


def answer_from_json(value: Any) -> Any:
    """Gives an answer as the LM gave it.

    Raises:
        KeyError: The value is damaged.
        TypeError: The value is damaged.
        ValueError: The value is damaged.
    """
    if isinstance(value, list):
        if not _are_texts(value):
            raise TypeError("a text is none")
        return list(value)
    logprobs = tuple(
        TokenLogprob(token=token, logprob=logprob, top=tuple(TopLogprob(token=t, logprob=p) for t, p in top))
        for token, logprob, top in value["logprobs"]
    )
    return Response(
        id=None,
        model=value["model"],
        message=_message(value["message"]) if "message" in value else Message.assistant(value["text"]),
        finish_reason=value["finish_reason"],
        usage=Usage(*value["usage"]),
        logprobs=logprobs or None,
    )


def _message(value: Any) -> Message:
    parts = tuple(_PARTS[part["type"]](part["text"], _states(part["continuation"])) for part in value["parts"])
    return Message("assistant", parts, _states(value["continuation"]))


def _states(values: Any) -> tuple[ContinuationState, ...]:
    return tuple(ContinuationState(**each) for each in values)
