"""What happens inside a call that its answer does not show, told to whoever watches the call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import dspy

__all__ = ["Note", "mark", "note", "noted", "trace_id"]

Note = Literal["retries", "fallbacks", "abstentions"]

_NOTES: ContextVar[Counter[str] | None] = ContextVar("progspace_notes", default=None)


def note(what: Note) -> None:
    """Notes that something happened; nothing where nobody watches."""
    if (notes := _NOTES.get()) is not None:
        notes[what] += 1


@contextmanager
def noted() -> Iterator[Counter[str]]:
    """Gives what is noted inside, by its name.

    >>> with noted() as notes:
    ...     note("retries")
    >>> notes["retries"]
    1
    """
    notes = Counter[str]()
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


def mark(prediction: dspy.Prediction, trace: str) -> None:
    """Lets a prediction remember the trace of its call, beside its fields."""
    prediction._trace_id = trace


def trace_id(prediction: Any) -> str | None:
    """Gives the id of the trace of the call that a prediction came from; None where nobody watched.

    >>> prediction = dspy.Prediction(label="a")
    >>> mark(prediction, "0f")
    >>> trace_id(prediction), trace_id(dspy.Prediction(label="a"))
    ('0f', None)
    """
    return getattr(prediction, "_trace_id", None) if isinstance(prediction, dspy.Prediction) else None
