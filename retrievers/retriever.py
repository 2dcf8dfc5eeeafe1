"""A retriever: a collection, a way to search it, and whom it answers."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import RetrievalError
from .passage import Passage, Passages
from .recording import record
from .reranking import Reranker, reranked
from .search import Search

if TYPE_CHECKING:
    from .collection import Collection
    from .ingesting import IngestReport

__all__ = ["Retriever"]

_RANK = 60
"""Of reciprocal rank fusion, as in Cormack, Clarke & Buettcher 2009."""


@dataclass(frozen=True, eq=False)
class Retriever:
    """Finds passages; any module may call it, and it serves as ``dspy.configure(rm=retriever)``.

    It never changes: what would change it gives another one, on the same open collection. A copy is itself, so that a
    module can be copied as DSPy's optimizers do.

    Attributes:
        collection: What it searches.
        search: How.
        groups: Whom it answers; None for a caller without any, who is given public passages only.
        variants: Retrievers of the same documents split otherwise, by name.
        reranker: Puts what was found in order, where the search says so.
        ingested: What the ingest that made it did; None where it was made otherwise.

    ``retriever("how much leave?", k=3)`` gives `Passages`; a list of queries is answered by one list, fused by
    reciprocal rank (`Cormack, Clarke & Buettcher 2009 <https://doi.org/10.1145/1571941.1572114>`_).
    """

    collection: Collection
    search: Search = field(default_factory=Search)
    groups: tuple[str, ...] | None = None
    variants: Mapping[str, Retriever] = field(default_factory=dict)
    reranker: Reranker | None = None
    ingested: IngestReport | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "variants", MappingProxyType(dict(self.variants)))
        if self.groups is not None:
            object.__setattr__(self, "groups", tuple(sorted(set(self.groups))))

    def __call__(self, query: str | Sequence[str], k: int | None = None, **extra: Any) -> Passages:
        """Finds passages.

        Args:
            query: A query, or several that ask for the same in other words.
            k: How many; None for the search's own number.
            extra: ``dspy.Retrieve`` hands on whatever it is given; anything is refused.

        Raises:
            RetrievalError: Something else than a query and k is given, or the collection cannot be searched.
        """
        if extra:
            raise RetrievalError(
                f"a retriever is called with a query and k; {', '.join(sorted(extra))} cannot be given to a call: use "
                f"with_search(…) or as_user(…) beforehand"
            )
        search = self._search(k)
        if isinstance(query, str):
            found = self.collection.search(query, self._deep(search), self.groups)
            return _recorded(self._ordered(query, found, search))
        # Each list is as deep as an arm of a hybrid search: what several queries agree on may stand low in each.
        deep = search.model_copy(update={"k": max(search.k, search.candidates)})
        found = _fused(self.collection.search_many(list(query), deep, self.groups))
        return _recorded(self._ordered(query[0], found, search) if query else found)

    async def acall(self, query: str | Sequence[str], k: int | None = None, **extra: Any) -> Passages:
        """As a call, in a thread of its own, so that an event loop goes on meanwhile."""
        return await asyncio.to_thread(self, query, k, **extra)

    def many(self, queries: Sequence[str], k: int | None = None) -> list[Passages]:
        """Finds passages for each of many queries, which are embedded and searched together."""
        search = self._search(k)
        found = self.collection.search_many(list(queries), self._deep(search), self.groups)
        return [_recorded(self._ordered(*pair, search)) for pair in zip(queries, found, strict=True)]

    def with_search(self, **changes: Any) -> Retriever:
        """The same retriever, searching otherwise: ``retriever.with_search(mode="sparse", k=10)``."""
        search = Search.model_validate({**self.search.model_dump(), **changes})
        variants = {name: each.with_search(**changes) for name, each in self.variants.items()}
        return replace(self, search=search, variants=variants)

    def as_user(self, groups: Sequence[str]) -> Retriever:
        """The same retriever for a caller of these groups: public passages, and those of his groups.

        Raises:
            RetrievalError: The groups are no names; one text would be read as groups of one letter each.
        """
        if isinstance(groups, str):
            raise RetrievalError(f"groups are a list: as_user([{groups!r}])")
        names = tuple(groups) if isinstance(groups, Iterable) else (groups,)
        if not all(isinstance(each, str) for each in names):
            raise RetrievalError(f"groups are a list of names, not {groups!r}; for a caller without any: as_user([])")
        variants = {name: each.as_user(names) for name, each in self.variants.items()}
        return replace(self, groups=names, variants=variants)

    def with_reranker(self, reranker: Reranker, *, reranked: int = 20) -> Retriever:
        """The same retriever, whose first finds are put in order by a reranker: a `CrossEncoder`, say."""
        variants = {name: each.with_reranker(reranker, reranked=reranked) for name, each in self.variants.items()}
        return replace(self.with_search(reranked=reranked), reranker=reranker, variants=variants)

    @property
    def identity(self) -> str:
        """What its answers depend on: scores of programs that use it are stored under this.

        The collection's name, making and content, the search, the groups, and the same of its variants.
        """
        parts = {
            "collection": self.collection.name,
            "making": self.collection.making.model_dump(),
            "content": self.collection.fingerprint(),
            "search": self.search.model_dump(mode="json"),
            "groups": self.groups,
            "reranker": None if self.reranker is None else self.reranker.name,
            "variants": {name: each.identity for name, each in sorted(self.variants.items())},
        }
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return f"{self.collection.name}:{digest[:32]}"

    def _search(self, k: int | None) -> Search:
        if k is None:
            return self.search
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise RetrievalError(f"k is the number of passages, 1 or more, not {k!r}")
        return self.search.model_copy(update={"k": k})

    def _deep(self, search: Search) -> Search:
        """What is searched, for the reranker to have something to choose from."""
        if search.reranked and self.reranker is None:
            raise RetrievalError("the search reranks, and the retriever has no reranker: with_reranker(…)")
        return search if search.reranked <= search.k else search.model_copy(update={"k": search.reranked})

    def _ordered(self, query: str, found: Passages, search: Search) -> Passages:
        if not search.reranked or self.reranker is None:
            return found[: search.k]
        first = reranked(query, found[: search.reranked], self.reranker)
        return found.like([*first, *found[search.reranked :]])[: search.k]

    def __copy__(self) -> Retriever:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Retriever:
        return self

    def __reduce__(self) -> Any:
        raise RetrievalError(
            "a retriever holds an open collection and cannot be pickled; open the collection where it is needed"
        )


def _recorded(found: Passages) -> Passages:
    record(found)
    return found


def _fused(lists: Sequence[Passages]) -> Passages:
    scores: dict[str, float] = {}
    passages: dict[str, Passage] = {}
    for found in lists:
        for rank, passage in enumerate(found, 1):
            scores[passage.id] = scores.get(passage.id, 0.0) + 1 / (_RANK + rank)
            passages.setdefault(passage.id, passage)
    best = sorted(scores, key=lambda each: -scores[each])
    return Passages(replace(passages[each], score=scores[each]) for each in best)
