"""Requests that are collected, and answered together some time later.

A run of a program that asks what nobody has answered yet is ended by `Wanted`; when the answers are there, it is run
anew, and comes as far as its next question. So no module needs to know of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from dspy.lm15 import ServerError

from .faults import Fault

__all__ = ["PRICE", "Wanted", "Wave", "asked_as", "collecting", "price_share", "wave_of"]

_T = TypeVar("_T")

PRICE = 0.5
"""What an answer costs that may take a day, of what it costs at once."""
_TRIES = 3


class Wanted(BaseException):
    """A run cannot go on before a request of it is answered; no module's ``except Exception`` shall hide that."""


class Wave:
    """Requests of one engine.

    Args:
        engine: Whose; what others are asked meanwhile is asked at once.

    Attributes:
        wanted: Bodies that are to be answered, by key.
        known: What was answered, or why not.
        over: Why nothing more is wanted; None while more is.
    """

    def __init__(self, engine: object) -> None:
        self.engine = engine
        self.wanted: dict[str, dict[str, Any]] = {}
        self.known: dict[str, bytes | Fault] = {}
        self.over: Fault | None = None
        self._tries: Counter[str] = Counter()

    def answer(self, body: dict[str, Any], first: int, read: Callable[[bytes], _T]) -> _T:
        """Reads the answer to a request.

        Args:
            body: Of the request.
            first: How many answers the same call has already.
            read: Reads it; a ``ValueError`` says that it is none.

        Raises:
            Wanted: It is to be answered first; what failed and may go through later is asked three times.
            LM15Error: It was refused, or failed for good.
        """
        key = _KEY.get() + (f"-{first}" if first else "")
        found = self.known.get(key)
        if isinstance(found, bytes):
            try:
                return read(found)
            except ValueError as error:
                found = Fault(f"an answer of a batch is none: {error}", ServerError, retryable=True)
        if self.over is not None and (found is None or found.retryable):
            found = self.over
        if found is None or (found.retryable and self._tries[key] < _TRIES):
            self.wanted[key] = body
            self.known.pop(key, None)
            raise Wanted
        raise found.kind(found.message, status=found.status)

    def take(self) -> dict[str, dict[str, Any]]:
        """Gives what is wanted, which is being asked for from now on."""
        taken, self.wanted = self.wanted, {}
        self._tries.update(taken.keys())
        return taken


_WAVE: ContextVar[Wave | None] = ContextVar("progspace_wave", default=None)
_KEY: ContextVar[str] = ContextVar("progspace_key", default="")


@contextmanager
def collecting(wave: Wave) -> Iterator[None]:
    """Has requests collected, and answered from what is known of the wave."""
    token = _WAVE.set(wave)
    try:
        yield
    finally:
        _WAVE.reset(token)


@contextmanager
def asked_as(key: str) -> Iterator[None]:
    """Says under which key an LM is asked."""
    token = _KEY.set(key)
    try:
        yield
    finally:
        _KEY.reset(token)


def wave_of(engine: object) -> Wave | None:
    """Gives the wave that an engine's requests are collected for, if they are."""
    wave = _WAVE.get()
    return wave if wave is not None and wave.engine is engine else None


def price_share(engine: object) -> float:
    """Tells what share of its price an engine's answer costs now."""
    return 1.0 if wave_of(engine) is None else PRICE
