"""Opening a collection: which engine, what a new one is made by, and whether an old one was made by the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import RetrievalError
from ..lms.embedder import Embedder, embedder_for
from .engine import Engine, Making
from .sparse import Bm25Settings, SparseEncoder

__all__ = ["check", "maker_of", "open_engine"]

DEFAULT_FOLDER = Path(".progspace") / "collections"


def open_engine(
    name: str,
    path: str | Path | None,
    url: str | None,
    api_key: str | Callable[[], str] | None,
    maker: Callable[[], Making] | None,
) -> Engine:
    """Opens a collection on the engine that a path or url stands for."""
    if url is not None:
        from .server import ServerEngine

        key = api_key() if callable(api_key) else api_key or os.environ.get("QDRANT_API_KEY")
        return ServerEngine.open(name, url, key, maker)
    from .edge import EdgeEngine

    return EdgeEngine.open((DEFAULT_FOLDER if path is None else Path(path)) / name, maker)


def maker_of(embedder: Embedder | None, chunking: str, language: str | None) -> Callable[[], Making]:
    """What makes a new collection's making: only then need the embedder be loaded, to see its dimension."""

    def make() -> Making:
        made_by = embedder or embedder_for()
        told = getattr(made_by, "dimension", None)
        dimension = int(told or np.asarray(made_by.embed(["dimension"])).shape[1])
        bm25 = Bm25Settings(language=language or "english")
        SparseEncoder(bm25).query("refused now, if it cannot be set so")
        return Making(embedder=made_by.name, dimension=dimension, chunking=chunking, bm25=bm25)

    return make


def check(engine: Engine, embedder: Embedder | None, chunking: str, language: str | None) -> None:
    """Refuses what was made otherwise.

    Raises:
        RetrievalError: Something that is given is not what the collection was made by; the message has both.
    """
    made = engine.making
    given = {
        "embedder": None if embedder is None else embedder.name,
        "dimension": getattr(embedder, "dimension", None),
        "chunking": chunking or None,
        "language": language,
    }
    stored = {
        "embedder": made.embedder,
        "dimension": made.dimension,
        "chunking": made.chunking,
        "language": made.bm25.language,
    }
    other = [key for key, value in given.items() if value is not None and value != stored[key]]
    if other:
        differences = ", ".join(f"{key} {stored[key]!r}, not {given[key]!r}" for key in other)
        raise RetrievalError(
            f"{engine.place} was made with {differences}; open it with what it was made by, or ingest into a "
            f"collection of another name"
        )
