"""Where an evaluation was stopped, what is under way is waited for, since it is paid for; nothing else is."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["late", "pause", "stopped", "stopping_by", "stopping_when"]

_STOPPED: ContextVar[tuple[threading.Event, ...]] = ContextVar("progspace_stopped", default=())
_LATE: ContextVar[Callable[[], bool]] = ContextVar("progspace_late", default=lambda: False)
_GLANCE = 0.2  # seconds


@contextmanager
def stopping_by(event: threading.Event) -> Iterator[None]:
    """Has calls made under it give up their pauses once the event is set, or one that it stands under.

    >>> with stopping_by(event := threading.Event()):
    ...     event.set()
    ...     stopped()
    True
    """
    token = _STOPPED.set((*_STOPPED.get(), event))
    try:
        yield
    finally:
        _STOPPED.reset(token)


@contextmanager
def stopping_when(time_is_over: Callable[[], bool]) -> Iterator[None]:
    """Has calls made under it give up their pauses, and their places in a line, once this tells so.

    >>> with stopping_when(lambda: True):
    ...     late(), stopped()
    (True, True)
    """
    token = _LATE.set(time_is_over)
    try:
        yield
    finally:
        _LATE.reset(token)


def late() -> bool:
    """Tells whether nothing more shall be sent, though it was counted."""
    return _LATE.get()()


def stopped() -> bool:
    """Tells whether nothing more shall be waited for."""
    return late() or any(event.is_set() for event in _STOPPED.get())


async def pause(seconds: float) -> None:
    """Waits, but not on once it was stopped."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stopped():
        await asyncio.sleep(min(left, _GLANCE))
