"""Which passages answer an example: relevance judgements, as the data tell them or as its labels give them away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from ..errors import DataError
from ..retrievers.passage import Passage

__all__ = ["Qrel", "qrels"]

_TELLING = 3  # letters of a label that is looked for in passages; shorter ones stand in any


@dataclass(frozen=True, slots=True)
class Qrel:
    """What one query should find.

    Attributes:
        query: As the program looks it up.
        relevant: Ids or sources of the passages that answer it; empty where only their text tells.
        holds: Texts one of which a relevant passage holds, in place of that.

    >>> qrel = Qrel("What came after Norman?", holds=("Early Gothic",))
    >>> qrel.answered_by(Passage(id="1", text="The early Gothic style followed.", source="normans.md"))
    True
    """

    query: str
    relevant: frozenset[str] = frozenset()
    holds: tuple[str, ...] = ()

    def answered_by(self, passage: Passage) -> bool:
        """Tells whether a passage is relevant."""
        if self.relevant:
            return passage.id in self.relevant or passage.source in self.relevant
        text = " ".join(passage.text.casefold().split())
        return any(" ".join(each.casefold().split()) in text for each in self.holds)


def qrels(
    examples: Iterable[dspy.Example], *, query: str, relevant: str | None = None, labels: Sequence[str] = ()
) -> list[Qrel]:
    """Gives the judgements of examples; those without any are left out.

    Args:
        examples: Of train.
        query: The field that is looked up.
        relevant: The field that names relevant passages, by source or id: text, or a list of texts.
        labels: Without one: free-text fields whose values are looked for in the passages. That is weak evidence: a
            passage can hold the words and answer something else.

    Raises:
        DataError: A named field is not there, or is not text.
    """
    found = []
    for row, example in enumerate(examples, 1):
        asked = example.get(query)
        if not isinstance(asked, str):
            raise DataError(f"it is looked up, and holds {type(asked).__name__} in place of text", row=row, field=query)
        if relevant is not None:
            if named := frozenset(_texts(example, relevant, row)):
                found.append(Qrel(asked, relevant=named))
        elif holds := tuple(
            text
            for label in labels
            if label in example
            for text in _texts(example, label, row)
            if len(text) >= _TELLING
        ):
            found.append(Qrel(asked, holds=holds))
    return found


def _texts(example: dspy.Example, field: str, row: int) -> list[str]:
    value: Any = example.get(field)
    if value is None or value == "":
        return []
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple | set | frozenset) or not all(isinstance(each, str) for each in values):
        raise DataError(f"it holds {value!r} in place of text or a list of texts", row=row, field=field)
    return [each.strip() for each in values if each.strip()]
