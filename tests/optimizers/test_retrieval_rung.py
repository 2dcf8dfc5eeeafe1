"""The retrieval rung: ranked on qrels without any call, raced with answers, kept only if it pays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.artifacts.load import load
from progspace.lms.models import installed
from progspace.optimizers.proposers.parts import Parts
from progspace.optimizers.proposers.retrieval import ranked_searches
from progspace.optimizers.retrieval_space import RetrievalSpace
from progspace.optimizers.standing import Standing
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.programs.retrieval import RetrievalChoice, retrievers_of
from progspace.retrievers.search import Search
from progspace.store.database import Store
from progspace.store.records import Cell

CODES = [f"{7919 * number % 900_000 + 100_000}" for number in range(1, 65)]
NAMES = ("pump", "valve", "gauge", "motor", "belt", "filter", "switch", "lamp")


def part(code: str) -> str:
    return NAMES[CODES.index(code) % len(NAMES)]


class Lookup(dspy.Module):
    """Looks up a part's number, and answers from what was found; as declared by a single passage of dense search."""

    def __init__(self, retriever: Any) -> None:
        super().__init__()
        self.retriever = retriever
        self.answer = dspy.Predict("passages, question -> name")

    def forward(self, question: str) -> dspy.Prediction:
        prediction: dspy.Prediction = self.answer(passages=str(self.retriever(question)), question=question)
        return prediction


def rule(prompt: str) -> str:
    """An LM that reads: it names the part whose number it is asked for, where a passage tells."""
    passages, _, question = prompt.rpartition("question")
    code = next((code for code in CODES if code in question), "")
    line = next((line for line in passages.splitlines() if f"number {code} " in line), "")
    name = next((name for name in NAMES if name in line), "unknown")
    return f"[[ ## name ## ]]\n{name}\n\n[[ ## completed ## ]]"


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not installed("all-minilm-l6-v2"):
        pytest.skip("the embedder is missing: progspace models install all-minilm-l6-v2")
    passages = [{"text": f"The part with the number {code} is a {part(code)}.", "source": code} for code in CODES]
    made = ps.retrievers.ingest(passages, collection="parts", path=tmp_path_factory.mktemp("collections"))
    with made.collection:
        yield made.with_search(mode="dense", k=1)


@pytest.fixture
def task(retriever: Any) -> ps.Task:
    forms = ("What is {}?", "Which part has the number {}?")
    rows = [{"question": form.format(code), "name": part(code), "code": code} for form in forms for code in CODES]
    return ps.Task(
        program=Lookup(retriever), examples=rows, inputs=["question"], metric=ps.metrics.exact_match("name"),
        relevant="code", name="parts",
    )  # fmt: skip


SPACE = ps.Space(
    formats=["chat"], instructions=[], demonstrations=[], answers=["direct"], votes=[1],
    retrieval={"queries": ["as given"], "judged": [0], "layouts": ["plain"], "orders": ["best first"]},
)  # fmt: skip


def test_searches_are_ranked_without_an_lm(retriever: Any, task: ps.Task) -> None:
    ranked = ranked_searches(retriever, task, RetrievalSpace(diversity=[0.0]))
    assert len(ranked) == 4
    assert ranked[0][1].mode != "dense"  # numbers are found by their letters, not by what they mean
    rows = [*task.train, *task.dev]
    without = ps.Task(program=task.program, examples=rows, inputs=["question"], metric=task.metric, test=())
    assert len(without.qrels()) == len(without.train)  # a label that stands in passages serves as well


@pytest.mark.parametrize(
    ("declared", "ways"),
    [
        ({"mode": "dense", "min_score": 0.45}, {("dense", "rrf", 0.0), ("dense", "rrf", 0.3)}),
        ({"mode": "sparse", "min_score": 2.0}, {("sparse", "rrf", 0.0)}),
        ({"mode": "hybrid", "fusion": "dbsf", "min_score": 0.5}, {("hybrid", "dbsf", 0.0)}),
        ({"mode": "hybrid", "diversity": 0.5, "min_score": 0.45}, {("hybrid", "rrf", 0.3)}),
    ],
)
def test_a_least_score_keeps_its_scale(retriever: Any, task: ps.Task, declared: Any, ways: Any) -> None:
    own = retriever.with_search(**declared)
    ranked = [search for _, search in ranked_searches(own, task, RetrievalSpace())]
    assert {(each.mode, each.fusion, each.diversity) for each in ranked} == ways
    assert {each.min_score for each in ranked} == {declared["min_score"]}
    assert RetrievalSpace(modes=["sparse"], diversity=[0.0]).choices(own).modes == (declared["mode"],)


def test_the_rung_is_kept_where_it_pays(rule_engine: Any, store: Store, task: ps.Task, tmp_path: Any) -> None:
    engine = rule_engine(rule)
    compiled = ps.compile(task, lm=engine.lm(), budget=ps.Budget(calls=1200), store=store, space=SPACE)
    report = compiled.report
    assert [rung.name for rung in report.rungs] == ["baseline", "retrieval"]
    assert report.winner.name == "retrieval"
    assert report.winner.test is not None
    assert report.winner.test.score > report.rungs[0].test.score  # type: ignore[union-attr]
    path = compiled.save(tmp_path / "parts.progspace.json")
    loaded = load(path, lm=engine.lm(), program=Lookup(task.program.retriever))
    assert loaded(question=f"What is {CODES[9]}?").name == part(CODES[9])
    one, other = (retrievers_of(each.module)["retriever"] for each in (loaded, compiled.program))
    assert one.identity == other.identity
    assert "The part with the number" not in path.read_text()


def test_a_space_can_leave_retrieval_alone(rule_engine: Any, store: Store, task: ps.Task) -> None:
    space = SPACE.model_copy(update={"retrieval": None})
    compiled = ps.compile(task, lm=rule_engine(rule).lm(), budget=ps.Budget(calls=300), store=store, space=space)
    assert "retrieval" not in [rung.name for rung in compiled.report.rungs]


def test_demonstrations_hold_no_passage_unless_asked_to(rule_engine: Any, task: ps.Task, tmp_path: Any) -> None:
    space = ps.Space(
        formats=["chat"], instructions=[], demonstrations=[4], selections=["bootstrapped"], answers=["direct"],
        votes=[1], retrieval=None,
    )  # fmt: skip
    told = {}
    for asked in (False, True):
        engine = rule_engine(rule)
        ps.compile(
            task, lm=engine.lm(), budget=ps.Budget(calls=800), store=tmp_path / f"{asked}.db",
            space=space.model_copy(update={"passages_in_demonstrations": asked}),
        )  # fmt: skip
        told[asked] = max(prompt.count("The part with the number") for prompt in engine.prompts)
    assert told[False] == 1  # that of the input itself
    assert told[True] > 1


def test_ways_to_retrieve_are_combined_with_formats(task: ps.Task) -> None:
    declared = Candidate.declared(task.program)
    compact = declared.with_choice(format=Format(kind="compact"))
    single = declared.with_retrieval(RetrievalChoice(search=Search(k=1)), path="retriever")
    cells = [Cell("p", str(i), "m", score=score) for i, score in enumerate([1.0, 0.0])]
    standings = [Standing(each, tuple(cells), order, "test") for order, each in enumerate([declared, compact, single])]
    parts = Parts.of(standings, ["answer"], most=None)
    both = parts.combined(declared, {"answer.format": "compact, free", "retriever.retrieval": "hybrid by rrf, k 1"})
    assert both.hash == compact.with_retrieval(single.retrievals["retriever"], path="retriever").hash
    back = parts.combined(both, {"answer.format": "as declared", "retriever.retrieval": "as declared"})
    assert back.hash == declared.hash
    assert len(parts.trials(standings)) == 3
