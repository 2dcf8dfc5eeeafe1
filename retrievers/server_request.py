"""A search as a Qdrant server is asked for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .engine import EF
from .plan import BM25, DENSE, Condition, Diverse, Fused, Nearest, Step
from .sparse import Sparse

if TYPE_CHECKING:
    from qdrant_client import models

__all__ = ["request_of"]


def request_of(step: Step) -> models.QueryRequest:
    """A search as the server is asked for it."""
    from qdrant_client import models

    using = None if isinstance(step.query, Fused) else _using(step)
    return models.QueryRequest(
        query=_query(step),
        using=using,
        prefetch=[_prefetch(each) for each in step.inner] or None,
        filter=_filter(step.conditions),
        limit=step.limit,
        score_threshold=step.min_score,
        params=_params(step),
        with_payload=True,
    )


def _prefetch(step: Step) -> models.Prefetch:
    from qdrant_client import models

    return models.Prefetch(
        query=_query(step),
        using=None if isinstance(step.query, Fused) else _using(step),
        prefetch=[_prefetch(each) for each in step.inner] or None,
        filter=_filter(step.conditions),
        limit=step.limit,
        score_threshold=step.min_score,
        params=_params(step),
    )


def _using(step: Step) -> str:
    return BM25 if isinstance(step.query, Nearest) and isinstance(step.query.vector, Sparse) else DENSE


def _query(step: Step) -> Any:
    from qdrant_client import models

    query = step.query
    if isinstance(query, Fused):
        return models.FusionQuery(fusion=models.Fusion.RRF if query.by == "rrf" else models.Fusion.DBSF)
    if isinstance(query, Diverse):
        mmr = models.Mmr(diversity=query.diversity, candidates_limit=query.candidates)
        return models.NearestQuery(nearest=query.vector.tolist(), mmr=mmr)
    if isinstance(query.vector, Sparse):
        sparse = models.SparseVector(indices=query.vector.indices, values=query.vector.values)
        return models.NearestQuery(nearest=sparse)
    return models.NearestQuery(nearest=query.vector.tolist())


def _params(step: Step) -> models.SearchParams | None:
    from qdrant_client import models

    dense = not isinstance(step.query, Fused) and _using(step) == DENSE
    return models.SearchParams(hnsw_ef=max(EF, step.limit)) if dense else None


def _filter(conditions: Sequence[Condition]) -> models.Filter:
    from qdrant_client import models

    return models.Filter(
        must=[models.FieldCondition(key=each.key, match=models.MatchAny(any=list(each.values))) for each in conditions]
    )
