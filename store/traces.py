"""Traces of watched programs in a store, and the feedback on them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from ..errors import DataError, StoreError
from . import schema
from .database import Store, as_json, readable

__all__ = ["Trace", "put_feedback", "put_traces", "read_traces", "thin_out"]


@dataclass(frozen=True, slots=True)
class Trace:
    """What a watched program did on one call.

    Attributes:
        id: 32 hexadecimal digits.
        name: Of the program.
        version: Of the program: the hash of its artifact, or what the app says.
        created: When the call began, in seconds since 1970.
        seconds: From the call's start to its end.
        error: The class of what it raised, with its message where content is kept; None where it answered.
        calls: LM calls.
        input_tokens: Of all its LM calls, those answered from a cache not counted.
        output_tokens: Of all its LM calls.
        unreadable: Answers that could not be read, or that were not of the declared types.
        retries: New attempts of a guarded program.
        fallbacks: Fallbacks of a guarded program.
        abstained: Whether it declined to answer.
        confidence: The probability of the choice that it took, where its LM scored choices; of several, the least.
        signals: Label-free scores that the app asked for.
        declared: The score that the program's artifact promises: the lower end of its interval.
        inputs: The input fields; None where content is not kept.
        outputs: The output fields; None where content is not kept, or there are none.
        whole: Whether what is kept of both is as it was, nothing redacted or cut.
        outputs_whole: Whether what is kept of the outputs is.
        score: What was said of it later.
        labels: Right values by output field, as they were told later.
    """

    id: str
    name: str
    version: str
    created: float
    seconds: float
    error: str | None = None
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unreadable: int = 0
    retries: int = 0
    fallbacks: int = 0
    abstained: bool = False
    confidence: float | None = None
    signals: Mapping[str, float] = field(default_factory=dict)
    declared: float | None = None
    inputs: Mapping[str, Any] | None = None
    outputs: Mapping[str, Any] | None = None
    whole: bool = False
    outputs_whole: bool = False
    score: float | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)


_NAMES = [column.name for column in schema.traces.columns]
_JSON = ("signals", "inputs", "outputs")
_FLAGS = ("abstained", "whole", "outputs_whole")
_PUT = (
    f"INSERT INTO traces ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))}) "  # noqa: S608 — our own names
    "ON CONFLICT DO NOTHING"
)
_TELL = (
    "INSERT INTO feedback (trace, score, labels, created) VALUES (?, ?, ?, ?) ON CONFLICT (trace) DO UPDATE SET "
    "score = COALESCE(excluded.score, feedback.score), created = excluded.created, labels = CASE "
    # Labels were told, or the score speaks against those that were told before; else these stay.
    "WHEN excluded.labels <> '{}' OR excluded.score <> feedback.score THEN excluded.labels ELSE feedback.labels END"
)


def put_traces(store: Store, traces: Iterable[Trace]) -> None:
    """Stores traces.

    Raises:
        StoreError: They cannot be written; none of them was.
    """
    rows = [tuple(_value(trace, name) for name in _NAMES) for trace in traces]
    if rows:
        store.run(_PUT, rows)


def _value(trace: Trace, name: str) -> Any:
    value = getattr(trace, name)
    if name in _JSON:
        return None if value is None else as_json(dict(value))
    if name in _FLAGS:
        return int(value)
    return readable(value) if isinstance(value, str) else value


def read_traces(
    store: Store,
    *,
    name: str | None = None,
    last: int | None = None,
    ids: Iterable[str] | None = None,
    versions: Iterable[str] = (),
    judged: bool = False,
) -> list[Trace]:
    """Gives traces with what was said of them, in the order of their calls.

    Args:
        store: To be read.
        name: Of one program only.
        last: No more than so many, the latest.
        ids: Of these only.
        versions: Of these only, or, with a name, of these as well.
        judged: Those with feedback only.

    Raises:
        StoreError: It cannot be read, or a trace is damaged.
    """
    traces, feedback = schema.traces, schema.feedback
    query = (
        sa.select(traces, feedback.c.score, feedback.c.labels)
        .join_from(traces, feedback, traces.c.id == feedback.c.trace, isouter=not judged)
        .order_by(traces.c.created.desc(), traces.c.id)
    )
    of = [] if name is None else [traces.c.name == name]
    of += [traces.c.version.in_(found)] if (found := list(versions)) else []
    if of:
        query = query.where(sa.or_(*of))
    if ids is not None:
        query = query.where(traces.c.id.in_(list(ids)))
    if last is not None:
        query = query.limit(last)
    return [_trace(store, row) for row in reversed(store.read(query))]


def _trace(store: Store, row: sa.Row[Any]) -> Trace:
    values = dict(row._mapping)
    try:
        for name in (*_JSON, "labels"):
            told = values[name]
            values[name] = json.loads(told) if told is not None else {} if name == "labels" else None
            if not isinstance(values[name], dict | None):
                raise TypeError(f"{name} is no object")
        return Trace(**{**values, **{name: bool(values[name]) for name in _FLAGS}})
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"{store.where}: trace {row.id} is damaged ({error}); `progspace store check --delete` takes it out"
        ) from error


def put_feedback(store: Store, trace: str, *, score: float | None = None, labels: Mapping[str, Any]) -> Trace:
    """Keeps what is said of a trace; what was said before gives way. Gives the trace as it is then.

    Where labels are told and no score, and the trace's outputs were kept whole, the score is 1 if all labels are as the
    program said, else 0. A score alone that is another than before takes back the labels of before.

    Raises:
        DataError: There is no such trace, nothing is said, the score is not within 0 and 1, or a label cannot be
            written as JSON.
        StoreError: It cannot be written.
    """
    if score is None and not labels:
        raise DataError("nothing is said of the trace: give a score or a label")
    if score is not None and not 0 <= score <= 1:
        raise DataError(f"a score is between 0 and 1, not {score:g}", field="score")
    try:
        told = as_json(dict(labels))
    except (TypeError, ValueError) as error:
        raise DataError(f"a label is no JSON value ({error}): give text, numbers, lists, objects") from error
    found = read_traces(store, ids=[trace])
    if not found:
        raise DataError(f"there is no trace {trace!r} in {store.where}; `progspace traces` lists them")
    outputs = found[0].outputs
    if outputs is not None and (unknown := sorted(set(labels) - set(outputs))):
        raise DataError(f"the program's outputs are {', '.join(outputs)}", field=unknown[0])
    if score is None and found[0].outputs_whole and outputs is not None:
        score = float(all(_same(outputs[name], value) for name, value in labels.items()))
    store.run(_TELL, [(trace, score, told, time.time())])
    return read_traces(store, ids=[trace])[0]


def _same(said: Any, label: Any) -> bool:
    if said == label or str(said).strip() == str(label).strip():
        return True
    if not isinstance(label, str) or isinstance(said, str):
        return False
    # The command line tells every label as text.
    try:
        return bool(said == json.loads(label.lower() if isinstance(said, bool) else label))
    except ValueError:
        return False


def thin_out(store: Store, *, name: str | None = None, older_than: float | None = None, rows: int | None = None) -> int:
    """Deletes old traces and the feedback on them; gives how many traces.

    Args:
        store: To be thinned out.
        name: Of one program only.
        older_than: Seconds; traces of before that go.
        rows: The oldest go until there are no more than so many.

    Raises:
        StoreError: It cannot be written.
    """
    gone = 0
    of, own = ("", ()) if name is None else (" AND name = ?", (name,))
    if older_than is not None:
        gone += store.run(f"DELETE FROM traces WHERE created < ?{of}", [(time.time() - older_than, *own)])  # noqa: S608
    if rows is not None:
        created = schema.traces.c.created
        query = sa.select(created).order_by(created.desc()).limit(1).offset(rows)
        for first in store.read(query if name is None else query.where(schema.traces.c.name == name)):
            gone += store.run(f"DELETE FROM traces WHERE created <= ?{of}", [(first.created, *own)])  # noqa: S608
    if gone:
        store.run("DELETE FROM feedback WHERE trace NOT IN (SELECT id FROM traces)")
    return gone
