"""DSPy's progress bars, where programs that show some run side by side."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from dspy.utils.parallelizer import tqdm

__all__ = ["bear_cleared_bars"]


class _Bars(WeakSet[Any]):
    """Bars of which some may be gone already, and are gone for none that looks at them just now."""

    def clear(self) -> None:
        with tqdm.tqdm.get_lock():
            super().clear()

    def remove(self, item: Any) -> None:
        self.discard(item)


def bear_cleared_bars() -> None:
    """Lets ``dspy.Parallel`` and ``module.batch`` begin in one thread while they begin in another.

    Each clears the bars of all threads (`dspy.utils.parallelizer.ParallelExecutor`): another one that is just being
    made is no longer found then, and a ``KeyError`` ends the program that made it.
    """
    if not isinstance(tqdm.tqdm._instances, _Bars):
        tqdm.tqdm._instances = _Bars(tqdm.tqdm._instances)
