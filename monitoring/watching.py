"""``ps.watch``: a program whose calls leave traces."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dspy

from ..errors import DataError
from ..programs.examples import plain_values
from ..programs.noting import mark, trace_id
from ..programs.program import Program, acall
from ..store.database import Store, open_store
from ..store.traces import Trace, put_feedback, read_traces
from .recording import Call, recorded
from .redaction import Redaction
from .telemetry import Telemetry, is_wanted
from .tracing import Keeping, Signal
from .writing import Writer

__all__ = ["Watched", "feedback", "watch"]

DEFAULT_STORE = ".progspace/store.db"


def watch(
    program: dspy.Module,
    *,
    store: str | Path | None = DEFAULT_STORE,
    name: str | None = None,
    version: str | None = None,
    content: bool = False,
    redact: Sequence[Redaction] = (),
    signals: Mapping[str, Signal] | None = None,
    sample: float = 1.0,
    keep_days: float | None = 30.0,
    keep_rows: int | None = 1_000_000,
    telemetry: bool | None = None,
) -> Watched:
    """Watches each call of a program; what comes back is a module with the same inputs and outputs.

    A trace is stored of each: time, seconds, tokens, LM calls, errors, answers that could not be read, retries,
    abstentions, confidence. A thread of its own writes them. If that fails, it is counted (`Watched.lost`) and told
    once in the log; the call does not notice.

    Args:
        program: Any module, also a guarded one; itself not changed.
        store: Where traces go, as for ``ps.compile``; None for nowhere.
        name: Of the program, under which its traces stand; by default its task's, or its class's.
        version: By default the hash of the artifact that it was loaded from.
        content: Whether inputs, outputs and messages of errors are kept, too. They are not, unless this says so.
        redact: What is taken out of them first, by functions of a field's name and a value in it; what one fails on is
            not kept. `progspace.monitoring.redaction.personal` is one.
        signals: Metrics that need no label, by name: ``ps.metrics.groundedness()``, ``blocklist``, or any function of
            an example of the inputs and a prediction. They are called after the call, in the writer's thread.
        sample: The share of calls whose traces are stored.
        keep_days: Older traces of this name are deleted; None for no limit.
        keep_rows: The oldest of this name are deleted when there are more; None for no limit.
        telemetry: Whether OpenTelemetry is told of each call (extra ``telemetry``): to the app's own providers, or else
            by OTLP to where the environment says. By default where it says so, as ``OTEL_EXPORTER_OTLP_ENDPOINT`` does.

    Raises:
        DataError: A number is out of range.
        ProgramError: Telemetry is wanted, and OpenTelemetry's SDK is missing.
        StoreError: The store cannot be opened.

    >>> class Shout(dspy.Module):
    ...     def forward(self, text: str) -> dspy.Prediction:
    ...         return dspy.Prediction(loud=text.upper())
    >>> watched = watch(Shout(), store=":memory:")
    >>> watched(text="so so").loud
    'SO SO'
    >>> watched.flush(), watched.lost.total()
    (True, 0)
    """
    if not 0 < sample <= 1:
        raise DataError(f"a share is more than 0 and at most 1, not {sample:g}", field="sample")
    if (keep_days is not None and keep_days <= 0) or (keep_rows is not None and keep_rows < 1):
        raise DataError("what is kept is more than 0 days, and 1 row or more; None for no limit")
    origin = _origin(program)
    name = name or (origin.task if origin else type(_inner(program)).__name__)
    writer = Writer(
        store,
        sink=Telemetry if (is_wanted() if telemetry is None else telemetry) else None,
        name=name,
        older_than=None if keep_days is None else keep_days * 86_400,
        rows=keep_rows,
    )
    keeping = Keeping(
        name=name,
        version=version or (origin.hash if origin else ""),
        declared=origin.declared if origin else None,
        content=content,
        redact=tuple(redact),
        signals=dict(signals or {}),
        lose=writer.lose,
    )
    return Watched(program, keeping, writer, sample)


class Watched(dspy.Module):
    """What `watch` makes. Any number of threads and tasks may share it.

    Attributes:
        watched: The program.
        lost: What could not be kept so far, counted by kind.
    """

    def __init__(self, program: dspy.Module, keeping: Keeping, writer: Writer, sample: float) -> None:
        super().__init__()
        self.watched = program
        self._keeping, self._writer, self._sample = keeping, writer, sample

    @property
    def lost(self) -> Any:
        """What could not be kept so far, counted by kind."""
        return self._writer.lost

    def forward(self, **inputs: Any) -> Any:
        """Answers as the program does."""
        with self._call(inputs) as call:
            call.output = self.watched(**inputs)
            return _marked(call)

    async def aforward(self, **inputs: Any) -> Any:
        """As `forward`, in a task."""
        with self._call(inputs) as call:
            call.output = await acall(self.watched, **inputs)
            return _marked(call)

    def trace_id(self, prediction: dspy.Prediction) -> str | None:
        """Gives the id of the trace of a prediction's call; None where it is none of a watched call."""
        return trace_id(prediction)

    def feedback(
        self, of: dspy.Prediction | str, *, score: float | None = None, labels: Mapping[str, Any] | None = None
    ) -> Trace | None:
        """Keeps what is said of a call later; as `feedback`, with a prediction, or the id of its trace.

        Gives None where the call was not among the share that is stored.

        Raises:
            DataError: As `feedback`; or the prediction is none of a watched call.
            StoreError: It cannot be written.
        """
        trace = of if isinstance(of, str) else self.trace_id(of)
        if trace is None:
            raise DataError("this is no prediction of a watched program")
        if self._writer.where is None:
            raise DataError("traces of this program are stored nowhere: give ps.watch a store")
        self.flush()
        with self._writer.opened() as store:
            if not (self._is_sampled(trace) or read_traces(store, ids=[trace])):
                return None
            return _tell(store, trace, score, labels)

    def flush(self, timeout: float = 10.0) -> bool:
        """Waits until the traces of all calls so far are stored; tells whether they were in time (seconds)."""
        return self._writer.flush(timeout)

    def close(self) -> None:
        """Stores what waits, and ends watching; it happens by itself when the process ends."""
        self._writer.close()

    @contextmanager
    def _call(self, inputs: Mapping[str, Any]) -> Iterator[Call]:
        number = uuid.uuid4()
        call = Call(number.hex, inputs, time.time_ns(), context=self._writer.context())
        try:
            with recorded(call):
                yield call
        finally:
            self._writer.put(call, self._keeping, stored=self._is_sampled(call.id))

    def _is_sampled(self, trace: str) -> bool:
        """Ids are drawn evenly: they tell which calls are stored, also when somebody asks later."""
        try:
            return int(trace, 16) < self._sample * 2**128
        except ValueError:
            return True  # no id of ours: the store is asked


def feedback(
    trace: str,
    *,
    store: str | Path = DEFAULT_STORE,
    score: float | None = None,
    labels: Mapping[str, Any] | None = None,
) -> Trace:
    """Keeps what is said of a call later: a score between 0 and 1, or the right values of its outputs.

    Where only labels are told, and the trace's outputs were kept whole, the score is 1 if they agree, else 0. A score
    alone that is another than before takes back the labels of before.

    Args:
        trace: Its id: `Watched.trace_id` of the prediction, ``progspace traces``, or the header that ``progspace serve
            --watch`` answers with.
        store: Where the trace is.
        score: Between 0, wrong, and 1, right.
        labels: By output field.

    Raises:
        DataError: There is no such trace, nothing is said, the score is out of range, or a label cannot be written as
            JSON.
        StoreError: The store cannot be opened or written.
    """
    with open_store(store) as opened:
        return _tell(opened, trace, score, labels)


def _tell(store: Store, trace: str, score: float | None, labels: Mapping[str, Any] | None) -> Trace:
    return put_feedback(store, trace, score=score, labels=plain_values(labels or {}))


def _marked(call: Call) -> Any:
    if isinstance(call.output, dspy.Prediction):
        mark(call.output, call.id)
    return call.output


def _inner(program: dspy.Module) -> dspy.Module:
    """The module inside guards and manners."""
    while isinstance(inner := getattr(program, "program", getattr(program, "module", None)), dspy.Module):
        program = inner
    return program


def _origin(program: dspy.Module) -> Any:
    while isinstance(program, dspy.Module):
        if isinstance(program, Program):
            return program.origin
        program = getattr(program, "program", None)
    return None
