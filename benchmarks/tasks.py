"""Real tasks that programs are measured on, read from a folder of public data.

Each folder is named after its data set: ``movie-sentiment``, ``banking77``, ``squad-mini``, ``bbh``. A seed draws the
rows for train and dev from the training file; test rows come from the test file, or, where there is one file only, from
the rows that were not drawn.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dspy

import progspace as ps

from ..programs.sentiment import Sentiment

__all__ = ["TASKS", "RealTask", "read_lines", "real_task"]

INTENTS = (
    "Refund_not_showing_up", "beneficiary_not_allowed", "card_payment_fee_charged", "contactless_not_working",
    "exchange_charge", "getting_spare_card", "pending_top_up", "top_up_by_bank_transfer_charge",
    "transfer_fee_charged", "virtual_card_not_working",
)  # fmt: skip
"""Every eighth of the 77 intents, in the order of their names."""


class Intent(dspy.Signature):
    """Tell the intent of a bank customer's question."""

    question: str = dspy.InputField()
    intent: Literal[INTENTS] = dspy.OutputField()  # type: ignore[valid-type]


class Reading(dspy.Signature):
    """Answer the question with a few words of the passage."""

    passage: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Sports(dspy.Signature):
    """Tell whether a sentence about sports is plausible."""

    question: str = dspy.InputField()
    answer: Literal["yes", "no"] = dspy.OutputField()


class Boolean(dspy.Signature):
    """Evaluate a Boolean expression."""

    question: str = dspy.InputField()
    answer: Literal["True", "False"] = dspy.OutputField()


class Navigate(dspy.Signature):
    """Tell whether one who follows the instructions returns to the starting point."""

    question: str = dspy.InputField()
    answer: Literal["Yes", "No"] = dspy.OutputField()


class Gist(dspy.Signature):
    """Say in a few words what the reviewer thinks of the movie."""

    review: str = dspy.InputField()
    gist: str = dspy.OutputField()


class Verdict(dspy.Signature):
    """Classify the sentiment of a movie review."""

    review: str = dspy.InputField()
    gist: str = dspy.InputField()
    sentiment: Literal["positive", "negative"] = dspy.OutputField()


class GistThenVerdict(dspy.Module):
    """Two steps: what the reviewer thinks in a few words, and from both the sentiment."""

    def __init__(self) -> None:
        super().__init__()
        self.gist = dspy.Predict(Gist)
        self.verdict = dspy.Predict(Verdict)

    def forward(self, review: str) -> dspy.Prediction:
        """Runs both steps."""
        prediction: dspy.Prediction = self.verdict(review=review, gist=self.gist(review=review).gist)
        return prediction


@dataclass(frozen=True, slots=True)
class RealTask:
    """A task on public data.

    Attributes:
        name: Its name in results.
        program: Makes the program as a newcomer would declare it.
        inputs: Fields that the program is given.
        metric: Scores an output.
        read: Gives the rows of train and of test; None for test where the data set has one file only.
    """

    name: str
    program: Callable[[], dspy.Module]
    inputs: tuple[str, ...]
    metric: Callable[..., Any]
    read: Callable[[Path], tuple[list[dict[str, Any]], list[dict[str, Any]] | None]]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of a data set."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _sentiment(data: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    train, test = (
        [
            {"review": row["text"], "sentiment": row["label"]}
            for row in read_lines(data / f"movie-sentiment/{part}.jsonl")
        ]
        for part in ("train", "test")
    )
    return train, test


def _banking(data: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    train, test = (
        [
            {"question": row["text"], "intent": row["intent"]}
            for row in read_lines(data / f"banking77/{part}.jsonl")
            if row["intent"] in INTENTS
        ]
        for part in ("train", "test")
    )
    return train, test


def _reading(data: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    passages = {row["id"]: row["text"] for row in read_lines(data / "squad-mini/passages.jsonl")}
    train, test = (
        [
            {"passage": passages[row["passage_id"]], "question": row["question"], "answer": row["answers"][0],
             "answers": row["answers"]}
            for row in read_lines(data / f"squad-mini/{part}.jsonl")
            if row["answerable"]
        ]
        for part in ("train", "test")
    )  # fmt: skip
    return train, test


def _navigate(data: Path) -> tuple[list[dict[str, Any]], None]:
    rows = read_lines(data / "bbh/navigate.jsonl")
    return [{"question": row["question"].split("\nOptions:")[0], "answer": row["answer"]} for row in rows], None


def _bbh(name: str) -> Callable[[Path], tuple[list[dict[str, Any]], None]]:
    return lambda data: (read_lines(data / f"bbh/{name}.jsonl"), None)


def _any_answer(example: dspy.Example, prediction: Any, trace: Any = None) -> Any:
    """F1 against the best of the answers that annotators gave."""
    return ps.metrics.f1("answer")(dspy.Example(answer=list(example.answers)), prediction, trace)


TASKS = {
    task.name: task
    for task in (
        RealTask("movie-sentiment", lambda: dspy.Predict(Sentiment), ("review",), ps.metrics.choice("sentiment"),
                 _sentiment),
        RealTask("banking77-10", lambda: dspy.Predict(Intent), ("question",), ps.metrics.choice("intent"), _banking),
        RealTask("squad-reading", lambda: dspy.Predict(Reading), ("passage", "question"), _any_answer, _reading),
        RealTask("sports-understanding", lambda: dspy.Predict(Sports), ("question",), ps.metrics.choice("answer"),
                 _bbh("sports_understanding")),
        RealTask("boolean-expressions", lambda: dspy.Predict(Boolean), ("question",), ps.metrics.choice("answer"),
                 _bbh("boolean_expressions")),
        RealTask("navigate", lambda: dspy.Predict(Navigate), ("question",), ps.metrics.choice("answer"), _navigate),
        RealTask("gist-chain", GistThenVerdict, ("review",), ps.metrics.choice("sentiment"), _sentiment),
    )
}  # fmt: skip
"""The tasks of the benchmarks, by name."""


def real_task(name: str, data: Path, *, seed: int, rows: int = 200, test_rows: int = 200, **settings: Any) -> ps.Task:
    """Makes a task of so many rows for train and dev, and so many for the sealed test.

    Where the data set has one file only, at most half of it is drawn for train and dev. ``settings`` go to the task.
    """
    known = TASKS[name]
    train, test = known.read(data)
    generator = random.Random(seed)  # noqa: S311 — reproducible, not secret
    generator.shuffle(train)
    if test is None:
        rows = min(rows, len(train) // 2)
        test = train[rows:]
    else:
        random.Random(1).shuffle(test)  # noqa: S311 — the same test rows for every seed
    return ps.Task(
        program=known.program(),
        examples=train[:rows],
        test=test[:test_rows] or (),
        inputs=list(known.inputs),
        metric=known.metric,
        name=name,
        seed=seed,
        **settings,
    )
