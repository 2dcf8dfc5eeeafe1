"""Requests of OpenAI's API, validated, and told in DSPy's terms.

After https://platform.openai.com/docs/api-reference/chat, …/completions and …/embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from dspy.lm15 import Config, LM15Error, Message, Request, request_from_openai_chat
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.exceptions import HTTPException

__all__ = ["Chat", "Completion", "Embeddings", "Generation", "Refused", "read"]

_MOST_PROMPTS, _MOST_TEXTS, _MOST_CHOICES = 128, 2048, 1024
_FAULTS = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}

_Texts = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, fail_fast=True)]
_Asked = TypeVar("_Asked", bound=BaseModel)


class Refused(HTTPException):
    """A request that is answered with one of OpenAI's errors."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(status, message)
        self.code, self.param = code, param


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Structured(_Strict):
    """vLLM's field: the answer is one of these texts, or matches this regular expression."""

    choice: Annotated[_Texts, Field(max_length=_MOST_CHOICES)] | None = None
    regex: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one(self) -> _Structured:
        if (self.choice is None) == (self.regex is None):
            raise ValueError("has either `choice` or `regex`")
        return self


class _StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False  # there is none to leave out


class Generation(_Strict):
    """What chats and completions have in common."""

    model: str
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    n: int | None = Field(1, ge=1, le=128)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stop: Annotated[str, Field(min_length=1)] | Annotated[_Texts, Field(max_length=16)] | None = None
    frequency_penalty: float | None = Field(None, ge=0, le=0)
    presence_penalty: float | None = Field(None, ge=0, le=0)
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    structured_outputs: _Structured | None = None
    # Who asks, and for what, is told by clients of OpenAI; here nobody wants to know.
    user: str | None = None
    metadata: dict[str, Any] | None = None

    @property
    def usage_in_stream(self) -> bool:
        """Whether the stream ends with the tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def _config(self, number: int, *, templated: bool, **settings: Any) -> Config:
        """The settings of the answer of that number: where a seed is given, each has another."""
        extensions: dict[str, Any] = {} if templated else {"apply_chat_template": False}
        if self.structured_outputs is not None:
            extensions["structured_outputs"] = self.structured_outputs.model_dump(exclude_none=True)
        return Config(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=None if self.seed is None else (self.seed + number) % 2**63,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            extensions=extensions or None,
            **settings,
        )


class Chat(Generation):
    """A request for chat completions."""

    subject: ClassVar = "messages"
    messages: list[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=_MOST_CHOICES)
    response_format: dict[str, Any] | None = None
    apply_chat_template: bool = True

    def requests(self) -> list[Request]:
        """One for each answer.

        Raises:
            Refused: The messages or the answer's form are none that can be read.
        """
        rows = {"model": self.model, "messages": self.messages}
        read = _ingested(rows, "messages")
        form = _ingested({**rows, "response_format": self.response_format}, "response_format").config.response_format
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        most = self.max_completion_tokens or self.max_tokens
        return [
            Request(
                model=self.model,
                system=read.system,
                messages=read.messages,
                config=self._config(
                    number, templated=self.apply_chat_template, max_tokens=most, logprobs=logprobs, response_format=form
                ),
            )
            for number in range(self.n or 1)
        ]


class Completion(Generation):
    """A request for completions of plain text."""

    subject: ClassVar = "prompt"
    prompt: Annotated[str, Field(min_length=1)] | Annotated[_Texts, Field(max_length=_MOST_PROMPTS)]
    max_tokens: int | None = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=_MOST_CHOICES)
    echo: Literal[False] | None = False
    suffix: None = None
    best_of: int | None = None
    response_format: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _best_is_all(self) -> Completion:
        if self.best_of not in (None, self.n):
            raise ValueError("best_of is not known here, unless it is n")
        return self

    @property
    def prompts(self) -> list[str]:
        """The texts that are gone on with."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    def requests(self) -> list[Request]:
        """One for each answer, those to one prompt in a row."""
        rows = {"model": self.model, "messages": [{"role": "user", "content": "-"}]}
        form = _ingested({**rows, "response_format": self.response_format}, "response_format").config.response_format
        return [
            Request(
                model=self.model,
                messages=(Message.user(prompt),),
                config=self._config(
                    number, templated=False, max_tokens=self.max_tokens, logprobs=self.logprobs, response_format=form
                ),
            )
            for prompt in self.prompts
            for number in range(self.n or 1)
        ]


class Embeddings(_Strict):
    """A request for embeddings."""

    model: str
    input: Annotated[str, Field(min_length=1)] | Annotated[_Texts, Field(max_length=_MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None

    @property
    def texts(self) -> list[str]:
        """What is embedded."""
        return [self.input] if isinstance(self.input, str) else self.input


def read(kind: type[_Asked], body: bytes) -> _Asked:
    """Reads a request; what is wrong with it is told without quoting it.

    Raises:
        Refused: 400, with the field.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if fault["type"] == "json_invalid":
            raise Refused(400, "the body is not JSON") from None
        param = str(fault["loc"][0]) if fault["loc"] else None
        code = _FAULTS.get(fault["type"], "invalid_value")
        what = "is not known here" if code == "unknown_parameter" else fault["msg"]
        raise Refused(400, f"{param or 'the body'}: {what}", code=code, param=param) from None


def _ingested(rows: Mapping[str, Any], param: str) -> Request:
    try:
        return request_from_openai_chat({name: value for name, value in rows.items() if value is not None})
    except (LM15Error, TypeError, ValueError) as error:
        raise Refused(400, str(error).removeprefix("openai-chat: "), code="invalid_value", param=param) from None
