"""A search's workers on a Ray cluster: where each cell runs, and what is done when one is lost."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import dspy

from ...errors import ProgramError, ProgspaceError, StoreError

try:
    import ray
    from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError, RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as missing:
    raise ProgramError("workers='ray' needs Ray: pip install 'progspace[ray]'") from missing

from ...lms.budget import Meter
from ...lms.journal import concurrency
from ...store.database import Store
from ..runner import Run, Work
from .counting import Mailbox, count
from .sending import sent
from .worker import EngineHost, Outcome, Worker

__all__ = ["RayCluster"]

_MOST = 64
"""Cells at a time in one worker: threads of one process, which share its interpreter."""
_LOST = 5
"""Workers that one cell may lose before it is taken for what kills them."""


@dataclass(eq=False, slots=True)
class _Placed:
    """A worker of the cluster.

    Attributes:
        actor: Runs cells.
        learnt: How many it runs well at a time; None until it has run one.
        running: How many it runs now.
        process: Its number; 0 until it is open.
        node: Of the cluster.
    """

    actor: Any
    learnt: int | None = None
    running: int = 0
    process: int = 0
    node: str = ""


@dataclass(slots=True)
class _Book:
    """What workers may ask of the search: to count for a meter, and for the engine of their node."""

    meters: list[Meter] = field(default_factory=list)
    engines: dict[str, Any] = field(default_factory=dict)

    def name_of(self, meter: Meter) -> str:
        for number, known in enumerate(self.meters):
            if known is meter:
                return str(number)
        self.meters.append(meter)
        return str(len(self.meters) - 1)

    def answer(self, question: tuple[str, Any]) -> Any:
        """Answers a worker's question; gives what that raised, for the worker to raise."""
        what, told = question
        try:
            return self.engine(*told) if what == "engine" else count(self.meters[int(what)], told)
        except Exception as fault:
            return fault

    def engine(self, node: str, state: dict[str, Any]) -> Any:
        key = f"{node} {state!r}"
        if key not in self.engines:
            # No CPU is asked for: workers may have them all, and wait for it.
            here = NodeAffinitySchedulingStrategy(node, soft=False)
            host = ray.remote(EngineHost).options(
                num_cpus=0, max_concurrency=_MOST, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
            )
            self.engines[key] = host.remote(state)
        return self.engines[key]


class RayCluster:
    """Runs cells in workers on a Ray cluster.

    It is the one that this process is connected to, or that ``RAY_ADDRESS`` or Ray itself names, or else a local one
    that ends with the search. Each worker is an actor that asks for one CPU, so that a cluster with an autoscaler grows
    for those that find no room. A worker that is lost, with its process or its node, costs no cell: another one runs
    it, and finds the answers that were bought in the store.

    Args:
        store: A file where the cluster is one machine, else a PostgreSQL database.
        count: Of workers; None for one for each CPU of the cluster, also of those that it gets later. The first one is
            waited for.

    Raises:
        StoreError: The workers cannot reach the store.
        ProgramError: Ray cannot be reached, or its workers do not start.
    """

    def __init__(self, store: Store, count: int | None = None) -> None:
        self._count = count
        self._book = _Book()
        self._workers: list[_Placed] = []
        self._free = threading.Condition()
        self._usual = 1
        self._stillborn = 0
        self._failure: BaseException | None = None
        self._closed = False
        self._mailbox: Any = None
        self._ends = ExitStack()
        if not ray.is_initialized():
            self._ends.enter_context(_connected())
        try:
            self._url = _url(store)
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            mailbox = ray.remote(Mailbox).options(num_cpus=0, max_concurrency=10_000, scheduling_strategy=here)
            self._mailbox = mailbox.remote()
            threading.Thread(target=self._answer, name="progspace-mailbox", daemon=True).start()
            self._grow()
            # Here, where Ctrl-C is heard: a cluster may have no room, or grow for minutes.
            with self._free:
                while not self._idle():
                    self._free.wait(1.0)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers, and the cluster where it was begun for them."""
        with self._free:
            self._closed = True
            self._free.notify_all()
        for actor in (*(worker.actor for worker in self._workers), *self._book.engines.values(), self._mailbox):
            if actor is not None:
                ray.kill(actor)
        self._ends.close()

    def concurrency(self, lm: dspy.BaseLM) -> int:  # noqa: ARG002 — the protocol's
        """What all workers together run well, as far as they have learnt."""
        return max(1, sum(map(self._slots, list(self._workers))))

    def place(self, work: Work) -> Callable[[dspy.Example], Run]:
        """Sends the work to where workers find it.

        Raises:
            ProgramError: It cannot be sent.
        """
        self._usual = min(_MOST, concurrency(work.lm))
        self._grow()
        written = sent(work, self._book.name_of)
        return partial(self._run, hashlib.sha256(written).hexdigest(), ray.put(written))

    @property
    def processes(self) -> dict[int, str]:
        """The workers that are open: the numbers of their processes, and their nodes."""
        return {worker.process: worker.node for worker in list(self._workers) if worker.process}

    def _run(self, name: str, written: Any, example: dspy.Example) -> Run:
        for _ in range(_LOST):
            with self._slot() as worker:
                try:
                    outcome: Outcome = ray.get(worker.actor.run.remote(name, written, example))
                except (RayActorError, ObjectLostError, OutOfMemoryError) as error:
                    lost = error
                    self._replace(worker)
                    continue
                except RayError as error:
                    told = repr(error.cause) if isinstance(error, RayTaskError) else error
                    raise ProgramError(f"the program cannot be run by Ray's workers: {told}") from error
            worker.learnt = min(_MOST, outcome.concurrency)
            if isinstance(outcome.result, BaseException):
                raise outcome.result
            return outcome.result
        raise ProgramError(f"{_LOST} of Ray's workers were lost one after the other as they ran a cell ({lost})")

    @contextmanager
    def _slot(self) -> Iterator[_Placed]:
        """Waits for a worker that has room, and gives that with the most."""
        with self._free:
            while not (idle := self._idle()):
                self._free.wait()
            worker = min(idle, key=lambda each: each.running / self._slots(each))
            worker.running += 1
        try:
            yield worker
        finally:
            with self._free:
                worker.running -= 1
                self._free.notify()

    def _idle(self) -> list[_Placed]:
        if self._failure is not None:
            raise self._failure
        return [each for each in self._workers if each.process and each.running < self._slots(each)]

    def _slots(self, worker: _Placed) -> int:
        return worker.learnt or self._usual

    def _grow(self) -> None:
        wanted = self._count or max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
        with self._free:
            missing = 0 if self._closed else wanted - len(self._workers)
            for _ in range(missing):
                actor = ray.remote(Worker).options(num_cpus=1, max_concurrency=_MOST, scheduling_strategy="SPREAD")
                worker = _Placed(actor.remote(self._mailbox))
                self._workers.append(worker)
                worker.actor.open.remote(self._url).future().add_done_callback(partial(self._opened, worker))

    def _opened(self, worker: _Placed, opened: Future[tuple[int, str]]) -> None:
        try:
            process, node = opened.result()
        except RayTaskError as error:
            cause = error.cause
            self._fail(cause if isinstance(cause, ProgspaceError) else ProgramError(f"a worker: {cause!r}"))
        except RayError as error:
            self._stillborn += 1
            if self._stillborn < _LOST:
                self._replace(worker)
            else:
                self._fail(ProgramError(f"Ray's workers do not start; is progspace installed on every node? {error}"))
        else:
            with self._free:
                worker.process, worker.node, self._stillborn = process, node, 0
                self._free.notify_all()

    def _fail(self, failure: Exception) -> None:
        with self._free:
            self._failure = failure
            self._free.notify_all()

    def _replace(self, worker: _Placed) -> None:
        with self._free:
            known = worker in self._workers
            if known:
                self._workers.remove(worker)
        if known and not self._closed:
            self._grow()

    def _answer(self) -> None:
        answers: list[tuple[int, Any]] = []
        while not self._closed:
            try:
                questions = ray.get(self._mailbox.exchange.remote(answers))
            except RayError:
                return
            answers = [(number, self._book.answer(question)) for number, question in questions]


@contextmanager
def _connected() -> Iterator[None]:
    """Connects to the cluster that there is, or starts a local one."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell Ray's makers of it
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many kinds, plain ones among them
        where = os.environ.get("RAY_ADDRESS")
        what = f"cannot be reached at RAY_ADDRESS={where}" if where else "cannot be started, or reached,"
        raise ProgramError(f"Ray {what} ({type(error).__name__}: {error})") from error
    try:
        yield
    finally:
        ray.shutdown()


def _url(store: Store) -> str:
    """Gives the store's URL as workers open it, whatever folder they are in."""
    if store.dialect != "sqlite":
        return store.url
    if store.where == ":memory:":
        raise StoreError(":memory:: Ray's workers cannot reach it; name a file, or a PostgreSQL database")
    hosts = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
    if len(hosts) > 1:
        raise StoreError(
            f"{store.where}: a SQLite file cannot be shared by the {len(hosts)} machines of the Ray cluster; name a "
            "PostgreSQL database: postgresql+psycopg://user@host/database"
        )
    return str(Path(store.where).resolve())
