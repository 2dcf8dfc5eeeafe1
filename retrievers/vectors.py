"""Vectors that are remembered by what they are of: no text is embedded twice."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.exc import DatabaseError

from ..errors import StoreError
from ..lms.embedder import Embedder
from ..store.sqlite import sqlite_engine

__all__ = ["RememberingEmbedder"]

_LOOKUP = 500  # texts a query: below every SQLite's limit on parameters

_metadata = sa.MetaData()
_vectors = sa.Table(
    "vectors",
    _metadata,
    sa.Column("embedder", sa.String, primary_key=True),
    sa.Column("text", sa.String, primary_key=True),  # its SHA-256: what it says is not kept here
    sa.Column("vector", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
_PUT = "INSERT INTO vectors VALUES (?, ?, ?) ON CONFLICT DO NOTHING"


class RememberingEmbedder:
    """An embedder that embeds each text once, and remembers its vector in a file of SQLite.

    The file may be shared by collections, threads and processes, and deleted at any time; it holds vectors and the
    hashes of texts, no text.

    Args:
        embedder: Who embeds what is not known yet.
        path: The file.

    Attributes:
        name: That of the embedder.
        embedded: How many texts were embedded, and not remembered.

    Raises:
        StoreError: The file is of another kind, or cannot be made.
    """

    def __init__(self, embedder: Embedder, path: str | Path) -> None:
        self.embedder, self.name, self.path = embedder, embedder.name, Path(path)
        self.embedded = 0
        self._lock = threading.Lock()
        self._engine = sqlite_engine(self.path)
        try:
            _metadata.create_all(self._engine)
            self._connection = self._engine.connect()
        except DatabaseError as error:
            self._engine.dispose()
            raise StoreError(f"{self.path}: no file of vectors, or damaged ({error.orig}); delete it") from error

    def __enter__(self) -> RememberingEmbedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        with self._lock:
            self._connection.close()
            self._engine.dispose()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Gives an array of shape (texts, dimension) whose rows have length 1; what is new is remembered.

        Raises:
            StoreError: The file cannot be read or written.
        """
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        known = self._known(list(dict.fromkeys(keys)))
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing or not texts:
            fresh = self.embedder.embed(list(missing.values()))
            if not texts:
                return fresh
            known.update(zip(missing, fresh, strict=True))
            self.embedded += len(missing)
            self._put([(self.name, key, known[key].astype("<f4").tobytes()) for key in missing])
        return np.stack([known[key] for key in keys])

    def _known(self, keys: list[str]) -> dict[str, NDArray[np.float32]]:
        known: dict[str, NDArray[np.float32]] = {}
        try:
            with self._lock:
                for start in range(0, len(keys), _LOOKUP):
                    query = sa.select(_vectors.c.text, _vectors.c.vector).where(
                        _vectors.c.embedder == self.name, _vectors.c.text.in_(keys[start : start + _LOOKUP])
                    )
                    for key, vector in self._connection.execute(query):
                        known[key] = np.frombuffer(vector, "<f4").astype(np.float32, copy=False)
        except DatabaseError as error:
            raise StoreError(f"{self.path}: cannot be read ({error.orig})") from error
        return known

    def _put(self, rows: list[tuple[str, str, bytes]]) -> None:
        try:
            with self._lock:
                self._connection.exec_driver_sql(_PUT, rows)
                self._connection.commit()
        except DatabaseError as error:
            raise StoreError(f"{self.path}: cannot be written ({error.orig}); nothing stored before is lost") from error
