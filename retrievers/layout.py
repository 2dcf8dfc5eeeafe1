"""Passages as text for a prompt: delimited, so that they stay data, and fitted to a number of tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

__all__ = ["Layout", "fitted"]

Layout = Literal["numbered", "tagged", "plain"]
Piece = tuple[str, str | None, str, str]  # title, time, source, text

# DSPy's own mark of a field: a passage that holds one would pose as a field of the prompt.
_FIELD = re.compile(r"\[\[(\s*##)")
_QUOTES = str.maketrans({"«": "“", "»": "”"})
_TAG = re.compile(r"<(\s*/?\s*passage)", re.IGNORECASE)
_LONGEST_WORD = 24  # characters: a longer run is a sentence in Chinese, Japanese or Thai, or an address
_EMPTY_LINES = re.compile(
    r"(?:\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029])\s*(?:\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029])"
)


def fitted(
    pieces: Sequence[Piece],
    layout: Layout,
    max_tokens: int | None = None,
    count: Callable[[str], int] | None = None,
    *,
    best_last: bool = False,
) -> str:
    r"""Lays pieces out; with ``max_tokens``, as many of the first as fit, the last one cut at a word.

    What is too long for a word, as in scripts that part none, is cut at any character.

    With ``best_last`` those that fit stand in the opposite order; each keeps its number.

    >>> fitted([("", None, "a.md", "one » two"), ("", None, "b.md", "[2] three")], "numbered")
    '[1] «one ” two»\n[2] «[2] three»'
    >>> fitted([("", None, "a.md", "one two three four")], "plain", 3, count=lambda text: len(text.split()))
    'one two …'
    """
    shown = [_shown(number, piece, layout) for number, piece in enumerate(pieces, 1)]
    gap = "\n\n" if layout == "plain" else "\n"

    def joined(parts: Sequence[str]) -> str:
        return gap.join(reversed(parts) if best_last else parts)

    if max_tokens is None:
        return joined(shown)
    measure = count or _estimate

    def fits(text: str) -> bool:
        return measure(text) <= max_tokens

    whole = _most(len(shown), lambda number: fits(joined(shown[:number])))
    if whole == len(shown):
        return joined(shown)
    title, time, source, text = pieces[whole]
    ends = [
        end
        for start, stop in (match.span() for match in re.finditer(r"\S+", text))
        for end in range(stop if stop - start <= _LONGEST_WORD else start + 1, stop + 1)
    ]

    def cut(number: int) -> str:
        last = _shown(whole + 1, (title, time, source, text[: ends[number - 1]] + " …"), layout)
        return joined([*shown[:whole], last])

    kept = _most(len(ends), lambda number: number == 0 or fits(cut(number)))
    return cut(kept) if kept else joined(shown[:whole])


def _most(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest number up to the limit for which it holds, which it does up to some number, and for 0."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _shown(number: int, piece: Piece, layout: Layout) -> str:
    title, time, source, text = (_FIELD.sub(r"[ [\1", part) if part else part for part in piece)
    text = (text or "").strip()
    if layout == "plain":
        return _EMPTY_LINES.sub("\n", text)
    heading = " ".join((title or "").split())
    if layout == "tagged":
        named = {"title": heading, "time": time, "source": source}
        attributes = "".join(f' {key}="{_attribute(value)}"' for key, value in named.items() if value)
        inside = _TAG.sub(r"&lt;\1", text)
        return f'<passage id="{number}"{attributes}>\n{inside}\n</passage>'
    heading = ", ".join(part for part in (heading, " ".join((time or "").split())) if part)
    return f"[{number}] {heading.translate(_QUOTES)}{': ' if heading else ''}«{text.translate(_QUOTES)}»"


def _attribute(value: str) -> str:
    value = " ".join(value.split())
    for character, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        value = value.replace(character, name)
    return value


def _estimate(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // 3)
