"""Runs a program on examples, many at a time, and tells of each what came of it."""

from __future__ import annotations

import contextvars
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import dspy
from dspy.adapters.utils import serialize_for_json
from dspy.utils.exceptions import ContextWindowExceededError
from dspy.utils.exceptions import LMError as DspyLMError

from ..errors import LMError, ProgspaceError
from ..lms.journal import CALLS, CallRecord
from ..programs.examples import example_hash
from ..programs.metrics import judge, metric_identity
from ..store.records import Cell

__all__ = ["Run", "run_cells", "run_example"]


class Run:
    """What one run of a program gave.

    Attributes:
        cell: Scores and costs.
        prediction: What the program returned; None where it failed.
        trace: Each predictor's call, as DSPy traces it: predictor, inputs, outputs.
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
    executor = ThreadPoolExecutor(workers, thread_name_prefix="progspace-cell")
    remaining = iter(examples)
    running: set[Future[Run]] = set()
    fault: BaseException | None = None
    try:
        while True:
            for example in itertools.islice(remaining, 2 * workers - len(running) if fault is None else 0):
                # A copy of the context, so that the caller's `dspy.context(…)` holds in the threads too.
                context = contextvars.copy_context()
                running.add(
                    executor.submit(
                        context.run, run_example, program, example, metric, identity=identity, lm=lm, traced=traced
                    )
                )
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            ended = [future.result() for future in done if not future.cancelled() and future.exception() is None]
            faults = [future.exception() for future in done if not future.cancelled() and future.exception()]
            if faults and fault is None:
                fault = faults[0]
                # What has begun is paid for: it is waited for, and told.
                running = {future for future in running if not future.cancel()}
            if ended:
                yield ended
        if fault is not None:
            raise fault
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _tell(fault: BaseException) -> str:
    first = str(fault).strip().splitlines()
    return f"{type(fault).__name__}: {first[0][:300] if first else ''}"


def _outputs(prediction: Any) -> dict[str, Any]:
    if not isinstance(prediction, dspy.Prediction):
        return {} if prediction is None else {"value": repr(prediction)[:1000]}
    outputs: dict[str, Any] = serialize_for_json(prediction.toDict())
    return outputs
