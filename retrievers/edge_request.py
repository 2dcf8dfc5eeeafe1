"""A search as Qdrant's engine in this process is asked for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .engine import EF
from .plan import BM25, DENSE, Condition, Diverse, Fused, Nearest, Step
from .sparse import Sparse

if TYPE_CHECKING:
    import qdrant_edge

__all__ = ["request_of"]


def request_of(step: Step) -> qdrant_edge.QueryRequest:
    """A search as the engine is asked for it."""
    from qdrant_edge import QueryRequest

    return QueryRequest(
        limit=step.limit,
        query=_query(step),
        prefetches=[_prefetch(each) for each in step.inner] or None,
        filter=_filter(step.conditions),
        score_threshold=step.min_score,
        params=_params(step),
        with_payload=True,
    )


def _prefetch(step: Step) -> qdrant_edge.Prefetch:
    from qdrant_edge import Prefetch

    return Prefetch(
        limit=step.limit,
        query=_query(step),
        prefetches=[_prefetch(each) for each in step.inner] or None,
        filter=_filter(step.conditions),
        params=_params(step),
        score_threshold=step.min_score,
    )


def _query(step: Step) -> Any:
    from qdrant_edge import Fusion, Mmr, Query, SparseVector

    query = step.query
    if isinstance(query, Fused):
        # A server's own default: the same ranks have the same scores on both.
        return Fusion.Rrf(k=2) if query.by == "rrf" else Fusion.Dbsf()
    if isinstance(query, Diverse):
        return Mmr(query.vector.tolist(), 1 - query.diversity, query.candidates, using=DENSE)
    if isinstance(query.vector, Sparse):
        return Query.Nearest(SparseVector(query.vector.indices, query.vector.values), using=BM25)
    return Query.Nearest(query.vector.tolist(), using=DENSE)


def _params(step: Step) -> qdrant_edge.SearchParams | None:
    from qdrant_edge import SearchParams

    dense = isinstance(step.query, Nearest) and not isinstance(step.query.vector, Sparse)
    return SearchParams(hnsw_ef=max(EF, step.limit)) if dense or isinstance(step.query, Diverse) else None


def _filter(conditions: Sequence[Condition]) -> qdrant_edge.Filter:
    from qdrant_edge import FieldCondition, Filter, MatchAny

    return Filter(must=[FieldCondition(each.key, match=MatchAny(list(each.values))) for each in conditions])  # type: ignore[arg-type]
