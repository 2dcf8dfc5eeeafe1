"""One meter for all workers: what they ask is counted where the search runs, before it is asked."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any

from ...lms.budget import Budget, Meter, Spent

__all__ = ["Count", "Mailbox", "WorkerMeter", "count"]

Count = tuple[str, tuple[Any, ...]]
"""A method of `Meter` that counts, and its arguments."""


class Mailbox:
    """Takes workers' questions to the search, and its answers back; a Ray actor.

    A worker cannot call the process that the search runs in, but both can call an actor.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._asked: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, question: Any) -> Any:
        """Waits for the search's answer; what is an exception there is given, not raised."""
        number = next(self._numbers)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._asked.put_nowait((number, question))
        return await waiting

    async def exchange(self, answers: Sequence[tuple[int, Any]]) -> list[tuple[int, Any]]:
        """Hands out answers by their numbers, and waits for the next questions."""
        for number, answer in answers:
            waiting = self._waiting.pop(number)
            if not waiting.done():  # who asked may be dead
                waiting.set_result(answer)
        questions = [await self._asked.get()]
        while not self._asked.empty():
            questions.append(self._asked.get_nowait())
        return questions


class WorkerMeter(Meter):
    """A worker's end of a search's meter.

    Args:
        post: Puts a question to the search: the meter's name, and what is counted.
        name: Of the search's meter.
        budget: The search's limits.
    """

    def __init__(self, post: Callable[[Any], Future[Any]], name: str, budget: Budget) -> None:
        super().__init__(budget)
        self._post, self._name = post, name
        self._untold: list[Count] = []
        self._under_way: set[Future[Any]] = set()
        self._telling = threading.Lock()

    @property
    def spent(self) -> Spent:
        """Is known to the search alone."""
        raise NotImplementedError

    def ask(self, key: str) -> None:
        """Counts a call that is about to be made or recalled."""
        self._count("ask", key)

    def unanswered(self, key: str) -> None:
        """Takes note that a call was not answered."""
        self._count("unanswered", key)

    def answered(self, key: str, input_tokens: int, output_tokens: int, usd: float = 0.0) -> None:
        """Adds the tokens of a call, with the next thing that is told, or when its cell ends."""
        with self._telling:
            self._untold.append(("answered", (key, input_tokens, output_tokens, usd)))

    def bought(self, usd: float | None, lm: str = "") -> None:
        """Adds a call that the LM itself answered."""
        self._count("bought", usd, lm)

    def flush(self) -> None:
        """Tells what has not been told, and waits until all is counted, whichever thread tells it."""
        if self._untold:
            self._tell([])
        with self._telling:
            others = list(self._under_way)
        wait(others)

    def _count(self, what: str, *arguments: Any) -> None:
        self._tell([(what, arguments)])

    def _tell(self, counts: list[Count]) -> None:
        with self._telling:
            counts, self._untold = [*self._untold, *counts], []
            told = self._post((self._name, counts))
            self._under_way.add(told)
        try:
            fault = told.result()
        finally:
            with self._telling:
                self._under_way.discard(told)
        if fault is not None:
            raise fault


def count(meter: Meter, counts: Sequence[Count]) -> None:
    """Counts what a worker tells.

    Raises:
        BudgetExceeded: Nothing is left for it.
    """
    known: dict[str, Callable[..., None]] = {
        "ask": meter.ask, "unanswered": meter.unanswered, "answered": meter.answered, "bought": meter.bought,
    }  # fmt: skip
    for what, arguments in counts:
        known[what](*arguments)
