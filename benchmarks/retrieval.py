"""Retrieval on SQuAD: what finds the passage, and what an answer is worth without it, with it, and after a compile.

    python -m progspace.benchmarks.retrieval --data path/to/squad-mini

``path/to/squad-mini`` holds ``passages.jsonl``, ``train.jsonl`` and ``test.jsonl``. The passages are ingested into an
embedded collection. 200 answerable questions of train are searched; the sealed test is read at the end, by four
programs on the embedded LM: closed book, plain retrieval (``dspy.Predict`` over the declared retriever, in DSPy's chat
format), the ready-made module as declared, and what `ps.compile` makes of it. Ranking is measured on the answerable
questions of the whole test file, by the passage that each was asked of.

Half of SQuAD 2.0's questions have no answer. A program that always declines would score one half on them all, and a
small LM soon learns just that; so the search is for answers to answerable questions, and how often each program
declines the others is told apart.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dspy
from rich.console import Console

import progspace as ps

from ..evaluation import numbers
from ..evaluation.evaluation import Evaluation, compare_cells, evaluate_cells
from ..evaluation.matrix import Matrix
from ..evaluation.ranking import evaluate_retrieval
from ..lms.budget import Meter
from ..programs.rag import ClosedBook, QuestionAnswering
from ..programs.retrieval import ChosenRetriever, retrievers_of
from ..programs.wording import abstains
from ..progress import CompileProgress
from ..store.database import open_store
from .results import RESULTS, write_results
from .tasks import read_lines

__all__ = ["main"]

ROWS, TEST_ROWS, UNANSWERABLE_ROWS, TOKENS, DECLARED, DEEPEST = 200, 120, 40, 32, 3, 10


class PlainRetrieval(dspy.Module):
    """What a newcomer writes: some passages into the prompt."""

    def __init__(self, retriever: Any) -> None:
        super().__init__()
        self.retriever = retriever
        self.answer = dspy.Predict("context, question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        """Looks up, and asks."""
        context = [passage.text for passage in self.retriever(question)]
        prediction: dspy.Prediction = self.answer(context=context, question=question)
        return prediction


def _row(line: Mapping[str, Any]) -> dict[str, Any]:
    return {"question": line["question"], "answer": line["answers"], "passage_id": line["passage_id"]}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs it; writes ``results/retrieval.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-rows", type=int, default=TEST_ROWS)
    parser.add_argument("--unanswerable-rows", type=int, default=UNANSWERABLE_ROWS)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="bf16", help="of the LM; bf16 is faster")
    parser.add_argument("--store", type=Path, default=Path(".progspace/retrieval.db"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        passages = [
            {"text": line["text"], "title": line["title"], "source": line["id"]}
            for line in read_lines(arguments.data / "passages.jsonl")
        ]
        started = time.perf_counter()
        retriever = ps.retrievers.ingest(passages, collection="squad", path=folder)
        print(f"{len(passages)} passages ingested in {time.perf_counter() - started:.1f} s", flush=True)
        with retriever.collection:
            lines = _measured(retriever, arguments)
    write_results("retrieval", lines, arguments.results)


def _measured(retriever: Any, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    train = [_row(line) for line in read_lines(arguments.data / "train.jsonl")]
    test = [_row(line) for line in read_lines(arguments.data / "test.jsonl")]
    draw = random.Random(arguments.seed)  # noqa: S311 — reproducible, not secret
    answerable = [row for row in test if row["answer"]]
    unanswerable = [
        dspy.Example(**row).with_inputs("question")
        for row in draw.sample([row for row in test if not row["answer"]], arguments.unanswerable_rows)
    ]
    declared = retriever.with_search(k=DECLARED)
    task = ps.Task(
        program=QuestionAnswering(declared),
        examples=draw.sample([row for row in train if row["answer"]], ROWS),
        test=draw.sample(answerable, arguments.test_rows),
        inputs=["question"],
        metric=ps.metrics.answer_f1("answer"),
        name="squad-rag",
        seed=arguments.seed,
        relevant="passage_id",
    )
    lm = ps.lm("local", max_tokens=TOKENS, precision=arguments.precision)
    # Public text, the same for whoever asks: it may stand in demonstrations.
    space = ps.Space(passages_in_demonstrations=True)
    with open_store(arguments.store) as store, CompileProgress(Console(stderr=True)) as progress:
        compiled = ps.compile(
            task, lm=lm, budget=ps.Budget(calls=arguments.calls), store=store, seed=arguments.seed, space=space,
            progress=progress, test_rows=1,
        )  # fmt: skip
        print(compiled.report, flush=True)
        (found,) = retrievers_of(compiled.program.module).values()
        lines = [_ranked(name, each, answerable) for name, each in {
            "dense": retriever.with_search(mode="dense"),
            "BM25": retriever.with_search(mode="sparse"),
            "hybrid, as declared": retriever,
            "compiled": _deeper(found),
        }.items()]  # fmt: skip
        sealed = task.unseal_test("the retrieval benchmark scores four programs")
        programs = {
            "closed book": ClosedBook(),
            "plain retrieval": PlainRetrieval(declared),
            "ready-made, as declared": task.program,
            "compiled": compiled.program,
        }
        matrix = Matrix(store, task.metric, lm, Meter())
        cells = {name: matrix.fill(program, sealed) for name, program in programs.items()}
        declined = {name: _declined(matrix.fill(program, unanswerable)) for name, program in programs.items()}
    for name, own in cells.items():
        evaluation = evaluate_cells(own, sealed, seed=arguments.seed, name=name)
        against = compare_cells(own, cells["plain retrieval"], sealed, seed=arguments.seed)
        line = {
            **_told(evaluation), "versus_plain": against.test.difference, "p": against.test.p_value,
            "budget": arguments.calls, "precision": arguments.precision, "seed": arguments.seed,
            "declines_answerable": _declined(own),
            "declines_unanswerable": declined[name], "n_unanswerable": len(unanswerable),
        }  # fmt: skip
        lines.append(line)
        print(
            f"{name:<26} F1 {numbers.percent(evaluation.score)} [{numbers.interval(evaluation.interval)}]; declines "
            f"{numbers.percent(line['declines_unanswerable'])} of the unanswerable, "
            f"{numbers.percent(line['declines_answerable'])} of the others",
            flush=True,
        )
    return lines


def _deeper(found: Any) -> Any:
    """The compiled retrieval, asked for more passages than the program reads."""
    if not isinstance(found, ChosenRetriever) or found.choice.search is None:
        return found
    search = found.choice.search.model_copy(update={"k": DEEPEST})
    return ChosenRetriever(found.retriever, found.choice.model_copy(update={"search": search, "order": "best first"}))


def _ranked(name: str, retriever: Any, test: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    measured = evaluate_retrieval(
        retriever, [row["question"] for row in test], [{row["passage_id"]} for row in test], ks=(1, 5, DEEPEST)
    )
    print(f"{name:<22} {measured}", flush=True)
    return {
        "measure": "ranking", "name": name, "n": measured.n, "mrr": measured.mrr.mean,
        **{f"recall@{k}": value.mean for k, value in measured.recall.items()},
    }  # fmt: skip


def _told(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "measure": "answers",
        "name": evaluation.name,
        "score": evaluation.score,
        "low": evaluation.interval.low,
        "high": evaluation.interval.high,
        "n_test": evaluation.n,
        "errors": evaluation.errors,
        "calls": evaluation.calls,
        "tokens_per_example": evaluation.tokens_per_example,
    }


def _declined(cells: Sequence[Any]) -> float:
    """The share of questions that were not answered, or that the program failed on."""
    return sum(abstains(cell.output.get("answer")) for cell in cells) / len(cells)


if __name__ == "__main__":
    main()
