"""A module that has only a ``forward``, called in a task."""

from __future__ import annotations

import asyncio
import threading

import dspy

from progspace.programs.program import acall
from progspace.programs.threads import threads_started

MORE_THAN_A_POOL = 40
"""An event loop's own pool has 32 threads at most."""


class Held(dspy.Module):
    """Answers when it is let, "free" at once."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.free = threading.Semaphore(0), threading.Event()

    def forward(self, text: str) -> dspy.Prediction:
        if text != "free":
            self.begun.release()
            self.free.wait(60)
        return dspy.Prediction(echo=text, adapter=dspy.settings.adapter)


async def test_calls_that_were_given_up_leave_room_for_others() -> None:
    held = Held()
    with threads_started() as threads:
        calls = [asyncio.ensure_future(acall(held, text=str(n))) for n in range(MORE_THAN_A_POOL)]
        await asyncio.sleep(0)
    assert all(held.begun.acquire(timeout=30) for _ in calls)
    for call in calls:
        call.cancel()
    assert all(
        isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(*calls, return_exceptions=True)
    )
    assert (await asyncio.wait_for(acall(held, text="free"), 30)).echo == "free"
    assert not any(each.done() for each in threads)
    held.free.set()
    assert [each.result(30).echo for each in threads] == [str(n) for n in range(MORE_THAN_A_POOL)]


def test_a_loop_ends_before_the_calls_that_were_given_up() -> None:
    held = Held()

    async def give_up() -> None:
        call = asyncio.ensure_future(acall(held, text="a"))
        await asyncio.sleep(0)
        call.cancel()

    with threads_started() as threads:
        asyncio.run(give_up())
    assert [each.done() for each in threads] == [False]
    held.free.set()
    assert threads[0].result(30).echo == "a"


async def test_a_thread_has_the_context_of_its_call() -> None:
    adapter = dspy.JSONAdapter()
    with dspy.context(adapter=adapter):
        assert (await acall(Held(), text="free")).adapter is adapter
