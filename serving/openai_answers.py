"""Answers as OpenAI's API has them: whole, in chunks, or as an error."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dspy.lm15 import TokenLogprob, Usage
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from .openai_requests import Chat, Completion, Embeddings, Generation

__all__ = [
    "ChatChunks",
    "CompletionChunks",
    "End",
    "chat_answer",
    "completion_answer",
    "embeddings_answer",
    "error_body",
]

_TYPES = {401: "invalid_request_error", 429: "requests"}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


def error_body(error: HTTPException) -> dict[str, Any]:
    """Writes an error as OpenAI does."""
    status = error.status_code
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    code = getattr(error, "code", None) or _CODES.get(status)
    return {"error": {"message": error.detail, "type": kind, "param": getattr(error, "param", None), "code": code}}


@dataclass(frozen=True, slots=True)
class End:
    """How an answer ended.

    Attributes:
        reason: ``stop``, or ``length``.
        usage: Its tokens.
        logprobs: Of its tokens, where they were asked for.
    """

    reason: str
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] = ()


def chat_answer(asked: Chat, answers: Sequence[tuple[str, End]]) -> dict[str, Any]:
    """Writes the answers to a chat."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": _chat_logprobs(end),
            "finish_reason": end.reason,
        }
        for index, (text, end) in enumerate(answers)
    ]
    usage = _usage([end for _, end in answers], asked.n or 1)
    return {**_head("chatcmpl", "chat.completion", asked.model), "choices": choices, "usage": usage}


def completion_answer(asked: Completion, answers: Sequence[tuple[str, End]]) -> dict[str, Any]:
    """Writes the answers to prompts."""
    choices = [
        {"index": index, "text": text, "logprobs": _logprobs(end), "finish_reason": end.reason}
        for index, (text, end) in enumerate(answers)
    ]
    usage = _usage([end for _, end in answers], asked.n or 1)
    return {**_head("cmpl", "text_completion", asked.model), "choices": choices, "usage": usage}


class _Chunks:
    """Writes the chunks of a stream, which have one head."""

    def __init__(self, asked: Generation, identifier: str, kind: str) -> None:
        self._head, self._n = _head(identifier, kind, asked.model), asked.n or 1
        self._with_usage = asked.usage_in_stream

    def _chunk(self, *choices: dict[str, Any]) -> dict[str, Any]:
        return {**self._head, "choices": list(choices)} | ({"usage": None} if self._with_usage else {})

    def last(self, ends: Sequence[End]) -> list[dict[str, Any]]:
        """What closes the stream."""
        return [{**self._head, "choices": [], "usage": _usage(ends, self._n)}] if self._with_usage else []


class ChatChunks(_Chunks):
    """Writes the chunks of a chat's stream."""

    def __init__(self, asked: Chat) -> None:
        super().__init__(asked, "chatcmpl", "chat.completion.chunk")

    def first(self, index: int) -> list[dict[str, Any]]:
        """What an answer begins with."""
        return [self._choice(index, {"role": "assistant", "content": ""})]

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """A piece of an answer."""
        return self._choice(index, {"content": text})

    def end(self, index: int, end: End) -> dict[str, Any]:
        """What an answer ends with."""
        return self._choice(index, {}, _chat_logprobs(end), end.reason)

    def _choice(self, index: int, delta: Any, logprobs: Any = None, reason: str | None = None) -> dict[str, Any]:
        return self._chunk({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason})


class CompletionChunks(_Chunks):
    """Writes the chunks of a completion's stream."""

    def __init__(self, asked: Completion) -> None:
        super().__init__(asked, "cmpl", "text_completion")

    def first(self, index: int) -> list[dict[str, Any]]:  # noqa: ARG002 — as a chat's
        """What an answer begins with: nothing."""
        return []

    def piece(self, index: int, text: str) -> dict[str, Any]:
        """A piece of an answer."""
        return self._chunk({"index": index, "text": text, "logprobs": None, "finish_reason": None})

    def end(self, index: int, end: End) -> dict[str, Any]:
        """What an answer ends with."""
        return self._chunk({"index": index, "text": "", "logprobs": _logprobs(end), "finish_reason": end.reason})


def embeddings_answer(asked: Embeddings, vectors: NDArray[np.float32], tokens: int) -> dict[str, Any]:
    """Writes vectors: as numbers, or as base64 of little-endian floats of 32 bits."""
    little = vectors.astype("<f4")
    coded: Sequence[Any] = (
        [base64.b64encode(row.tobytes()).decode() for row in little]
        if asked.encoding_format == "base64"
        else little.tolist()
    )
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(coded)],
        "model": asked.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _head(identifier: str, kind: str, model: str) -> dict[str, Any]:
    return {"id": f"{identifier}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _usage(ends: Sequence[End], n: int) -> dict[str, int]:
    """Adds tokens up; a prompt with several answers counts once."""
    prompt = sum(end.usage.input_tokens or 0 for end in ends[::n])
    answers = sum(end.usage.output_tokens or 0 for end in ends)
    return {"prompt_tokens": prompt, "completion_tokens": answers, "total_tokens": prompt + answers}


def _scored(token: Any) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.token.encode())}


def _chat_logprobs(end: End) -> dict[str, Any] | None:
    if not end.logprobs:
        return None
    content = [{**_scored(each), "top_logprobs": [_scored(top) for top in each.top]} for each in end.logprobs]
    return {"content": content, "refusal": None}


def _logprobs(end: End) -> dict[str, Any] | None:
    if not end.logprobs:
        return None
    tokens = [each.token for each in end.logprobs]
    return {
        "tokens": tokens,
        "token_logprobs": [each.logprob for each in end.logprobs],
        "top_logprobs": [{top.token: top.logprob for top in each.top} for each in end.logprobs],
        "text_offset": [sum(map(len, tokens[:index])) for index in range(len(tokens))],
    }
