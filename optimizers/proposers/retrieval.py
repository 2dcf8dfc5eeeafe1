"""Proposes ways to retrieve: first those that rank best on qrels without an LM call, then what is near the best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

from ...evaluation.ranking import evaluate_retrieval
from ...programs.candidate import Candidate
from ...programs.retrieval import ChosenRetriever, RetrievalChoice, declared_retriever, retrievers_of
from ...programs.task import Task
from ...retrievers.retriever import Retriever
from ...retrievers.search import Search
from ..retrieval_space import RetrievalSpace
from .base import SearchState
from .novelty import novel, retold

__all__ = ["RetrievalProposer", "ranked_searches"]

_QUERIES = 150  # of train: they cost no LM call, but time
_RIVALS = 4  # searches that rank best, which are proposed in place of the leader's


class RetrievalProposer:
    """Gives the incumbent with other retrieval.

    Every mode, fusion, diversity and chunking is first ranked on train's qrels, where the task has any (its
    ``relevant``), or can make some of labels that stand in passages: that asks no LM. The best of them is proposed with
    every k, the runner-up with one. Then, in this round and later ones, one thing is changed at a time: k, order and
    layout of the passages, how the query is written, whether the LM judges passages.
    """

    name = "retrieval"

    def __init__(self) -> None:
        self._ranked: dict[str, list[tuple[str | None, Search]]] = {}

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives at most so many ways to retrieve that were not measured yet."""
        return novel(self._all(state), state, count)

    def _all(self, state: SearchState) -> Iterator[Candidate]:
        held, space = retrievers_of(state.task.program), state.space.retrieval or RetrievalSpace()
        paths = list(held)
        groups = [paths, *([[path] for path in paths] if len(paths) > 1 else [])]
        for group in groups:
            moves = [self._moves(state, path, held[path], space) for path in group]
            # All steps make the same move; where one has fewer moves left, it stays at its last.
            for step in range(max(map(len, moves))):
                candidate = state.incumbent.candidate
                for path, own in zip(group, moves, strict=True):
                    candidate = candidate.with_retrieval(own[min(step, len(own) - 1)], path=path)
                told = moves[0][min(step, len(moves[0]) - 1)].label
                what = "retrieval" if group == paths else group[0]
                origin = retold(state.incumbent.candidate.origin, what, told)
                yield candidate.model_copy(update={"origin": origin})

    def _moves(
        self, state: SearchState, path: str, held: Retriever | ChosenRetriever, space: RetrievalSpace
    ) -> list[RetrievalChoice]:
        if path not in self._ranked:
            self._ranked[path] = ranked_searches(declared_retriever(held), state.task, space)
        ranked = self._ranked[path]
        chosen = state.incumbent.candidate.retrievals.get(path)
        first: list[RetrievalChoice] = []
        runner_up: list[RetrievalChoice] = []
        if chosen is None:
            best_chunking, best = ranked[0]
            chosen = RetrievalChoice(search=best, chunking=best_chunking)
            others = (RetrievalChoice(search=each, chunking=name) for name, each in ranked if each.mode != best.mode)
            first, runner_up = [chosen], list(others)[:1]
        moves = [*first, *(_changed(chosen, k=k) for k in space.k), *runner_up]
        moves += [chosen.model_copy(update={"order": order}) for order in space.orders]
        moves += [chosen.model_copy(update={"layout": layout}) for layout in space.layouts]
        moves += [chosen.model_copy(update={"query": query}) for query in space.queries]
        moves += [chosen.model_copy(update={"judged": judged}) for judged in space.judged]
        k = (chosen.search or Search()).k
        moves += [
            _changed(chosen.model_copy(update={"search": search, "chunking": chunking}), k=k)
            for chunking, search in ranked[1:_RIVALS]
        ]
        return moves


def _changed(choice: RetrievalChoice, k: int) -> RetrievalChoice:
    search = choice.search or Search()
    return choice.model_copy(update={"search": search.model_copy(update={"k": k})})


def ranked_searches(retriever: Retriever, task: Task, space: RetrievalSpace) -> list[tuple[str | None, Search]]:
    """Gives every chunking and way to search, the one of the best mean reciprocal rank on train's qrels first.

    Of a retriever with a ``min_score`` these are the ways that give scores of the same scale.

    Where there are no qrels, and none can be made of the labels, they stay in the order of the space.
    """
    options = list(_options(retriever, space.beside(retriever.search)))
    judged = task.qrels(_QUERIES)
    if not judged or len(options) == 1:
        return options
    queries, relevant = [each.query for each in judged], [each.answered_by for each in judged]
    deep = max(10, *space.k)

    def goodness(option: tuple[str | None, Search]) -> tuple[float, float]:
        chunking, search = option
        source = retriever if chunking is None else retriever.variants[chunking]
        measured = evaluate_retrieval(source.with_search(**dict(search)), queries, relevant, ks=(5, deep))
        return measured.mrr.mean, measured.recall[5].mean

    return sorted(options, key=goodness, reverse=True)


def _options(retriever: Retriever, space: RetrievalSpace) -> Iterable[tuple[str | None, Search]]:
    chunkings: Sequence[str | None] = [None, *(retriever.variants if space.chunkings else ())]
    orders = space.reranked if retriever.reranker is not None else (0,)
    for chunking, mode, diversity, reranked in product(chunkings, space.modes, space.diversity, orders):
        fusions: Sequence[Any] = space.fusions if mode == "hybrid" else space.fusions[:1]
        for fusion in fusions:
            changed = {"mode": mode, "diversity": diversity, "fusion": fusion, "reranked": reranked, "where": None}
            yield chunking, retriever.search.model_copy(update=changed)
