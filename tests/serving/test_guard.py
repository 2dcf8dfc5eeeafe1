"""Guarded programs: in time, tried again, falling back; shared by threads and tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest
from dspy.lm15 import Message, Request, Response, UnsupportedFeatureError, Usage, response_to_events

import progspace as ps
from progspace.programs.program import Program
from progspace.tests.conftest import RuleEngine
from progspace.tests.serving.conftest import Echo, echo


class Flaky(dspy.Module):
    """Fails as told, call by call, then answers."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__()
        self.failures, self.calls = list(failures), 0
        self.predict = dspy.Predict(Echo)

    def forward(self, text: str) -> dspy.Prediction:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return dspy.Prediction(echo=text)


class Stuck(dspy.Module):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.begun = self.cancelled = False

    def forward(self, text: str) -> dspy.Prediction:
        self.free.wait(60)
        return dspy.Prediction(echo=text)

    async def aforward(self, text: str) -> dspy.Prediction:
        self.begun = True
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return dspy.Prediction(echo=text)


def both(program: dspy.Module, **inputs: Any) -> list[Any]:
    return [program(**inputs), asyncio.run(program.acall(**inputs))]


def passing() -> ps.LMError:
    return ps.LMError("throttled", retryable=True)


def test_what_may_pass_is_tried_again() -> None:
    for call in (lambda p: p(text="a"), lambda p: asyncio.run(p.acall(text="a"))):
        flaky = Flaky(passing(), dspy.LMRateLimitError("slow down", retry_after=0))
        assert call(ps.guarded(flaky, retries=2)).echo == "a"
        assert flaky.calls == 3
        worse = Flaky(*(passing() for _ in range(3)))
        with pytest.raises(ps.LMError, match="throttled"):
            call(ps.guarded(worse, retries=1))
        assert worse.calls == 2


def test_what_will_not_pass_is_not_tried_again_but_falls_back() -> None:
    refused = Flaky(dspy.LMAuthError("no key"), dspy.LMAuthError("no key"))
    guarded = ps.guarded(refused, retries=5, fallbacks=[{"echo": None}])
    assert [answer.echo for answer in both(guarded, text="a")] == [None, None]
    assert refused.calls == 2


def test_a_fault_of_the_code_is_raised() -> None:
    broken = ps.guarded(Flaky(KeyError("x"), KeyError("x")), retries=3, fallbacks=[{"echo": None}])
    with pytest.raises(KeyError):
        broken(text="a")
    with pytest.raises(KeyError):
        asyncio.run(broken.acall(text="a"))
    with pytest.raises(TimeoutError):  # the module's own: there was no limit to be late by
        asyncio.run(ps.guarded(Flaky(TimeoutError())).acall(text="a"))


def test_a_timeout_of_the_modules_own_is_told_from_a_late_answer() -> None:
    for call in (lambda p: p(text="a"), lambda p: asyncio.run(p.acall(text="a"))):
        with pytest.raises(TimeoutError, match="the app's database"):
            call(ps.guarded(Flaky(TimeoutError("the app's database")), timeout=60, fallbacks=[{"echo": None}]))


async def test_what_no_future_hands_on_is_not_waited_for() -> None:
    for guard in (ps.guarded(Flaky(StopIteration())), ps.guarded(Flaky(StopIteration()), timeout=60)):
        with pytest.raises(RuntimeError, match="Flaky raised StopIteration"):
            await asyncio.wait_for(guard.acall(text="a"), 10)


def test_a_fallback_that_fails_gives_way_to_the_next(rule_engine: Any) -> None:
    lm = rule_engine(echo).lm()
    program = Program(dspy.Predict(Echo), {}, rule_engine(lambda _: "not to be read").lm())
    unreadable = ps.guarded(program, fallbacks=[rule_engine(lambda _: "neither").lm(), Flaky(), {"echo": "x"}])
    assert [answer.echo for answer in both(unreadable, text="a")] == ["a", "a"]
    chat = rule_engine(lambda _: "[[ ## echo ## ]]\nother LM\n\n[[ ## completed ## ]]").lm()
    assert [answer.echo for answer in both(ps.guarded(program, fallbacks=[chat]), text="a")] == ["other LM"] * 2
    assert program.own_lm is not chat
    assert lm is not chat


def test_an_attempt_ends_in_time() -> None:
    stuck = Stuck()
    with pytest.raises(ps.CallTimeout, match=r"within 0\.05 s"):
        ps.guarded(stuck, timeout=0.05)(text="a")
    abstaining = ps.guarded(stuck, timeout=0.05, retries=1, fallbacks=[{"echo": "nothing"}])
    assert [answer.echo for answer in both(abstaining, text="a")] == ["nothing", "nothing"]
    assert stuck.cancelled
    stuck.free.set()
    assert ps.guarded(stuck, timeout=60)(text="b").echo == "b"


async def test_a_call_that_is_cancelled_cancels_its_attempt() -> None:
    stuck = Stuck()
    call = asyncio.ensure_future(ps.guarded(stuck, timeout=60).acall(text="a"))
    while not stuck.begun:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0.01)
    assert stuck.cancelled


def test_an_abstention_is_of_the_programs_outputs(mood: Any) -> None:
    program = dspy.Predict(mood)
    for wrong in ({"moood": None}, {}, {"mood": "angry"}):
        with pytest.raises(ps.ProgramError, match="abstention"):
            ps.guarded(program, fallbacks=[wrong])
    with pytest.raises(ps.ProgramError, match="a fallback is"):
        ps.guarded(program, fallbacks=["sad"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="timeout"):
        ps.guarded(program, timeout=0)
    with pytest.raises(ValueError, match="retries"):
        ps.guarded(program, retries=-1)


def test_inputs_without_names_are_guarded_too() -> None:
    class Nameless(dspy.Module):
        def forward(self, **inputs: Any) -> dspy.Prediction:
            raise passing()

    for unserved in (Nameless(), ps.guarded(Nameless())):
        assert ps.guarded(unserved, fallbacks=[{"echo": None}])(text="a").echo is None
    for fallback in ({"moood": None}, {"answer": 3}):
        with pytest.raises(ps.ProgramError, match="abstention"):
            ps.guarded(dspy.ReAct("question -> answer", tools=[]), fallbacks=[fallback])


def test_a_guard_around_a_guard_abstains_as_that_does(mood: Any) -> None:
    inner = ps.guarded(dspy.Predict(mood), fallbacks=[{"mood": "sad"}])
    outer = ps.guarded(inner, fallbacks=[{"mood": None}])
    assert outer.interface.write(dspy.Prediction(mood=None)) == b'{"mood":null}'
    with pytest.raises(ps.ProgramError, match="abstention"):
        ps.guarded(inner, fallbacks=[{"mood": "angry"}])


def test_threads_share_a_program_and_mix_no_answers(artifact: Callable[..., Path], rule_engine: Any) -> None:
    program = ps.guarded(ps.load(artifact(), lm=rule_engine(echo).lm()), timeout=60, retries=1)
    texts = [f"number {n}" for n in range(400)]
    with ThreadPoolExecutor(32) as pool:
        assert [answer.echo for answer in pool.map(lambda text: program(text=text), texts)] == texts


async def test_tasks_share_a_program_and_mix_no_answers(artifact: Callable[..., Path], rule_engine: Any) -> None:
    engine = rule_engine(echo)

    class Yielding:
        async def complete(self, request: Request) -> Any:
            await asyncio.sleep(0.001 * (len(engine.prompts) % 3))
            return engine.complete(request)

    lm = dspy.LM("rule/one", engine=engine, async_engine=Yielding(), cache=False, num_retries=0)
    program = ps.guarded(ps.load(artifact(), lm=lm), timeout=60, retries=1)
    texts = [f"number {n}" for n in range(400)]
    answers = await asyncio.gather(*(program.acall(text=text) for text in texts))
    assert [answer.echo for answer in answers] == texts


def test_a_batch_is_in_order(artifact: Callable[..., Path], rule_engine: Any) -> None:
    program = ps.guarded(ps.load(artifact(), lm=rule_engine(echo).lm()))
    rows = [dspy.Example(text=f"number {n}").with_inputs("text") for n in range(50)]
    answers = program.batch(rows, num_threads=8, disable_progress_bar=True)
    assert [answer.echo for answer in answers] == [row.text for row in rows]


def test_outputs_have_their_types(rule_engine: Any) -> None:
    class Count(dspy.Signature):
        """Count."""

        text: str = dspy.InputField()
        words: int = dspy.OutputField()
        order: Literal["up", "down"] = dspy.OutputField()

    answer = "[[ ## words ## ]]\n3\n\n[[ ## order ## ]]\nup\n\n[[ ## completed ## ]]"
    told = ps.guarded(Program(dspy.Predict(Count), {}, rule_engine(lambda _: answer).lm()))(text="a b c")
    assert (told.words, told.order) == (3, "up")
    wrong = Program(dspy.Predict(Count), {}, rule_engine(lambda _: answer.replace("3", "three")).lm())
    with pytest.raises(dspy.AdapterParseError):
        ps.guarded(wrong)(text="a b c")
    assert ps.guarded(wrong, fallbacks=[{"words": 0, "order": "up"}])(text="a b c").words == 0


async def pieces(program: Any, **inputs: Any) -> tuple[str, dspy.Prediction]:
    given = [piece async for piece in program.stream(**inputs)]
    assert all(isinstance(piece, str) for piece in given[:-1])
    return "".join(given[:-1]), given[-1]


class Streaming:
    """Streams an answer in two pieces; may break off between them."""

    def __init__(self, breaks: bool = False) -> None:
        self.breaks = breaks

    async def complete(self, request: Request) -> Response:
        return Response(None, request.model, Message.assistant(["one ", "two"]), "stop", Usage(1, 2))

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        for event in response_to_events(await self.complete(request)):
            if self.breaks and event.type == "delta" and event.delta.text == "two":
                raise dspy.LMServerError("broke off")
            yield event

    def lm(self) -> dspy.LM:
        return dspy.LM("rule/one", engine=RuleEngine(echo), async_engine=self, cache=False, num_retries=0)


async def test_an_lm_that_streams_is_heard_as_it_writes(artifact: Callable[..., Path]) -> None:
    program = ps.guarded(ps.load(artifact(), lm=Streaming().lm()), timeout=60)
    given = [piece async for piece in program.stream(text="a")]
    assert given[:-1] == ["one ", "two"]
    assert given[-1].echo == "one two"


async def test_a_stream_that_breaks_off_is_not_contradicted(artifact: Callable[..., Path]) -> None:
    broken = ps.load(artifact(), lm=Streaming(breaks=True).lm())
    heard = []
    stream = ps.guarded(broken, retries=2, fallbacks=[{"echo": None}]).stream(text="a")
    heard.append(await anext(stream))
    with pytest.raises(dspy.LMServerError):
        await anext(stream)
    assert heard == ["one "]


async def test_an_lm_that_does_not_stream_gives_the_answer_alone(
    artifact: Callable[..., Path], rule_engine: Any
) -> None:
    program = ps.load(artifact(), lm=rule_engine(echo).lm())
    text, answer = await pieces(ps.guarded(program, timeout=120), text="a b")
    assert (text, answer.echo) == ("", "a b")


async def test_a_stream_falls_back_before_its_first_piece() -> None:
    text, answer = await pieces(ps.guarded(Flaky(passing()), retries=1), text="a")
    assert (text, answer.echo) == ("", "a")
    text, answer = await pieces(ps.guarded(Stuck(), timeout=0.05, fallbacks=[{"echo": None}]), text="a")
    assert (text, answer.echo) == ("", None)
    with pytest.raises(ps.CallTimeout):
        await pieces(ps.guarded(Stuck(), timeout=0.05), text="a")


class Louder(dspy.Predict):
    def forward(self, **inputs: Any) -> dspy.Prediction:
        return dspy.Prediction(echo=f"{super().forward(**inputs).echo}!")


class Whole(RuleEngine):
    def stream(self, request: Request) -> Any:
        raise UnsupportedFeatureError("it answers whole", feature="stream")


async def test_a_stream_answers_as_the_call_does() -> None:
    with dspy.context(lm=Whole(lambda _: "[[ ## echo ## ]]\na").lm()):
        program = ps.guarded(Louder(Echo))
        said = [program(text="a"), await program.acall(text="a"), (await pieces(program, text="a"))[1]]
    assert [each.echo for each in said] == ["a!"] * 3


def test_a_fallback_lm_is_none_of_the_programs(rule_engine: Any) -> None:
    class Team(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.members = [dspy.Predict(Echo), threading.Lock()]

    team, lm = Team(), rule_engine(echo).lm()
    (fallback,) = ps.guarded(team, fallbacks=[lm]).fallbacks
    assert isinstance(fallback, dspy.Module)
    assert [each.lm for each in (*team.predictors(), *fallback.predictors())] == [None, lm]
