"""Where cells run: in threads of this process, or on a cluster. The rest of the search does not know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import dspy

from ..errors import DataError
from ..lms.journal import concurrency
from ..store.database import Store
from .checks import check_at_least
from .runner import Run, Work

__all__ = ["Executor", "Threads", "Workers", "executor_of"]


class Executor(Protocol):
    """Runs cells somewhere."""

    def concurrency(self, lm: dspy.BaseLM) -> int:
        """How many cells it runs well at a time; it is asked again as they end."""

    def place(self, work: Work) -> Callable[[dspy.Example], Run]:
        """Gives what runs one cell of the work, and waits for it; threads call it side by side.

        Raises:
            ProgramError: The work cannot be brought there.
        """


@dataclass(frozen=True, slots=True)
class Threads:
    """Runs cells in this process.

    Attributes:
        count: At a time; None for as many as the LM takes well.

    Raises:
        DataError: It is below 1.
    """

    count: int | None = None

    def __post_init__(self) -> None:
        check_at_least(1, workers=self.count)

    def concurrency(self, lm: dspy.BaseLM) -> int:
        """As many as were named, or as the LM takes well."""
        return concurrency(lm) if self.count is None else self.count

    def place(self, work: Work) -> Callable[[dspy.Example], Run]:
        """Runs it here."""
        return work.run


Workers = int | str | Executor | None
"""So many threads, None for as many as the LM takes well; ``"ray"``, ``"ray:N"`` for N workers; or an executor."""


@contextmanager
def executor_of(workers: Workers, store: Store) -> Iterator[Executor]:
    """Gives what runs cells, while it is open.

    Args:
        workers: See `Workers`.
        store: Remembers answers; workers elsewhere open it as well.

    Raises:
        DataError: There are no such workers.
        ProgspaceError: The cluster cannot be used.
    """
    if not isinstance(workers, str):
        yield Threads(workers) if workers is None or isinstance(workers, int) else workers
        return
    told = re.fullmatch(r"ray(?::([1-9]\d*))?", workers)
    if told is None:
        raise DataError(f"workers={workers!r}: a number of threads, 'ray', or 'ray:N' with the number of Ray's workers")
    from .clusters.cluster import RayCluster

    with RayCluster(store, int(told[1]) if told[1] else None) as cluster:
        yield cluster
