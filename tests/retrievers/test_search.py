"""Searches as choices, and the steps that they become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from progspace.retrievers import Search
from progspace.retrievers.plan import TIES, Condition, Fused, Nearest, Step, conditions, plan
from progspace.retrievers.sparse import Bm25Settings, Sparse, SparseEncoder


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "fuzzy"},
        {"k": 0},
        {"candidates": 0},
        {"diversity": 1.1},
        {"where": {"sorce": "a.md"}},
        {"where": {"source": []}},
        {"where": {"source": 3}},
        {"where": {"position": "3"}},
        {"where": {"position": True}},
        {"where": {"source": "\ud800"}},
        {"where": {"text": "a"}},
        {"rerank": True},
    ],
)
def test_what_cannot_be_searched_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Search(**settings)


def test_a_search_is_a_value() -> None:
    one, two = Search(where={"source": ["a", "b"]}), Search(where={"source": ("a", "b")})
    assert one == two
    assert hash(one) == hash(two)
    assert Search.model_validate_json(one.model_dump_json()) == one
    with pytest.raises(ValidationError):
        one.k = 3  # type: ignore[misc]


def steps(step: Step) -> list[Step]:
    return [step, *(each for inner in step.inner for each in steps(inner))]


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
@pytest.mark.parametrize("diversity", [0.0, 0.5])
def test_rights_stand_in_every_step(mode: Any, diversity: float) -> None:
    search = Search(mode=mode, diversity=diversity, where={"position": [1, 2]})
    must = conditions(search, ["hr", "*", "\ud800", ""])
    assert must == (Condition("groups", ("*", "hr")), Condition("position", (1, 2)))
    made = plan(search, must, np.ones(3, np.float32), Sparse([1], [1.0]))
    assert made is not None
    assert all(step.conditions == must for step in steps(made))
    # Of what is fused the engine cuts off no ties, as it does so by chance.
    assert made.limit == (5 + TIES if isinstance(made.query, Fused) else 5)
    assert [step.limit for step in steps(made)[1:]] == [
        100 if isinstance(step.query, Fused) else 50 for step in steps(made)[1:]
    ]


def test_each_arm_gives_as_many_as_are_asked_for() -> None:
    made = plan(Search(k=80, candidates=10), (), np.ones(3, np.float32), Sparse([1], [1.0]))
    assert made is not None
    assert [step.limit for step in steps(made)] == [80 + TIES, 80, 80]


def test_without_terms_a_hybrid_search_is_of_one_arm() -> None:
    made = plan(Search(), (), np.ones(3, np.float32), Sparse([], []))
    assert made is not None
    assert isinstance(made.query, Fused)
    assert [isinstance(step.query, Nearest) for step in made.inner] == [True]
    assert plan(Search(mode="sparse"), (), None, Sparse([], [])) is None


def test_terms_of_each_language_are_its_own() -> None:
    german = SparseEncoder(Bm25Settings(language="german"))
    assert german.query("die Urlaubstage") == german.query("Urlaubstag")
    assert german.query("die Katze").indices != SparseEncoder(Bm25Settings()).query("die Katze").indices
    assert len(SparseEncoder(Bm25Settings()).query("日本語 テキスト").indices) == 2
    weights = dict(zip(*(lambda v: (v.indices, v.values))(german.document("Hund Hund Katze")), strict=True))
    assert len(set(weights.values())) == 2  # a term that stands there twice weighs more
