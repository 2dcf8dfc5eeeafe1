"""An OpenAI-compatible endpoint that is asked until it answers, or says for good that it will not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import FineTuningError, LMError
from ..connection import Connection
from ..faults import SHORTEST_PAUSE, Fault, fault_of
from ..keys import Keys
from .jobs import Event

if TYPE_CHECKING:  # half a second at the first import, which who only asks an LM does not pay
    import openai

__all__ = ["Endpoint"]

_T = TypeVar("_T")
_LONGEST_PAUSE = 60.0


class Endpoint:
    """Asks an OpenAI-compatible endpoint, and bears its limits and failures.

    What may go through later (429, 5xx, a connection lost, an answer that is no JSON) is asked again: after the pause
    that ``Retry-After`` names, otherwise after pauses that double up to a minute. The key stands in no message, log or
    repr.

    Args:
        base_url: Such as ``http://127.0.0.1:8000/v1``; None for ``OPENAI_BASE_URL``, or OpenAI itself.
        api_key: The key, or what gives it: see `progspace.lms.keys.Keys`.
        timeout: Of one request, in seconds.
        patience: How long, in seconds of pauses, one request is asked again before it is given up.
        wait: Waits that many seconds, or until the event is set.
        failure: What is raised.

    >>> Endpoint(base_url="http://127.0.0.1:8000/v1", api_key=lambda: "a secret")
    Endpoint(base_url='http://127.0.0.1:8000/v1')
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | Callable[[], str] | Keys | None = None,
        timeout: float = 120.0,
        patience: float = 900.0,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
        failure: type[FineTuningError] | type[LMError] = FineTuningError,
    ) -> None:
        connection = Connection(base_url, api_key, timeout=timeout)
        self.base_url, self._keys = connection.base_url, connection.keys
        self.scrubbed = connection.keys.scrubbed
        self.patience, self.wait, self._failure = patience, wait, failure
        self._client = connection.client()

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
            FineTuningError: The endpoint refused, or did not answer in time; retryable, if it may answer later. Or what
                ``failure`` names.
        """
        waited, pause, renewed = 0.0, SHORTEST_PAUSE, False
        while True:
            if not (key := self._keys.current()):
                raise self._failure(self._keys.missing)
            answer, fault = self._once(call)
            if fault is None:
                return answer  # type: ignore[return-value]  # there is one where there is no fault
            told = f"{what} at {self.base_url}: {fault.message}"
            if fault.key_refused and not renewed and self._keys.renew(key):
                renewed = True
                continue
            if not fault.retryable:
                raise self._failure(told)
            pausing = pause if fault.pause is None else fault.pause
            if waited + pausing > self.patience:
                raise self._failure(
                    f"{told}; given up after {waited:g} s of waiting (the next pause is {pausing:g} s); try again "
                    "later",
                    retryable=True,
                )
            if progress is not None:
                progress(Event(f"{told}; asked again in {pausing:g} s", level="warn"))
            self.wait(threading.Event(), pausing)
            waited, pause = waited + pausing, min(2 * pause, _LONGEST_PAUSE)

    def _once(self, call: Callable[[openai.OpenAI], _T]) -> tuple[_T | None, Fault | None]:
        import openai

        try:
            answer = call(self._client)
        except (openai.APIError, ValueError, AttributeError, TypeError) as error:
            return None, fault_of(error, self._keys)
        if isinstance(answer, str):  # what the client makes of an answer that is no JSON
            return None, Fault(f"it answered what is no JSON: {self.scrubbed(answer)}", retryable=True)
        return answer, None
