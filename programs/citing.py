"""Metrics of the passages that an answer cites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import dspy

from .gold import GroundingMetric, Told, gold_answers, passages_of, value_of
from .wording import holds, passage_text

__all__ = ["citation_precision", "citation_recall"]


def citation_precision(
    gold: str | None = "answers",
    relevant: str | None = None,
    *,
    key: Literal["source", "id"] = "source",
    citations: str = "citations",
    passages: str = "passages",
) -> GroundingMetric:
    """The share of the cited passages that are right to cite; see `citation_recall` for the share that is found.

    A passage is right to cite where it holds a right answer word for word, or where the example names it. Who cites
    nothing where there is nothing to cite scores 1, and who cites nothing otherwise 0.

    Args:
        gold: The field of the example with the right answers; None to go by ``relevant`` alone.
        relevant: The field of the example with the name of the right source, or a list of them; it comes before
            ``gold``.
        key: What ``relevant`` names: passages' sources or ids.
        citations: The output's field with the numbers, from 1, of the cited passages, or with their ids.
        passages: The output's field with the passages.

    >>> seen = ["It opened in Bergen.", "It closed in Oslo."]
    >>> metric = citation_precision(gold="answers")
    >>> metric(dspy.Example(answers=["Bergen"]), dspy.Prediction(citations=[1, 2], passages=seen)).score
    0.5
    """

    def score(example: dspy.Example, prediction: Any) -> Told:
        cited = _cited(example, prediction, citations, passages)
        wanted = _to_cite(example, gold, relevant)
        if not cited or not wanted:
            return float(not cited and not wanted), "Nothing was cited." if not cited else "There is nothing to cite."
        right = [each for each in cited if _is_right(each, wanted, None if relevant is None else key)]
        share = len(right) / len(cited)
        return share, "Right." if share == 1 else f"{len(cited) - len(right)} of {len(cited)} citations do not hold."

    return GroundingMetric("citation_precision", _citing(gold, relevant, key, citations, passages), score)


def citation_recall(
    gold: str | None = "answers",
    relevant: str | None = None,
    *,
    key: Literal["source", "id"] = "source",
    citations: str = "citations",
    passages: str = "passages",
) -> GroundingMetric:
    """The share of what is to be cited that was cited: of the named sources; or 1 where a citation holds an answer.

    Args:
        gold: The field of the example with the right answers; None to go by ``relevant`` alone.
        relevant: The field of the example with the name of the right source, or a list of them; it comes before
            ``gold``.
        key: What ``relevant`` names: passages' sources or ids.
        citations: The output's field with the numbers, from 1, of the cited passages, or with their ids.
        passages: The output's field with the passages.

    >>> seen = [{"text": "Opened in Bergen.", "source": "a.md"}, {"text": "Closed in Oslo.", "source": "b.md"}]
    >>> metric = citation_recall(relevant="sources")
    >>> metric(dspy.Example(sources=["a.md", "b.md"]), dspy.Prediction(citations=[1], passages=seen)).score
    0.5
    """

    def score(example: dspy.Example, prediction: Any) -> Told:
        cited = _cited(example, prediction, citations, passages)
        wanted = _to_cite(example, gold, relevant)
        if not wanted:
            return float(not cited), "There is nothing to cite."
        if relevant is None:
            found = any(_is_right(each, wanted, None) for each in cited)
            return float(found), "Right." if found else "No citation holds the answer."
        share = sum(any(_is_right(each, [name], key) for each in cited) for name in wanted) / len(wanted)
        return share, "Right." if share == 1 else f"To cite: {', '.join(wanted)}."

    return GroundingMetric("citation_recall", _citing(gold, relevant, key, citations, passages), score)


def _citing(gold: str | None, relevant: str | None, key: str, citations: str, passages: str) -> str:
    told = f"{key}={relevant}" if relevant is not None else f"{gold}"
    named = [each for each, usual in ((citations, "citations"), (passages, "passages")) if each != usual]
    return ", ".join([told, *named])


def _cited(example: dspy.Example, prediction: Any, citations: str, passages: str) -> list[Any]:
    """The cited passages, each once; None for a number or id that stands for none."""
    named = list(dict.fromkeys(value_of(prediction, citations) or []))
    if not named:
        return []
    seen = passages_of(example, prediction, passages)
    by_id = {_named(each, "id"): each for each in seen}
    return [
        (seen[each - 1] if 1 <= each <= len(seen) else None) if isinstance(each, int) else by_id.get(str(each))
        for each in named
    ]


def _named(passage: Any, key: str) -> str | None:
    if isinstance(passage, str):
        return None
    value = passage.get(key) if hasattr(passage, "get") else getattr(passage, key, None)
    return None if value is None else str(value)


def _to_cite(example: dspy.Example, gold: str | None, relevant: str | None) -> list[str]:
    if relevant is None and gold is None:
        raise KeyError("say by which field of the example a citation is right: gold=… or relevant=…")
    return gold_answers(example, relevant if relevant is not None else str(gold))


def _is_right(passage: Any, wanted: Sequence[str], key: str | None) -> bool:
    if passage is None:
        return False
    if key is not None:
        return _named(passage, key) in wanted
    return any(holds(passage_text(passage), answer) for answer in wanted)
