"""What may be spent, and what was."""

from __future__ import annotations

import math
import operator
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import dspy

from ..errors import BudgetExceeded
from .prices import may_be_priced

__all__ = ["Budget", "Meter", "Spent", "UnderWay", "check_priced"]

_UNPRICED = "the LM's price is not known, so Budget(usd=…) cannot be kept; limit calls or tokens"


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may spend; whatever runs out first ends it. All that the search asks counts, proposals too.

    The sealed test is read after the search, and is not part of it: the report tells its cost apart. What a call takes
    in tokens and money is known when it is answered: those under way count as the mean of the others until then, so
    that only the first ones, and answers far above the mean, can go beyond a limit.

    Attributes:
        calls: LM calls.
        tokens: Tokens in and out.
        usd: Money, by the prices that DSPy knows for the LM; an LM of unknown price is refused.
        minutes: Time on the clock, from the search's start. When they are over, nothing more is asked and no pause is
            waited for; a call under way is, since it is paid for: for as long as its ``timeout`` at most.

    >>> Budget(calls=2000)
    Budget(calls=2000, tokens=None, usd=None, minutes=None)
    """

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        for name in ("calls", "tokens", "usd", "minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"Budget({name}={value}): must be above 0 and finite, or None for no limit")


def check_priced(budget: Budget, *lms: dspy.BaseLM) -> None:
    """Refuses LMs of unknown price where money is limited, before they are asked.

    Raises:
        BudgetExceeded: One of them is.
    """
    for lm in lms if budget.usd is not None else ():
        if not may_be_priced(lm):
            raise BudgetExceeded(f"{lm.model}: {_UNPRICED}")


@dataclass(frozen=True, slots=True)
class Spent:
    """What a search has asked of its LM.

    Attributes:
        calls: Different prompts asked; one whose answer is not remembered, each time. An answer that was known before
            the search counts here as well: so a search that is run again, or goes on after it was stopped, takes the
            same way as one that ran through.
        bought: Calls among them that the LM really answered now; the others were known and cost nothing, or failed.
        failed: Calls among them that were not answered.
        input_tokens: Of all calls.
        output_tokens: Of all calls.
        usd: Paid now.
        seconds: On the clock.
        recalled_usd: What answers cost that were known already: not paid again, and counted against a budget of money.
    """

    calls: int = 0
    bought: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0
    recalled_usd: float = 0.0

    @property
    def counted_usd(self) -> float:
        """What counts against a budget of money."""
        return self.usd + self.recalled_usd

    def __sub__(self, earlier: Spent) -> Spent:
        return Spent(*map(operator.sub, astuple(self), astuple(earlier)))

    def __add__(self, other: Spent) -> Spent:
        return Spent(*map(operator.add, astuple(self), astuple(other)))


class UnderWay:
    """Lets one thread at a time ask for a key: who comes second finds the answer, and buys nothing.

    >>> with UnderWay().alone("a prompt"):
    ...     pass
    """

    def __init__(self) -> None:
        self._keys: dict[str, list[Any]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Waits while another thread holds the same key."""
        with self._lock:
            held = self._keys.setdefault(key, [threading.Lock(), 0])
            held[1] += 1
        try:
            with held[0]:
                yield
        finally:
            with self._lock:
                held[1] -= 1
                if not held[1]:
                    del self._keys[key]


class Meter:
    """Counts what is asked and bought against a budget; shared by threads.

    Args:
        budget: The limits; None for none.
        clock: Gives the time in seconds.

    >>> meter = Meter(Budget(calls=1))
    >>> meter.ask("a prompt")
    >>> meter.ask("a prompt")  # is counted already
    >>> meter.ask("another prompt")
    Traceback (most recent call last):
    progspace.errors.BudgetExceeded: the budget of 1 calls is spent
    """

    def __init__(self, budget: Budget | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget = budget or Budget()
        self._clock = clock
        self._started = clock()
        self._calls = self._bought = self._input_tokens = self._output_tokens = 0
        self._usd = self._recalled_usd = self._answers_usd = 0.0
        self._kept = 0
        self._asked: set[str] = set()
        self._settled: set[str] = set()
        self.under_way = UnderWay()
        self._lock = threading.Lock()

    @property
    def spent(self) -> Spent:
        """All that was asked so far, and the seconds since the start."""
        with self._lock:
            return Spent(
                calls=self._calls,
                bought=self._bought,
                failed=self._calls - len(self._settled),
                input_tokens=self._input_tokens,
                output_tokens=self._output_tokens,
                usd=self._usd,
                seconds=self._clock() - self._started,
                recalled_usd=self._recalled_usd,
            )

    @property
    def calls_left(self) -> int | None:
        """How many calls may still be made, where calls are limited; 0 where anything else has run out."""
        with self._lock:
            if self._exhausted(self._calls + 1):
                return 0
            return None if self.budget.calls is None else self.budget.calls - self._kept - self._calls

    def keep(self, calls: int) -> None:
        """Keeps so many of the calls that are allowed for later; 0 gives them back."""
        with self._lock:
            self._kept = calls

    def ask(self, key: str) -> None:
        """Counts a call that is about to be made or recalled, the first time that it is asked.

        Raises:
            BudgetExceeded: Nothing is left for it; it is not counted.
        """
        with self._lock:
            if key in self._asked:
                return
            if reason := self._exhausted(self._calls + 1):
                raise BudgetExceeded(f"the budget of {reason} is spent")
            self._asked.add(key)
            self._calls += 1

    def late(self) -> bool:
        """Tells whether the minutes are over."""
        return self.budget.minutes is not None and self._clock() - self._started >= self.budget.minutes * 60

    def gave_up(self, fault: Exception) -> None:
        """Takes note that a call failed: where the minutes are over, it was not asked as often as it would have been.

        Raises:
            BudgetExceeded: They are.
        """
        if self.late():
            raise BudgetExceeded(
                f"the budget of {self.budget.minutes:g} minutes is spent, and what was asked last was not answered in "
                f"it ({str(fault).partition(chr(10))[0]})"
            ) from fault

    def withdraw(self, key: str) -> None:
        """Takes back a call that was counted, and is not made now."""
        with self._lock:
            if key in self._asked and key not in self._settled:
                self._asked.discard(key)
                self._calls -= 1

    def unanswered(self, key: str) -> None:
        """Takes note that a call was not answered: it stays counted, and asking it again is another call."""
        with self._lock:
            self._asked.discard(key)

    def answered(self, key: str, input_tokens: int, output_tokens: int, usd: float = 0.0) -> None:
        """Adds the tokens of a call, once, however often it is told of.

        Args:
            key: Of the call.
            input_tokens: Of the prompt.
            output_tokens: Of the answer.
            usd: What an answer cost that was known already. It is not paid again, and counts: a search that goes on
                after it was stopped has no new budget.
        """
        with self._lock:
            if key in self._settled:
                return
            self._asked.add(key)
            self._settled.add(key)
            self._recalled_usd += usd
            self._answers_usd += usd
            self._input_tokens += input_tokens
            self._output_tokens += output_tokens

    def bought(self, usd: float | None, lm: str = "") -> None:
        """Adds a call that the LM itself answered, and its price where it is known; else what is to be told of the LM.

        Raises:
            BudgetExceeded: Money is limited, and what the call cost is not known.
        """
        with self._lock:
            self._bought += 1
            self._usd += usd or 0.0
            self._answers_usd += usd or 0.0
        if usd is None and self.budget.usd is not None:
            raise BudgetExceeded(f"{lm}: {_UNPRICED}" if lm else _UNPRICED)

    def paid(self, usd: float) -> None:
        """Adds what was paid for something else than a call: a training."""
        with self._lock:
            self._usd += usd

    def _exhausted(self, calls: int) -> str | None:
        budget, answered = self.budget, max(1, len(self._settled))
        under_way = max(0, len(self._asked) - len(self._settled))
        if budget.calls is not None and calls > budget.calls - self._kept:
            return f"{budget.calls:,} calls"
        tokens = (self._input_tokens + self._output_tokens) * (1 + under_way / answered)
        if budget.tokens is not None and tokens >= budget.tokens:
            return f"{budget.tokens:,} tokens"
        usd = self._usd + self._recalled_usd + self._answers_usd * under_way / answered
        if budget.usd is not None and usd >= budget.usd:
            return f"{budget.usd:g} USD"
        if self.late():
            return f"{budget.minutes:g} minutes"
        return None
