"""Runs a program on examples, many at a time, and tells of each what came of it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError
from dspy.utils.exceptions import LMError as DspyLMError

from ..errors import LMError, ProgramError, ProgspaceError
from ..lms.journal import CALLS, REFUSED, ROLLOUT, UNANSWERED, CallRecord, JournaledLM, StrayCalls
from ..lms.stopping import stopped as stopped_from_outside
from ..lms.stopping import stopping_by
from ..programs.examples import example_hash, plain_values
from ..programs.metrics import metric_identity
from ..programs.program import Program
from ..retrievers.passage import Passage, Passages
from ..retrievers.recording import recorded
from ..store.records import Cell, asked_call
from .judging import judged, may_pass, told

__all__ = ["Run", "Scoring", "Work", "run_cells", "run_example"]

_THREAD = "progspace-cell"
_CONVERSION = "allow_tool_async_sync_conversion"  # DSPy's setting


class Run:
    """What one run of a program gave.

    Attributes:
        cell: Scores and costs.
        prediction: What the program returned; None where it failed.
        trace: Each predictor's call, as DSPy traces it: predictor (of `Work` its name), inputs, outputs.
        transient: Whether the LM failed in a way that may pass.
        passages: What was retrieved on the way.
    """

    __slots__ = ("cell", "passages", "prediction", "trace", "transient")

    def __init__(
        self,
        cell: Cell,
        prediction: Any,
        trace: list[tuple[Any, dict[str, Any], Any]],
        transient: bool = False,
        passages: Sequence[Passage] = (),
    ) -> None:
        self.cell, self.prediction, self.trace, self.transient = cell, prediction, trace, transient
        self.passages = tuple(passages)


@dataclass(frozen=True, slots=True)
class Scoring:
    """How outputs are scored.

    Attributes:
        metric: Scores one.
        identity: Of the metric, for the cells.
        lm: Answers a metric that asks an LM and brings none of its own; None for the LM of the program.
    """

    metric: Callable[..., Any]
    identity: str
    lm: dspy.BaseLM | None = None

    @classmethod
    def of(cls, metric: Callable[..., Any]) -> Scoring:
        """Scores by a metric, with the program's LM."""
        return cls(metric, metric_identity(metric))


class _Refusal:
    """Stands for DSPy's setting where that is off, and is looked at where an async tool is refused.

    ``dspy.ReAct`` makes an observation of the refusal: what is measured then is another program than the one served.
    """

    def __init__(self, refused: list[ProgspaceError]) -> None:
        self._refused = refused

    def __bool__(self) -> bool:
        self._refused.append(
            ProgramError(
                "the program calls an async tool, and DSPy refuses that where a program runs in a thread, as it does "
                f"to be measured. `with dspy.context({_CONVERSION}=True):` around this has each call run in an event "
                "loop of its own. A tool that hangs on another loop, as one of an open MCP session does, would wait "
                "for ever in it: give the program a function that calls it there instead, by "
                "asyncio.run_coroutine_threadsafe(tool.acall(…), loop).result()"
            )
        )
        return False


def run_example(
    program: dspy.Module,
    example: dspy.Example,
    scoring: Scoring,
    *,
    identity: str,
    lm: dspy.BaseLM,
    traced: bool = False,
    repeat: int = 0,
) -> Run:
    """Runs a program on one example and scores it.

    What the program makes of the LM's answer is the program's own: an output that cannot be parsed, a prompt that does
    not fit, an exception in a module, even one that would end the process or a task, score 0, with the error told.
    Where the LM itself failed there is no score, nor where an exception came of that, and none where the metric asks
    an LM that failed or was not understood. Calls of the metric stand in the cell's ``asked`` after the program's,
    which ``calls``, tokens and seconds tell of.

    Raises:
        MetricError: The metric raised.
        BudgetExceeded: Nothing is left to spend.
        ProgramError: It calls an async tool, which DSPy refuses to call here.
    """
    calls: list[CallRecord] = []
    refused: list[ProgspaceError] = []
    unanswered: list[Exception] = []
    trace: list[Any] = []
    prediction: Any = None
    error: str | None = None
    failed = transient = False
    key = example_hash(example)
    meter = lm.meter if isinstance(lm, JournaledLM) else None
    settings = {
        "lm": lm,
        "adapter": dspy.settings.adapter,
        "trace": trace,  # always a list, as DSPy's own is: BestOfN and Refine add to it
        "usage_tracker": StrayCalls(meter),
        CALLS: calls,
        REFUSED: refused,
        UNANSWERED: unanswered,
        ROLLOUT: repeat,
        _CONVERSION: dspy.settings.get(_CONVERSION) or _Refusal(refused),
    }
    started = time.perf_counter()
    with dspy.context(**settings), recorded() as passages:
        try:
            prediction = program(**example.inputs())
        except ContextWindowExceededError as fault:
            error = told(fault)
        except (DspyLMError, LMError) as fault:
            error, failed, transient = told(fault), True, may_pass(fault)
        except ProgspaceError:
            raise
        except (Exception, SystemExit, asyncio.CancelledError) as fault:
            error = told(fault)
            if unanswered and not isinstance(fault, AdapterParseError):
                # DSPy's own threads hide it from the program, which then breaks on what it was not given.
                error, failed, transient = told(unanswered[0]), True, may_pass(unanswered[0])
        if refused:
            raise refused[0]
        if dspy.settings.track_usage and isinstance(prediction, dspy.Prediction):
            # A metric may read it; a tracker of DSPy's own hears of no answer that is recalled.
            prediction.set_lm_usage(_usage(calls))
        seconds = time.perf_counter() - started
        made, steps = calls[:], len(trace)
        score, feedback = (None if failed else 0.0), None
        if error is None:
            judgement, error = judged(scoring.metric, example, prediction, lm=scoring.lm, rollout=repeat)
            score, feedback = (judgement.score, judgement.feedback) if judgement else (None, None)
    cell = Cell(
        program=identity,
        example=key,
        metric=scoring.identity,
        repeat=repeat,
        score=score,
        feedback=feedback,
        error=error,
        output=_outputs(prediction),
        calls=len(made),
        asked=tuple(asked_call(call.key, call.input_tokens, call.output_tokens, call.usd) for call in calls),
        input_tokens=sum(call.input_tokens for call in made),
        output_tokens=sum(call.output_tokens for call in made),
        seconds=seconds,
    )
    return Run(cell, prediction, trace[:steps] if traced else [], transient, passages)


def _usage(calls: Sequence[CallRecord]) -> dict[str, dict[str, int]]:
    """What calls took, as DSPy tells it: by LM."""
    usage: dict[str, dict[str, int]] = {}
    for call in calls:
        used = usage.setdefault(call.model, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
        used["prompt_tokens"] += call.input_tokens
        used["completion_tokens"] += call.output_tokens
        used["total_tokens"] += call.input_tokens + call.output_tokens
    return usage


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be run on examples, wherever that is.

    Attributes:
        program: Its LMs are metered.
        scoring: How its outputs are scored.
        identity: Of the program, for the cells.
        lm: Answers for predictors without an LM of their own.
        traced: Whether DSPy's trace is wanted.
        repeat: Another one has answers of its own.
    """

    program: dspy.Module
    scoring: Scoring
    identity: str
    lm: dspy.BaseLM
    traced: bool = False
    repeat: int = 0

    def run(self, example: dspy.Example) -> Run:
        """Runs the program on one example, as `run_example` does; in the trace a predictor stands by its name."""
        run = run_example(
            self.program, example, self.scoring, identity=self.identity, lm=self.lm, traced=self.traced,
            repeat=self.repeat,
        )  # fmt: skip
        if run.trace:
            module = self.program.module if isinstance(self.program, Program) else self.program
            names = {id(predictor): name for name, predictor in module.named_predictors()}
            run.trace = [(names[id(step[0])], *step[1:]) for step in run.trace if id(step[0]) in names]
        return run


def run_cells(
    run: Callable[[dspy.Example], Run], examples: Sequence[dspy.Example], workers: Callable[[], int]
) -> Iterator[list[Run]]:
    """Runs examples in threads; gives runs as they end, those that ended together in one list.

    ``workers`` tells how many threads there shall be, and is asked again as runs end: a remote LM learns how much its
    endpoint grants. At most twice as many examples as threads wait at a time. When one raises, or the caller stops
    listening, what has not begun is not begun, and requests that were sent are waited for: they are paid for. So it is
    where `progspace.lms.stopping.stopping_by` stops it from outside.

    Raises:
        LMError: It was stopped from outside.
        MetricError: The metric raised.
        BudgetExceeded: Nothing is left to spend.
    """
    remaining = iter(examples)
    turn = threading.Lock()
    news: queue.SimpleQueue[Run | BaseException | None] = queue.SimpleQueue()
    room = threading.Semaphore(0)
    stopped = threading.Event()

    def work() -> None:
        try:
            while room.acquire() and not stopped.is_set() and not stopped_from_outside():
                with turn:
                    example = next(remaining, None)
                if example is None:
                    break
                with stopping_by(stopped):
                    news.put(run(example))
        except BaseException as fault:
            stopped.set()
            news.put(fault)
        finally:
            news.put(None)

    threads: list[threading.Thread] = []

    def begin() -> int:
        """Starts the threads that are missing, and tells how many those are."""
        missing = max(0, min(workers(), len(examples)) - len(threads)) if not stopped.is_set() else 0
        for _ in range(missing):
            # A copy of the context for each, so that the caller's `dspy.context(…)` holds in the threads too.
            thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name=_THREAD)
            threads.append(thread)
            room.release(2)
            thread.start()
        return missing

    logging.getLogger("dspy.clients.lm").addFilter(_not_of_cells)
    faults: list[BaseException] = []
    try:
        working = begin()
        while working:
            heard = [news.get(), *(news.get() for _ in range(news.qsize()))]
            working -= heard.count(None)
            faults += [item for item in heard if isinstance(item, BaseException)]
            if ended := [item for item in heard if isinstance(item, Run)]:
                yield ended
                room.release(len(ended))
            if working:
                working += begin()
        if faults:
            raise faults[0]
        if stopped_from_outside():
            raise LMError("stopped before all examples were run", retryable=True)
    finally:
        stopped.set()
        room.release(max(1, len(threads)))
        for thread in threads:
            if thread.is_alive():  # an interrupt may come before it is
                thread.join()


def _not_of_cells(record: logging.LogRecord) -> bool:
    """Lets no warning of a cell's thread through: a candidate whose answers are cut is a low score, not news."""
    return not str(record.threadName).startswith(_THREAD)


def _outputs(prediction: Any) -> dict[str, Any]:
    if not isinstance(prediction, dspy.Prediction):
        return {} if prediction is None else {"value": repr(prediction)[:1000]}
    # Of passages, which ones: their text stays where rights are asked for.
    found = {name: [each.id for each in value] for name, value in prediction.items() if isinstance(value, Passages)}
    return plain_values({**prediction.toDict(), **found})
