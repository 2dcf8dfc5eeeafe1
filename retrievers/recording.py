"""What a run retrieved: kept for as long as someone listens, so that passages are known again where they turn up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .passage import Passage

__all__ = ["holds_passage", "record", "recorded"]

_listening: ContextVar[list[Passage] | None] = ContextVar("progspace_retrieved", default=None)
# Letters in a row by which a passage is known again, where only a part of it was shown: most sentences are longer, and
# what a question happens to share with the page that answers it is shorter.
_TELLING = 36
_ESCAPE = re.compile(r"\\(?:u[0-9a-f]{4}|.)")  # of JSON; none stands for a letter


@contextmanager
def recorded() -> Iterator[list[Passage]]:
    """Gives a list to which every retriever adds what it finds, in this context and those copied from it.

    >>> with recorded() as passages:
    ...     record([Passage(id="1", text="Travel is booked a week ahead.", source="travel.md")])
    >>> passages[0].source
    'travel.md'
    """
    passages: list[Passage] = []
    token = _listening.set(passages)
    try:
        yield passages
    finally:
        _listening.reset(token)


def record(passages: Iterable[Passage]) -> None:
    """Tells those who listen what was found."""
    if (listening := _listening.get()) is not None:
        listening.extend(passages)


def holds_passage(value: Any, passages: Iterable[Passage]) -> bool:
    """Tells whether a value, or a text in it, holds a part of one of these passages: 36 letters in a row, or all of it.

    A passage without letters and digits is held by nothing.

    >>> passage = Passage(id="1", text="Travel is booked a week ahead.", source="travel.md")
    >>> holds_passage({"context": ["[1] Travel is booked a week ahead."]}, [passage])
    True
    """
    told = value if isinstance(value, str) else _ESCAPE.sub(" ", json.dumps(value, ensure_ascii=False, default=str))
    text = _plain(told)
    runs = set(_runs(text))
    return any(
        plain in text if len(plain) < _TELLING else not runs.isdisjoint(_runs(plain))
        for plain in (_plain(each.text) for each in passages)
        if plain
    )


def _runs(text: str) -> Iterator[str]:
    return (text[at : at + _TELLING] for at in range(len(text) - _TELLING + 1))


def _plain(text: str) -> str:
    """Letters and digits alone: layouts change white space, and escape what would close a delimiter."""
    return "".join(character for character in text if character.isalnum())
