"""Calls of modules in threads of their own."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["in_thread", "threads_started"]

_STARTED: ContextVar[list[Future[Any]] | None] = ContextVar("progspace_threads", default=None)


def in_thread(module: Callable[..., Any], inputs: Mapping[str, Any]) -> Future[Any]:
    """Calls a module in a thread of its own, in the same context; the future, as the thread, cannot be cancelled.

    A StopIteration comes as a RuntimeError, as it does out of a coroutine.

    >>> in_thread(lambda text: text.upper(), {"text": "a"}).result()
    'A'
    """
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(module, **inputs))
        except StopIteration as error:  # before Python 3.12 asyncio hands none on, and who awaits it waits for ever
            stopped = RuntimeError(f"{type(module).__name__} raised StopIteration")
            stopped.__cause__ = error
            future.set_exception(stopped)
        except BaseException as error:
            future.set_exception(error)

    # Not a pool: those left behind would fill it, and it would keep the process from ending.
    threading.Thread(target=run, daemon=True, name="progspace-call").start()
    if (started := _STARTED.get()) is not None:
        started.append(future)
    return future


@contextmanager
def threads_started() -> Iterator[list[Future[Any]]]:
    """Gives what `in_thread` starts inside, also what its threads start later.

    >>> with threads_started() as threads:
    ...     _ = in_thread(lambda: None, {})
    >>> len(threads)
    1
    """
    started: list[Future[Any]] = []
    token = _STARTED.set(started)
    try:
        yield started
    finally:
        _STARTED.reset(token)
