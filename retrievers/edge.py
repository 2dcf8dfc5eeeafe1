"""Qdrant's engine in this process: a collection is a folder, held by one process at a time."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import ValidationError

from ..errors import RetrievalError
from .edge_request import request_of
from .engine import EF_CONSTRUCT, FORMAT, Found, M, Making, Point
from .plan import BM25, DENSE, Step
from .search import FIELDS

if TYPE_CHECKING:
    import qdrant_edge

__all__ = ["EdgeEngine"]

_MAKING = "collection.json"
_SHARD = "shard"
_PAGE = 1_000
_ROOM = 128 << 20  # bytes that must be free before a write: several times what a batch, logged and stored, takes
_Result = TypeVar("_Result")


class EdgeEngine:
    """A folder with a Qdrant Edge shard, its making beside it, and a lock file that says who holds it.

    All who open the same folder in one process share one engine; the last to close it lets the folder go. The operating
    system frees the lock of a process that was killed.

    >>> import tempfile
    >>> made = Making(embedder="mine", dimension=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     engine = EdgeEngine.open(Path(folder) / "policies", lambda: made)
    ...     engine.count()
    ...     engine.close()
    0
    """

    def __init__(self, folder: Path, making: Making, shard: qdrant_edge.EdgeShard, lock: FileLock) -> None:
        self.place, self.making = f"the collection in {folder}", making
        self._folder, self._lock = folder, lock
        self._shard: qdrant_edge.EdgeShard | None = shard
        self._process, self._users, self._changes = os.getpid(), 0, 0
        self._writing = threading.Lock()

    @classmethod
    def open(cls, folder: Path, maker: Callable[[], Making] | None) -> EdgeEngine:
        """Opens a folder, or makes it; what it was made by is the engine's ``making``.

        Args:
            folder: Where it is, or shall be.
            maker: Gives what a new one is made by; None to open only what is there.

        Raises:
            RetrievalError: Another process holds it, it is damaged or not there, or the disk is full.
        """
        folder = folder.resolve()
        with _opening:
            engine = _opened.get(folder)
            if engine is None or engine._shard is None or engine._process != os.getpid():
                engine = _opened[folder] = cls._load(folder, maker)
            engine._users += 1
            return engine

    @classmethod
    def _load(cls, folder: Path, maker: Callable[[], Making] | None) -> EdgeEngine:
        if maker is None and not folder.exists():
            raise RetrievalError(f"there is no collection in {folder}; ingest something into it first")
        lock = FileLock(folder.parent / f"{folder.name}.lock", timeout=0)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise RetrievalError(
                f"another process uses the collection in {folder}, and an embedded one serves one process at a time; "
                f"close it there, or give both a Qdrant server by its url",
                retryable=True,
            ) from None
        except OSError as error:
            raise RetrievalError(f"the collection in {folder} cannot be opened: {error}") from error
        try:
            if maker is not None and not folder.exists():
                _make(folder, maker())
            making = _making(folder)
            return cls(folder, making, _loaded(folder), lock)
        except BaseException:
            lock.release()
            raise

    def upsert(self, points: Sequence[Point]) -> None:
        """Stores points; they are in the write-ahead log when this returns."""
        self._need(_ROOM)
        from qdrant_edge import Point as Stored
        from qdrant_edge import SparseVector, UpdateOperation

        stored = [
            Stored(
                point.id,
                {DENSE: point.dense.tolist(), BM25: SparseVector(point.sparse.indices, point.sparse.values)},
                point.payload,
            )
            for point in points
        ]
        self._write(lambda shard: shard.update(UpdateOperation.upsert_points(stored)))

    def delete(self, ids: Sequence[str]) -> None:
        """Removes points."""
        from qdrant_edge import UpdateOperation

        self._write(lambda shard: shard.update(UpdateOperation.delete_points(list(ids))))

    def query(self, steps: Sequence[Step]) -> list[list[Found]]:
        """Runs searches together."""
        if len(steps) == 1:
            request = request_of(steps[0])
            found = [self._run(lambda shard: shard.query(request))]
        else:
            from qdrant_edge import QueryBatchRequest

            batch = QueryBatchRequest([request_of(step) for step in steps])
            found = self._run(lambda shard: shard.query_batch(batch))
        return [[(str(point.id), point.score, point.payload or {}) for point in points] for points in found]

    def points(self, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Gives every point's id and those fields of its payload."""
        from qdrant_edge import ScrollRequest

        asked: Any = list(fields) or False
        offset = None
        while True:
            page, offset = self._scroll(ScrollRequest(offset=offset, limit=_PAGE, with_payload=asked))
            for record in page:
                yield str(record.id), record.payload or {}
            if offset is None:
                return

    def _scroll(self, request: qdrant_edge.ScrollRequest) -> tuple[list[qdrant_edge.Record], Any]:
        return self._run(lambda shard: shard.scroll(request))

    def count(self) -> int:
        """How many points there are."""
        from qdrant_edge import CountRequest

        return self._run(lambda shard: shard.count(CountRequest(exact=True)))

    def revision(self) -> object:
        """The number of writes: nobody else can change what this process holds."""
        return self._changes

    def flush(self) -> None:
        """Returns when what was stored is on the disk."""
        self._run(lambda shard: shard.flush())

    def optimize(self) -> None:
        """Builds the index of segments that are large enough for one."""
        # What is optimized is written anew before the old files go.
        self._need(_ROOM + sum(file.stat().st_blocks * 512 for file in self._folder.rglob("*") if file.is_file()))
        self._run(lambda shard: shard.optimize())

    def _need(self, room: int) -> None:
        """Refuses to write where the disk is nearly full.

        The engine's files are maps of memory, as long as they may become: where the disk has no room for a page that is
        written to, the system ends the process by a signal, and no error can be caught.
        """
        free = _free(self._folder)
        if free < room:
            raise _full(self.place, f"{free >> 20} MB are free, and {room >> 20} are needed")

    def close(self) -> None:
        """Lets go of it; the last who does closes the folder."""
        # A forked process leaves all alone: to let go of the lock there would be to let go of it for the parent.
        if self._process != os.getpid():
            return
        with _opening:
            self._users -= 1
            if self._users > 0 or self._shard is None:
                return
            shard, self._shard = self._shard, None
            _opened.pop(self._folder, None)
            try:
                shard.close()
            finally:
                self._lock.release()

    def _write(self, change: Callable[[qdrant_edge.EdgeShard], object]) -> None:
        with self._writing:
            self._changes += 1
            self._run(change)

    def _run(self, call: Callable[[qdrant_edge.EdgeShard], _Result]) -> _Result:
        shard = self._shard
        if shard is None:
            raise RetrievalError(f"{self.place} is closed; open it again")
        if self._process != os.getpid():
            raise RetrievalError(
                f"{self.place} was opened before this process was forked from its parent, which holds it; start the "
                f"process by 'spawn', or give both a Qdrant server by its url"
            )
        with _faults(self.place):
            return call(shard)


@contextmanager
def _faults(place: str) -> Iterator[None]:
    """Turns the engine's exceptions, which have no class of their own, into errors that name the place."""
    try:
        yield
    except (RetrievalError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of the Rust code
        text = " ".join(str(error).split())
        if any(sign in text.lower() for sign in ("no space left", "os error 28", "os error 27", "file too large")):
            raise _full(place, text) from error
        raise RetrievalError(f"{place}: {text}") from error


def _full(place: str, told: str) -> RetrievalError:
    return RetrievalError(
        f"{place}: the disk is full ({told}); make room and go on: nothing that was stored before is lost",
        retryable=True,
    )


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _config(making: Making) -> qdrant_edge.EdgeConfig:
    from qdrant_edge import Distance, EdgeConfig, EdgeSparseVectorParams, EdgeVectorParams, HnswIndexConfig, Modifier

    return EdgeConfig(
        vectors={DENSE: EdgeVectorParams(making.dimension, Distance.Cosine)},
        sparse_vectors={BM25: EdgeSparseVectorParams(modifier=Modifier.Idf)},
        hnsw_config=HnswIndexConfig(m=M, ef_construct=EF_CONSTRUCT, full_scan_threshold=10_000),
    )


def _make(folder: Path, making: Making) -> None:
    """Makes all of a collection in a folder beside it, then gives it its name: it is there whole, or not at all."""
    from qdrant_edge import EdgeShard, PayloadSchemaType, UpdateOperation

    draft = folder.parent / f".{folder.name}.new"
    place = f"the collection in {folder}"
    with _faults(place):
        if _free(folder.parent) < _ROOM:
            raise _full(place, f"{_free(folder.parent) >> 20} MB are free, and {_ROOM >> 20} are needed")
        shutil.rmtree(draft, ignore_errors=True)
        (draft / _SHARD).mkdir(parents=True)
        shard = EdgeShard.create(str(draft / _SHARD), _config(making))
        for field, kind in FIELDS.items():
            schema = PayloadSchemaType.Integer if kind is int else PayloadSchemaType.Keyword
            shard.update(UpdateOperation.create_field_index(field, schema))
        shard.flush()
        shard.close()
        with (draft / _MAKING).open("w", encoding="utf-8") as file:
            file.write(making.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.rename(folder)


def _making(folder: Path) -> Making:
    try:
        text = (folder / _MAKING).read_text(encoding="utf-8")
        stored = json.loads(text)
        if isinstance(stored, dict) and stored.get("format", 0) > FORMAT:
            raise RetrievalError(f"the collection in {folder} is of a newer progspace; upgrade this one")
        return Making.model_validate(stored)
    except (OSError, ValueError, ValidationError, TypeError) as error:
        raise RetrievalError(
            f"the folder {folder} holds no collection, or a damaged one: {_MAKING} cannot be read ({error}); "
            f"remove the folder and ingest again"
        ) from error


def _loaded(folder: Path) -> qdrant_edge.EdgeShard:
    from qdrant_edge import EdgeShard

    try:
        with _faults(f"the collection in {folder}"):
            shard = EdgeShard.load(str(folder / _SHARD))
    except RetrievalError as error:
        if error.retryable:
            raise
        raise RetrievalError(f"{error}; if the folder is damaged, remove it and ingest again") from error
    return shard


_opened: dict[Path, EdgeEngine] = {}
_opening = threading.RLock()
