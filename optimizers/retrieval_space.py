"""Which choices a search may make for a retrieval step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

from ..programs.retrieval import ChosenRetriever, QueryWriting, declared_retriever
from ..retrievers.layout import Layout
from ..retrievers.retriever import Retriever
from ..retrievers.search import Fusion, Mode, Search

__all__ = ["RetrievalChoices", "RetrievalSpace"]


class RetrievalSpace(BaseModel):
    """What may be chosen where a program looks something up; a setting with one value leaves no choice.

    Where the retriever has a ``min_score``, its mode and fusion stay as declared: they give scores their scale.

    Attributes:
        modes: ``dense`` (vectors of meaning), ``sparse`` (BM25), ``hybrid`` (both, fused).
        fusions: How hybrid search fuses.
        k: How many passages.
        diversity: Shares of maximal marginal relevance: 0 for none.
        reranked: Of how many finds the retriever's reranker, where it has one, makes an order of its own.
        chunkings: Whether other chunkings of the same documents may be searched, where the retriever has any.
        queries: How the query is written; all but ``as given`` ask the LM once a query.
        judged: Of how many passages the LM is asked whether they help: one call each.
        orders: Of the passages in the prompt.
        layouts: How passages are delimited in the prompt.

    >>> RetrievalSpace(modes=["dense"], k=[3]).k
    (3,)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    modes: tuple[Mode, ...] = ("hybrid", "dense", "sparse")
    fusions: tuple[Fusion, ...] = ("rrf", "dbsf")
    k: tuple[int, ...] = (1, 2, 3, 5, 8)
    diversity: tuple[float, ...] = (0.0, 0.3)
    reranked: tuple[int, ...] = (0, 20)
    chunkings: bool = True
    queries: tuple[QueryWriting, ...] = ("as given", "rewritten", "expanded", "hypothetical")
    judged: tuple[int, ...] = (0, 5)
    orders: tuple[Literal["best first", "best last"], ...] = ("best first", "best last")
    layouts: tuple[Layout, ...] = ("numbered", "tagged", "plain")

    @field_validator("k")
    @classmethod
    def _positive(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        if any(count < 1 for count in counts):
            raise ValueError("at least one passage is retrieved")
        return tuple(sorted(set(counts)))

    def beside(self, declared: Search) -> RetrievalSpace:
        """What is left of the space beside a declared search, whose ``min_score`` has to mean the same throughout.

        >>> RetrievalSpace().beside(Search(mode="sparse", min_score=8.0)).modes
        ('sparse',)
        """
        if declared.min_score is None:
            return self
        diversity = self.diversity
        if declared.mode != "dense":  # with diversity scores are cosines
            diverse = declared.diversity > 0
            diversity = tuple(each for each in diversity if (each > 0) is diverse) or (declared.diversity,)
        kept = {"modes": (declared.mode,), "fusions": (declared.fusion,), "diversity": diversity}
        return self.model_copy(update=kept)

    def choices(self, retriever: Retriever | ChosenRetriever) -> RetrievalChoices:
        """What may be chosen for one retriever."""
        held = declared_retriever(retriever)
        space = self.beside(held.search)
        return RetrievalChoices(
            modes=space.modes,
            fusions=space.fusions if "hybrid" in space.modes else (),
            k=self.k,
            diversity=space.diversity,
            reranked=self.reranked if held.reranker is not None else (0,),
            chunkings=("as declared", *(held.variants if self.chunkings else ())),
            queries=self.queries,
            judged=self.judged,
            orders=self.orders,
            layouts=self.layouts,
        )


@dataclass(frozen=True, slots=True)
class RetrievalChoices:
    """What may be chosen for one retriever, each choice by its label."""

    modes: tuple[str, ...]
    fusions: tuple[str, ...]
    k: tuple[int, ...]
    diversity: tuple[float, ...]
    reranked: tuple[int, ...]
    chunkings: tuple[str, ...]
    queries: tuple[str, ...]
    judged: tuple[int, ...]
    orders: tuple[str, ...]
    layouts: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many combinations there are; a fusion makes a difference to hybrid search only."""
        ways = sum(max(1, len(self.fusions)) if mode == "hybrid" else 1 for mode in self.modes)
        others = (
            self.k,
            self.diversity,
            self.reranked,
            self.chunkings,
            self.queries,
            self.judged,
            self.orders,
            self.layouts,
        )
        return max(1, ways) * math.prod(max(1, len(each)) for each in others)
