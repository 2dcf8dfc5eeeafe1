"""From a folder of documents to a retriever: reads, splits, embeds and stores what is new, and removes what is gone."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..lms.embedder import Embedder, embedder_for
from .chunking import Chunker, embedded_text
from .collection import Collection
from .documents import Document, groups_of
from .folders import Skipped
from .opening import DEFAULT_FOLDER
from .passage import Passage, passage_id
from .retriever import Retriever
from .sources import Source, Sources, passage_key
from .vectors import RememberingEmbedder

__all__ = ["IngestReport", "ingest"]

_BATCH = 256  # passages that are embedded, stored and flushed together: what a kill loses at most
_SHOWN = 5
VECTORS = "vectors.db"

_log = logging.getLogger("progspace.retrievers")


@dataclasses.dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did to a collection.

    Attributes:
        collection: Its name.
        documents: Read, rows counted one by one.
        added: Passages that were stored.
        kept: Passages that were there already.
        removed: Passages that were there and are gone.
        embedded: Texts that were embedded; a text that was embedded before is remembered.
        seconds: On the clock.
        skipped: What could not be read, and why.
    """

    collection: str
    documents: int
    added: int
    kept: int
    removed: int
    embedded: int
    seconds: float
    skipped: tuple[Skipped, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        told = dataclasses.asdict(self)
        told["skipped"] = [{"source": each.source, "reason": each.reason} for each in self.skipped]
        return told


class _Filling:
    """One collection while it is filled."""

    def __init__(self, collection: Collection, chunker: Chunker, embedder: RememberingEmbedder) -> None:
        self.collection, self._chunker, self._embedder = collection, chunker, embedder
        self._before = collection.stored()
        self._seen: dict[str, tuple[str, tuple[str, ...] | None]] = {}  # ids, of which origin and for whom
        self._waiting: list[Passage] = []
        self.added = self.kept = self.removed = self.embedded = 0

    @property
    def done(self) -> int:
        return self.added + self.kept

    @property
    def found(self) -> int:
        return self.done + len(self._waiting)

    def take(self, origin: str, read: Document | Passage) -> bool:
        """Takes a document in; tells whether it holds anything."""
        stored = self._before.get(read.source, {})
        if isinstance(read, Document):
            key = f"{origin}-{read.fingerprint}{read.file and f'-{read.file}'}"
            others = {each for other, ids in stored.items() if _origin(other) != origin for each in ids}
            passages = [self._own(passage, origin, others) for passage in self._chunker.split(read, key)]
        else:
            key = f"{origin}-{passage_key(read)}"
            passages = [dataclasses.replace(read, document=key, score=0.0)]
        known = stored.get(key, set())
        for passage in passages:
            if passage.id in self._seen:
                continue
            self._seen[passage.id] = origin, passage.groups
            if passage.id in known:
                self.kept += 1
            else:
                self._waiting.append(passage)
        return bool(passages)

    def _own(self, passage: Passage, origin: str, others: set[str]) -> Passage:
        """The passage, by an id of its own where another one holds the same text under the same name.

        That one may be of another origin, and go without this one, or for other readers.
        """
        same = origin, passage.groups
        for place in (passage.source, f"{origin}\0{passage.source}", f"{same}\0{passage.source}"):
            own = passage_id(place, passage.position, passage.text)
            if own not in others and self._seen.get(own, same) == same:
                break
        return dataclasses.replace(passage, id=own)

    def store(self, at_least: int = 1) -> Iterator[None]:
        """Embeds and stores what waits, a batch at a time; what was yielded is on the disk."""
        while len(self._waiting) >= at_least and self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            before = self._embedder.embedded
            self.collection.upsert(batch, self._embedder.embed([embedded_text(passage) for passage in batch]))
            self.collection.flush()
            self.embedded += self._embedder.embedded - before
            self.added += len(batch)
            yield

    def finish(self, origins: set[str], staying: Sequence[tuple[str, str]]) -> None:
        """Removes what these origins do not hold any more, and builds the index."""
        gone: set[str] = set()
        for source, documents in self._before.items():
            for key, ids in documents.items():
                origin, places = _origin(key), (source, *key.split("-", 2)[2:])
                stays = any(origin == own and any(_within(each, place) for each in places) for own, place in staying)
                if origin in origins and not stays:
                    gone |= ids - self._seen.keys()
        if gone:
            self.collection.delete(sorted(gone))
            self.removed = len(gone)
        if gone or self.added:
            self.collection.flush()
            self.collection.optimize()


def _origin(key: str) -> str:
    return key.partition("-")[0]


def _within(source: str, place: str) -> bool:
    return place in (".", source) or source.startswith((f"{place}#", f"{place}/"))


def ingest(
    source: Source,
    *,
    collection: str,
    path: str | Path | None = None,
    url: str | None = None,
    api_key: str | Callable[[], str] | None = None,
    embedder: Embedder | None = None,
    chunk_tokens: int | Sequence[int] = 256,
    overlap: int = 0,
    groups: Sequence[str] | None = None,
    origin: str | None = None,
    language: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Retriever:
    """Brings a collection to what the sources hold, and gives a retriever of it.

    Run again, it embeds only what changed, and removes what is gone from the same folders. Killed, it goes on from what
    was stored. A file that cannot be read is reported and skipped, and with it goes what was stored of it; only
    where it could not be opened does that stay.

    Args:
        source: A folder, a file, several of them, or passages and rows (mappings with a ``text``). Of a folder, text,
            Markdown, HTML, PDF, DOCX, JSONL and CSV are read.
        collection: Its name.
        path: The folder of embedded collections; ``.progspace/collections`` by default.
        url: Of a Qdrant server, in its stead.
        api_key: Of the server; by default ``QDRANT_API_KEY`` of the environment.
        embedder: By default the embedded one.
        chunk_tokens: The most of a passage. Several make a collection each: the first is called NAME, the others
            NAME-TOKENS, and they are the retriever's ``variants``.
        overlap: Tokens that neighbouring passages share at most.
        groups: Who may read what does not say so itself; None: everyone.
        origin: A name of where the sources are from. What an ingest of the same origin stored earlier, and does not
            find again, is removed. By default a folder's own place on this machine; name it where the folder moves, or
            what is in it is stored anew, beside what was stored before.
        language: Of the documents, for BM25's stop words and stems: ``english``, ``german``; see `Collection.open`.
        progress: Called with passages done and passages in all; the latter is an estimate until all has been read.

    Returns:
        A retriever; its ``ingested`` is the `IngestReport`.

    Raises:
        DataError: There is nothing at a place, or nothing in it that can be read; the collection is as it was.
        RetrievalError: The collection, its server or its embedder cannot be used, or the collection was made by another
            embedder or another chunking. What was stored before stays.
        StoreError: The file of remembered vectors cannot be used.
    """
    embedder = embedder or embedder_for()
    rights = None if groups is None else groups_of(list(groups))
    sizes = [chunk_tokens] if isinstance(chunk_tokens, int) else list(dict.fromkeys(chunk_tokens))
    if not sizes:
        raise DataError("chunk_tokens names no size")
    chunkers = [Chunker(embedder, size, overlap) for size in sizes]
    names = [collection, *(f"{collection}-{size}" for size in sizes[1:])]
    sources = Sources(source, rights, origin)
    started = time.monotonic()
    with ExitStack() as opened:  # closed again only where something went wrong
        memory = RememberingEmbedder(embedder, Path(path or DEFAULT_FOLDER) / VECTORS)
        with memory:
            fillings = []
            for name, chunker in zip(names, chunkers, strict=True):
                made = Collection.open(
                    name,
                    path=path,
                    url=url,
                    api_key=api_key,
                    embedder=embedder,
                    chunking=chunker.identity,
                    language=language,
                )
                opened.callback(made.close)
                fillings.append(_Filling(made, chunker, memory))
            documents, skipped = _fill(fillings, sources, progress)
        opened.pop_all()
    seconds = time.monotonic() - started
    reports = [
        IngestReport(name, documents, each.added, each.kept, each.removed, each.embedded, seconds, tuple(skipped))
        for name, each in zip(names, fillings, strict=True)
    ]
    for each in skipped:
        _log.info("skipped %s: %s", each.source, each.reason)
    variants = {
        name: Retriever(filling.collection, ingested=report)
        for name, filling, report in zip(names[1:], fillings[1:], reports[1:], strict=True)
    }
    return Retriever(fillings[0].collection, variants=variants, ingested=reports[0])


def _fill(
    fillings: Sequence[_Filling], sources: Sources, progress: Callable[[int, int], None] | None
) -> tuple[int, list[Skipped]]:
    """Reads everything and stores what is new; gives how many documents there were, and what was skipped."""

    def tell(share: float) -> None:
        if progress is not None:
            found = sum(each.found for each in fillings)
            progress(sum(each.done for each in fillings), max(found, round(found / share)) if share else found)

    documents, skipped, staying = 0, [], []
    for origin, read in sources:
        if isinstance(read, Skipped):
            skipped.append(read)
            if read.stays:
                staying.append((origin, read.source))
            continue
        documents += 1
        taken = [filling.take(origin, read) for filling in fillings]
        if not all(taken):
            skipped.append(Skipped(read.source, "it holds no text"))
            continue
        for filling in fillings:
            for _ in filling.store(_BATCH):
                tell(sources.share)
    if documents == 0 or (documents == len([each for each in skipped if each.reason == "it holds no text"])):
        raise _nothing(skipped)
    for filling in fillings:
        for _ in filling.store():
            tell(1.0)
        filling.finish(sources.origins, staying)
    tell(1.0)
    return documents, skipped


def _nothing(skipped: Sequence[Skipped]) -> DataError:
    told = "".join(f"\n  {each.source}: {each.reason}" for each in skipped[:_SHOWN])
    more = f"\n  … and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
    return DataError(f"no document was found, and the collection is as it was{':' if told else ''}{told}{more}")
