"""A collection of passages: embedded in a folder, or on a Qdrant server; the rest is the same."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..errors import RetrievalError
from ..lms.embedder import Embedder, embedder_for
from ..lms.models import DEFAULT_EMBEDDER
from .engine import Engine, Found, Point
from .opening import check, maker_of, open_engine
from .passage import Passage, Passages
from .plan import Fused, Step, conditions, plan
from .search import Search
from .sparse import Sparse, SparseEncoder

__all__ = ["Collection"]

_BATCH, _BATCH_BYTES = 500, 16 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


class Collection:
    """A collection of passages, each with a dense vector and its terms; all threads may use one.

    It is opened by `Collection.open`, and closed by `close`, at the end of a ``with``, or when it is forgotten.

    Attributes:
        name: Its name.
        making: What it was made by: embedder, dimension, chunking.

    >>> import tempfile
    >>> from progspace.retrievers import Collection, Passage, Search
    >>> class Letters:
    ...     name = "letters"
    ...     def embed(self, texts):
    ...         counts = np.array([[text.count(c) + 1e-6 for c in "abc"] for text in texts], np.float32)
    ...         return counts / np.linalg.norm(counts, axis=1, keepdims=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Collection.open("demo", path=folder, embedder=Letters()) as collection:
    ...         passages = [Passage.of(text, source="demo.txt", position=i) for i, text in enumerate(["a b", "c c"])]
    ...         collection.upsert(passages, Letters().embed([passage.text for passage in passages]))
    ...         print(collection.search("cc", Search(mode="dense", k=1)))
    [1] «c c»
    """

    def __init__(self, name: str, engine: Engine, embedder: Embedder | None) -> None:
        self.name, self.making = name, engine.making
        self._shared, self._embedder = engine, embedder
        self._sparse = SparseEncoder(engine.making.bm25)
        self._fingerprint: tuple[object, str] | None = None
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, engine.close)

    @classmethod
    def open(
        cls,
        name: str,
        *,
        path: str | Path | None = None,
        url: str | None = None,
        api_key: str | Callable[[], str] | None = None,
        embedder: Embedder | None = None,
        chunking: str = "",
        create: bool = True,
        language: str | None = None,
    ) -> Collection:
        """Opens a collection, or makes it.

        Args:
            name: Letters, digits, ``_``, ``.`` and ``-``.
            path: The folder that embedded collections are in; without it and without a ``url``,
                ``.progspace/collections`` of the working folder.
            url: Of a Qdrant server, in place of a path.
            api_key: The server's key, or what gives it; without it, the environment's ``QDRANT_API_KEY``, if any.
            embedder: What makes the vectors; None for the one that it was made by, where that is the embedded one.
            chunking: How its documents were split; empty for whatever it was made by.
            create: Whether it is made where it is missing.
            language: Of its stop words and stems for BM25; None for what it was made by, or English.

        Raises:
            RetrievalError: It was made by another embedder, dimension, chunking or language; it is missing or damaged;
                another process holds it; or the server cannot be reached or refuses the key.
        """
        if not _NAME.fullmatch(name):
            raise RetrievalError(f"{name!r} is no name of a collection: use letters, digits, '_', '.' and '-'")
        if path is not None and url is not None:
            raise RetrievalError("a collection is in a folder or on a server: give path or url, not both")
        engine = open_engine(name, path, url, api_key, maker_of(embedder, chunking, language) if create else None)
        try:
            check(engine, embedder, chunking, language)
        except BaseException:
            engine.close()
            raise
        return cls(name, engine, embedder)

    @property
    def _engine(self) -> Engine:
        if not self._finalizer.alive:
            raise RetrievalError(f"{self._shared.place} is closed; open it again")
        return self._shared

    @property
    def embedder(self) -> Embedder:
        """What makes the vectors of queries.

        Raises:
            RetrievalError: None was given, and the collection was not made by the embedded one.
        """
        if self._embedder is None:
            if self.making.embedder != DEFAULT_EMBEDDER:
                raise RetrievalError(
                    f"{self._engine.place} was made by the embedder {self.making.embedder!r}: give it as embedder=… "
                    f"when you open it"
                )
            self._embedder = embedder_for()
        return self._embedder

    def upsert(self, passages: Sequence[Passage], vectors: NDArray[np.float32]) -> None:
        """Stores passages, in place of those with the same ids.

        Args:
            passages: The passages.
            vectors: Theirs, in rows: shape (passages, dimension).

        Raises:
            RetrievalError: The vectors are not as many or as long as they must be, or not finite; an id is no UUID; a
                text holds half of a surrogate pair; or the engine cannot store them. Batches before the fault are kept.
        """
        vectors = self._checked(vectors, len(passages))
        for start, end in _batches(passages, self.making.dimension):
            points = [
                Point(_uuid(passage), vector, self._sparse.document(_encodable(passage)), passage.payload())
                for passage, vector in zip(passages[start:end], vectors[start:end], strict=True)
            ]
            self._engine.upsert(points)

    def delete(self, ids: Sequence[str]) -> None:
        """Removes passages; an id that is not there is no fault."""
        for start in range(0, len(ids), _BATCH):
            self._engine.delete(ids[start : start + _BATCH])

    def stored(self) -> dict[str, dict[str, set[str]]]:
        """What is there: ids of passages, by the document's hash, by source."""
        found: dict[str, dict[str, set[str]]] = {}
        for identifier, payload in self._engine.points(["source", "document"]):
            found.setdefault(payload["source"], {}).setdefault(payload["document"], set()).add(identifier)
        return found

    def search(self, query: str, search: Search | None = None, groups: Sequence[str] | None = None) -> Passages:
        """Finds passages.

        Args:
            query: A question, or words; where it is empty, nothing is found.
            search: How.
            groups: The caller's, which Qdrant's own filter holds against each passage's; None for public ones only.

        Raises:
            RetrievalError: The engine cannot search.
        """
        return self.search_many([query], search, groups)[0]

    def search_many(
        self, queries: Sequence[str], search: Search | None = None, groups: Sequence[str] | None = None
    ) -> list[Passages]:
        """Finds passages for each query; the queries are embedded, and searched, together."""
        search = search or Search()
        texts = [query.encode("utf-8", "replace").decode() for query in queries]
        asked = [index for index, text in enumerate(texts) if text.strip()]
        vectors = None
        if asked and (search.mode != "sparse" or search.diversity):
            vectors = self._checked(self.embedder.embed([texts[index] for index in asked]), len(asked))
        results = [Passages() for _ in queries]
        for index, passages in zip(
            asked, self.search_vectors(vectors, search, groups, [texts[i] for i in asked]), strict=True
        ):
            results[index] = passages
        return results

    def search_vectors(
        self,
        vectors: NDArray[np.float32] | None,
        search: Search,
        groups: Sequence[str] | None = None,
        queries: Sequence[str] | None = None,
    ) -> list[Passages]:
        """Finds passages for queries that are embedded already.

        Args:
            vectors: The queries', in rows; None for a sparse search.
            search: How.
            groups: The caller's.
            queries: Their texts, of which a sparse or hybrid search takes the terms.
        """
        must = conditions(search, groups)
        dense: Sequence[NDArray[np.float32] | None] = [None] * len(queries or ()) if vectors is None else list(vectors)
        sparse: Sequence[Sparse | None] = [None] * len(dense)
        if search.mode != "dense":
            sparse = [self._sparse.query(query) for query in queries or ()]
        steps = [plan(search, must, *pair) for pair in zip(dense, sparse, strict=True)]
        found = iter(self._engine.query([step for step in steps if step is not None]) if any(steps) else ())
        return [Passages() if step is None else _passages(step, next(found), search.k) for step in steps]

    def count(self) -> int:
        """How many passages there are."""
        return self._engine.count()

    def fingerprint(self) -> str:
        """The number of passages and a hash over all that is stored of them.

        Text, source and position are in the ids, or, where these are somebody's own, in the ``content`` stored besides.
        """
        revision = self._engine.revision()
        with self._lock:
            if self._fingerprint is not None and self._fingerprint[0] == revision:
                return self._fingerprint[1]
        fields = ["groups", "title", "time", "document", "content"]
        rows = sorted(json.dumps([each, payload], sort_keys=True) for each, payload in self._engine.points(fields))
        fingerprint = f"{len(rows)}:{hashlib.sha256(''.join(rows).encode()).hexdigest()[:32]}"
        with self._lock:
            self._fingerprint = (revision, fingerprint)
        return fingerprint

    def flush(self) -> None:
        """Returns when what was upserted is on the disk."""
        self._engine.flush()

    def optimize(self) -> None:
        """Builds the index (HNSW) after an ingest; small collections are searched exactly, without one."""
        self._engine.optimize()

    def close(self) -> None:
        """Lets the collection go; closing twice is no fault."""
        self._finalizer()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Collection {self.name!r}: {self._shared.place}>"

    def _checked(self, vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        vectors = np.ascontiguousarray(vectors, np.float32)
        if vectors.shape != (count, self.making.dimension) and (count or vectors.size):
            raise RetrievalError(
                f"{self._engine.place} was made for vectors of dimension {self.making.dimension} by the embedder "
                f"{self.making.embedder!r}; for {count} texts there are vectors of shape {vectors.shape}"
            )
        if not np.isfinite(vectors).all():
            raise RetrievalError("a vector holds a number that is not finite; look after the embedder that made it")
        return vectors


def _batches(passages: Sequence[Passage], dimension: int) -> Iterator[tuple[int, int]]:
    """Ranges of passages that are written together: a server takes requests of 32 MB at most."""
    start = size = 0
    for index, passage in enumerate(passages):
        own = 4 * len(passage.text) + 20 * dimension  # as JSON, at most about
        if index > start and (size + own > _BATCH_BYTES or index - start == _BATCH):
            yield start, index
            start, size = index, 0
        size += own
    if start < len(passages):
        yield start, len(passages)


def _uuid(passage: Passage) -> str:
    try:
        return str(uuid.UUID(passage.id))
    except (ValueError, AttributeError, TypeError):
        raise RetrievalError(
            f"{passage.source!r}, passage {passage.position}: its id {passage.id!r} is no UUID; use passage_id(…)"
        ) from None


def _passages(step: Step, found: Iterable[Found], k: int) -> Passages:
    """Makes passages of what an engine found; of fused ranks those that tie by their ids."""
    if isinstance(step.query, Fused):
        found = sorted(found, key=lambda each: (-each[1], each[0]))[:k]
    return Passages(Passage.from_payload(identifier, payload, score) for identifier, score, payload in found)


def _encodable(passage: Passage) -> str:
    for value in (passage.text, passage.source, passage.title, passage.time or "", *(passage.groups or ())):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RetrievalError(
                f"{passage.source!r}, passage {passage.position}: half of a surrogate pair is no character; decode the "
                f"document with errors='replace'"
            ) from None
    return passage.text
