"""Documents split into passages, by their structure and by tokens."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import RetrievalError
from ..lms.embedder import Embedder
from ..lms.embedder_graph import EMBEDDER_TOKENIZER
from .documents import Document
from .passage import Passage, passage_id

__all__ = ["Chunker", "embedded_text"]

_PIECE = 16_000  # characters that are split at a time: the splitter's time grows with the square of a text's length
_CHARACTERS = 4  # a token, where the embedder's tokenizer is not known
_LONGEST_HEADING = 200  # characters: a line of dashes below a paragraph makes a heading of all of it
_LONGEST_TOKEN = 16  # characters: a tokenizer makes one token of a megabyte without a space
_COUNTED = 256  # texts at a time
_SPECIAL = 2  # tokens that the embedder puts around a text
_ROOM = 16  # tokens; capacities are rounded down to a multiple of it, so that a few splitters do for all titles


@dataclasses.dataclass(frozen=True, slots=True)
class _Section:
    """A heading and what stands under it: its path of headings, all its text, and what stands below the heading."""

    path: tuple[str, ...]
    text: str
    body: str
    tokens: int

    @property
    def bare(self) -> bool:
        return not self.body


class Chunker:
    """Splits documents into passages of at most so many tokens.

    Markdown is parted at its headings; what is longer than 200 characters is none. Neighbouring sections of one
    parent are one passage where they fit; one that does not fit is split at the largest boundary that does: blocks,
    lines, sentences, words. The headings above a passage are its title, which is embedded with it.

    Args:
        embedder: Whose tokens are counted; a passage with its title fits what it reads. Where it has no tokenizer, four
            characters are a token.
        tokens: The most of a passage.
        overlap: Of neighbouring passages of one section, at most.

    Raises:
        RetrievalError: The sizes cannot be, or the splitter is not installed.
    """

    def __init__(self, embedder: Embedder, tokens: int = 256, overlap: int = 0) -> None:
        if tokens < _ROOM:
            raise RetrievalError(f"passages of {tokens} tokens hold nothing; give chunk_tokens={_ROOM} or more")
        if not 0 <= overlap < tokens // 2:
            raise RetrievalError(
                f"an overlap of {overlap} in {tokens} tokens: give 0, or less than half of chunk_tokens"
            )
        self.tokens, self.overlap = tokens, overlap
        # An embedder may bring a tokenizer of its own: a file of the `tokenizers` library.
        folder = getattr(embedder, "folder", None)
        self._file: Path | None = getattr(embedder, "tokenizer_file", folder and Path(folder, EMBEDDER_TOKENIZER))
        self._window: int | None = getattr(embedder, "max_tokens", None)
        counted = embedder.name if self._file else f"{_CHARACTERS} characters"
        self.identity = f"sections; {tokens} tokens of {counted}; overlap {overlap}"
        self._splitters: dict[tuple[bool, int], Any] = {}

    def split(self, document: Document, key: str = "") -> list[Passage]:
        """Gives a document's passages, in their order; an empty one has none.

        Args:
            document: What is split.
            key: What is told of the document in each passage; its fingerprint where nothing is given.
        """
        key = key or document.fingerprint
        return [
            Passage(
                id=passage_id(document.source, position, text),
                text=text,
                source=document.source,
                position=position,
                title=title,
                time=document.time,
                groups=document.groups,
                document=key,
            )
            for position, (title, text) in enumerate(self._parts(document))
        ]

    def _parts(self, document: Document) -> Iterator[tuple[str, str]]:
        sections = _sections(document.text) if document.markdown else [((), document.text, document.text)]
        counts = self._count([text for _, text, _ in sections])
        whole = [_Section(*section, count) for section, count in zip(sections, counts, strict=True)]
        titles = {path: _title(document.title, path) for path in {section.path for section in whole}}
        lengths = dict(zip(titles, self._count(list(titles.values())), strict=True))
        group: list[_Section] = []
        for section in [*whole, None]:
            if group and section is not None and _together(group[0], section):
                room = self._capacity(max(lengths[group[0].path], lengths[section.path]))
                if sum(each.tokens for each in group) + section.tokens <= room:
                    group.append(section)
                    continue
            if group and not (section and all(each.bare and _under(each, section) for each in group)):
                path = _common([each.path for each in group])
                text = "\n\n".join(each.text for each in group)
                room = self._capacity(lengths.get(path, lengths[group[0].path]))
                fits = sum(each.tokens for each in group) <= room
                for part in [text] if fits else self._split(group[0].body or group[0].text, room, document.markdown):
                    yield from ((_title(document.title, path), piece) for piece in self._short(part, room))
            group = [section] if section is not None else []

    def _capacity(self, title: int) -> int:
        """How many tokens a passage under a title of so many may have."""
        if self._window is None:
            return self.tokens
        room = self._window - _SPECIAL - title
        return max(min(self.tokens, room if room >= self.tokens else room // _ROOM * _ROOM), _ROOM)

    def _split(self, text: str, capacity: int, markdown: bool) -> Iterator[str]:
        splitter = self._splitter(capacity, markdown)
        for piece in _pieces(text):
            yield from splitter.chunks(piece)

    def _short(self, text: str, capacity: int) -> Iterator[str]:
        longest = capacity * _LONGEST_TOKEN
        text = text.strip()
        if len(text) <= longest:
            if text:
                yield text
        else:
            yield from _splitters().TextSplitter(longest).chunks(text)

    def _splitter(self, capacity: int, markdown: bool) -> Any:
        known = self._splitters.get((markdown, capacity))
        if known is None:
            library = _splitters()
            kind = library.MarkdownSplitter if markdown else library.TextSplitter
            overlap = min(self.overlap, capacity // 2 - 1)
            known = self._splitters[markdown, capacity] = (
                kind(capacity * _CHARACTERS, overlap * _CHARACTERS)
                if self._tokenizer is None
                else kind.from_huggingface_tokenizer(self._tokenizer, capacity, overlap)
            )
        return known

    @cached_property
    def _tokenizer(self) -> Any:
        if self._file is None:
            return None
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._file))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def _count(self, texts: Sequence[str]) -> list[int]:
        if self._tokenizer is None:
            return [-(-len(text) // _CHARACTERS) for text in texts]
        counts: list[int] = []
        # What cannot fit is not counted, and few at a time: a tokenizer's answer is a hundred times as large as a text.
        longest = self.tokens * _LONGEST_TOKEN
        for start in range(0, len(texts), _COUNTED):
            some = texts[start : start + _COUNTED]
            told = self._tokenizer.encode_batch([text[: longest + 1] for text in some], add_special_tokens=False)
            counts += [
                len(each.ids) if len(text) <= longest else max(len(each.ids), self.tokens + 1)
                for text, each in zip(some, told, strict=True)
            ]
        return counts


def embedded_text(passage: Passage) -> str:
    """What is embedded of a passage: its title, and its text."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def _splitters() -> Any:
    try:
        import semantic_text_splitter
    except ImportError as error:
        raise RetrievalError(
            "splitting documents needs semantic-text-splitter, which is not installed: "
            "pip install 'progspace[documents]'"
        ) from error
    return semantic_text_splitter


def _sections(text: str) -> list[tuple[tuple[str, ...], str, str]]:
    """Parts Markdown at its headings: the path of headings, the text with the last of them, and without it."""
    from markdown_it import MarkdownIt

    lines = text.split("\n")
    tokens = MarkdownIt("commonmark").disable("inline").parse(text)
    headings = [
        (token.map[0], token.map[1], int(token.tag[1:]), " ".join(content.content.split()))
        for token, content in itertools.pairwise(tokens)
        if token.type == "heading_open" and token.level == 0 and token.map and len(content.content) <= _LONGEST_HEADING
    ]
    sections: list[tuple[tuple[str, ...], str, str]] = []
    above: list[tuple[int, str]] = []
    ends = [*(start for start, *_ in headings), len(lines)][1:]
    if preamble := "\n".join(lines[: headings[0][0] if headings else len(lines)]).strip():
        sections.append(((), preamble, preamble))
    for (start, after, level, heading), end in zip(headings, ends, strict=True):
        above = [each for each in above if each[0] < level] + [(level, heading)]
        body = "\n".join(lines[after:end]).strip()
        sections.append((tuple(name for _, name in above if name), "\n".join(lines[start:end]).strip(), body))
    return sections


def _pieces(text: str) -> Iterator[str]:
    """Cuts a long text at the end of a paragraph, a line, a word; any text in the end."""
    start = 0
    while len(text) - start > _PIECE:
        window = text[start : start + _PIECE]
        at = next((found for mark in ("\n\n", "\n", " ") if (found := window.rfind(mark)) > _PIECE // 2), _PIECE)
        yield text[start : start + at]
        start += at
    yield text[start:]


def _title(document: str, path: tuple[str, ...]) -> str:
    names = path if path[:1] == (document,) or not document else (document, *path)
    return " > ".join(names)


def _common(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    first, last = min(paths), max(paths)
    same = next((at for at, (one, two) in enumerate(zip(first, last, strict=False)) if one != two), len(first))
    return first[: min(same, len(last))]


def _under(upper: _Section, lower: _Section) -> bool:
    return lower.path[: len(upper.path)] == upper.path


def _together(first: _Section, section: _Section) -> bool:
    """Whether a section may join a passage that begins with the first: it is below it, or beside it."""
    parent = first.path[:-1]
    return section.path[: len(parent)] == parent and len(section.path) >= len(first.path)
