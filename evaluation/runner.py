"""Runs a program on examples, many at a time, and tells of each what came of it."""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dspy
from dspy.utils.exceptions import ContextWindowExceededError
from dspy.utils.exceptions import LMError as DspyLMError

from ..errors import LMError, ProgspaceError
from ..lms.journal import CALLS, CallRecord
from ..programs.examples import example_hash, plain_values
from ..programs.metrics import judge, metric_identity
from ..store.records import Cell

__all__ = ["Run", "run_cells", "run_example"]

_THREAD = "progspace-cell"


class Run:
    """What one run of a program gave.

    Attributes:
        cell: Scores and costs.
        prediction: What the program returned; None where it failed.
        trace: Each predictor's call, as DSPy traces it: predictor (or its name), inputs, outputs.
    """

    __slots__ = ("cell", "prediction", "trace")

    def __init__(self, cell: Cell, prediction: Any, trace: list[tuple[Any, dict[str, Any], Any]]) -> None:
        self.cell, self.prediction, self.trace = cell, prediction, trace


def run_example(
    program: dspy.Module,
    example: dspy.Example,
    metric: Callable[..., Any],
    *,
    identity: str,
    lm: dspy.BaseLM,
    traced: bool = False,
) -> Run:
    """Runs a program on one example and scores it.

    What the program makes of the LM's answer is the program's own: an output that cannot be parsed, a prompt that does
    not fit, an exception in a module score 0, with the error told. Where the LM itself failed there is no score.

    Raises:
        MetricError: The metric raised.
        BudgetExceeded: Nothing is left to spend.
    """
    calls: list[CallRecord] = []
    trace: list[Any] = []
    prediction: Any = None
    error: str | None = None
    failed = False
    settings = {"lm": lm, "adapter": dspy.settings.adapter, "trace": trace if traced else None, CALLS: calls}
    started = time.perf_counter()
    with dspy.context(**settings):
        try:
            prediction = program(**example.inputs())
        except ContextWindowExceededError as fault:
            error = _tell(fault)
        except (DspyLMError, LMError) as fault:
            error, failed = _tell(fault), True
        except ProgspaceError:
            raise
        except Exception as fault:
            error = _tell(fault)
    seconds = time.perf_counter() - started
    judged = judge(metric, example, prediction) if error is None else None
    failure_score = None if failed else 0.0
    cell = Cell(
        program=identity,
        example=example_hash(example),
        metric=metric_identity(metric),
        score=judged.score if judged else failure_score,
        feedback=judged.feedback if judged else None,
        error=error,
        output=_outputs(prediction),
        calls=len(calls),
        asked=tuple((call.key, call.input_tokens, call.output_tokens) for call in calls),
        input_tokens=sum(call.input_tokens for call in calls),
        output_tokens=sum(call.output_tokens for call in calls),
        seconds=seconds,
    )
    return Run(cell, prediction, trace)


def run_cells(
    program: dspy.Module,
    examples: Sequence[dspy.Example],
    metric: Callable[..., Any],
    *,
    identity: str,
    lm: dspy.BaseLM,
    workers: int,
    traced: bool = False,
) -> Iterator[list[Run]]:
    """Runs a program on examples with so many threads; gives runs as they end, those that ended together in one list.

    At most twice as many examples as threads wait at a time. When one raises, or the caller stops listening, what has
    not begun is not begun, and what has begun is waited for: it is paid for.

    Raises:
        MetricError: The metric raised.
        BudgetExceeded: Nothing is left to spend.
    """
    remaining = iter(examples)
    turn = threading.Lock()
    told: queue.SimpleQueue[Run | BaseException | None] = queue.SimpleQueue()
    room = threading.Semaphore(2 * workers)
    stopped = threading.Event()

    def work() -> None:
        try:
            while room.acquire() and not stopped.is_set():
                with turn:
                    example = next(remaining, None)
                if example is None:
                    break
                told.put(run_example(program, example, metric, identity=identity, lm=lm, traced=traced))
        except BaseException as fault:
            stopped.set()
            told.put(fault)
        finally:
            told.put(None)

    # A copy of the context for each, so that the caller's `dspy.context(…)` holds in the threads too.
    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(work,), name=_THREAD)
        for _ in range(min(workers, len(examples)))
    ]
    logging.getLogger("dspy.clients.lm").addFilter(_not_of_cells)
    for thread in threads:
        thread.start()
    working, faults = len(threads), list[BaseException]()
    try:
        while working:
            news = [told.get(), *(told.get() for _ in range(told.qsize()))]
            working -= news.count(None)
            faults += [item for item in news if isinstance(item, BaseException)]
            if ended := [item for item in news if isinstance(item, Run)]:
                yield ended
                room.release(len(ended))
        if faults:
            raise faults[0]
    finally:
        stopped.set()
        room.release(workers)
        for thread in threads:
            thread.join()


def _not_of_cells(record: logging.LogRecord) -> bool:
    """Lets no warning of a cell's thread through: a candidate whose answers are cut is a low score, not news."""
    return not str(record.threadName).startswith(_THREAD)


def _tell(fault: BaseException) -> str:
    first = str(fault).strip().splitlines()
    return f"{type(fault).__name__}: {first[0][:300] if first else ''}"


def _outputs(prediction: Any) -> dict[str, Any]:
    if not isinstance(prediction, dspy.Prediction):
        return {} if prediction is None else {"value": repr(prediction)[:1000]}
    return plain_values(prediction.toDict())
