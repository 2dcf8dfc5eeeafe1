"""How well a retriever ranks: recall@k, MRR and nDCG@k against judged passages, with no LM asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import DataError
from ..retrievers.passage import Passage, Passages
from . import numbers
from .statistics import Interval, mean_interval

__all__ = ["Measure", "RetrievalEvaluation", "evaluate_retrieval", "ndcg", "recall", "reciprocal_rank"]

Relevant = str | Collection[str] | Mapping[str, float] | Callable[[Passage], bool]
_HIT = "what the predicate holds of"


@dataclass(frozen=True, slots=True)
class Measure:
    """A mean over queries.

    Attributes:
        mean: From 0 to 1.
        interval: Of it.
        scores: Of each query.
    """

    mean: float
    interval: Interval
    scores: tuple[float, ...]

    @classmethod
    def of(cls, scores: Sequence[float], level: float = 0.95) -> Measure:
        """Takes the mean of the queries' scores."""
        return cls(math.fsum(scores) / len(scores), mean_interval(scores, level=level), tuple(scores))


@dataclass(frozen=True, slots=True)
class RetrievalEvaluation:
    """How a retriever ranked, over all queries.

    Attributes:
        n: Queries.
        recall: By k: the share of what is relevant that is among the first k.
        mrr: The reciprocal rank of the first relevant passage, 0 where none was found.
        ndcg: By k: normalised discounted cumulative gain among the first k.
        ranks: Of each query, the ranks from 1 at which something relevant was found for the first time.
    """

    n: int
    recall: Mapping[int, Measure]
    mrr: Measure
    ndcg: Mapping[int, Measure]
    ranks: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        rows = [(f"recall@{k}", measure) for k, measure in self.recall.items()]
        rows += [("MRR", self.mrr), *((f"nDCG@{k}", measure) for k, measure in self.ndcg.items())]
        lines = [
            f"{name:<10}{numbers.percent(measure.mean):>8}  {numbers.interval(measure.interval):>11}"
            for name, measure in rows
        ]
        return "\n".join([f"{f'queries: {numbers.count(self.n)}':<18}{'95 %':>13}", *lines])


def recall(gains: Sequence[float], relevant: int, k: int) -> float:
    """Gives the share of what is relevant that is among the first k.

    Args:
        gains: Of each passage in the order of its rank; 0 for what is not relevant or was there before.
        relevant: How much is relevant in all.
        k: How far down to look.

    >>> recall([0, 1, 1], 4, 2)
    0.25
    """
    return sum(gain > 0 for gain in gains[:k]) / relevant


def reciprocal_rank(gains: Sequence[float]) -> float:
    """Gives one over the rank of the first that is relevant; 0 where none is.

    >>> reciprocal_rank([0, 1, 1]), reciprocal_rank([0])
    (0.5, 0.0)
    """
    return next((1 / rank for rank, gain in enumerate(gains, 1) if gain > 0), 0.0)


def ndcg(gains: Sequence[float], ideal: Sequence[float], k: int) -> float:
    """Gives the normalised discounted cumulative gain: grades over the logarithms of ranks, over the best there is.

    The gain is the grade itself, as in `Järvelin & Kekäläinen 2002 <https://doi.org/10.1145/582415.582418>`_ and in
    ``trec_eval``.

    Args:
        gains: Of each passage in the order of its rank.
        ideal: The grades of all that is relevant, in any order.
        k: How far down to look.

    >>> round(ndcg([0, 3, 1], [1, 3], 3), 3)
    0.659
    """
    best = _discounted(sorted(ideal, reverse=True)[:k])
    return _discounted(gains[:k]) / best if best else 0.0


def _discounted(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def evaluate_retrieval(
    retriever: Any,
    queries: Sequence[str],
    relevant: Sequence[Relevant],
    *,
    ks: Sequence[int] = (1, 5, 10),
    key: Literal["source", "id"] | Callable[[Passage], str] = "source",
    level: float = 0.95,
) -> RetrievalEvaluation:
    """Scores what a retriever finds for queries whose relevant passages are known.

    A source that several passages are from counts once, at the first of them; the others keep their ranks, as they
    take their place in a prompt.

    Args:
        retriever: Called as ``retriever(query, k=…)``, or ``retriever.many(queries, k=…)`` where it has that.
        queries: The queries; those without anything relevant are not for this.
        relevant: Of each query: one source, several, several with a grade each, or a predicate of a passage (any one
            that it holds of is then all that is wanted).
        ks: How far down to look.
        key: What ``relevant`` names: passages' sources, ids, or what a function makes of a passage.
        level: Of the intervals.

    Raises:
        DataError: There are no queries, not as many judgements, or a query without anything relevant, told by its row.
        ValueError: A k is less than 1.

    >>> from progspace.retrievers.passage import Passage
    >>> def retriever(query, k):
    ...     return [Passage(id=name, text=query, source=name) for name in ("b.md", "a.md", "a.md")[:k]]
    >>> print(evaluate_retrieval(retriever, ["holidays"], ["a.md"], ks=[1, 2]))
    queries: 1              95 %
    recall@1     0.0 %     0.0–79.3
    recall@2   100.0 %   20.7–100.0
    MRR         50.0 %    0.0–100.0
    nDCG@1       0.0 %     0.0–79.3
    nDCG@2      63.1 %    0.0–100.0
    """
    if not ks or min(ks) < 1:
        raise ValueError(f"how far down to look is told by whole numbers from 1; ks is {list(ks)}")
    grades = _grades(queries, relevant)
    found = _found(retriever, queries, max(ks))
    named = (lambda passage: getattr(passage, key)) if isinstance(key, str) else key
    gains = [_gains(passages, own, named) for passages, own in zip(found, grades, strict=True)]
    totals = [len(own) if isinstance(own, Mapping) else 1 for own in grades]
    ideals = [list(own.values()) if isinstance(own, Mapping) else [1.0] for own in grades]
    return RetrievalEvaluation(
        n=len(queries),
        recall={k: Measure.of([recall(*each, k) for each in zip(gains, totals, strict=True)], level) for k in ks},
        mrr=Measure.of([reciprocal_rank(each) for each in gains], level),
        ndcg={k: Measure.of([ndcg(*each, k) for each in zip(gains, ideals, strict=True)], level) for k in ks},
        ranks=tuple(tuple(rank for rank, gain in enumerate(each, 1) if gain > 0) for each in gains),
    )


_Grades = Mapping[str, float] | Callable[[Passage], bool]


def _grades(queries: Sequence[str], relevant: Sequence[Relevant]) -> list[_Grades]:
    if not queries or len(queries) != len(relevant):
        raise DataError(f"each query needs its judgement: {len(queries)} queries, {len(relevant)} judgements")
    grades: list[_Grades] = []
    for row, each in enumerate(relevant, 1):
        if callable(each):
            grades.append(each)
            continue
        if isinstance(each, str):
            each = [each] if each else []
        own = dict(each) if isinstance(each, Mapping) else dict.fromkeys(each, 1.0)
        own = {name: float(grade) for name, grade in own.items() if grade > 0}
        if not own:
            raise DataError("nothing is relevant to this query; leave it out", row=row, field="relevant")
        grades.append(own)
    return grades


def _found(retriever: Any, queries: Sequence[str], k: int) -> list[Passages]:
    if (many := getattr(retriever, "many", None)) is not None:
        return list(many(list(queries), k=k))
    return [retriever(query, k=k) for query in queries]


def _gains(passages: Sequence[Passage], grades: _Grades, named: Callable[[Passage], str]) -> list[float]:
    seen: set[str] = set()
    gains = []
    for passage in passages:
        if isinstance(grades, Mapping):
            name = named(passage)
            gain = grades.get(name, 0.0)
        else:
            name, gain = _HIT, float(grades(passage))
        gains.append(0.0 if name in seen else gain)
        if gain:
            seen.add(name)
    return gains
