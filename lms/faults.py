"""What went wrong with a request to an OpenAI-compatible endpoint, and whether to ask again."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspy.lm15 import (
    AuthError,
    BillingError,
    ContextLengthError,
    InvalidRequestError,
    LM15Error,
    ProviderError,
    RateLimitError,
    ServerError,
    TransportError,
)
from dspy.lm15 import (
    TimeoutError as SlowError,
)

from .keys import Keys

__all__ = ["SHORTEST_PAUSE", "Fault", "fault_of", "refusal"]

SHORTEST_PAUSE = 1.0
_TOO_LONG = ("context_length_exceeded", "maximum context length", "exceed_context_size")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request was not answered.

    Attributes:
        message: For a person; without the key.
        kind: DSPy's error for it.
        retryable: Whether the same request may go through later.
        pause: Seconds that the endpoint asks to wait.
        status: Of HTTP, where there was one.
        key_refused: Whether another key may help.
        headers: The answer's, where there was one.
    """

    message: str
    kind: type[LM15Error] = ProviderError
    retryable: bool = False
    pause: float | None = None
    status: int | None = None
    key_refused: bool = False
    headers: Mapping[str, str] | None = None

    @property
    def overloaded(self) -> bool:
        """Whether the endpoint had too much to do."""
        return self.retryable and (self.status in (429, 503) or self.kind is SlowError)


def fault_of(error: Exception, keys: Keys) -> Fault:
    """Tells what an error of the ``openai`` client means; the error itself, which carries the key, ends here."""
    import openai

    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return Fault("it did not answer in time", SlowError, retryable=True)
    if isinstance(error, openai.APIConnectionError):
        lost = keys.scrubbed(error.__cause__ or error)
        return Fault(f"connection lost ({lost})", TransportError, retryable=True)
    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        return refusal(error.status_code, {"message": error.message, **body}, error.response.headers, keys)
    # JSON that ends half-way is a ValueError; on a page of a list that is no JSON the client itself stumbles.
    return Fault(f"it answered what is not its API's ({keys.scrubbed(error)})", ServerError, retryable=True)


def refusal(status: int, body: Mapping[str, Any], headers: Mapping[str, str], keys: Keys) -> Fault:
    """Tells what a status means, with the error that came along: its ``message``, ``type`` and ``code``."""
    said, code = keys.scrubbed(body.get("message") or f"status {status}"), body.get("code")
    if status == 401:
        return Fault(f"it refused the API key ({said}); {keys.mend}", AuthError, status=401, key_refused=True)
    if status == 403:
        return Fault(f"the API key is not allowed to do that: {said}", AuthError, status=status)
    if status == 429 and code == "insufficient_quota":
        return Fault(f"the account's quota is spent: {said}", BillingError, status=status)
    again: dict[str, Any] = {"retryable": True, "pause": _retry_after(headers), "status": status, "headers": headers}
    if status == 429:
        return Fault(f"too many requests: {said}", RateLimitError, **again)
    if status >= 500 or status in (408, 409):
        kind = SlowError if status in (408, 504) else ServerError
        return Fault(f"it failed with status {status}: {said}", kind, **again)
    if any(mark in f"{code} {body.get('type')} {said}" for mark in _TOO_LONG):
        return Fault(f"the prompt is too long: {said}", ContextLengthError, status=status)
    if status == 413:
        return Fault(f"what was sent is too large: {said}", InvalidRequestError, status=status)
    return Fault(f"it refused with status {status}: {said}", InvalidRequestError, status=status)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Gives the seconds of a ``Retry-After``: a number, or a date, which is reckoned from the answer's own."""
    wanted = headers.get("retry-after")
    if wanted is None:
        return None
    try:
        seconds = float(wanted)
    except ValueError:
        try:
            then = email.utils.parsedate_to_datetime(wanted)
            now = email.utils.parsedate_to_datetime(headers.get("date", ""))
            seconds = (then - now).total_seconds()
        except (TypeError, ValueError):
            return None
    # At least a second: an endpoint that asks for none would be asked for ever.
    return max(seconds, SHORTEST_PAUSE) if seconds < float("inf") else None
