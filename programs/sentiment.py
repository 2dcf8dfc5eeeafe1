"""A ready-made task: the sentiment of short movie reviews, on data that ships with progspace."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import dspy

from . import metrics
from .task import Task

__all__ = ["Sentiment", "task"]


class Sentiment(dspy.Signature):
    """Classify the sentiment of a movie review."""

    review: str = dspy.InputField()
    sentiment: Literal["positive", "negative"] = dspy.OutputField()


def task(*, seed: int = 0) -> Task:
    """Makes the task: reviews written for it by progspace's authors, half of them positive.

    Args:
        seed: Of the split.

    >>> task().inputs
    ('review',)
    """
    return Task(
        program=dspy.Predict(Sentiment),
        examples=str(files("progspace.programs").joinpath("data/sentiment.jsonl")),
        inputs=["review"],
        metric=metrics.choice("sentiment"),
        name="sentiment",
        seed=seed,
    )
