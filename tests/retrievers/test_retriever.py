"""Retrievers, alone and in DSPy's modules."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from pydantic import ValidationError

from progspace import RetrievalError
from progspace.retrievers import Collection, Passages, Retriever, Search


@pytest.fixture
def retriever(filled: Collection) -> Retriever:
    return Retriever(filled, Search(k=2))


def texts(passages: Any) -> list[str]:
    return [each.text for each in passages]


def test_it_is_called(retriever: Retriever) -> None:
    found = retriever("the office cat")
    assert isinstance(found, Passages)
    assert len(found) == 2
    assert texts(retriever("the office cat", k=1)) == ["The office cat is called Minka."]
    assert texts(retriever("the office cat", 1)) == ["The office cat is called Minka."]
    assert [texts(each) for each in retriever.many(["office cat", "travel"], k=1)] == [
        ["The office cat is called Minka."],
        ["Travel is booked by the assistant."],
    ]
    for k in (0, -1, 2.5, True):
        with pytest.raises(RetrievalError, match="k is the number"):
            retriever("cat", k=k)  # type: ignore[arg-type]


async def test_it_is_awaited(retriever: Retriever) -> None:
    assert texts(await retriever.acall("the office cat", k=1)) == ["The office cat is called Minka."]


def test_several_queries_are_fused(retriever: Retriever) -> None:
    found = retriever(["office cat", "leave days", "leave months"], k=3)
    assert set(texts(found)) == {
        "The office cat is called Minka.",
        "Leave is twenty five days a year.",
        "Parental leave is twelve months.",
    }
    assert found[0].text.endswith(("days a year.", "twelve months."))  # two of the queries agree on it
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert retriever([]) == []
    assert retriever(["", " "]) == []


def test_it_serves_dspy_retrieve(retriever: Retriever) -> None:
    with dspy.context(rm=retriever):
        assert dspy.Retrieve(k=1)("the office cat").passages == ["The office cat is called Minka."]
        with pytest.raises(RetrievalError, match="by_prob cannot be given"):
            dspy.Retrieve(k=1)("the office cat", by_prob=False)


class Answer(dspy.Module):
    def __init__(self, retriever: Retriever) -> None:
        super().__init__()
        self.retriever = retriever
        self.answer = dspy.Predict("context, question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return self.answer(context=str(self.retriever(question, k=1)), question=question)


def test_modules_that_hold_it_are_copied_and_run(retriever: Retriever, rule_engine: Any) -> None:
    module = Answer(retriever)
    twin = module.deepcopy()
    assert twin.retriever is copy.copy(retriever) is retriever
    assert module.reset_copy().retriever is retriever
    engine = rule_engine(lambda prompt: "[[ ## answer ## ]]\nMinka\n\n[[ ## completed ## ]]")
    with dspy.context(lm=engine.lm()):
        assert twin(question="the office cat").answer == "Minka"
    assert "«The office cat is called Minka.»" in engine.prompts[0]
    assert len(twin.predictors()) == 1
    with pytest.raises(RetrievalError, match="cannot be pickled"):
        pickle.dumps(retriever)


def test_a_user_sees_what_his_groups_see(retriever: Retriever) -> None:
    query = "salaries paid working day chief earns"
    hidden = "Salaries are paid on the last working day."
    assert hidden not in texts(retriever(query, k=6))
    as_hr = retriever.as_user(["hr"])
    assert as_hr(query)[0].text == hidden
    assert hidden in texts(as_hr([query, "cat"]))
    assert as_hr.with_search(mode="sparse")(query)[0].text == hidden
    assert hidden not in texts(as_hr.as_user([])(query, k=6))
    assert hidden not in texts(retriever(query, k=6))  # it is another retriever that may
    with pytest.raises(RetrievalError, match=r"as_user\(\['hr'\]\)"):
        retriever.as_user("hr")
    for wrong in (None, 3, [1], ["hr", None], b"hr"):
        with pytest.raises(RetrievalError, match=r"a list of names, not .*as_user\(\[\]\)"):
            retriever.as_user(wrong)  # type: ignore[arg-type]


def test_variants_follow(retriever: Retriever) -> None:
    both = Retriever(retriever.collection, variants={"short": retriever})
    changed = both.as_user(["hr"]).with_search(k=4)
    assert changed.variants["short"].groups == ("hr",)
    assert changed.variants["short"].search.k == 4
    with pytest.raises(TypeError):
        both.variants["x"] = retriever  # type: ignore[index]


def test_wrong_changes_are_refused(retriever: Retriever) -> None:
    with pytest.raises(ValidationError):
        retriever.with_search(mode="fuzzy")
    with pytest.raises(ValidationError):
        retriever.with_search(top_k=3)


def test_its_identity_is_all_that_answers_depend_on(retriever: Retriever, place: Callable[..., Collection]) -> None:
    identity = retriever.identity
    assert identity == Retriever(retriever.collection, Search(k=2)).identity
    others = [
        retriever.with_search(k=3),
        retriever.with_search(where={"source": "1.md"}),
        retriever.as_user(["hr"]),
        retriever.as_user([]),
        Retriever(retriever.collection, Search(k=2), variants={"short": retriever}),
    ]
    assert len({identity, *(each.identity for each in others)}) == 6
    assert retriever.as_user(["a", "b"]).identity == retriever.as_user(["b", "a", "b"]).identity
    retriever.collection.delete(list(retriever("cat", k=1).ids()))
    assert retriever.identity != identity
