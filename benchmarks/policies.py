"""Fresh and confidential: a company's policies on the embedded LM, by heart and from passages.

    python -m progspace.benchmarks.policies

Three questions are put. Does an LM that reads answer what one that does not cannot know? When a policy changes and is
ingested again, does the answer follow? Does a caller without rights ever see, or send to the LM, what is confidential?
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

import progspace as ps

from ..evaluation import numbers
from ..evaluation.ranking import evaluate_retrieval
from ..evaluation.statistics import mean_interval
from ..programs.formats import Format
from ..programs.policies import CONFIDENTIAL, questions, write_policies
from ..programs.program import Manner, Program
from ..programs.rag import ClosedBook, QuestionAnswering
from ..programs.wording import holds
from ..retrievers import Retriever
from ..retrievers.ingesting import ingest
from .results import write_results

GROUPS = ("hr", "finance", "board")
_WORKERS = 8
_LONGEST_ANSWER = 40


class Prompts(BaseCallback):
    """Keeps what is sent to an LM."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002 — DSPy's
        """Takes a call's inputs."""
        self.sent.append(str(inputs))


def compact(module: dspy.Module, lm: dspy.BaseLM) -> Program:
    """The module as this LM understands it: completion-like prompts."""
    return Program(module, {name: Manner(format=Format(kind="compact")) for name, _ in module.named_predictors()}, lm)


def answers(program: Program, examples: Sequence[dspy.Example]) -> list[dspy.Prediction]:
    """Runs a program on each example."""
    settings = dspy.settings.copy()

    def one(example: dspy.Example) -> dspy.Prediction:
        with dspy.context(**settings):
            return program(**example.inputs())

    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(one, examples))


def scores(name: str, examples: Sequence[dspy.Example], given: Sequence[dspy.Prediction]) -> dict[str, Any]:
    """What is kept of a program: its means, those of the answer with intervals."""
    told: dict[str, Any] = {"task": "policies", "optimizer": name, "n": len(examples)}
    answerable = [bool(example.answers) for example in examples]
    parts = {
        "f1": (ps.metrics.answer_f1(gold="answers"), True),
        "exact": (ps.metrics.answer_exact(gold="answers"), True),
        "groundedness": (ps.metrics.groundedness(), True),
        "citation_precision": (ps.metrics.citation_precision(relevant="source"), True),
        "hallucination": (ps.metrics.hallucination(gold="answers"), False),
    }
    for part, (metric, wanted) in parts.items():
        rows = zip(examples, given, answerable, strict=True)
        values = [metric(example, each).score for example, each, kind in rows if kind is wanted]
        interval = mean_interval(values)
        told[part] = round(sum(values) / len(values), 4)
        told[f"{part}_low"], told[f"{part}_high"] = round(interval.low, 4), round(interval.high, 4)
    return told


def says(given: Sequence[dspy.Prediction], examples: Sequence[dspy.Example], field: str) -> int:
    """How many answers hold a right answer of a field."""
    pairs = zip(given, examples, strict=True)
    return sum(any(holds(each.answer, right) for right in example[field]) for each, example in pairs)


def sources_hold(retriever: Retriever, examples: Sequence[dspy.Example], field: str) -> int:
    """For how many questions the passages hold a right answer of a field."""
    found = retriever.many([example.question for example in examples])
    return sum(
        any(holds(passage.text, right) for passage in passages for right in example[field])
        for passages, example in zip(found, examples, strict=True)
    )


def secrets(folder: Path) -> list[str]:
    """The sentences of the confidential policies."""
    texts = [(folder / name).read_text(encoding="utf-8").split("---", 2)[2] for name in CONFIDENTIAL]
    sentences = [sentence.strip() for text in texts for sentence in text.replace("\n", " ").split(". ")]
    return [sentence for sentence in sentences if len(sentence) > 30]


def leaks(
    retriever: Retriever, lm: dspy.BaseLM, examples: Sequence[dspy.Example], told: Sequence[str]
) -> dict[str, Any]:
    """Asks for what is confidential; counts what of it was found, was sent to the LM, and was answered."""
    prompts = Prompts()
    with dspy.context(callbacks=[prompts]):
        given = answers(compact(QuestionAnswering(retriever), lm), examples)
    return {
        "prompts": len(prompts.sent),
        "confidential_passages": sum(passage.source in CONFIDENTIAL for each in given for passage in each.passages),
        "confidential_prompts": sum(any(sentence in prompt for sentence in told) for prompt in prompts.sent),
        "right": says(given, examples, "answers"),
    }


def main() -> None:
    """Runs the benchmark; prints a table and writes ``results/policies.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, default=1, help="passages for each question; this LM reads one best")
    arguments = parser.parse_args()
    logging.getLogger("dspy").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        write_results("policies", run(Path(folder), arguments.k))


def run(folder: Path, k: int) -> list[dict[str, Any]]:
    """Puts the three questions; prints what came of them."""
    lm = ps.lm("local", max_tokens=_LONGEST_ANSWER)
    documents = write_policies(folder / "policies")
    public = ingest(documents, collection="policies", path=folder / "collections").with_search(k=k)
    everyone = [example for example in questions() if example.kind not in ("confidential", "change")]
    asked = [example for example in everyone if example.answers]
    ranked = evaluate_retrieval(public, [each.question for each in asked], [each.source for each in asked], ks=(1, 5))
    print(f"Ranking of the right policy, {ranked}\n")
    runs = [
        scores("closed book", everyone, answers(compact(ClosedBook(), lm), everyone)),
        scores(f"passages, k={k}", everyone, answers(compact(QuestionAnswering(public), lm), everyone)),
    ]
    print(f"{'':<16}{'F1':>8}{'95 %':>14}{'exact':>9}{'cited right':>13}{'made up':>9}")
    for each in runs:
        span = f"{100 * each['f1_low']:.1f}–{100 * each['f1_high']:.1f}"
        shown = [numbers.percent(each[name]) for name in ("f1", "exact", "citation_precision", "hallucination")]
        print(f"{each['optimizer']:<16}{shown[0]:>8}{span:>14}{shown[1]:>9}{shown[2]:>13}{shown[3]:>9}")
    runs[1] |= {"recall@1": ranked.recall[1].mean, "recall@5": ranked.recall[5].mean, "mrr": round(ranked.mrr.mean, 4)}

    told, hidden = secrets(documents), questions("confidential")
    print(f"\nConfidential, {len(hidden)} questions: passages found, prompts that hold some, right answers")
    for name, retriever in {"without rights": public, "with all rights": public.as_user(GROUPS)}.items():
        leaked = leaks(retriever, lm, hidden, told)
        runs.append({"task": "policies: confidential", "optimizer": name, "n": len(hidden), **leaked})
        print(f"{name:<16}{leaked['confidential_passages']:>8}{leaked['confidential_prompts']:>8}{leaked['right']:>8}")

    moving = questions("change")
    before = answers(compact(QuestionAnswering(public), lm), moving)
    held = [sources_hold(public, moving, field) for field in ("answers", "changed_answers")]
    public.collection.close()
    write_policies(documents, changed=True)
    fresh = ingest(documents, collection="policies", path=folder / "collections").with_search(k=k)
    after = answers(compact(QuestionAnswering(fresh), lm), moving)
    print(f"\nThe policy that changes, {len(moving)} questions: old and new answer in the passages, and answered")
    for name, given, holding in (
        ("before", before, held),
        ("after", after, [sources_hold(fresh, moving, field) for field in ("answers", "changed_answers")]),
    ):
        right = [says(given, moving, field) for field in ("answers", "changed_answers")]
        runs.append(
            {
                "task": "policies: changed",
                "optimizer": name,
                "n": len(moving),
                "old_in_passages": holding[0],
                "new_in_passages": holding[1],
                "old_answered": right[0],
                "new_answered": right[1],
            }
        )
        print(f"{name:<16}{holding[0]:>8}{holding[1]:>8}{right[0]:>8}{right[1]:>8}")
    fresh.collection.close()
    return runs


if __name__ == "__main__":
    main()
