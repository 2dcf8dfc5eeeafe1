"""What goes over the wire to an OpenAI-compatible endpoint, and what comes back, in DSPy's terms.

The mapping itself is DSPy's own; here stands what it leaves open: several answers to one request, and what is none.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from dspy.clients.lm15_boundary import request_kwargs
from dspy.lm15 import (
    LM15Error,
    OpenAIChatLM,
    Request,
    Response,
    StreamEndEvent,
    StreamStartEvent,
    TextPart,
    ThinkingPart,
    Usage,
    response_from_openai_chat,
)

from .context import estimated_tokens

__all__ = ["NotAnAnswer", "answers_of", "body_of", "events_of", "model_name", "model_of", "tokens_about"]


class NotAnAnswer(ValueError):  # noqa: N818 — named as the state it tells of
    """What came back is no answer of the API, or was filtered out."""


def model_of(request: Request) -> str:
    """Gives the model as the endpoint names it.

    >>> from dspy.lm15 import Message
    >>> model_of(Request("openai/gpt-4o-mini", (Message.user("Hello"),)))
    'gpt-4o-mini'
    """
    return model_name(request.model)


def model_name(model: str) -> str:
    """Gives the name of a model at its endpoint.

    >>> model_name("openai/gpt-4o-mini")
    'gpt-4o-mini'
    """
    return str(model).removeprefix("openai/")


def body_of(
    request: Request, *, n: int = 1, first: int = 0, extra: Mapping[str, Any], openai_own: bool
) -> dict[str, Any]:
    """Gives the body of a request for chat completions.

    Args:
        request: DSPy's.
        n: How many answers are wanted.
        first: How many there are already: where a seed is given, the next ones have another.
        extra: Parameters besides, which only this endpoint knows.
        openai_own: Whether OpenAI itself, or Azure, is asked, whose newer models know ``max_tokens`` no more; other
            servers know nothing else.
    """
    body = {"model": model_of(request), **request_kwargs(request, "chat")}
    if not openai_own and "max_completion_tokens" in body:
        body["max_tokens"] = body.pop("max_completion_tokens")
    if n > 1:
        body["n"] = n
    if first and "seed" in body:
        body["seed"] += first
    return {**body, **extra}


def tokens_about(body: Mapping[str, Any]) -> float:
    """Estimates the tokens of a request's prompt, on the high side."""
    return float(estimated_tokens(json.dumps(body["messages"], ensure_ascii=False)))


def answers_of(text: str | bytes, request: Request) -> list[Response]:
    """Reads the answers to a request; the first one tells the tokens of all.

    Raises:
        NotAnAnswer: It is not JSON or not of the API, there is no choice, or its text was filtered out.
    """
    try:
        body = json.loads(text)
    except ValueError:
        raise NotAnAnswer(f"no JSON: {text[:80]!r}") from None
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        raise NotAnAnswer("there is no choice in it")
    for choice in choices:
        _check(choice)
    try:
        responses = [
            response_from_openai_chat(body, model=model_of(request), choice=index) for index in range(len(choices))
        ]
    except (LM15Error, ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as fault:
        raise NotAnAnswer(str(fault)) from None
    first, *others = responses
    # The body holds all answers, and would be carried along with each.
    first = replace(first, usage=_usage(first.usage, request, responses), provider_data=None)
    return [first, *(replace(other, usage=Usage(), provider_data=None) for other in others)]


def _check(choice: Any) -> None:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise NotAnAnswer("a choice has no message")
    content = message.get("content")
    if choice.get("finish_reason") == "content_filter":
        raise NotAnAnswer("its content filter stopped the answer")
    # One that was cut while it thought has only its thoughts.
    others = ("tool_calls", "refusal", "reasoning_content", "reasoning")
    if not isinstance(content, str) and not any(message.get(name) for name in others):
        raise NotAnAnswer("a message has neither text nor a call of a tool")


def _usage(told: Usage, request: Request, responses: list[Response]) -> Usage:
    """The tokens as they were told, or estimated: a budget must not take what is untold for nothing."""
    tokens_in, tokens_out = told.input_tokens, told.output_tokens
    if tokens_in is None:
        tokens_in = estimated_tokens(json.dumps(request_kwargs(request, "chat")["messages"], ensure_ascii=False))
    if tokens_out is None:
        parts = [part for response in responses for part in response.message.parts]
        tokens_out = sum(estimated_tokens(part.text) for part in parts if isinstance(part, TextPart | ThinkingPart))
    return replace(told, input_tokens=tokens_in, output_tokens=tokens_out)


async def events_of(chunks: AsyncIterator[Any], request: Request) -> AsyncIterator[Any]:
    """Tells the chunks of a stream as DSPy's events: one that begins it, one that ends it."""
    dialect = OpenAIChatLM(api_key="conversion-only")
    began = False
    end = StreamEndEvent()
    async for chunk in _unbroken(chunks):
        if not began:
            yield StreamStartEvent(id=chunk.id or None, model=chunk.model or None)
            began = True
        for event in dialect.parse_stream_events(request, SimpleNamespace(data=chunk.model_dump_json())):
            if event.type == "end":
                end = replace(
                    end, finish_reason=event.finish_reason or end.finish_reason, usage=event.usage or end.usage
                )
            else:
                yield event
    if not began or end.finish_reason is None:
        raise NotAnAnswer("the stream broke off")
    yield end


async def _unbroken(chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    import openai

    try:
        async for chunk in chunks:
            yield chunk
    except (openai.APIError, ValueError):
        raise
    except Exception as fault:  # the client lets through whatever its transport raises in the middle of a stream
        raise NotAnAnswer(f"the stream broke off ({type(fault).__name__})") from None
