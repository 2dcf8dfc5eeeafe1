"""What an ingest is given, as a stream of documents: folders, files, rows, passages."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from ..errors import DataError
from .documents import KINDS, Document, read_document
from .folders import FoundFile, Skipped, find_files
from .passage import Passage
from .rows import read_rows, row_document

__all__ = ["Source", "Sources", "passage_key"]

Source: TypeAlias = "str | Path | Sequence[str | Path] | Sequence[Passage | Mapping[str, object]]"


class Sources:
    """Reads what an ingest is given, one document after the other.

    Each comes with its origin: what an ingest of the same origin stored before, and does not meet again, is gone.

    Args:
        source: A folder, a file, several of them, or passages and rows (mappings with a ``text``).
        groups: Who may read what does not say so itself.
        origin: A name of the origin; by default a folder's or file's own place, or that of all in memory.

    Attributes:
        origins: All of them.
        share: How much has been read, from 0 to 1.

    Raises:
        DataError: There is nothing at a place, or nothing is given.
    """

    def __init__(self, source: Source, groups: tuple[str, ...] | None = None, origin: str | None = None) -> None:
        self._groups = groups
        self._files: list[tuple[str, FoundFile | Skipped]] = []
        self._given: list[Passage | Mapping[str, object]] = []
        given = [source] if isinstance(source, str | Path) else list(source)
        if isinstance(source, Mapping) or not given:
            raise DataError("nothing to ingest: give a folder, files, or passages")
        places = [Path(each).expanduser() for each in given if isinstance(each, str | Path)]
        if places and len(places) < len(given):
            raise DataError("paths and passages in one list: ingest the ones after the others")
        for place in places:
            key = _key(origin or f"place:{place.resolve().as_posix()}")
            self._files += [(key, found) for found in find_files(place)]
        self._origin = _key(origin or "memory")
        self.origins = {key for key, _ in self._files} if places else {self._origin}
        if not places:
            self._given = [each for each in given if isinstance(each, Passage | Mapping)]
            if len(self._given) < len(given):
                odd = next(each for each in given if not isinstance(each, Passage | Mapping))
                raise DataError(f"a {type(odd).__name__} is no passage: give paths, passages, or dicts with a text")
        self._total = sum(found.size for _, found in self._files if isinstance(found, FoundFile)) or len(given)
        self._read = 0

    @property
    def share(self) -> float:
        """How much has been read."""
        return min(1.0, self._read / self._total)

    def __iter__(self) -> Iterator[tuple[str, Document | Passage | Skipped]]:
        for key, found in self._files:
            if isinstance(found, Skipped):
                yield key, found
                continue
            until = self._read + found.size
            for read in self._documents(found):
                if isinstance(read, Document):
                    self._read = min(until, self._read + len(read.text))
                yield key, read
            self._read = until
        for number, each in enumerate(self._given, 1):
            self._read = number
            if isinstance(each, Passage):
                yield (
                    self._origin,
                    each if each.groups or not self._groups else dataclasses.replace(each, groups=self._groups),
                )
                continue
            try:
                yield (
                    self._origin,
                    row_document({str(k): v for k, v in each.items()}, "passages", number, "passages", self._groups),
                )
            except DataError as error:
                yield self._origin, Skipped(f"passages, row {number}", str(error))

    def _documents(self, found: FoundFile) -> Iterator[Document | Skipped]:
        try:
            if KINDS[found.path.suffix.lower()] == "rows":
                for read in read_rows(found.path, found.source, self._groups):
                    yield _skipped(found, read) if isinstance(read, DataError) else read
            else:
                yield read_document(found.path, found.source, self._groups)
        except DataError as error:
            yield _skipped(found, error)
        except OSError as error:
            yield Skipped(found.source, f"cannot be opened ({error.strerror})", stays=True)


def _skipped(found: FoundFile, error: DataError) -> Skipped:
    """Without the file's whole path, which stands beside it already."""
    return Skipped(found.source, str(error).removeprefix(str(found.path)).lstrip(":, "))


def passage_key(passage: Passage) -> str:
    """A hash of all that is told of a passage, as a document's fingerprint is."""
    told = [passage.text, passage.title, passage.groups, passage.time]
    return hashlib.sha256(json.dumps(told, ensure_ascii=False).encode()).hexdigest()[:16]


def _key(origin: str) -> str:
    return hashlib.sha256(origin.encode("utf-8", "surrogateescape")).hexdigest()[:8]
