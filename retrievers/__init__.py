"""Knowledge: passages in Qdrant, and what finds them.

>>> from progspace import retrievers
>>> retrievers.Search(mode="dense", k=3).k
3
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .collection import Collection
    from .ingesting import ingest
    from .passage import Passage, Passages
    from .reranking import CrossEncoder, Reranker
    from .retriever import Retriever
    from .search import Search

# The module of `ingest` has another name: importing it would put it in the function's place.
_HOMES = {
    "Collection": "collection",
    "CrossEncoder": "reranking",
    "Passage": "passage",
    "Passages": "passage",
    "Reranker": "reranking",
    "Retriever": "retriever",
    "Search": "search",
    "ingest": "ingesting",
}

__all__ = ["Collection", "CrossEncoder", "Passage", "Passages", "Reranker", "Retriever", "Search", "ingest"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
