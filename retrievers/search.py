"""How a retriever searches: each field is a choice that a search over programs may make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, field_validator

__all__ = ["FIELDS", "Fusion", "Mode", "Search"]

Mode = Literal["dense", "sparse", "hybrid"]
Fusion = Literal["rrf", "dbsf"]

FIELDS = {"source": str, "title": str, "time": str, "document": str, "groups": str, "position": int}
"""The fields of a passage that a search can be narrowed by, and what they hold."""


class Search(BaseModel):
    """How a retriever searches.

    Attributes:
        mode: By meaning (``dense``: cosines of an embedder's vectors), by words (``sparse``: BM25), or by both.
        k: How many passages are given.
        fusion: How the two are joined: by ranks (``rrf``: `Cormack, Clarke & Buettcher 2009
            <https://doi.org/10.1145/1571941.1572114>`_) or by scores (``dbsf``: distribution-based score fusion).
        candidates: How many each arm gives before they are joined, reranked or made diverse; at least ``k``.
        diversity: 0 for relevance only, 1 for diversity only: maximal marginal relevance over the dense vectors
            (`Carbonell & Goldstein 1998 <https://doi.org/10.1145/290941.291025>`_).
        reranked: So many are put in order by the retriever's reranker, of which the first ``k`` are given; 0 for none.
        min_score: What scores lower is left out. A cosine with ``dense`` and with ``diversity``, else BM25's or the
            fusion's own scale: a search over programs keeps mode and fusion where there is one.
        where: Only passages whose fields are equal to a value, or to one of a list: ``{"source": ["a.md", "b.md"]}``.

    >>> Search(mode="sparse", where={"source": "leave.md"}).k
    5
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = "hybrid"
    k: int = Field(default=5, gt=0)
    fusion: Fusion = "rrf"
    candidates: int = Field(default=50, gt=0)
    diversity: float = Field(default=0.0, ge=0, le=1)
    reranked: int = Field(default=0, ge=0)
    min_score: float | None = None
    where: Mapping[str, StrictStr | StrictInt | tuple[StrictStr, ...] | tuple[StrictInt, ...]] | None = None

    @field_validator("where")
    @classmethod
    def _known(
        cls, where: Mapping[str, str | int | tuple[str, ...] | tuple[int, ...]] | None
    ) -> Mapping[str, str | int | tuple[str, ...] | tuple[int, ...]] | None:
        for key, value in (where or {}).items():
            if key not in FIELDS:
                raise ValueError(f"passages have no field {key!r}; they have {', '.join(sorted(FIELDS))}")
            values = value if isinstance(value, tuple) else (value,)
            if not values:
                raise ValueError(f"{key!r}: no value at all can be equal to one of none; leave the field out")
            if not all(isinstance(each, FIELDS[key]) for each in values):
                raise ValueError(f"{key!r}: {value!r} is not of its type, {FIELDS[key].__name__}")
            if any(isinstance(each, str) and not each.isascii() and _broken(each) for each in values):
                raise ValueError(f"{key!r}: half of a surrogate pair is no character")
        return where

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


def _broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
