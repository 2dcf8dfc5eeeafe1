"""What goes on inside one call of a watched program, gathered from DSPy's callbacks."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback
from dspy.utils.callback_context import ACTIVE_CALL_ID
from dspy.utils.usage_tracker import UsageTracker

from ..programs.noting import noted
from ..programs.program import Manner

__all__ = ["Call", "Step", "recorded"]


@dataclass(slots=True)
class Step:
    """A call of an LM or of a tool.

    Attributes:
        kind: ``chat`` or ``execute_tool``, as OpenTelemetry names operations.
        name: Of the LM or the tool.
        began: Nanoseconds since 1970.
        ended: Nanoseconds since 1970; 0 while it runs.
        input_tokens: Of the LM.
        output_tokens: Of the LM.
        error: The class of what it raised.
    """

    kind: str
    name: str
    began: int
    ended: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    error: str | None = None


@dataclass(slots=True)
class Call:
    """One call of a watched program, as its thread leaves it to the writer.

    Attributes:
        id: 32 hexadecimal digits.
        inputs: As they were given.
        began: Nanoseconds since 1970.
        seconds: On a clock that never goes back.
        output: What the program returned.
        error: What it raised.
        steps: Calls of LMs and tools, in the order of their starts.
        unreadable: Answers that could not be read.
        confidence: The least probability of a choice that was taken.
        notes: What a guard noted.
        context: OpenTelemetry's, from before the call.
    """

    id: str
    inputs: Mapping[str, Any]
    began: int
    seconds: float = 0.0
    output: Any = None
    error: BaseException | None = None
    steps: list[Step] = field(default_factory=list)
    unreadable: int = 0
    confidence: float | None = None
    notes: Counter[str] = field(default_factory=Counter)
    context: Any = None


class _Recorder(BaseCallback, UsageTracker):
    """Listens to one call. Threads inside it may call LMs at the same time: they touch entries of their own."""

    def __init__(self, call: Call) -> None:
        UsageTracker.__init__(self)
        self._call = call
        self._open: dict[str, Step] = {}
        self._predictors: dict[str, dspy.Predict] = {}
        self._failures: list[BaseException] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> _Recorder:
        # DSPy copies a usage tracker for each of its own threads; their calls are part of this one.
        return self

    def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
        """Is told tokens by DSPy, inside the LM's call."""
        super().add_usage(lm, usage_entry)
        if (step := self._open.get(ACTIVE_CALL_ID.get() or "")) is not None:
            step.input_tokens += _count(usage_entry, "prompt_tokens", "input_tokens")
            step.output_tokens += _count(usage_entry, "completion_tokens", "output_tokens")

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002 — DSPy's
        """Begins a step."""
        self._begin(call_id, "chat", str(getattr(instance, "model", "")))

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """Ends it."""
        self._end(call_id, exception)

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Begins a step."""
        self._begin(call_id, "execute_tool", str(getattr(instance, "name", "")))

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """Ends it."""
        self._end(call_id, exception)

    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """Counts an answer that could not be read."""
        self._fail(exception)

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Remembers a predictor."""
        if isinstance(instance, dspy.Predict):
            self._predictors[call_id] = instance

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Learns how sure a predictor was, or that its answer could not be read by an adapter of ours."""
        predictor = self._predictors.pop(call_id, None)
        if predictor is None:
            return
        self._fail(exception)
        scores = outputs.get("choice_logprobs") if isinstance(outputs, dspy.Prediction) else None
        if isinstance(scores, Mapping) and scores:
            known = self._call.confidence
            sure = _confidence(scores, getattr(predictor, "progspace_manner", None))
            self._call.confidence = sure if known is None else min(known, sure)

    def _begin(self, call_id: str, kind: str, name: str) -> None:
        step = self._open[call_id] = Step(kind, name, time.time_ns())
        self._call.steps.append(step)

    def _end(self, call_id: str, exception: BaseException | None) -> None:
        if (step := self._open.pop(call_id, None)) is not None:
            step.ended = time.time_ns()
            step.error = None if exception is None else type(exception).__qualname__

    def _fail(self, exception: BaseException | None) -> None:
        # An adapter and its predictor tell of the same one.
        if isinstance(exception, dspy.AdapterParseError) and not any(exception is each for each in self._failures):
            self._failures.append(exception)
            self._call.unreadable = len(self._failures)


def _count(usage: Mapping[str, Any], *names: str) -> int:
    return next((int(usage[name]) for name in names if isinstance(usage.get(name), int)), 0)


def _confidence(scores: Mapping[str, float], manner: Manner | None) -> float:
    """The probability of the choice that was taken, among those that there were."""
    calibrated = manner is not None and manner.format is not None and manner.format.decoding == "calibrated"
    biases = dict(manner.format.biases) if calibrated and manner and manner.format else {}
    left = [score - biases.get(choice, 0.0) for choice, score in scores.items()]
    best = max(left)
    return 1.0 / sum(math.exp(each - best) for each in left)


@contextmanager
def recorded(call: Call) -> Iterator[Call]:
    """Records what goes on inside into a call, its time and its error included."""
    recorder, outer = _Recorder(call), dspy.settings.usage_tracker
    began = time.perf_counter()
    callbacks = [*(dspy.settings.callbacks or []), recorder]
    try:
        with noted() as call.notes, dspy.context(callbacks=callbacks, usage_tracker=recorder):
            yield call
    except BaseException as error:
        call.error = error
        raise
    finally:
        call.seconds = time.perf_counter() - began
        if outer is not None:
            for lm, entries in recorder.usage_data.items():
                outer.usage_data[lm].extend(entries)
