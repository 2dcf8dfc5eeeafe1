"""A module that has only a ``forward``, called in a task."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.programs.program import Program, acall
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


class Louder(dspy.ChainOfThought):
    """Changes what DSPy's own class answers, and says so in ``forward`` alone."""

    def forward(self, **inputs: Any) -> dspy.Prediction:
        return dspy.Prediction(echo=f"{super().forward(**inputs).echo}!")


class Both(Louder):
    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        return dspy.Prediction(echo=f"{(await super().aforward(**inputs)).echo}, in a task")


class Inherits(Both):
    pass


async def test_what_runs_in_a_task_is_what_was_measured(rule_engine: Any) -> None:
    lm = rule_engine(lambda _: "[[ ## reasoning ## ]]\nSo.\n\n[[ ## echo ## ]]\na").lm()
    given = Both("text -> echo")
    object.__setattr__(given, "forward", lambda **inputs: dspy.Prediction(echo=inputs["text"]))
    with dspy.context(lm=lm):
        said = {
            type(module).__name__: (await acall(module, text="b")).echo
            for module in (
                dspy.ChainOfThought("text -> echo"), Louder("text -> echo"), Program(Louder("text -> echo"), {}),
                Inherits("text -> echo"), given,
            )
        }  # fmt: skip
    assert said == {"ChainOfThought": "a", "Louder": "a!", "Program": "a!", "Inherits": "a, in a task", "Both": "b"}


@pytest.mark.parametrize("module", [dspy.BestOfN, dspy.Refine])
@pytest.mark.parametrize("guarded", [False, True])
def test_what_tries_a_program_several_times_asks_its_own_lm(rule_engine: Any, module: Any, guarded: bool) -> None:
    def rule(prompt: str) -> str:
        if "advice" in prompt:
            return '[[ ## discussion ## ]]\nnone\n\n[[ ## advice ## ]]\n{"module": "none"}'
        return "[[ ## mood ## ]]\nglad"

    own, other = rule_engine(rule), rule_engine(rule)
    program: dspy.Module = Program(dspy.Predict("text -> mood"), {}, own.lm())
    tried = module(ps.guarded(program) if guarded else program, N=2, reward_fn=lambda a, p: 0.0, threshold=1.0)
    with dspy.context(lm=other.lm()):
        assert tried(text="sun").mood == "glad"
    assert len(own.prompts) == 2
    assert all("advice" in prompt for prompt in other.prompts)
    assert program.get_lm() is not None


def test_a_program_of_several_lms_has_not_one(rule_engine: Any) -> None:
    chain = dspy.ReAct("question -> answer", tools=[])
    next(iter(chain.predictors())).lm = rule_engine(str.upper).lm()
    with pytest.raises(ValueError, match="Multiple LMs"):
        Program(chain, {}, rule_engine(str.upper).lm()).get_lm()
