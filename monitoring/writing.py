"""Stores traces and hands on spans, in a thread of its own: no call waits for it, and none fails by it."""

from __future__ import annotations

import atexit
import contextlib
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import StoreError
from ..store.database import Store, open_store
from ..store.traces import Trace, put_traces, thin_out
from .recording import Call

__all__ = ["Kept", "Sink", "Writer"]

_log = logging.getLogger(__name__)

_BATCH = 500
_GATHERING = 0.25  # seconds in which a batch comes together
_THINNING = 600.0  # seconds between two times that what is old is deleted
_CLOSING = 10.0  # seconds
_IN_MEMORY = (":memory:", "sqlite:///:memory:")
_TOLD = ("queue", "closed", "store", "telemetry")
"""Losses whose error the log tells in full. What a hook or a signal raises may hold what it was given."""


class Kept(Protocol):
    """Makes a trace of a call."""

    def trace(self, call: Call) -> Trace:
        """Gives the trace."""


class Sink(Protocol):
    """Takes calls besides the store: OpenTelemetry."""

    def context(self) -> Any:
        """Gives what a call stands in, when it begins."""

    def tell(self, call: Call, trace: Trace) -> None:
        """Hands a call on."""

    def flush(self) -> None:
        """Sends what it holds."""

    def close(self) -> None:
        """Ends."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A call on its way; only what is sampled is stored."""

    call: Call
    keeping: Kept
    stored: bool


class Writer:
    """A bounded queue, and the thread that empties it.

    Args:
        where: The store; None for none.
        sink: Makes one of spans and metrics; is given `lose`.
        queued: Calls that may wait; what comes when it is full is lost.
        name: Of the program whose traces go when they are old or too many; those of others stay.
        older_than: Seconds after which traces are deleted.
        rows: Traces that are kept at most.

    Attributes:
        where: The store.
        lost: What could not be kept so far, counted by kind: ``queue``, ``closed``, ``store``, ``telemetry``,
            ``content``, …

    Raises:
        StoreError: The store cannot be opened now; later on that is counted, and does not matter to a call.
    """

    def __init__(
        self,
        where: str | Path | None,
        *,
        sink: Callable[[Callable[[str, BaseException], None]], Sink] | None = None,
        queued: int = 10_000,
        name: str | None = None,
        older_than: float | None = None,
        rows: int | None = None,
    ) -> None:
        self.lost = Counter[str]()
        self._told, self._losing = set[str](), threading.Lock()
        self.where, self._name, self._older_than, self._rows = where, name, older_than, rows
        self._sink = None if sink is None else sink(self.lose)
        self._queue: queue.Queue[_Item | threading.Event | None] = queue.Queue(queued)
        self._store: Store | None = None
        self._file: int | None = None
        self._thinned = -_THINNING
        self._closed, self._ending = False, threading.Lock()
        if where is not None:
            self._opened()
        self._thread = threading.Thread(target=self._run, name="progspace-watch", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __deepcopy__(self, _: Any) -> Writer:
        return self

    def context(self) -> Any:
        """Gives what a call stands in, when it begins, for the sink."""
        return None if self._sink is None else self._sink.context()

    def put(self, call: Call, keeping: Kept, *, stored: bool) -> None:
        """Takes a call, at once."""
        try:
            with self._ending:
                if not self._closed:
                    self._queue.put_nowait(_Item(call, keeping, stored))
                    return
            self.lose("closed", RuntimeError("the program was called after its watching had been closed"))
        except queue.Full:
            self.lose("queue", RuntimeError(f"{self._queue.maxsize:,} calls are waiting already"))

    def lose(self, what: str, why: BaseException, count: int = 1) -> None:
        """Counts what cannot be kept; says so once, until it works again."""
        with self._losing:
            self.lost[what] += count
            known = what in self._told
            self._told.add(what)
        if not known:
            told = why if what in _TOLD else type(why).__qualname__
            _log.warning("watching: %s lost (%s); further ones are counted only", what, told)

    def flush(self, timeout: float = _CLOSING) -> bool:
        """Waits until all calls so far are stored, or lost; tells whether they were in time."""
        if self._closed:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        done = threading.Event()
        ends = time.monotonic() + timeout
        with contextlib.suppress(queue.Full):
            self._queue.put(done, timeout=timeout)
            return done.wait(max(0.0, ends - time.monotonic()))
        return False

    def close(self) -> None:
        """Stores what waits, for ten seconds at most, and ends; a second call does nothing."""
        with self._ending:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=_CLOSING)
            self._thread.join(_CLOSING)
        if lost := sum(self.lost.values()):
            _log.warning("watching ended: %d lost (%s)", lost, ", ".join(f"{k} {n}" for k, n in self.lost.items()))

    @contextlib.contextmanager
    def opened(self) -> Iterator[Store]:
        """Opens the store for another thread; of one in memory there is no other than the writer's own.

        Raises:
            StoreError: It cannot be opened.
        """
        if str(self.where) in _IN_MEMORY:
            yield self._opened()
        elif self.where is None:
            raise StoreError("there is no store")
        else:
            with open_store(self.where) as store:
                yield store

    def _run(self) -> None:
        going = True
        while going:
            batch, waiting, going = self._gathered()
            self._keep(batch)
            if waiting or not going:
                self._finish(last=not going)
            for each in waiting:
                each.set()
        self._forget()

    def _finish(self, *, last: bool) -> None:
        if self._sink is None:
            return
        try:
            self._sink.flush()
            if last:
                self._sink.close()
        except Exception as error:
            self.lose("telemetry", error)

    def _gathered(self) -> tuple[list[_Item], list[threading.Event], bool]:
        batch: list[_Item] = []
        each = self._queue.get()
        ends = time.monotonic() + _GATHERING
        while True:
            if each is None:
                return batch, [], False
            if isinstance(each, threading.Event):
                return batch, [each], True
            batch.append(each)
            try:
                if len(batch) == _BATCH:
                    return batch, [], True
                each = self._queue.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                return batch, [], True

    def _keep(self, batch: list[_Item]) -> None:
        traces: list[Trace] = []
        for item in batch:
            time.sleep(0)  # calls that wait for the interpreter go first
            try:
                trace = item.keeping.trace(item.call)
            except Exception as error:
                self.lose("trace", error)
                continue
            if item.stored:
                traces.append(trace)
            if self._sink is not None:
                try:
                    self._sink.tell(item.call, trace)
                except Exception as error:
                    self.lose("telemetry", error)
        if traces and self.where is not None:
            self._put(traces)

    def _put(self, traces: list[Trace]) -> None:
        try:
            store = self._opened()
            put_traces(store, traces)
            self._told.discard("store")
            if time.monotonic() - self._thinned > _THINNING:
                self._thinned = time.monotonic()
                if self._older_than is not None or self._rows is not None:
                    thin_out(store, name=self._name, older_than=self._older_than, rows=self._rows)
        except Exception as error:
            self.lose("store", error, len(traces))
            self._forget()

    def _opened(self) -> Store:
        """Gives the store, opened anew where its file was deleted or it failed."""
        if self._store is not None and self._file == _inode(self._store):
            return self._store
        self._forget()
        if self.where is None:
            raise StoreError("there is no store")
        self._store = open_store(self.where)
        self._file = _inode(self._store)
        return self._store

    def _forget(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(Exception):
                store.close()


def _inode(store: Store) -> int | None:
    if store.dialect != "sqlite" or store.where == ":memory:":
        return None
    try:
        return Path(store.where).stat().st_ino
    except OSError:
        return None
