"""What runs cells on a node: a Ray actor, and the embedded engine that it shares with the others of its node."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import dspy
import ray
from dspy.lm15 import Request, Response, UnsupportedFeatureError

from ...lms.connection import Connection
from ...lms.journal import concurrency
from ...lms.keys import Keys
from ...lms.local import LocalEngine
from ...lms.remote_engine import RemoteEngine
from ...store.database import Store, open_store
from ..matrix import StoreAnswers
from ..runner import Run, Work
from ..sharing import SharedLedger
from .counting import WorkerMeter
from .sending import received

__all__ = ["EngineHost", "Outcome", "Worker"]

_KEPT = 64  # works: as many as a race has candidates, so that none is read twice


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a cell.

    Attributes:
        result: The run; or what was raised.
        concurrency: How many cells the worker runs well at a time, as its LM has learnt by now.
    """

    result: Run | BaseException
    concurrency: int


class Worker:
    """Runs cells in threads of its process; a Ray actor.

    Args:
        mailbox: Takes questions to the search: what is counted, and which actor is the embedded engine of its node.
    """

    def __init__(self, mailbox: Any) -> None:
        self._post: Callable[[Any], Future[Any]] = lambda question: mailbox.ask.remote(question).future()
        self._store: Store | None = None
        self._works: OrderedDict[str, tuple[Work, dict[str, Any]]] = OrderedDict()
        self._things: dict[str, Any] = {}
        self._lock = threading.Lock()

    def open(self, url: str) -> tuple[int, str]:
        """Opens the store that all workers share; gives the number of its process, and its node's."""
        self._store = open_store(url)
        return os.getpid(), ray.get_runtime_context().get_node_id()

    def run(self, name: str, written: bytes, example: dspy.Example) -> Outcome:
        """Runs a cell of the work that is written, which has a name so that it is read once."""
        work, settings = self._work(name, written)
        try:
            with dspy.context(**settings):
                result: Run | BaseException = work.run(example)
        except Exception as fault:
            result = fault
        for meter in list(self._things.values()):
            if isinstance(meter, WorkerMeter):
                meter.flush()
        if isinstance(result, Run) and not work.traced:
            result.prediction = None
        return Outcome(result, concurrency(work.lm))

    def _work(self, name: str, written: bytes) -> tuple[Work, dict[str, Any]]:
        with self._lock:
            if name not in self._works:
                self._works[name] = received(written, self._found)
            self._works.move_to_end(name)
            while len(self._works) > _KEPT:
                self._works.popitem(last=False)
            return self._works[name]

    @property
    def _opened(self) -> Store:
        if self._store is None:
            raise AssertionError("a worker is opened before it runs")
        return self._store

    def _found(self, kind: str, state: Any) -> Any:
        """Gives one and the same object for what stands for it, in whatever work."""
        key = hashlib.sha256(repr((kind, state)).encode()).hexdigest()
        if key not in self._things:
            self._things[key] = self._made(kind, state)
        return self._things[key]

    def _made(self, kind: str, state: Any) -> Any:
        if kind == "meter":
            return WorkerMeter(self._post, *state)
        if kind == "answers":
            return StoreAnswers(self._opened)
        if kind == "keys":
            return Keys()
        if kind == "remote":
            where, how, ledger = state
            engine = RemoteEngine(Connection(**where), **how)
            if ledger is not None:
                engine.share(SharedLedger(self._opened.url, ledger))
            return engine
        node = ray.get_runtime_context().get_node_id()
        return NodeEngine(state, self._post(("engine", (node, state))).result())


class EngineHost:
    """The embedded LM of a node, which its workers ask side by side, so that it batches; a Ray actor."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._engine = LocalEngine.load_state(state)

    def complete(self, request: Request) -> Response | Exception:
        """Answers a request; gives what was raised."""
        try:
            return self._engine.complete(request)
        except Exception as fault:
            return fault


class NodeEngine(LocalEngine):
    """The embedded LM as a worker knows it: another process of its node answers.

    Args:
        state: As `LocalEngine.dump_state` gives it.
        host: The actor that answers.
    """

    def __init__(self, state: dict[str, Any], host: Any) -> None:
        self._state, self._host = state, host

    def dump_state(self) -> dict[str, Any]:
        """As the engine itself."""
        return self._state

    def identity(self) -> dict[str, Any]:
        """As the engine itself: what it answers is the same."""
        adapter = self._state.get("adapter")
        told = {**self._state, "adapter": adapter["sha256"]} if adapter else self._state
        return {**told, "class": LocalEngine.__qualname__}

    def _submit(self, request: Request, on_text: Callable[[str], None] | None = None) -> Any:
        if on_text is not None:
            raise UnsupportedFeatureError("the embedded LM of a cluster's node does not stream", feature="stream")
        return _Asked(self._host.complete.remote(request).future())


class _Asked:
    """An answer under way."""

    def __init__(self, future: Future[Any]) -> None:
        self.future = future

    def result(self) -> Response:
        return self.response(self.future.result())

    @staticmethod
    def response(answer: Response | Exception) -> Response:
        if isinstance(answer, Exception):
            raise answer
        return answer
