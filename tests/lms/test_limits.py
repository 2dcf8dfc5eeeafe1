"""What is granted, told and learnt; against a model of an endpoint, with a clock of its own."""

from __future__ import annotations

import asyncio

import pytest
from dspy.lm15 import RateLimitError
from dspy.lm15 import TimeoutError as SlowError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from progspace.benchmarks.fault_server import Limits
from progspace.lms.allowance import Allowance, seconds_of
from progspace.lms.faults import Fault
from progspace.lms.limiter import START, Limiter


@settings(max_examples=50)
@given(
    st.text(max_size=12) | st.from_regex(r"(\d{1,3}h)?(\d{1,3}m)?(\d{1,3}(\.\d{1,3})?s)?(\d{1,3}ms)?", fullmatch=True)
)
def test_any_header_is_read_or_passed_over(text: str) -> None:
    seconds = seconds_of(text)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(("text", "seconds"), [("1h2m3s", 3723), ("2m59.56s", 179.56), ("500ms", 0.5), ("", None)])
def test_durations(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


def drive(
    monkeypatch: pytest.MonkeyPatch, limits: Limits, *, minutes: float, tokens: int, delay: float = 0.3
) -> tuple[int, int, int]:
    """Sends as fast as the allowance lets; gives answers, refusals, and refusals of the last half."""
    now = 0.0
    monkeypatch.setattr("progspace.benchmarks.fault_server.time.monotonic", lambda: now)
    limits._at = 0.0
    allowance, under_way = Allowance(), []
    answered = refused = late = 0
    while now < 60 * minutes:
        while under_way and under_way[0][0] <= now:
            _, let, headers, mark = under_way.pop(0)
            more = allowance.told(headers, mark, now)
            if let:
                answered += 1
                allowance.answered(now)
            else:
                refused += 1
                late += now > 30 * minutes
                if not more:
                    allowance.refused(mark, float(headers["retry-after"]) if "retry-after" in headers else None, now)
        if len(under_way) < 30 and allowance.wait(tokens, now) <= 0:
            mark = allowance.take(tokens, now)
            under_way.append((now + delay, *limits.admit(tokens), mark))
        else:
            now += 0.01
    return answered, refused, late


@settings(max_examples=20, deadline=None)
@given(
    requests=st.integers(10, 200),
    tokens=st.integers(1, 400),
    window=st.sampled_from([1.0, 10.0, 60.0]),
    delay=st.floats(0.05, 2.0),
)
def test_told_limits_are_used_up_and_not_run_against(requests: int, tokens: int, window: float, delay: float) -> None:
    assume(2 * delay <= window)  # else what an answer tells is as old as the bucket is deep, and less of it is used
    limits = Limits(requests=requests, tokens=20_000, window=window)
    with pytest.MonkeyPatch.context() as patch:
        answered, refused, late = drive(patch, limits, minutes=1, tokens=tokens, delay=delay)
    granted = min(requests, 20_000 / tokens) * (1 + 60 / window)
    at_most_under_way = 30 / delay * 60
    assert answered >= 0.9 * min(granted, at_most_under_way) - 30 - requests * delay / window
    assert late <= 0.02 * answered + 1
    assert refused <= 35  # the first burst, before any answer told of a limit


@pytest.mark.parametrize("retry_after", [True, False])
def test_limits_that_are_not_told_are_learnt_from_refusals(monkeypatch: pytest.MonkeyPatch, retry_after: bool) -> None:
    limits = Limits(requests=10, tokens=1e9, window=2.0, told=False, retry_after=retry_after)
    answered, _, late = drive(monkeypatch, limits, minutes=4, tokens=100)
    assert late <= 0.02 * answered / 2
    assert answered >= 0.9 * 5 * 240


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def answer_all(limiter: Limiter, clock: Clock, seconds: float, fault: Fault | None = None, rounds: int = 1) -> None:
    async def one_round() -> None:
        turns = [await limiter.enter(1) for _ in range(limiter.limit)]
        clock.now += seconds
        for turn in turns:
            limiter.leave(turn, None, fault, None)

    for _ in range(rounds):
        asyncio.run(one_round())


def test_more_run_while_answers_stay_fast_and_fewer_when_they_slow_down() -> None:
    clock = Clock()
    limiter = Limiter(most=1000, clock=clock)
    answer_all(limiter, clock, 1.0, rounds=2)
    assert limiter.limit == 4 * START  # it doubles
    answer_all(limiter, clock, 4.0)
    assert limiter.limit == int(0.8 * 4 * START)
    answer_all(limiter, clock, 1.0)
    assert limiter.limit == int(0.8 * 4 * START) + 1  # and grows by one from then on


def test_overload_halves_and_a_single_fault_does_not() -> None:
    clock = Clock()
    limiter = Limiter(clock=clock)
    late = Fault("", SlowError, retryable=True)
    answer_all(limiter, clock, 1.0, late)
    assert limiter.limit == START // 2
    broken = Fault("", RateLimitError, retryable=True, status=500)
    answer_all(limiter, clock, 1.0, broken, rounds=2)
    assert limiter.limit > START // 2


def test_one_is_always_let_through() -> None:
    clock = Clock()
    limiter = Limiter(clock=clock)
    answer_all(limiter, clock, 1.0, Fault("", SlowError, retryable=True), rounds=200)
    assert limiter.limit == 1
