"""An OpenAI-compatible endpoint that is asked until it answers, or says for good that it will not."""

from __future__ import annotations

import email.utils
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ...errors import FineTuningError
from .jobs import Event

if TYPE_CHECKING:  # half a second at the first import, which who only asks an LM does not pay
    import openai

__all__ = ["Endpoint", "GivenKey"]

_T = TypeVar("_T")
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_SHOWN = 400


@dataclass(frozen=True, slots=True)
class _Fault:
    message: str
    retryable: bool = False
    pause: float | None = None
    key_refused: bool = False


class GivenKey:
    """Gives a key that is at hand, where a function is wanted; its repr does not.

    >>> GivenKey("a secret")
    GivenKey(…)
    """

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self) -> str:
        """Gives it."""
        return self._key

    def __repr__(self) -> str:
        return "GivenKey(…)"


class Endpoint:
    """Asks an OpenAI-compatible endpoint, and bears its limits and failures.

    What may go through later (429, 5xx, a connection lost, an answer that is no JSON) is asked again: after the pause
    that ``Retry-After`` names, otherwise after pauses that double up to a minute. The key stands in no message, log or
    repr.

    Args:
        base_url: Such as ``http://127.0.0.1:8000/v1``; None for ``OPENAI_BASE_URL``, or OpenAI itself.
        api_key: Gives the key; it is asked again when the endpoint refuses the last one as expired. None for the
            environment's ``OPENAI_API_KEY``.
        timeout: Of one request, in seconds.
        patience: How long, in seconds of pauses, one request is asked again before it is given up.
        wait: Waits that many seconds, or until the event is set.

    >>> Endpoint(base_url="http://127.0.0.1:8000/v1", api_key=lambda: "a secret")
    Endpoint(base_url='http://127.0.0.1:8000/v1')
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: Callable[[], str] | None = None,
        timeout: float = 120.0,
        patience: float = 900.0,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        if urlsplit(self.base_url).username is not None:
            raise ValueError("the base_url holds a user's name or password: give the key by api_key instead")
        self.patience, self.wait = patience, wait
        self._give_key = api_key
        self._key = ""
        import openai

        # Ours are the retries: the client's own would create a job twice, and tell nobody that they wait.
        self._client = openai.OpenAI(api_key=self._last_key, base_url=self.base_url, timeout=timeout, max_retries=0)

    def __repr__(self) -> str:
        return f"Endpoint(base_url={self.base_url!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Endpoint:
        return self  # DSPy copies programs with their LMs and all that hangs on them; a connection stays one

    def ask(
        self,
        what: str,
        call: Callable[[openai.OpenAI], _T],
        *,
        progress: Callable[[Event], None] | None = None,
    ) -> _T:
        """Makes a request, again and again while that may help.

        Args:
            what: The request in words, for messages: "the upload of the examples".
            call: Makes it; called anew each time.
            progress: Is told of each pause.

        Raises:
            FineTuningError: The endpoint refused, or did not answer in time; retryable, if it may answer later.
        """
        waited, pause, renewed = 0.0, _FIRST_PAUSE, False
        if not self._key:
            self._renew_key()
        while True:
            answer, fault = self._once(call)
            if fault is None:
                return answer  # type: ignore[return-value]  # there is one where there is no fault
            told = f"{what} at {self.base_url}: {fault.message}"
            if fault.key_refused and not renewed and self._renew_key():
                renewed = True
                continue
            if not fault.retryable:
                raise FineTuningError(told)
            pausing = pause if fault.pause is None else fault.pause
            if waited + pausing > self.patience:
                raise FineTuningError(
                    f"{told}; given up after {waited:g} s of waiting (the next pause is {pausing:g} s); try again "
                    "later",
                    retryable=True,
                )
            if progress is not None:
                progress(Event(f"{told}; asked again in {pausing:g} s", level="warn"))
            self.wait(threading.Event(), pausing)
            waited, pause = waited + pausing, min(2 * pause, _LONGEST_PAUSE)

    def _once(self, call: Callable[[openai.OpenAI], _T]) -> tuple[_T | None, _Fault | None]:
        """Gives the answer or the fault; the error itself, which carries the request with its key, ends here."""
        import openai

        try:
            answer = call(self._client)
        except openai.APITimeoutError:
            return None, _Fault("it did not answer in time", retryable=True)
        except openai.APIConnectionError as error:
            return None, _Fault(f"connection lost ({self.scrubbed(error.__cause__ or error)})", retryable=True)
        except openai.APIStatusError as error:
            return None, self._refusal(error)
        except (openai.APIError, ValueError, AttributeError, TypeError) as error:
            # JSON that ends half-way is a ValueError; on a page of a list that is no JSON the client itself stumbles.
            return None, _Fault(f"it answered what is not its API's ({self.scrubbed(error)})", retryable=True)
        if isinstance(answer, str):  # what the client makes of an answer that is no JSON
            return None, _Fault(f"it answered what is no JSON: {self.scrubbed(answer)}", retryable=True)
        return answer, None

    def _refusal(self, error: openai.APIStatusError) -> _Fault:
        body = error.body if isinstance(error.body, dict) else {}
        said = self.scrubbed(body.get("message") or error.message)
        status, code = error.status_code, error.code
        if status == 401:
            return _Fault(f"it refused the API key ({said}); {self._mend_key()}", key_refused=True)
        if status == 403:
            return _Fault(f"the API key is not allowed to do that: {said}")
        if status == 429 and code == "insufficient_quota":
            return _Fault(f"the account's quota is spent: {said}")
        if status == 429:
            return _Fault(f"too many requests: {said}", retryable=True, pause=_retry_after(error.response.headers))
        if status >= 500 or status in (408, 409):
            pause = _retry_after(error.response.headers)
            return _Fault(f"it failed with status {status}: {said}", retryable=True, pause=pause)
        if status == 413:
            return _Fault(f"the file is too large: {said}")
        return _Fault(f"it refused with status {status}: {said}")

    def scrubbed(self, text: object) -> str:
        """Gives the beginning of a text, without the key or what looks like one."""
        plain = str(text).replace(self._key, "[key]") if self._key else str(text)
        plain = re.sub(r"\b(sk-|Bearer\s)[^\s'\",}]+", "[key]", plain)
        return " ".join(plain.split())[:_SHOWN]

    def _last_key(self) -> str:
        return self._key

    def _mend_key(self) -> str:
        if self._give_key is None:
            return "set OPENAI_API_KEY to a valid one"
        return "the function that gives it has no other"

    def _renew_key(self) -> bool:
        """Asks for the key; tells whether it is another one than before."""
        before = self._key
        if self._give_key is None:
            self._key = os.environ.get("OPENAI_API_KEY", "")
        else:
            self._key = self._give_key()
        if not self._key:
            self._key = before
            if before:
                return False
            raise FineTuningError(
                "there is no API key: set OPENAI_API_KEY, or give a function by api_key (for an endpoint that wants "
                "none, any text will do)"
            )
        return self._key != before


def _retry_after(headers: Any) -> float | None:
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
    return max(seconds, _FIRST_PAUSE) if seconds < float("inf") else None
