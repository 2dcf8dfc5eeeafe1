"""Ranking measures: by hand, and against `ranx` on rankings drawn at random."""

from __future__ import annotations

import random
from typing import Any

import pytest

import progspace as ps
from progspace.evaluation.ranking import evaluate_retrieval
from progspace.retrievers.passage import Passage, Passages


class Fixed:
    """Gives each query its ranking."""

    def __init__(self, rankings: dict[str, list[str]]) -> None:
        self.rankings = rankings

    def __call__(self, query: str, k: int) -> Passages:
        names = self.rankings[query][:k]
        return Passages(Passage(f"{name}-{at}", f"text of {name}", name, at) for at, name in enumerate(names))


class Many(Fixed):
    def __call__(self, query: str, k: int) -> Passages:
        raise AssertionError("queries are asked together where that is possible")

    def many(self, queries: list[str], k: int) -> list[Passages]:
        return [Fixed.__call__(self, query, k) for query in queries]


def test_by_hand() -> None:
    retriever = Many({"one": ["a", "b", "c"], "two": ["x", "y", "b"], "three": []})
    found = evaluate_retrieval(retriever, ["one", "two", "three"], [["b", "c"], "b", {"z": 2}], ks=(1, 2, 3))
    assert found.ranks == ((2, 3), (3,), ())
    assert found.recall[1].mean == 0
    assert found.recall[2].scores == (0.5, 0, 0)
    assert found.recall[3].scores == (1, 1, 0)
    assert found.mrr.scores == pytest.approx((1 / 2, 1 / 3, 0))
    assert found.recall[3].interval.method == "Wilson"
    assert found.mrr.interval.low <= found.mrr.mean <= found.mrr.interval.high
    lines = str(found).splitlines()
    assert len(lines) == 8
    assert lines[3].split()[:2] == ["recall@3", "66.7"]
    assert len({len(line) for line in lines}) == 1


def test_a_source_counts_once_and_its_other_passages_keep_their_ranks() -> None:
    found = evaluate_retrieval(Fixed({"q": ["a", "a", "b"]}), ["q"], [["a", "b"]], ks=(2, 3))
    assert found.ranks == ((1, 3),)
    assert found.recall[2].mean == 0.5
    assert found.ndcg[3].mean < 1


def test_relevance_by_id_by_a_key_and_by_a_predicate() -> None:
    retriever = Fixed({"q": ["a", "b", "b"]})

    def score(relevant: Any, **by: Any) -> tuple[float, float]:
        found = evaluate_retrieval(retriever, ["q"], [relevant], ks=[3], **by)
        return found.mrr.mean, found.recall[3].mean

    assert score("b-2", key="id") == (1 / 3, 1)
    assert score(["text of b"], key=lambda passage: passage.text) == (1 / 2, 1)
    assert score(lambda passage: passage.position > 0) == (1 / 2, 1)
    assert score(lambda passage: "z" in passage.text) == (0, 0)


@pytest.mark.parametrize("nothing", [[], "", {"a": 0}])
def test_what_cannot_be_scored_is_told_by_its_row(nothing: Any) -> None:
    retriever = Fixed({"q": ["a"]})
    with pytest.raises(ps.DataError, match="row 2"):
        evaluate_retrieval(retriever, ["q", "q"], ["a", nothing])
    with pytest.raises(ps.DataError, match="2 queries, 1 judgements"):
        evaluate_retrieval(retriever, ["q", "q"], ["a"])
    with pytest.raises(ValueError, match="from 1"):
        evaluate_retrieval(retriever, ["q"], ["a"], ks=[0])


def test_as_ranx_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # to compile it takes a minute
    ranx = pytest.importorskip("ranx")
    draw = random.Random(0)
    names = [f"d{number}" for number in range(30)]
    rankings, grades = {}, {}
    for number in range(60):
        query = f"q{number}"
        rankings[query] = draw.sample(names, draw.randint(1, 12))
        grades[query] = {name: draw.randint(1, 4) for name in draw.sample(names, draw.randint(1, 6))}
    run = ranx.Run({q: {name: 1.0 / at for at, name in enumerate(each, 1)} for q, each in rankings.items()})
    for judged in (grades, {q: dict.fromkeys(each, 1) for q, each in grades.items()}):
        measures = ["mrr", "recall@1", "recall@5", "recall@10", "ndcg@1", "ndcg@5", "ndcg@10"]
        wanted = ranx.evaluate(ranx.Qrels(judged), run, measures, return_mean=False)
        order = list(run.keys())
        found = evaluate_retrieval(Fixed(rankings), order, [judged[q] for q in order], ks=(1, 5, 10, 12))
        told = {"mrr": found.mrr, **{f"recall@{k}": each for k, each in found.recall.items()}}
        told |= {f"ndcg@{k}": each for k, each in found.ndcg.items()}
        for measure in measures:
            assert told[measure].scores == pytest.approx(tuple(wanted[measure])), measure
