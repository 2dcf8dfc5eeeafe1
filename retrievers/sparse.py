"""Texts as sparse vectors for BM25; Qdrant multiplies the terms' inverse document frequencies in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pydantic import BaseModel, ConfigDict

from ..errors import RetrievalError

__all__ = ["Bm25Settings", "Sparse", "SparseEncoder"]


class Bm25Settings(BaseModel):
    """How BM25 weighs terms (`Robertson & Zaragoza 2009 <https://doi.org/10.1561/1500000019>`_).

    Attributes:
        k: How soon more of the same term weighs no more.
        b: How much long passages are held against themselves, 0 to 1.
        avg_len: The length, in terms, that counts as usual.
        language: Of stop words and stems, as ``english``; ``none`` for neither.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: float = 1.2
    b: float = 0.75
    avg_len: float = 256.0
    language: str = "english"


@dataclass(frozen=True, slots=True)
class Sparse:
    """A sparse vector: indices and their values."""

    indices: list[int]
    values: list[float]


class SparseEncoder:
    """Makes the vectors with Qdrant's own code, in this process: the same for a server as for an embedded collection.

    >>> SparseEncoder(Bm25Settings()).query("the runner") == SparseEncoder(Bm25Settings()).query("Runners")
    True
    """

    def __init__(self, settings: Bm25Settings) -> None:
        self.settings = settings

    @cached_property
    def _model(self) -> object:
        import qdrant_edge

        try:
            config = qdrant_edge.Bm25Config(**self.settings.model_dump())
            return qdrant_edge.Bm25(config)
        except ValueError as error:
            raise RetrievalError(f"BM25 cannot be set so: {error}") from error

    def document(self, text: str) -> Sparse:
        """The terms of a passage, with their weights."""
        vector = self._model.embed_document(text)  # type: ignore[attr-defined]
        return Sparse(vector.indices, vector.values)

    def query(self, text: str) -> Sparse:
        """The terms of a query; none, where it has stop words only."""
        vector = self._model.embed_query(text)  # type: ignore[attr-defined]
        return Sparse(vector.indices, vector.values)
