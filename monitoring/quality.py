"""``ps.monitor``: what traces tell of a program's quality, and since when it is another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..evaluation.changes import Direction, alarms
from ..evaluation.sequential import confidence_sequence
from ..evaluation.statistics import Interval
from ..store.database import open_store
from ..store.traces import Trace, read_traces
from .inputs import LEVELS, STRANGENESS, Strangeness, p_values

__all__ = ["Change", "Quality", "Stream", "monitor", "quality_of"]

FALSE_ALARMS = 0.01
WITHIN = 10_000
_POINTS = 60  # of a stream's course
_TAIL = 0.1  # share of the window beyond the border of "long", "many", "unsure"
_UNBOUNDED = 10**9  # calls that are yet to come


@dataclass(frozen=True, slots=True)
class Change:
    """An alarm: the stream's mean is no longer what it was.

    Attributes:
        detected: Seconds since 1970: the call that raised it.
        since: Seconds since 1970: the call at which the change most likely began.
        calls: From that one to this.
        trace: Id of the trace at which it most likely began.
        version: Of the program, there.
        new_version: Whether another version stood before it.
    """

    detected: float
    since: float
    calls: int
    trace: str
    version: str
    new_version: bool


@dataclass(frozen=True, slots=True)
class Stream:
    """What is looked at, call by call, as numbers in [0, 1].

    Attributes:
        name: Of it.
        direction: In which it gets worse, or in which it is looked at.
        n: Values.
        mean: Of all of them.
        latest: Of the last tenth.
        reference: The mean at the border of what is no change; None where that is what the stream was before.
        source: Where the reference is from.
        changes: Alarms, in their order.
        course: Means of up to sixty parts of the values, in their order.
    """

    name: str
    direction: Direction
    n: int
    mean: float
    latest: float
    reference: float | None
    source: str
    changes: tuple[Change, ...]
    course: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Quality:
    """What the traces of a program tell.

    Attributes:
        name: Of the program.
        version: The latest.
        versions: How many there are.
        calls: Traces that were read.
        first: Seconds since 1970: the first of them.
        last: Seconds since 1970: the last.
        errors: How many raised an error.
        seconds: The 50th, 95th and 99th percentile.
        tokens: In and out, a call.
        judged: Calls of the latest version with a score.
        score: Their mean; None where there are none.
        interval: Of it, of the latest version: holds however often one looks, as long as quality stays as it is.
        streams: What is looked at.
    """

    name: str
    version: str
    versions: int
    calls: int
    first: float
    last: float
    errors: int
    seconds: tuple[float, float, float]
    tokens: tuple[float, float]
    judged: int
    score: float | None
    interval: Interval | None
    streams: tuple[Stream, ...]

    @property
    def changed(self) -> bool:
        """Whether there is an alarm."""
        return any(stream.changes for stream in self.streams)

    def to_dict(self) -> dict[str, Any]:
        """Gives everything as JSON values."""
        return {**asdict(self), "changed": self.changed}


def monitor(
    store: str | Path = ".progspace/store.db",
    *,
    name: str | None = None,
    last: int = 10_000,
    window: int = 500,
    reference: float | None = None,
    known: Strangeness | None = None,
) -> list[Quality]:
    """Tells what the traces in a store say of each program's quality.

    Args:
        store: As ``ps.watch`` was told.
        name: Of one program only.
        last: Traces that are read, of all programs the latest.
        window: Calls, the first of those that are read, that say what a long call is, many tokens, an unsure answer, a
            usual input.
        reference: The score that is no change; by default what the artifact promises, and what it was before.
        known: Of the task that the program was compiled for: inputs are held against its examples, and not against the
            first calls; those that have no such signal, too, where their content was kept.

    Raises:
        DataError: A number is out of range, or known inputs are given and there are traces of several programs.
        StoreError: The store cannot be opened or read.
    """
    if window < 20 or last < 1 or (reference is not None and not 0 < reference <= 1):
        raise DataError("a window has 20 calls or more, traces are 1 or more, and a reference is in (0, 1]")
    with open_store(store) as opened:
        traces = read_traces(opened, name=name, last=last)
    programs = dict[str, list[Trace]]()
    for trace in traces:
        programs.setdefault(trace.name, []).append(trace)
    if known is not None and len(programs) > 1:
        raise DataError(f"known inputs are those of one program; say of which, by its name: {', '.join(programs)}")
    return [quality_of(own, window=window, reference=reference, known=known) for own in programs.values()]


def quality_of(
    traces: Sequence[Trace],
    *,
    window: int = 500,
    reference: float | None = None,
    known: Strangeness | None = None,
) -> Quality:
    """Tells what the traces of one program say; as `monitor`.

    Args:
        traces: One or more, in the order of their calls.
        window: As in `monitor`.
        reference: As in `monitor`.
        known: As in `monitor`.

    >>> calls = [Trace(f"{n:032x}", "echo", "v1", float(n), 0.1, score=float(n < 600)) for n in range(650)]
    >>> found = quality_of(calls, window=100, reference=0.95)
    >>> [(stream.changes[0].since, stream.changes[0].calls) for stream in found.streams if stream.changes]
    [(600.0, 7)]
    """
    latest = traces[-1]
    seconds = np.percentile([trace.seconds for trace in traces], [50, 95, 99])
    scores = [trace.score for trace in traces if trace.version == latest.version and trace.score is not None]
    found = confidence_sequence(scores, _UNBOUNDED)[-1] if scores else None
    return Quality(
        name=latest.name,
        version=latest.version,
        versions=len({trace.version for trace in traces}),
        calls=len(traces),
        first=traces[0].created,
        last=latest.created,
        errors=sum(trace.error is not None for trace in traces),
        seconds=(float(seconds[0]), float(seconds[1]), float(seconds[2])),
        tokens=(
            float(np.mean([trace.input_tokens for trace in traces])),
            float(np.mean([trace.output_tokens for trace in traces])),
        ),
        judged=len(scores),
        score=float(np.mean(scores)) if scores else None,
        interval=None if found is None else Interval(max(0.0, found.low), min(1.0, found.high), found.level, "betting"),
        streams=(*_streams(traces, window, reference), *_inputs(traces, window, known)),
    )


_RATES: Mapping[str, Callable[[Trace], float | None]] = {
    "errors": lambda trace: float(trace.error is not None),
    "unreadable answers": lambda trace: float(trace.unreadable > 0),
    "retries and fallbacks": lambda trace: float(trace.retries + trace.fallbacks > 0),
    "abstentions": lambda trace: float(trace.abstained),
}
_TAILS: Mapping[str, tuple[Direction, Callable[[Trace], float | None]]] = {
    "long calls": ("up", lambda trace: trace.seconds),
    "many tokens": ("up", lambda trace: float(trace.input_tokens + trace.output_tokens) if trace.calls else None),
    "unsure answers": ("down", lambda trace: trace.confidence),
}


def _streams(traces: Sequence[Trace], window: int, reference: float | None) -> list[Stream]:
    made = list[Stream]()

    def add(
        name: str, value: Callable[[Trace], float | None], direction: Direction, *, tail: Direction | None = None,
        known: float | None = None, source: str = "what it was before",
    ) -> None:  # fmt: skip
        given = [(trace, each) for trace in traces if (each := value(trace)) is not None]
        if given:
            own, values = [trace for trace, _ in given], np.array([each for _, each in given])
            made.append(_stream(name, own, values, direction, window, tail, known, source))

    score: Callable[[Trace], float | None] = lambda trace: trace.score  # noqa: E731
    promised = traces[-1].declared
    if reference is not None:
        add("score", score, "down", known=reference, source="given")
    else:
        if promised:
            # A promise is that version's which made it: others, before an upgrade, never promised as much.
            kept: Callable[[Trace], float | None] = lambda trace: trace.score if trace.declared == promised else None  # noqa: E731
            add("score, against the promise", kept, "down", known=promised, source="promised by the artifact")
        add("score", score, "down")
    for name, rate in _RATES.items():
        add(name, rate, "up")
    for name, (tail, value) in _TAILS.items():
        add(name, value, "up", tail=tail)
    for signal in sorted({name for trace in traces for name in trace.signals} - {STRANGENESS}):
        values = [trace.signals[signal] for trace in traces if signal in trace.signals]
        told: Callable[[Trace], float | None] = lambda trace, signal=signal: trace.signals.get(signal)  # type: ignore[misc]  # noqa: E731
        within = min(values) >= 0 and max(values) <= 1
        for direction in ("up", "down"):
            if within:
                add(f"{signal}, {direction}", told, direction)
            else:
                add(f"{signal}, {direction}", told, "up", tail=direction)
    return made


def _inputs(traces: Sequence[Trace], window: int, known: Strangeness | None) -> list[Stream]:
    """Whether more inputs than one in twenty are as strange as the strangest twentieth of the usual ones."""
    found = {trace.id: trace.signals[STRANGENESS] for trace in traces if STRANGENESS in trace.signals}
    if known is not None and (rest := [each for each in traces if each.inputs and each.id not in found]):
        values = known.of([trace.inputs or {} for trace in rest])
        found |= {trace.id: float(value) for trace, value in zip(rest, values, strict=True)}
    own = [trace for trace in traces if trace.id in found]
    usual, source = [], "the inputs that it was compiled for"
    if known is None:
        usual, own, source = own[:window], own[window:], f"the inputs of the first {window} calls"
    if not own:
        return []
    ranks = p_values(
        [found[trace.id] for trace in own],
        [found[trace.id] for trace in usual] if known is None else known.usual,
    )
    within = (ranks[:, None] <= np.array(LEVELS)).astype(np.float64)
    return [_stream("strange inputs", own, within[:, 0], "up", window, None, LEVELS[0], source, (within, LEVELS))]


def _stream(
    name: str,
    traces: Sequence[Trace],
    values: Any,
    direction: Direction,
    window: int,
    tail: Direction | None,
    known: float | None,
    source: str,
    bets: tuple[Any, Any] | None = None,
) -> Stream:
    start = 0
    if tail is not None:
        # Values that have no bounds become: is this one beyond what was the outer tenth of the window?
        worse, start = values if tail == "up" else -values, min(window, values.size)
        limit = np.quantile(worse[:start], 1 - _TAIL, method="higher")
        values = (worse > limit).astype(np.float64)
    changes = list[Change]()
    if known is None or 0 < known <= 1:
        tested, reference = bets or (values[start:], known)
        for alarm in alarms(tested, reference, direction=direction, false_alarms=FALSE_ALARMS, within=WITHIN):
            since, at = start + alarm.since, start + alarm.at
            changes.append(
                Change(
                    detected=traces[at].created,
                    since=traces[since].created,
                    calls=at - since + 1,
                    trace=traces[since].id,
                    version=traces[since].version,
                    new_version=since > 0 and traces[since - 1].version != traces[since].version,
                )
            )
    parts = np.array_split(values, min(_POINTS, values.size))
    return Stream(
        name=name,
        direction=direction,
        n=int(values.size),
        mean=float(values.mean()),
        latest=float(values[-max(1, values.size // 10) :].mean()),
        reference=known,
        source=source,
        changes=tuple(changes),
        course=tuple(float(part.mean()) for part in parts),
    )
