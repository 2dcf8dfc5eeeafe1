"""Whether an output holds a word that it must not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import dspy

__all__ = ["Blocklist", "blocklist"]


@dataclass(frozen=True, slots=True)
class Blocklist:
    """1 where a field of the output holds a listed word, else 0: its mean is the share of such outputs.

    Attributes:
        field: The field.
        words: Words and phrases, in lower case.
    """

    field: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """Identity of the metric, for people and for the store."""
        return f"blocklist({self.field})@{hashlib.sha256(repr(self.words).encode()).hexdigest()[:12]}"

    def __call__(self, example: dspy.Example, prediction: Any, trace: Any = None) -> float:  # noqa: ARG002 — DSPy's
        """Looks for the words."""
        found = prediction.get(self.field) if hasattr(prediction, "get") else None
        text = f" {_words('' if found is None else str(found))} "
        return float(any(f" {word} " in text for word in self.words))


def blocklist(field: str, words: Iterable[str]) -> Blocklist:
    """Makes a metric that tells outputs which hold a listed word: whole words, whatever their case.

    To be kept low, as a limit: ``ps.Objectives(metrics={"toxicity": blocklist(…)}, limits={"toxicity": 0.01})``. It
    knows the words that it is given and nothing of what is meant: an insult without them passes, and a quotation of
    them does not.

    Args:
        field: The field of the output.
        words: Words and phrases.

    Raises:
        ValueError: There are none.

    >>> blocklist("answer", ["idiot"])(dspy.Example(), dspy.Prediction(answer="You, Idiot!"))
    1.0
    """
    listed = tuple(sorted({_words(word) for word in words} - {""}))
    if not listed:
        raise ValueError("a blocklist needs words")
    return Blocklist(field, listed)


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
