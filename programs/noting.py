"""What happens inside a call that its answer does not show, told to whoever watches the call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

__all__ = ["Note", "note", "noted"]

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
