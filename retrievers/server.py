"""A Qdrant server, by its url: the same collections and searches as in this process."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from ..errors import RetrievalError
from .engine import EF_CONSTRUCT, FORMAT, Found, M, Making, Point
from .plan import BM25, DENSE, Step
from .search import FIELDS
from .server_request import request_of

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

__all__ = ["ServerEngine"]

_KEY = "progspace"
_PAGE = 1_000
_TIMEOUT = 60  # seconds a call
_Result = TypeVar("_Result")


class ServerEngine:
    """A collection on a Qdrant server (1.16 or newer: what it was made by is kept in the collection's metadata).

    A call that does not reach the server, or finds it busy, is made again after each of the pauses; all calls can be
    made twice with the effect of one. Tested against Qdrant's REST interface as served in this process over its
    client's local mode; a server of its own is used by the tests where the environment's ``QDRANT_URL`` names one.

    Args:
        name: The collection's.
        url: The server's.
        key: The server's key, if it wants one; sent to it, and told to nobody.
        pauses: Seconds to wait before each new try.
    """

    making: Making

    def __init__(self, name: str, url: str, key: str | None, pauses: Sequence[float] = (0.2, 1.0, 3.0)) -> None:
        from qdrant_client import QdrantClient

        self.place = f"the collection {name!r} at {_shown(url)}"
        self._name, self._key, self._pauses = name, key, tuple(pauses)
        try:
            # Its own check of versions asks the server once more, and only warns.
            self._client = QdrantClient(url=url, api_key=key, timeout=_TIMEOUT, check_compatibility=False)
        except ValueError as error:
            raise RetrievalError(f"{_shown(url)!r} is no url of a server: {self._told(error)}") from error

    @classmethod
    def open(cls, name: str, url: str, key: str | None, maker: Callable[[], Making] | None) -> ServerEngine:
        """Opens a collection, or makes it; what it was made by is the engine's ``making``.

        Args:
            name: The collection's.
            url: The server's.
            key: The server's key, if it wants one.
            maker: Gives what a new one is made by; None to open only what is there.

        Raises:
            RetrievalError: The server cannot be reached, refuses the key, or has no such collection or one that was
                made by something else.
        """
        engine = cls(name, url, key)
        try:
            if not engine._run(lambda client: client.collection_exists(name)):
                if maker is None:
                    raise RetrievalError(f"{engine.place} is not there; ingest something into it first")
                engine._make(maker())
            info = engine._info()
            engine.making = engine._stored(info)
            engine._index(info)
        except BaseException:
            engine.close()
            raise
        return engine

    def _make(self, making: Making) -> None:
        from qdrant_client import models

        def make(client: QdrantClient) -> None:
            client.create_collection(
                self._name,
                vectors_config={DENSE: models.VectorParams(size=making.dimension, distance=models.Distance.COSINE)},
                sparse_vectors_config={BM25: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                hnsw_config=models.HnswConfigDiff(m=M, ef_construct=EF_CONSTRUCT),
                metadata={_KEY: making.model_dump()},
            )

        try:
            self._run(make)
        except RetrievalError:
            # Another process made it meanwhile, or this one did, and was told so over a broken connection.
            if not self._run(lambda client: client.collection_exists(self._name)):
                raise

    def _index(self, info: models.CollectionInfo) -> None:
        """Indexes the fields that searches are narrowed by, unless they are."""
        from qdrant_client import models

        for field in set(FIELDS) - set(info.payload_schema):
            schema = models.PayloadSchemaType.INTEGER if FIELDS[field] is int else models.PayloadSchemaType.KEYWORD
            self._create_index(field, schema)

    def _create_index(self, field: str, schema: models.PayloadSchemaType) -> None:
        self._run(lambda client: client.create_payload_index(self._name, field, schema, wait=True))

    def _info(self) -> models.CollectionInfo:
        return self._run(lambda client: client.get_collection(self._name))

    def _stored(self, info: models.CollectionInfo) -> Making:
        stored = (info.config.metadata or {}).get(_KEY)
        if stored is None:
            raise RetrievalError(
                f"{self.place} was not made by progspace, or the server keeps no metadata of collections, as Qdrant "
                f"1.16 and newer do; choose another name, or upgrade the server"
            )
        try:
            if stored["format"] > FORMAT:
                raise RetrievalError(f"{self.place} is of a newer progspace; upgrade this one")
            return Making.model_validate(stored)
        except (KeyError, TypeError, ValidationError) as error:
            raise RetrievalError(
                f"{self.place}: its metadata is damaged ({error}); ingest under another name"
            ) from error

    def upsert(self, points: Sequence[Point]) -> None:
        """Stores points; the server has them in its log when this returns."""
        from qdrant_client import models

        stored = [
            models.PointStruct(
                id=point.id,
                vector={
                    DENSE: point.dense.tolist(),
                    BM25: models.SparseVector(indices=point.sparse.indices, values=point.sparse.values),
                },
                payload=point.payload,
            )
            for point in points
        ]
        self._run(lambda client: client.upsert(self._name, stored, wait=True))
        self._changed()

    def delete(self, ids: Sequence[str]) -> None:
        """Removes points."""
        from qdrant_client import models

        self._run(lambda client: client.delete(self._name, models.PointIdsList(points=list(ids)), wait=True))
        self._changed()

    def _changed(self) -> None:
        """Leaves a mark that every other user of the collection sees, whether the number of points changed or not."""
        mark = {f"{_KEY}_revision": uuid.uuid4().hex}
        self._run(lambda client: client.update_collection(self._name, metadata=mark))

    def query(self, steps: Sequence[Step]) -> list[list[Found]]:
        """Runs searches together, in one request."""
        requests = [request_of(step) for step in steps]
        found = self._run(lambda client: client.query_batch_points(self._name, requests))
        return [[(str(point.id), point.score, point.payload or {}) for point in each.points] for each in found]

    def points(self, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Gives every point's id and those fields of its payload."""
        offset: Any = None
        while True:
            page, offset = self._scroll(list(fields) or False, offset)
            for record in page:
                yield str(record.id), record.payload or {}
            if offset is None:
                return

    def _scroll(self, fields: Any, offset: Any) -> tuple[list[Any], Any]:
        return self._run(
            lambda client: client.scroll(
                self._name, limit=_PAGE, offset=offset, with_payload=fields, with_vectors=False
            )
        )

    def count(self) -> int:
        """How many points there are."""
        return self._run(lambda client: client.count(self._name, exact=True).count)

    def revision(self) -> object:
        """The mark of the last write, whoever made it, and the number of points."""
        info = self._info()
        return (info.config.metadata or {}).get(f"{_KEY}_revision"), info.points_count

    def flush(self) -> None:
        """Nothing is left to do: every write waited for the server's own log."""

    def optimize(self) -> None:
        """Waits until the server, which builds the index by itself, has built it."""
        from qdrant_client import models

        while (status := self._info().status) == models.CollectionStatus.YELLOW:
            time.sleep(0.5)
        if status == models.CollectionStatus.RED:
            raise RetrievalError(f"{self.place}: the server says that it could not be optimized; its log says why")

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _run(self, call: Callable[[QdrantClient], _Result]) -> _Result:
        """Makes a call, and again where it may go through later."""
        for pause in (*self._pauses, None):
            try:
                return call(self._client)
            except Exception as error:
                fault = self._fault(error)
                if pause is None or not fault.retryable:
                    raise fault from None  # the cause holds the request, and that the key
            time.sleep(pause)
        raise AssertionError  # pragma: no cover — the loop returns or raises

    def _fault(self, error: Exception) -> RetrievalError:
        from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        if isinstance(error, ResourceExhaustedResponse):
            return RetrievalError(f"{self.place}: the server is busy ({self._told(error)})", retryable=True)
        if isinstance(error, UnexpectedResponse):
            code = error.status_code or 0
            if code in (401, 403):
                return RetrievalError(
                    f"{self.place}: the server refuses the key ({code}); give the right one as api_key, or in the "
                    f"environment as QDRANT_API_KEY"
                )
            busy = code in (408, 429, 500, 502, 503, 504)
            return RetrievalError(f"{self.place}: {self._told(error)}", retryable=busy)
        if isinstance(error, ResponseHandlingException):
            source = error.source
            if isinstance(source, ValidationError):
                return RetrievalError(f"{self.place}: what answers there is no Qdrant server that this client knows")
            told = f"{type(source).__name__}: {self._told(source)}"
            return RetrievalError(f"{self.place}: the server cannot be reached, or went away ({told})", retryable=True)
        return RetrievalError(f"{self.place}: {type(error).__name__}: {self._told(error)}")

    def _told(self, error: Exception) -> str:
        text = " ".join(str(error).split())
        return text.replace(self._key, "…") if self._key else text


def _shown(url: str) -> str:
    """The url without the name and password that may stand in it."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.rpartition("@")[2]
