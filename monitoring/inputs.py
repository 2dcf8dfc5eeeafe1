"""Are the inputs of calls still like those that a program was compiled for? Of each call a number, and no content."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import dspy
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from ..lms.models import DEFAULT_EMBEDDER
from ..programs.nearest import input_texts
from ..programs.task import Task
from ..retrievers.embedders import Embedder, find_embedder

__all__ = ["LEVELS", "STRANGENESS", "Strangeness", "p_values"]

STRANGENESS = "strangeness"
"""The name of the signal that `ps.monitor` knows."""
LEVELS = (0.05, 0.1, 0.2, 0.5)
"""Shares of usual inputs that are the strangest: the first are called strange; of each it is bet that it grows.

Inputs that have come by now are usual ones, too. So where all inputs change, soon no more than a fifth of them, and
then no more than a half, are stranger than what is usual; where a few change, the strangest twentieth tells.
"""

_LEAST = 20
_DIGITS = 5  # beyond them a text's vector depends on the texts that were embedded beside it


class Strangeness:
    """How far inputs are from the nearest ones of a task's train split: one less the cosine of their embeddings.

    A signal of ``ps.watch``, named ``strangeness``; it reads the inputs alone, also of calls that failed, and only the
    number, between 0 and 1, is stored. It takes an embedding a call, in the writer's thread.

    Args:
        task: What the program was compiled for.
        embedder: Or its name, as `progspace.retrievers.embedders.find_embedder` has it.

    Raises:
        DataError: Train or dev has fewer than 20 examples.
        ModelNotFound: The embedder is not on this machine; the message holds the command that mends it.

    >>> from progspace.programs.sentiment import task
    >>> strange = Strangeness(task())
    >>> near = strange(dspy.Example(review="A joy from start to finish."))
    >>> near < strange(dspy.Example(review="How do I reset the PIN of my card?"))
    True
    """

    inputs_only = True

    def __init__(self, task: Task, *, embedder: Embedder | str = DEFAULT_EMBEDDER) -> None:
        if min(len(task.train), len(task.dev)) < _LEAST:
            raise DataError(
                f"the task {task.name} has {len(task.train)} train and {len(task.dev)} dev examples; to tell whether "
                f"inputs are like them takes {_LEAST} of each"
            )
        self._task = task
        self._embedder = find_embedder(embedder) if isinstance(embedder, str) else embedder

    def __call__(self, example: Mapping[str, Any] | dspy.Example, prediction: Any = None) -> float:  # noqa: ARG002
        """Gives it of one input."""
        return float(self.of([example])[0])

    def of(self, examples: Sequence[Mapping[str, Any] | dspy.Example]) -> NDArray[np.float64]:
        """Gives it of each of some inputs."""
        nearest = (self._vectors(examples) @ self._known.T).max(axis=1).astype(np.float64)
        found: NDArray[np.float64] = np.clip(np.round(1 - nearest, _DIGITS), 0, 1)
        return found

    @cached_property
    def usual(self) -> NDArray[np.float64]:
        """Of the inputs of dev: like train's, and none of them."""
        return self.of(self._task.dev)

    @cached_property
    def _known(self) -> NDArray[np.float32]:
        return self._vectors(self._task.train)

    def _vectors(self, examples: Sequence[Mapping[str, Any] | dspy.Example]) -> NDArray[np.float32]:
        texts = ["\n".join(input_texts(dict(each.items()), self._task.inputs)) for each in examples]
        return self._embedder.embed(texts)


def p_values(values: ArrayLike, known: ArrayLike = (), *, seed: int = 0) -> NDArray[np.float64]:
    """Gives each value's rank among those before it, as a share: small where few are as large; ties fall by chance.

    If the known values and these come in an order that means nothing (as independent draws of one distribution do), the
    ranks are independent and uniform on [0, 1], whatever the distribution, the number of known values, and what they
    measure: smoothed conformal p-values (`Vovk 2021, Testing randomness online <https://arxiv.org/abs/1906.09256>`_).
    Ranks among known values alone would not be independent: an unlucky draw of them would count in each.

    >>> p_values([5.0, 0.0], [1.0, 2.0, 3.0]).round(2).tolist() == [0.16, 0.85]
    True
    """
    given, bag = np.asarray(values, np.float64), sorted(np.asarray(known, np.float64).tolist())
    draws = np.random.default_rng(seed).random(given.size)
    ranks = np.empty(given.size)
    for at, value in enumerate(given.tolist()):
        low, high = bisect_left(bag, value), bisect_right(bag, value)
        ranks[at] = (len(bag) - high + draws[at] * (high - low + 1)) / (len(bag) + 1)
        bag.insert(high, value)
    return ranks
