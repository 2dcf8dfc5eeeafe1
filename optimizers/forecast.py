"""What a compile will cost, before it costs anything: calls, tokens, dollars and minutes, each with a range."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dspy

from ..errors import BudgetExceeded
from ..evaluation.checks import check_at_least
from ..evaluation.numbers import count, dollars, duration
from ..lms.budget import Budget, check_priced
from ..lms.factory import check_lm
from ..lms.journal import concurrency
from ..lms.prices import price
from ..programs.answering import Answering
from ..programs.candidate import Candidate, demonstration
from ..programs.formats import Format
from ..programs.metrics import JudgeMetric
from ..programs.task import Task
from ..store.database import Store
from .proposers.finetuning import foreseen
from .rehearsal import CHARACTERS_A_TOKEN, Rehearsed, counts_exactly, rehearse
from .space import Space

__all__ = ["Bill", "Forecast", "Range", "forecast"]

FIRST = 10  # examples on which the program as declared is measured first
_RUNGS = 4  # programs that run on the sealed test at most, the program as declared among them
_EXAMPLES = 5
_MOSTLY = 0.9  # of its calls: the searches of `benchmarks/results/sentiment.jsonl` asked for 76 to 96 %
_UNLIMITED = 20_000  # calls that are reckoned with where the budget does not limit them
# Assumptions, told in the notes.
_LOCAL_INPUT, _LOCAL_OUTPUT = 2000, 200  # tokens a second
_REMOTE_SECONDS = 1.5  # a call
_PACE_UNSURE = 3.0
_ENOUGH_ANSWERS, _IDLE = 20, 5.0


@dataclass(frozen=True, slots=True)
class Range:
    """A number that is not known yet."""

    low: float
    expected: float
    high: float

    def times(self, factor: Range) -> Range:
        """The product."""
        return Range(self.low * factor.low, self.expected * factor.expected, self.high * factor.high)

    def at_most(self, limit: float | None) -> Range:
        """The same, where it may not be more than a limit."""
        return self if limit is None else Range(*(min(limit, each) for each in (self.low, self.expected, self.high)))


@dataclass(frozen=True, slots=True)
class Bill:
    """What something costs.

    Attributes:
        calls: LM calls: of the task's program, of what proposes, and of a judge.
        tokens: In and out.
        usd: Money; None where the LM's price is not known.
        minutes: On the clock.
    """

    calls: Range
    tokens: Range
    usd: Range | None
    minutes: Range

    def within(self, budget: Budget) -> Bill:
        """What a budget leaves of it: a hard stop, but for the calls that are under way."""
        return Bill(
            calls=self.calls.at_most(budget.calls),
            tokens=self.tokens.at_most(budget.tokens),
            usd=None if self.usd is None else self.usd.at_most(budget.usd),
            minutes=self.minutes.at_most(budget.minutes),
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a compile will cost.

    Attributes:
        search: The search, which the budget limits.
        test: The sealed test, which is read after it and is not part of the budget.
        test_rows: Examples of it that are read.
        prompt_tokens: Of one example with the program as declared, all calls together.
        calls_per_example: Of the program as declared, a judge's included.
        notes: What it rests on, and what speaks against starting.
    """

    search: Bill
    test: Bill
    test_rows: int
    prompt_tokens: float
    calls_per_example: float
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it for a person."""
        lines = [f"{'':<14}{'search':<34}sealed test"]
        for name, show in (("calls", count), ("tokens", count), ("usd", dollars), ("minutes", _minutes)):
            told = [_told(getattr(bill, name), show) for bill in (self.search, self.test)]
            lines.append(f"{name:<14}{told[0]:<34}{told[1]}")
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Gives everything as JSON values."""
        return asdict(self)


def forecast(
    task: Task,
    lm: dspy.BaseLM,
    budget: Budget,
    space: Space | None = None,
    *,
    store: Store | None = None,
    test_rows: int | None = None,
) -> Forecast:
    """Tells what a compile will cost; no LM is called.

    Real prompts are rendered, of the program as declared and of candidates such as the search will try, on a few train
    examples, and their tokens counted. A search mostly spends the calls that it may; the low end is one that finds
    nothing to gain above the program as declared.

    Args:
        task: What will be searched.
        lm: What it will run on.
        budget: What it may spend.
        space: What may be chosen; None for everything.
        store: Where answers of this LM may be known, and so its pace.
        test_rows: How many examples of the sealed test will be read; None for all.

    Raises:
        DataError: ``test_rows`` is below 1.
        LMError: What is given is no LM.
    """
    check_lm(lm)
    check_at_least(1, test_rows=test_rows)
    space = space or Space()
    examples = task.train[:_EXAMPLES]
    notes: list[str] = []
    declared = rehearse(task.program, examples, lm)
    candidates = _typical(task, lm, space)
    rehearsed = [declared]
    for candidate in candidates:
        tried = rehearse(candidate.apply(task.program), examples, lm)
        if space.max_prompt_tokens is None or tried.input_tokens <= space.max_prompt_tokens * tried.calls:
            rehearsed.append(tried)
    judging = _judging(task, examples, lm, notes)
    tokens = _tokens_a_call(rehearsed, judging, exact=counts_exactly(lm))
    outputs = _outputs_a_call(rehearsed, judging)
    per_example = declared.calls + judging.calls
    pace = _pace(lm, store, tokens, outputs, notes)
    calls = _search_calls(lm, budget, tokens, outputs, pace, per_example)
    search = _bill(lm, calls, tokens, outputs, pace).within(budget)
    rows = task.test_size if test_rows is None else min(task.test_size, test_rows)
    most = max(each.calls for each in rehearsed) + judging.calls
    # The last rung's best may vote; and a chat answer of the program as declared that cannot be read is asked for once
    # more, as JSON.
    highest = most * (_RUNGS - 1 + max((1, *space.votes))) + declared.calls
    read = Range(rows * per_example, rows * per_example * 3, rows * highest)
    test = _bill(lm, read, tokens, outputs, pace)
    if not counts_exactly(lm):
        notes.append(f"Tokens are reckoned at {CHARACTERS_A_TOKEN} characters each: the LM's tokenizer is not at hand.")
    if search.usd is None:
        notes.append("The LM's price is not known.")
    try:
        check_priced(budget, lm, *space.lms.values())
    except BudgetExceeded as error:
        notes.append(f"It will be refused: {error}.")
    first = per_example * min(FIRST, len(task.dev))
    if budget.calls is not None and budget.calls < first:
        notes.append(f"The budget does not hold the program as declared, which needs {count(first)} calls.")
    notes.append("Calls that are in the store already cost nothing.")
    if (training := foreseen(task, lm, space)) is not None:
        notes.append(training)
    return Forecast(search, test, rows, declared.input_tokens, per_example, tuple(notes))


def _typical(task: Task, lm: dspy.BaseLM, space: Space) -> list[Candidate]:
    """Candidates such as the search tries: every format; two of them with demonstrations, and with reasoning.

    The declared format is among them, for it stays where no other one beats it.
    """
    predictors = space.searched(task.program)
    declared = Candidate.declared(task.program)
    formats = space.formats_for([predictor.signature for predictor in predictors.values()], lm)
    typical = [declared.with_choice(format=each, origin=each.label) for each in formats]
    likeliest = formats[0] if formats else Format()
    for base in (declared, declared.with_choice(format=likeliest)):
        for size in filter(None, space.demonstrations):
            shown = base
            for name, predictor in predictors.items():
                fields = list(predictor.signature.fields)
                rows = [row for row in task.train if all(field in row for field in fields)][:size]
                demos = tuple(demonstration({field: row[field] for field in fields}) for row in rows)
                shown = shown.with_choice(predictor=name, demonstrations=demos)
            typical.append(shown)
        if "chain_of_thought" in space.answers:
            typical.append(base.with_choice(answering=Answering(reasoning=True)))
    return typical


def _judging(task: Task, examples: Sequence[dspy.Example], lm: dspy.BaseLM, notes: list[str]) -> Rehearsed:
    """What the metric asks for one output; only of a judge of ``ps.metrics.judge`` can that be known."""
    metric = task.metric
    if not isinstance(metric, JudgeMetric):
        return Rehearsed(0.0, 0.0, 0.0, 0.0)
    known = [
        dspy.Example({name: metric.value_of(name, each, each) for name in metric.inputs}).with_inputs(*metric.inputs)
        for each in examples
    ]
    judging = rehearse(metric.program, known, metric.lm or lm)
    notes.append(f"The judge's calls are counted too: {judging.calls:g} an output.")
    return judging


def _tokens_a_call(rehearsed: Sequence[Rehearsed], judging: Rehearsed, *, exact: bool) -> Range:
    """Tokens in and out of a call: at least as the shorter half of the candidates, at most as the longest."""
    short = sorted(_each(one, judging, one.output_tokens + judging.output_tokens) for one in rehearsed)
    long = [_each(one, judging, one.most_output_tokens + judging.most_output_tokens) for one in rehearsed]
    doubt = 1.0 if exact else 1.3
    return Range(_half(short) / doubt, sum(short) / len(short), max(long) * doubt)


def _outputs_a_call(rehearsed: Sequence[Rehearsed], judging: Rehearsed) -> Range:
    calls = [(one.calls + judging.calls) or 1 for one in rehearsed]
    short = [(one.output_tokens + judging.output_tokens) / of for one, of in zip(rehearsed, calls, strict=True)]
    long = [
        (one.most_output_tokens + judging.most_output_tokens) / of for one, of in zip(rehearsed, calls, strict=True)
    ]
    return Range(_half(sorted(short)), sum(short) / len(short), max(long))


def _half(ordered: Sequence[float]) -> float:
    """The mean of the first half: a search runs many candidates, the cheapest not alone."""
    first = ordered[: max(1, len(ordered) // 2)]
    return sum(first) / len(first)


def _each(one: Rehearsed, judging: Rehearsed, outputs: float) -> float:
    # A program may ask nothing of the examples that were looked at.
    return max(1.0, one.input_tokens + judging.input_tokens + outputs) / ((one.calls + judging.calls) or 1)


def _search_calls(
    lm: dspy.BaseLM, budget: Budget, tokens: Range, outputs: Range, pace: Range, per_example: float
) -> Range:
    def held(each: float, written: float, seconds: float) -> float:
        usd = price(lm, each - written, written)
        limits = [
            budget.calls,
            None if budget.tokens is None else math.ceil(budget.tokens / each),
            None if budget.usd is None or not usd else math.ceil(budget.usd / usd),
            None if budget.minutes is None else math.ceil(60 * budget.minutes / seconds),
        ]
        return float(min((limit for limit in limits if limit is not None), default=_UNLIMITED))

    most = held(tokens.low, outputs.low, pace.low)
    # The program as declared on a few examples: where that leaves nothing to gain, the search ends there.
    least = min(held(tokens.high, outputs.high, pace.high), per_example * FIRST)
    mostly = _MOSTLY * held(tokens.expected, outputs.expected, pace.expected)
    return Range(least, max(least, mostly), most)


def _pace(lm: dspy.BaseLM, store: Store | None, tokens: Range, outputs: Range, notes: list[str]) -> Range:
    """Seconds a call on the clock, with as many at a time as the LM takes well."""
    if (known := _measured(lm, store)) is not None:
        notes.append(f"The pace is that of this LM's answers in the store: {duration(known)} a call.")
        return Range(known / 2, known, known * 2)
    if counts_exactly(lm):
        notes.append(
            f"The pace is assumed: {_LOCAL_INPUT:,} tokens read and {_LOCAL_OUTPUT:,} written a second on this machine."
        )
        expected = (tokens.expected - outputs.expected) / _LOCAL_INPUT + outputs.expected / _LOCAL_OUTPUT
        low = (tokens.low - outputs.low) / _LOCAL_INPUT + outputs.low / _LOCAL_OUTPUT
        high = (tokens.high - outputs.high) / _LOCAL_INPUT + outputs.high / _LOCAL_OUTPUT
        return Range(max(0.0, low) / _PACE_UNSURE, expected, high * _PACE_UNSURE)
    side_by_side = concurrency(lm)
    notes.append(f"The pace is assumed: {_REMOTE_SECONDS:g} s a call, {side_by_side} at a time.")
    expected = _REMOTE_SECONDS / side_by_side
    return Range(expected / _PACE_UNSURE, expected, expected * _PACE_UNSURE)


def _measured(lm: dspy.BaseLM, store: Store | None) -> float | None:
    """The mean time from one stored answer of this LM to the next, while it was at work; None where too few are known.

    Answers of chat formats do not tell their LM, and are passed over.
    """
    if store is None:
        return None
    own = [
        created
        for created, value in store.latest_answers(500)
        if isinstance(value, dict) and value.get("model") in (lm.model, lm.model.partition("/")[2])
    ]
    gaps = [later - earlier for earlier, later in itertools.pairwise(own)]
    at_work = [gap for gap in gaps if gap < _IDLE]
    return sum(at_work) / len(at_work) if len(at_work) >= _ENOUGH_ANSWERS else None


def _bill(lm: dspy.BaseLM, calls: Range, tokens: Range, outputs: Range, pace: Range) -> Bill:
    paid = [
        price(lm, number * (each - written), number * written)
        for number, each, written in (
            (calls.low, tokens.low, outputs.low),
            (calls.expected, tokens.expected, outputs.expected),
            (calls.high, tokens.high, outputs.high),
        )
    ]
    known = [usd for usd in paid if usd is not None]
    seconds = calls.times(pace)
    return Bill(
        calls=calls,
        tokens=calls.times(tokens),
        usd=Range(*known) if len(known) == len(paid) else None,
        minutes=Range(seconds.low / 60, seconds.expected / 60, seconds.high / 60),
    )


def _told(of: Range | None, show: Callable[[float], str]) -> str:
    if of is None:
        return "not known"
    if show(of.low) == show(of.high):
        return show(of.low)
    return f"{show(of.expected)} ({show(of.low)} to {show(of.high)})"


def _minutes(minutes: float) -> str:
    return f"{minutes:.1f}" if minutes < 10 else count(minutes)
