"""A search as steps that both engines can run; rights and filters stand in every step, the inner ones too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .passage import EVERYONE
from .search import Fusion, Search
from .sparse import Sparse

__all__ = ["BM25", "DENSE", "TIES", "Condition", "Diverse", "Fused", "Nearest", "Step", "conditions", "plan"]

DENSE, BM25 = "dense", "bm25"
"""The names of the two vectors of a point."""
TIES = 16
"""What is asked for beyond what is wanted of fused ranks: they often tie, and an engine orders and cuts ties by chance.

(Of the sums of two of 50 reciprocal ranks, at most 11 are the same.)
"""


@dataclass(frozen=True, slots=True)
class Condition:
    """A field of the payload is, or holds, one of these values."""

    key: str
    values: tuple[str | int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The points nearest to a vector: dense by cosine, sparse by BM25."""

    vector: NDArray[np.float32] | Sparse


@dataclass(frozen=True, slots=True, eq=False)
class Diverse:
    """Maximal marginal relevance over the dense vectors."""

    vector: NDArray[np.float32]
    diversity: float
    candidates: int


@dataclass(frozen=True, slots=True)
class Fused:
    """The inner steps' results joined."""

    by: Fusion


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of a search: of the points that meet all conditions, or of those that the inner steps gave."""

    query: Nearest | Diverse | Fused
    limit: int
    conditions: tuple[Condition, ...]
    inner: tuple[Step, ...] = ()
    min_score: float | None = None


def conditions(search: Search, groups: Sequence[str] | None) -> tuple[Condition, ...]:
    """What a point must meet: the caller may read it, and it is what the search is narrowed to.

    >>> conditions(Search(), ["hr"])
    (Condition(key='groups', values=('*', 'hr')),)
    """
    readers = tuple(group for group in groups or () if group != EVERYONE and _encodable(group))
    asked = ((key, value if isinstance(value, tuple) else (value,)) for key, value in (search.where or {}).items())
    return (Condition("groups", (EVERYONE, *readers)), *(Condition(key, values) for key, values in asked))


def _encodable(group: str) -> bool:
    """Whether a passage can be of this group: none is of one whose name holds half of a surrogate pair."""
    try:
        return bool(group.encode())
    except UnicodeEncodeError:
        return False


def plan(
    search: Search, must: tuple[Condition, ...], dense: NDArray[np.float32] | None, sparse: Sparse | None
) -> Step | None:
    """Makes the steps of a search; None where nothing can be found, since the query has no term.

    Args:
        search: How it is searched.
        must: The conditions.
        dense: The query's vector; needed unless the search is ``sparse`` without diversity.
        sparse: The query's terms; needed unless the search is ``dense``.
    """
    candidates = max(search.candidates, search.k)
    arms: list[Nearest] = []
    if search.mode != "sparse" and dense is not None:
        arms.append(Nearest(dense))
    if search.mode != "dense" and sparse is not None and sparse.indices:
        arms.append(Nearest(sparse))
    if not arms:
        return None
    diverse = Diverse(dense, search.diversity, candidates) if search.diversity and dense is not None else None
    if search.mode == "dense":
        return Step(diverse or arms[0], search.k, must, min_score=search.min_score)
    if search.mode == "sparse":
        if diverse is None:
            return Step(arms[0], search.k, must, min_score=search.min_score)
        return Step(diverse, search.k, must, (Step(arms[0], candidates, must),), search.min_score)
    inner = tuple(Step(arm, candidates, must) for arm in arms)
    limit, by = len(arms) * candidates, Fused(search.fusion)
    if diverse is None:
        return Step(by, min(limit, search.k + TIES), must, inner, search.min_score)
    return Step(diverse, search.k, must, (Step(by, limit, must, inner),), search.min_score)
