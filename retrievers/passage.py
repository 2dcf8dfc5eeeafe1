"""A passage: a piece of a document, with where it is from and who may read it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, SupportsIndex, overload

from ..errors import RetrievalError
from .layout import Layout, fitted

__all__ = ["EVERYONE", "Passage", "Passages", "passage_id"]

EVERYONE = "*"
"""What stands for all callers in a stored passage's groups; a point without any is read by nobody."""

_NAMESPACE = uuid.UUID("6c4ea2ae-2d43-5d0b-9c55-8b1d2c1a4f0e")


def passage_id(source: str, position: int, text: str) -> str:
    """Makes a passage's id: the same content at the same place has the same one.

    Raises:
        RetrievalError: A text holds half of a surrogate pair, which no encoding can hold.

    >>> passage_id("policy.md", 0, "Leave is 25 days.")
    'eed874b2-6c18-5f3d-a734-c8e04fd10435'
    """
    content = f"{source}\0{position}\0{text}"
    try:
        return str(uuid.uuid5(_NAMESPACE, content))
    except UnicodeEncodeError:
        raise RetrievalError(
            f"{source!r}, passage {position}: half of a surrogate pair is no character; decode the document with "
            f"errors='replace'"
        ) from None


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document.

    Attributes:
        id: A UUID; see `passage_id`.
        text: What is searched and shown.
        source: Path or name of its document.
        position: Its place among the passages of that document, from 0.
        title: Of the document or section.
        time: Of the document, in ISO 8601.
        groups: Who may read it; None for everyone.
        document: Content hash of the whole document, by which an ingest tells what changed.
        score: Set by a search; higher is better, and comparable within one search only.
    """

    id: str
    text: str
    source: str
    position: int = 0
    title: str = ""
    time: str | None = None
    groups: tuple[str, ...] | None = None
    document: str = ""
    score: float = 0.0

    @property
    def long_text(self) -> str:
        """The text, by the name under which ``dspy.Retrieve`` reads it."""
        return self.text

    @classmethod
    def of(
        cls,
        text: str,
        *,
        source: str,
        position: int = 0,
        title: str = "",
        time: str | None = None,
        groups: Iterable[str] | None = None,
        document: str = "",
    ) -> Passage:
        """Makes a passage with the id that its content has; see `passage_id`.

        >>> Passage.of("Leave is 25 days.", source="policy.md").id
        'eed874b2-6c18-5f3d-a734-c8e04fd10435'
        """
        readers = None if groups is None else tuple(groups)
        return cls(passage_id(source, position, text), text, source, position, title, time, readers, document)

    def payload(self) -> dict[str, Any]:
        """What is stored beside the vectors.

        Raises:
            RetrievalError: Its groups are empty, or one of them is the mark of everyone.
        """
        if self.groups is not None and (not self.groups or EVERYONE in self.groups):
            raise RetrievalError(
                f"{self.source!r}, passage {self.position}: groups {self.groups!r} name nobody who may read it; name "
                f"at least one group, or give None for everyone ({EVERYONE!r} is no name of a group)"
            )
        stored = {
            "text": self.text,
            "source": self.source,
            "position": self.position,
            "title": self.title,
            "time": self.time,
            "groups": [EVERYONE] if self.groups is None else list(self.groups),
            "document": self.document,
        }
        # With an id of one's own, nothing else tells a collection's fingerprint that the content is another.
        content = passage_id(self.source, self.position, self.text)
        return stored if content == self.id else {**stored, "content": content}

    @classmethod
    def from_payload(cls, identifier: str, payload: dict[str, Any], score: float = 0.0) -> Passage:
        """Reads a passage from what was stored."""
        groups = payload["groups"]
        return cls(
            identifier,
            payload["text"],
            payload["source"],
            payload["position"],
            payload["title"],
            payload["time"],
            None if groups == [EVERYONE] else tuple(groups),
            payload["document"],
            score,
        )


class Passages(list[Passage]):
    """What a retriever found, best first; as a text, it is data for a prompt.

    Args:
        passages: The passages.
        layout: ``numbered`` (``[1] «text»``, as DSPy shows lists), ``tagged`` (elements as of XML), or ``plain`` (texts
            with an empty line between).
        best_last: Whether the text has the best passage last, next to the question; the list itself is best first.

    >>> print(Passages([Passage("1", "Leave is 25 days.", "leave.md", title="Leave")]))
    [1] Leave: «Leave is 25 days.»
    """

    layout: Layout
    best_last: bool

    def __init__(
        self, passages: Iterable[Passage] = (), layout: Layout = "numbered", *, best_last: bool = False
    ) -> None:
        super().__init__(passages)
        self.layout, self.best_last = layout, best_last

    def text(self, *, max_tokens: int | None = None, count: Callable[[str], int] | None = None) -> str:
        """Lays the passages out as delimited data that no passage can close or forge.

        Args:
            max_tokens: The best passages that fit are given, the last one cut at a word, or at a character where a
                script parts no words; None for all.
            count: Counts a text's tokens; without it, three bytes are taken for one.
        """
        pieces = [(p.title, p.time, p.source, p.text) for p in self]
        return fitted(pieces, self.layout, max_tokens, count, best_last=self.best_last)

    def __str__(self) -> str:
        return self.text()

    @overload
    def __getitem__(self, index: SupportsIndex) -> Passage: ...
    @overload
    def __getitem__(self, index: slice) -> Passages: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Passage | Passages:
        if isinstance(index, slice):
            return self.like(super().__getitem__(index))
        return super().__getitem__(index)

    def like(self, passages: Iterable[Passage]) -> Passages:
        """Other passages, laid out as these are."""
        return Passages(passages, self.layout, best_last=self.best_last)

    def ids(self) -> Iterator[str]:
        """The passages' ids, best first."""
        return (passage.id for passage in self)
