"""Proposes demonstrations: which examples stand in the prompt, how many, and in which order."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
import numpy as np
from scipy.cluster.vq import kmeans2

from ...lms.models import DEFAULT_EMBEDDER, installed
from ...programs.candidate import Candidate
from ...programs.nearest import Nearest, PoolIndex, pool_index
from .base import SearchState
from .draws import (
    HANDFUL,
    Order,
    class_of,
    fitting,
    has_classes,
    interleaved,
    mixed_sizes,
    room_for_demonstrations,
)
from .novelty import novel, retold
from .pools import (
    MOST_RUNS,
    bootstrapped_demonstrations,
    labelled_demonstrations,
    labelled_or_bootstrapped,
    runs_on_train,
)

__all__ = [
    "BootstrappedProposer",
    "CoveringProposer",
    "HardProposer",
    "LabelledProposer",
    "NearestProposer",
]

_ATTEMPTS = 8  # draws for each candidate that is wanted: some have been measured already
_WRONG = 0.5


@dataclass(frozen=True, slots=True)
class _Source:
    """What a predictor may be shown.

    Attributes:
        pool: All of it.
        first: How many from the pool's beginning on are shown before any other of their class.
    """

    pool: tuple[dict[str, Any], ...]
    first: int = 0


class _DrawingProposer(ABC):
    """Draws sets of demonstrations from pools: in each round others, of several sizes and orders.

    A draw shows demonstrations to every predictor that has a pool, classes equally often, and leaves the incumbent's
    other choices alone.
    """

    name: str

    @abstractmethod
    def sources(self, state: SearchState, wanted: int) -> Mapping[str, _Source]:
        """Gives what may be shown, by the predictor's name; at least so many demonstrations would be good."""

    def choose(
        self, source: _Source, signature: type[dspy.Signature], size: int, generator: random.Random
    ) -> list[dict[str, Any]]:
        """Chooses so many, classes in turn."""
        first, rest = list(source.pool[: source.first]), list(source.pool[source.first :])
        generator.shuffle(first)
        generator.shuffle(rest)
        return interleaved([*first, *rest], signature)[:size]

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many draws that were not measured yet.

        Raises:
            BudgetExceeded: Nothing is left to spend.
        """
        if count < 1 or not any(state.space.demonstrations):
            return []
        found = self.sources(state, max(state.space.demonstrations))
        sources = {name: source for name, source in found.items() if source.pool}
        return novel(self._draws(state, sources, count), state, count) if sources else []

    def _draws(self, state: SearchState, sources: Mapping[str, _Source], count: int) -> Iterator[Candidate]:
        generator = random.Random(f"{state.seed}:{self.name}")  # noqa: S311 — reproducible, not secret
        sizes = mixed_sizes(state.space.demonstrations, generator)
        signatures = {name: each.signature for name, each in state.space.searched(state.task.program).items()}
        orders = _orders([signatures[name] for name in sources])
        room = room_for_demonstrations(state)
        earlier = sum(standing.proposer == self.name for standing in state.standings)
        for draw in range(_ATTEMPTS * count):
            size, order = sizes[draw % len(sizes)], generator.choice(orders)
            candidate, largest = state.incumbent.candidate, 0
            for name, source in sources.items():
                shown = fitting(self.choose(source, signatures[name], size, generator), room)
                if shown:
                    shown = _ordered(shown, source.pool, signatures[name], order, generator)
                    candidate = candidate.with_choice(predictor=name, demonstrations=tuple(shown), nearest=None)
                    largest = max(largest, len(shown))
            if largest:
                told = f"{largest} {self.name}, {order} (draw {earlier + draw + 1})"
                yield candidate.model_copy(update={"origin": retold(candidate.origin, "demonstrations", told)})


class LabelledProposer(_DrawingProposer):
    """Shows train examples as they are labelled; costs no call.

    (Few-shot prompting: `Brown et al. 2020 <https://arxiv.org/abs/2005.14165>`_.)
    """

    name = "labelled"

    def sources(self, state: SearchState, wanted: int) -> Mapping[str, _Source]:  # noqa: ARG002 — all there are
        """All train examples that hold every field of the predictor."""
        return {name: _Source(tuple(pool)) for name, pool in labelled_demonstrations(state).items()}


class BootstrappedProposer(_DrawingProposer):
    """Shows what a teacher did on train examples that it solved, at every step of a chain, its reasoning included.

    (Khattab et al. 2023, `DSPy <https://arxiv.org/abs/2310.03714>`_.) Train is run a few examples at a time, until
    there are enough successes.

    Args:
        teacher: Shows how it is done: a program with predictors of the same names, on a stronger LM say; None for the
            incumbent.
    """

    name = "bootstrapped"

    def __init__(self, teacher: dspy.Module | None = None) -> None:
        self.teacher = teacher

    def sources(self, state: SearchState, wanted: int) -> Mapping[str, _Source]:
        """Traces of the teacher's successes."""
        pools = bootstrapped_demonstrations(state, wanted, self.teacher)
        return {name: _Source(tuple(pool)) for name, pool in pools.items()}


class CoveringProposer(_DrawingProposer):
    """Shows demonstrations that cover the inputs: one of each cluster of their embeddings, classes equally often.

    A draw clusters a random half of the pool (k-means of `Lloyd 1982 <https://doi.org/10.1109/TIT.1982.1056489>`_ from
    the starts of Arthur & Vassilvitskii 2007), and takes of each cluster what is nearest to its middle. (Diversity of
    demonstrations: `Su et al. 2023 <https://arxiv.org/abs/2209.01975>`_.) Without an embedder it proposes nothing.
    """

    name = "covering"

    def sources(self, state: SearchState, wanted: int) -> Mapping[str, _Source]:
        """Labelled examples; for a predictor without labels, traces of the incumbent's successes."""
        if not installed(DEFAULT_EMBEDDER):
            return {}
        return {name: _Source(tuple(pool)) for name, pool in labelled_or_bootstrapped(state, wanted).items()}

    def choose(
        self, source: _Source, signature: type[dspy.Signature], size: int, generator: random.Random
    ) -> list[dict[str, Any]]:
        """Takes one of each of so many clusters, the largest cluster's first."""
        index = _index(source.pool, signature)
        total = len(index.demonstrations)
        rows = sorted(generator.sample(range(total), min(total, max(size, (total + 1) // 2))))
        points = index.vectors[rows].reshape(len(rows), -1).astype(np.float64)
        different = len(np.unique(points.round(6), axis=0))
        if not 1 < size < different:
            return super().choose(source, signature, size, generator)
        seeded = np.random.default_rng(generator.randrange(2**32))
        middles, cluster = kmeans2(points, size, minit="++", rng=seeded)
        tell = class_of(signature)
        classes = [tell(index.demonstrations[row]) for row in rows]
        free, taken = set(range(len(rows))), list[int]()
        for middle in np.argsort(-np.bincount(cluster, minlength=size), kind="stable"):
            far = np.linalg.norm(points - middles[middle], axis=1)
            counts = Counter(classes[row] for row in taken)
            # Of the classes that are shown least so far; of these, from the cluster; of these, nearest to its middle.
            best = min(free, key=lambda row: (counts[classes[row]], cluster[row] != middle, far[row], row))
            free.remove(best)
            taken.append(best)
        return [index.demonstrations[rows[row]] for row in taken]


class HardProposer(_DrawingProposer):
    """Shows examples that the incumbent gets wrong on train, with their labels; others where these are too few."""

    name = "hard"

    def sources(self, state: SearchState, wanted: int) -> Mapping[str, _Source]:
        """What went wrong first, then the rest."""
        labelled = labelled_demonstrations(state)
        if not any(labelled.values()):
            return {}
        program = state.incumbent.candidate.apply(state.task.program, lms=state.lms)
        wrong: list[dspy.Example] = []
        for runs in runs_on_train(program, state, most=MOST_RUNS):
            wrong += [example for example, run in runs if run.cell.score is not None and run.cell.score < _WRONG]
            if len(wrong) >= wanted:
                break
        hard = labelled_demonstrations(state, wrong)
        return {
            name: _Source((*hard[name], *(each for each in pool if each not in hard[name])), first=len(hard[name]))
            for name, pool in labelled.items()
            if hard[name]
        }


class NearestProposer:
    """Shows to each input its nearest neighbours among all demonstrations.

    (`Liu et al. 2022 <https://arxiv.org/abs/2101.06804>`_.) There is nothing to draw: each number and order is one
    candidate. Without an embedder it proposes nothing.
    """

    name = "nearest"

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many numbers and orders that were not measured yet.

        Raises:
            BudgetExceeded: Nothing is left to spend on the traces of a predictor that has no labels.
        """
        if count < 1 or not any(state.space.demonstrations) or not installed(DEFAULT_EMBEDDER):
            return []
        found = labelled_or_bootstrapped(state, MOST_RUNS)
        pools = {name: tuple(pool) for name, pool in found.items() if len(pool) > 1}
        return novel(self._all(state, pools), state, count) if pools else []

    @staticmethod
    def _all(state: SearchState, pools: dict[str, tuple[dict[str, Any], ...]]) -> Iterator[Candidate]:
        generator = random.Random(f"{state.seed}:nearest")  # noqa: S311 — reproducible, not secret
        room = room_for_demonstrations(state)
        longest = {name: max(pool, key=lambda each: len(str(each))) for name, pool in pools.items()}
        # Whether neighbours help at all is told by a handful of them sooner than by two.
        sizes = mixed_sizes(state.space.demonstrations, generator)
        sizes.sort(key=lambda size: abs(math.log2(size / HANDFUL)))
        for order in ("nearest_last", "nearest_first"):
            for size in sizes:
                candidate, largest = state.incumbent.candidate, 0
                for name, pool in pools.items():
                    fits = len(fitting([longest[name]] * size, room))
                    if number := min(fits, len(pool)):
                        shown = Nearest(pool=pool, count=number, order=order)
                        candidate = candidate.with_choice(predictor=name, nearest=shown, demonstrations=None)
                        largest = max(largest, number)
                if largest:
                    told = f"{largest} nearest" + (", nearest first" if order == "nearest_first" else "")
                    yield candidate.model_copy(update={"origin": retold(candidate.origin, "demonstrations", told)})


def _index(pool: tuple[dict[str, Any], ...], signature: type[dspy.Signature]) -> PoolIndex:
    return pool_index(pool, tuple(signature.input_fields), DEFAULT_EMBEDDER)


def _orders(signatures: Sequence[type[dspy.Signature]]) -> list[Order]:
    orders: list[Order] = ["shuffled"]
    if any(map(has_classes, signatures)):
        orders.append("interleaved")
    if installed(DEFAULT_EMBEDDER):
        orders.append("typical last")
    return orders


def _ordered(
    shown: list[dict[str, Any]],
    pool: tuple[dict[str, Any], ...],
    signature: type[dspy.Signature],
    order: Order,
    generator: random.Random,
) -> list[dict[str, Any]]:
    if order == "typical last":
        index = _index(pool, signature)
        likeness = index.similarity(index.vectors.mean(axis=0)).round(5).tolist()
        typical = dict(zip(map(str, index.demonstrations), likeness, strict=True))
        return sorted(shown, key=lambda each: typical[str(each)])
    if order == "shuffled":
        generator.shuffle(shown)
    return shown
