"""Where an evaluation was stopped, what is under way is waited for, since it is paid for; nothing else is."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["pause", "stopped", "stopping_by"]

_STOPPED: ContextVar[tuple[threading.Event, ...]] = ContextVar("progspace_stopped", default=())
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


def stopped() -> bool:
    """Tells whether nothing more shall be waited for."""
    return any(event.is_set() for event in _STOPPED.get())


async def pause(seconds: float) -> None:
    """Waits, but not on once it was stopped."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stopped():
        await asyncio.sleep(min(left, _GLANCE))
