"""Suites of tasks as data: what is compiled, with how many calls; one entry for each thing that people use LMs for."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy

import progspace as ps

from ..programs import library_code, policies, release_notes, sentiment
from ..programs.policies import write_policies
from ..programs.score import Score
from ..programs.summarization import Summarization
from ..programs.wording import holds
from .tasks import read_lines, real_task

__all__ = ["SUITES", "Entry"]

_TEST_ROWS = 150
_Maker = Callable[[Path | None, int], AbstractContextManager[ps.Task]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A task of a suite, and what its search may cost.

    Attributes:
        name: Of the task.
        make: Makes the task of a seed, from the folder of public data where it needs any; closes what it opened.
        calls: Of the search.
        max_tokens: Of an answer.
        space: What may be chosen.
        public: Whether it needs the folder.
        robust_rows: Sealed rows that are perturbed for the robust score.
    """

    name: str
    make: _Maker
    calls: int
    max_tokens: int = 32
    space: ps.Space = field(default_factory=ps.Space)
    public: bool = True
    robust_rows: int = 30


def _real(name: str, rows: int = 200) -> _Maker:
    @contextmanager
    def make(data: Path | None, seed: int) -> Iterator[ps.Task]:
        assert data is not None  # noqa: S101 — for the type checker: entries that need it say so
        yield real_task(name, data, seed=seed, rows=rows, test_rows=_TEST_ROWS)

    return make


@contextmanager
def _sentiment(data: Path | None, seed: int) -> Iterator[ps.Task]:  # noqa: ARG001
    yield sentiment.task(seed=seed)


@contextmanager
def _release_notes(data: Path | None, seed: int) -> Iterator[ps.Task]:  # noqa: ARG001
    yield release_notes.task(seed=seed, count=300)


@contextmanager
def _policies(data: Path | None, seed: int) -> Iterator[ps.Task]:  # noqa: ARG001
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        retriever = ps.retrievers.ingest(
            write_policies(place / "policies"), collection="policies", path=place / "vectors"
        )
        with retriever.collection:
            yield policies.task(retriever.with_search(k=3), seed=seed)


@contextmanager
def _code(data: Path | None, seed: int) -> Iterator[ps.Task]:  # noqa: ARG001
    with tempfile.TemporaryDirectory() as folder:
        retriever = ps.retrievers.ingest(library_code.documentation(), collection="orrin", path=Path(folder))
        with retriever.collection:
            yield library_code.task(retriever, max_tokens=400, seed=seed)


class _WriteQuery(dspy.Signature):
    """Write a query that finds the encyclopedia's passage that answers the question."""

    question: str = dspy.InputField()
    query: str = dspy.OutputField()


@dataclass(frozen=True)
class _RankOfPassage:
    """Reciprocal rank, in the first ten, of the passage that answers; by the words of the query (BM25)."""

    retriever: Any
    name: str = "reciprocal_rank@10"

    def __call__(self, example: dspy.Example, prediction: Any, trace: Any = None) -> Any:
        query = str(prediction.get("query") or "").strip()
        found = [passage.source for passage in self.retriever(query, k=10)] if query else []
        rank = found.index(example.passage_id) + 1 if example.passage_id in found else None
        judged = Score(
            score=1 / rank if rank else 0.0,
            feedback=f"the passage came {rank}." if rank else "the passage is not among ten.",
        )
        return judged if trace is None else bool(judged)


def _squad(data: Path | None, part: str) -> list[dict[str, Any]]:
    assert data is not None  # noqa: S101 — as above
    return read_lines(data / f"squad-mini/{part}.jsonl")


@contextmanager
def _query(data: Path | None, seed: int) -> Iterator[ps.Task]:
    passages = [{"text": row["text"], "title": row["title"], "source": row["id"]} for row in _squad(data, "passages")]
    train, test = (
        [{"question": row["question"], "passage_id": row["passage_id"]} for row in _squad(data, part) if row["answers"]]
        for part in ("train", "test")
    )
    draw = random.Random(seed)  # noqa: S311 — reproducible, not secret
    with tempfile.TemporaryDirectory() as folder:
        retriever = ps.retrievers.ingest(passages, collection="squad", path=folder)
        with retriever.collection:
            yield ps.Task(
                program=dspy.Predict(_WriteQuery),
                examples=draw.sample(train, 150),
                test=random.Random(1).sample(test, _TEST_ROWS),  # noqa: S311 — the same test rows for every seed
                inputs=["question"],
                metric=_RankOfPassage(retriever.with_search(mode="sparse")),
                name="squad-query",
                seed=seed,
            )


_SUMMARY_WORDS = 40


def facts_kept(example: dspy.Example, prediction: Any, trace: Any = None) -> Any:
    """The share of a passage's facts that a summary of at most 40 words holds; a longer one is cut there."""
    summary = " ".join(str(prediction.get("summary") or "").split()[:_SUMMARY_WORDS])
    kept = [any(holds(summary, wording) for wording in fact) for fact in example.facts]
    lost = [fact[0] for fact, is_kept in zip(example.facts, kept, strict=True) if not is_kept]
    judged = Score(score=sum(kept) / len(kept), feedback=f"missing: {'; '.join(lost)}" if lost else "all facts kept.")
    return judged if trace is None else bool(judged)


@contextmanager
def _summary(data: Path | None, seed: int) -> Iterator[ps.Task]:
    texts = {row["id"]: row["text"] for row in _squad(data, "passages")}

    def rows(part: str) -> list[dict[str, Any]]:
        facts: dict[str, list[list[str]]] = {}
        for row in _squad(data, part):
            if row["answers"]:
                facts.setdefault(row["passage_id"], []).append(row["answers"])
        return [{"text": texts[key], "facts": known} for key, known in facts.items() if len(known) > 1]

    draw = random.Random(seed)  # noqa: S311 — reproducible, not secret
    train, test = rows("train"), rows("test")
    yield ps.Task(
        program=Summarization(),
        examples=draw.sample(train, min(80, len(train))),
        test=test[:80],
        inputs=["text"],
        metric=facts_kept,
        name="squad-summary",
        seed=seed,
    )


PRICES = {"pen": 2, "lamp": 18, "desk": 140, "chair": 65, "mug": 7, "bag": 31, "clock": 24, "rug": 52}


def price(item: str) -> str:
    """Gives the price of one item, in crowns."""
    known = PRICES.get(item.strip().lower().removesuffix("s"))
    return f"no such item: {item}" if known is None else str(known)


def multiply(a: float, b: float) -> str:
    """Multiplies two numbers."""
    return f"{a * b:g}"


class _Order(dspy.Signature):
    """Tell what an order costs, in crowns. Prices are only known to the tool."""

    question: str = dspy.InputField()
    cost: int = dspy.OutputField()


@contextmanager
def _agent(data: Path | None, seed: int) -> Iterator[ps.Task]:  # noqa: ARG001
    orders = [(count, item) for item in PRICES for count in range(2, 12)]
    random.Random(seed).shuffle(orders)  # noqa: S311 — reproducible, not secret
    rows = [{"question": f"What do {n} {item}s cost?", "cost": n * PRICES[item]} for n, item in orders]
    yield ps.Task(
        program=dspy.ReAct(_Order, tools=[price, multiply], max_iters=3),
        examples=rows,
        inputs=["question"],
        metric=ps.metrics.numeric("cost"),
        name="order-agent",
        seed=seed,
    )


SUITES: dict[str, tuple[Entry, ...]] = {
    "quick": (
        Entry("sentiment", _sentiment, 150, 16, public=False, robust_rows=0),
        Entry("policies", _policies, 120, 24, public=False, robust_rows=0),
        Entry("release-notes", _release_notes, 120, 40, public=False, robust_rows=0),
    ),
    "core": (
        Entry("movie-sentiment", _real("movie-sentiment"), 500, 16),
        Entry("banking77-10", _real("banking77-10"), 500, 16),
        Entry("squad-reading", _real("squad-reading", 150), 400),
        Entry("policies", _policies, 300, public=False),
        Entry("squad-query", _query, 300),
        Entry("squad-summary", _summary, 200, 64),
        Entry("library-code", _code, 150, 96, public=False, robust_rows=10),
        Entry("gist-chain", _real("gist-chain", 150), 400, 24),
        Entry("order-agent", _agent, 200, 48, public=False, robust_rows=10),
        Entry("release-notes", _release_notes, 400, 48, public=False),
    ),
}
"""By name."""
