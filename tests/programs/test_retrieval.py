"""A retrieval step does as a candidate chose; the module itself, rights and stored scores stay as they should."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.identity import program_identity
from progspace.lms.models import installed
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.programs.qrels import qrels
from progspace.programs.retrieval import ChosenRetriever, RetrievalChoice, place_retriever, retrievers_of
from progspace.retrievers.search import Search

PASSAGES = [
    {"text": "Travel is booked a week ahead through the portal.", "source": "travel.md"},
    {"text": "Laptops are replaced after four years.", "source": "laptops.md"},
    {"text": "The canteen opens at half past eleven.", "source": "canteen.md"},
    {"text": "Bonuses are paid in April, and amount to a twelfth.", "source": "bonus.md", "groups": ["hr"]},
]


class Lookup(dspy.Module):
    """Looks up, then answers."""

    def __init__(self, retriever: Any) -> None:
        super().__init__()
        self.retriever = retriever
        self.answer = dspy.Predict("passages, question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        found = self.retriever(question, k=2)
        answer = self.answer(passages=str(found), question=question).answer
        return dspy.Prediction(answer=answer, passages=found)


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not installed("all-minilm-l6-v2"):
        pytest.skip("the embedder is missing: progspace models install all-minilm-l6-v2")
    made = ps.retrievers.ingest(PASSAGES, collection="policies", path=tmp_path_factory.mktemp("collections"))
    with made.collection:
        yield made


def test_a_choice_is_applied_to_a_copy(retriever: Any) -> None:
    module = Lookup(retriever)
    candidate = Candidate.declared(module).with_retrieval(RetrievalChoice(search=Search(k=1)), path="retriever")
    program = candidate.apply(module)
    assert module.retriever is retriever
    placed = retrievers_of(program.module)["retriever"]
    assert isinstance(placed, ChosenRetriever)
    assert len(placed("When does the canteen open?", k=3)) == 1
    assert placed("When does the canteen open?")[0].source == "canteen.md"


def test_a_choice_makes_another_program_and_none_leaves_old_hashes_alone(retriever: Any, rule_engine: Any) -> None:
    module, lm = Lookup(retriever), rule_engine(lambda _: "").lm()
    declared = Candidate.declared(module)
    chosen = declared.with_retrieval(RetrievalChoice(search=Search(mode="sparse")), path="retriever")
    assert declared.hash != chosen.hash
    assert "retrievals" not in declared.model_dump(exclude={"retrievals"})
    assert program_identity(declared.apply(module), lm) != program_identity(chosen.apply(module), lm)
    assert program_identity(chosen.apply(module), lm) == program_identity(chosen.apply(module), lm)
    assert Candidate.model_validate(chosen.model_dump(mode="json")).hash == chosen.hash


def test_new_knowledge_makes_another_program(tmp_path: Path, rule_engine: Any, retriever: Any) -> None:
    lm = rule_engine(lambda _: "").lm()
    del retriever  # for its skip
    made = ps.retrievers.ingest(PASSAGES[:2], collection="some", path=tmp_path)
    before = program_identity(Lookup(made), lm)
    made.collection.close()
    made = ps.retrievers.ingest(PASSAGES[:3], collection="some", path=tmp_path)
    grown = program_identity(Lookup(made), lm)
    assert grown != before
    made.collection.close()
    rights = [{**each, "groups": ["staff"]} for each in PASSAGES[:3]]
    made = ps.retrievers.ingest(rights, collection="some", path=tmp_path)
    assert program_identity(Lookup(made), lm) != grown
    made.collection.close()


def looking_in(retriever: Any) -> Any:
    def look(q: str) -> str:
        return str(retriever(q))

    return look


def test_knowledge_of_a_tool_counts_and_its_use_does_not(retriever: Any, rule_engine: Any) -> None:
    lm, seen = rule_engine(lambda _: "").lm(), set()
    for each in (retriever, retriever.with_search(k=1)):
        agent = dspy.ReAct("question -> answer", tools=[looking_in(each)])
        before = program_identity(agent, lm)
        agent.tools["look"](q="canteen")
        assert program_identity(agent, lm) == program_identity(agent.deepcopy(), lm) == before
        seen.add(before)
    assert len(seen) == 2


def test_rights_are_those_of_the_caller_whatever_was_chosen(retriever: Any) -> None:
    choice = RetrievalChoice(search=Search(k=4, mode="sparse"))
    public = ChosenRetriever(retriever, choice)
    assert "bonus.md" not in {each.source for each in public("When are bonuses paid?")}
    assert "bonus.md" in {each.source for each in public.as_user(["hr"])("When are bonuses paid?")}


def test_a_query_can_be_rewritten_expanded_or_supposed(retriever: Any, rule_engine: Any) -> None:
    written = {True: "canteen opening time", False: "Laptops last four years."}
    engine = rule_engine(lambda prompt: written["Search Query" in prompt])
    module = Lookup(retriever)
    for query, first in (("rewritten", "canteen.md"), ("hypothetical", "laptops.md")):
        choice = RetrievalChoice(search=Search(k=2, mode="sparse"), query=query)
        candidate = Candidate.declared(module).with_choice(format=Format(kind="compact"))
        program = candidate.with_retrieval(choice, path="retriever").apply(module, engine.lm())
        assert first in {each.source for each in program(question="When is lunch?").passages}
    expanded = ChosenRetriever(retriever, RetrievalChoice(search=Search(k=4), query="expanded"))
    with dspy.context(lm=engine.lm()):
        assert len(expanded("laptops")) <= 4
    assert all("bonus" not in prompt.lower() for prompt in engine.prompts)


def test_an_unwritten_query_leaves_the_one_that_there_was(retriever: Any, rule_engine: Any) -> None:
    chosen = ChosenRetriever(retriever, RetrievalChoice(search=Search(k=1), query="rewritten"))
    with dspy.context(lm=rule_engine(lambda _: " ").lm()):
        assert chosen("When does the canteen open?")[0].source == "canteen.md"


async def test_judged_passages_that_help_come_first(retriever: Any, rule_engine: Any) -> None:
    engine = rule_engine(lambda prompt: "yes" if "Laptops are replaced" in prompt else "no")
    choice = RetrievalChoice(search=Search(k=2), judged=3)
    module = Lookup(retriever)
    program = Candidate.declared(module).with_retrieval(choice, path="retriever").apply(module, engine.lm())
    chosen = retrievers_of(program.module)["retriever"]
    with dspy.context(lm=engine.lm(), adapter=program._adapter):
        assert chosen("What is replaced in the canteen?")[0].source == "laptops.md"
        assert (await chosen.acall("What is replaced in the canteen?"))[0].source == "laptops.md"


async def test_no_query_finds_nothing_whatever_was_chosen(retriever: Any) -> None:
    for choice in (RetrievalChoice(judged=3), RetrievalChoice(query="rewritten", judged=3)):
        chosen = ChosenRetriever(retriever, choice)
        assert chosen([]) == await chosen.acall([]) == retriever([]) == []


def test_the_best_can_stand_last(retriever: Any) -> None:
    first = ChosenRetriever(retriever, RetrievalChoice(search=Search(k=3)))("travel portal")
    last = ChosenRetriever(retriever, RetrievalChoice(search=Search(k=3), order="best last"))("travel portal")
    assert list(last) == list(first)
    assert str(last).splitlines() == str(first).splitlines()[::-1]
    # Where not all fit, the best stays.
    assert first[0].text[:10] in last.text(max_tokens=25)
    assert first[-1].text[:10] not in last.text(max_tokens=25)


def test_retrievers_are_found_wherever_they_are_held(retriever: Any) -> None:
    class Nested(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hops = [Lookup(retriever), Lookup(retriever)]
            self.by_name = {"policies": retriever}

    module = Nested()
    assert set(retrievers_of(module)) == {"hops[0].retriever", "hops[1].retriever", "by_name['policies']"}
    other = ChosenRetriever(retriever, RetrievalChoice(order="best last"))
    place_retriever(module, "hops[1].retriever", other)
    place_retriever(module, "by_name['policies']", other)
    assert (module.hops[0].retriever, module.hops[1].retriever, module.by_name["policies"]) == (retriever, other, other)
    with pytest.raises(ps.ProgramError, match="hops"):
        place_retriever(module, "elsewhere", other)


def test_a_candidate_of_another_module_is_refused(retriever: Any) -> None:
    candidate = Candidate.declared(Lookup(retriever)).with_retrieval(RetrievalChoice(), path="other")
    with pytest.raises(ps.ProgramError, match="retriever"):
        candidate.apply(Lookup(retriever))
    with pytest.raises(ps.ProgramError, match="chunking"):
        ChosenRetriever(retriever, RetrievalChoice(chunking="512"))


def test_a_copy_of_a_module_shares_its_collection(retriever: Any) -> None:
    module = Lookup(retriever)
    assert module.deepcopy().retriever is retriever
    assert copy.deepcopy(ChosenRetriever(retriever, RetrievalChoice())).retriever is retriever


def test_judgements_come_from_the_data_or_from_labels() -> None:
    rows = [
        dspy.Example(question="Who?", answer=["the boss", "a"], passage="1"),
        dspy.Example(question="What?", answer=[], passage=["2", "3"]),
    ]
    named = qrels(rows, query="question", relevant="passage")
    assert [each.relevant for each in named] == [{"1"}, {"2", "3"}]
    told = qrels(rows, query="question", labels=["answer"])
    assert [each.holds for each in told] == [("the boss",)]
    with pytest.raises(ps.DataError, match="row 1"):
        qrels(rows, query="asked")
    with pytest.raises(ps.DataError, match="passage"):
        qrels([dspy.Example(question="Who?", passage=3)], query="question", relevant="passage")


class Longest:
    """A reranker that knows one thing: the longer, the better."""

    name = "longest"

    def score(self, query: str, texts: Any) -> list[float]:
        return [float(len(text)) for text in texts]


def test_a_reranker_puts_what_was_found_in_order(retriever: Any) -> None:
    own = retriever.with_reranker(Longest(), reranked=3)
    found = own("When does the canteen open?", k=2)
    assert [each.source for each in found] == ["travel.md", "canteen.md"]
    assert found[0].score > found[1].score
    assert [[each.id for each in one] for one in own.many(["When does the canteen open?"], k=2)] == [
        [p.id for p in found]
    ]
    assert own.identity != retriever.identity
    assert ChosenRetriever(own, RetrievalChoice(search=Search(k=1)))("canteen")[0].source == "canteen.md"
    with pytest.raises(ps.RetrievalError, match="no reranker"):
        retriever.with_search(reranked=5)("canteen")
