"""How many requests may be under way at an endpoint, learnt as they go."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from dspy.lm15 import RateLimitError

from .allowance import Allowance, Mark
from .faults import Fault
from .stopping import late, pause, stopped

__all__ = ["Ledger", "Limiter", "Turn"]

START = 16
"""Requests that are under way at first: few endpoints mind."""
_MUCH_REFUSED = 0.25
_SLOW = 3.0  # times as slow as it was at best


class Ledger(Protocol):
    """Where an allowance is kept."""

    def open(self) -> AbstractContextManager[Allowance]:
        """Gives the allowance, to be read and changed by nobody else in the meantime."""


class _Own:
    """Keeps the allowance of one process."""

    def __init__(self) -> None:
        self._allowance = Allowance()

    @contextmanager
    def open(self) -> Iterator[Allowance]:
        yield self._allowance


@dataclass(frozen=True, slots=True)
class Turn:
    """A request's leave to be sent.

    Attributes:
        mark: Its place in the line.
        tokens: That were estimated for it.
        began: When it got leave.
    """

    mark: Mark
    tokens: float
    began: float


class Limiter:
    """Lets as many requests through as an endpoint grants; of one event loop.

    How many may be under way follows additive increase, multiplicative decrease (`Chiu and Jain 1989
    <https://doi.org/10.1016/0169-7552(89)90019-6>`_), window by window of as many answers: one more (at first twice as
    many) where the limit was reached, half as many where a quarter was refused, a fifth less where answers take three
    times as long as they did at best. How many are sent in a time is `Allowance`'s.

    Args:
        most: Never more under way than this.
        clock: Gives the time in seconds.

    Attributes:
        ledger: Where the allowance is kept: by this process alone, unless another one is put in its place.

    >>> Limiter(most=8).limit
    8
    """

    def __init__(self, most: int = 256, clock: Callable[[], float] = time.time) -> None:
        self.most, self._clock = most, clock
        self._limit = float(min(START, most))
        self._under_way = 0
        self._slow_start = True
        self._door, self._freed = asyncio.Lock(), asyncio.Event()
        self.ledger: Ledger = _Own()
        self._estimated = self._used = 0.0
        self._best: float | None = None
        self._seconds: list[float] = []
        self._ended = self._refused = 0
        self._full = False

    @property
    def limit(self) -> int:
        """How many requests may be under way now."""
        return int(self._limit)

    @property
    def usual_seconds(self) -> float | None:
        """How long an answer took at best, by the median of a window; None where too few are known."""
        return self._best

    async def enter(self, tokens: float) -> Turn:
        """Waits, in line, until a request of about so many tokens may be sent; `leave` or `give_up` must follow."""
        expected = tokens * (self._used / self._estimated if self._estimated else 1.0)
        async with self._door:
            while self._under_way >= self.limit:
                self._freed.clear()
                await self._freed.wait()
            if late():  # behind an endpoint that hangs, each in the line would hang in its turn
                raise RateLimitError("the time was over before it was sent")
            while isinstance(sent := self._try(expected), float):
                await pause(min(sent, 0.5))  # an answer may tell of more in the meantime
                if stopped():
                    raise RateLimitError("stopped before it was sent")
            self._under_way += 1
            self._full = self._full or self._under_way >= self.limit
            return Turn(sent, tokens, self._clock())

    def _try(self, tokens: float) -> Mark | float:
        """Takes what a request needs, or tells how long to wait for it."""
        with self.ledger.open() as allowance:
            now = self._clock()
            return allowance.wait(tokens, now) or allowance.take(tokens, now)

    def give_up(self) -> None:
        """Takes note that a request was given up before its end."""
        self._under_way -= 1
        self._freed.set()

    def leave(self, turn: Turn, headers: Mapping[str, str] | None, fault: Fault | None, tokens: float | None) -> None:
        """Takes note of how a request ended.

        Args:
            turn: What `enter` gave.
            headers: Of the answer; None where there was none.
            fault: Why it failed.
            tokens: That it took, where that is known.
        """
        now = self._clock()
        self.give_up()
        with self.ledger.open() as allowance:
            more = allowance.told(headers, turn.mark, now) if headers is not None else False
            if fault is None:
                allowance.answered(now)
            elif fault.status == 429 and not more:  # else it says nothing of the others
                allowance.refused(turn.mark, fault.pause, now)
        if fault is None:
            self._seconds.append(now - turn.began)
            if tokens:
                self._estimated, self._used = self._estimated + turn.tokens, self._used + tokens
        self._ended += 1
        self._refused += fault is not None and fault.overloaded
        if self._ended >= max(self.limit, START):
            self._adapt()

    def _adapt(self) -> None:
        seconds = statistics.median(self._seconds) if self._seconds else None
        if seconds is not None:
            self._best = min(seconds, self._best or seconds)
        if self._refused > _MUCH_REFUSED * self._ended:
            self._limit, self._slow_start = max(1.0, self._limit / 2), False
        elif seconds is not None and self._best is not None and seconds > _SLOW * self._best:
            self._limit, self._slow_start = max(1.0, 0.8 * self._limit), False
        elif self._full:
            self._limit = min(self.most, 2 * self._limit if self._slow_start else self._limit + 1)
        self._seconds, self._ended, self._refused, self._full = [], 0, 0, False
