"""A Qdrant server for tests: real HTTP, Qdrant's REST paths, and its client's local mode behind them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

from progspace.retrievers import Collection, Passage


class WordEmbedder:
    """Adds up one fixed random direction for each word: texts that share words are near."""

    def __init__(self, name: str = "words", dimension: int = 32) -> None:
        self.name, self.dimension = name, dimension
        self.batches: list[int] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.batches.append(len(texts))
        rows = np.full((len(texts), self.dimension), 1e-3, np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "replace")).digest()[:8], "big")
                row += np.random.default_rng(seed).normal(size=self.dimension).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class RestServer(ThreadingHTTPServer):
    """Answers as Qdrant does, so far as progspace asks; and misbehaves as told.

    ``faults`` holds what happens to the next requests: a status code; ``"drop"``: the connection ends without an
    answer; ``"late drop"``: so it does, but the request was carried out; ``None``: nothing.
    """

    daemon_threads = True

    def __init__(self, key: str | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.client = QdrantClient(":memory:")
        self.key, self.lock = key, threading.Lock()
        self.faults: deque[int | str | None] = deque()
        self.requests: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, method: str, path: str, body: Any) -> Any:
        _, _, name, *rest = path.split("?")[0].split("/")
        client, what = self.client, (method, "/".join(rest))
        if what == ("GET", "exists"):
            return {"exists": client.collection_exists(name)}
        if what == ("PUT", ""):
            if client.collection_exists(name):
                raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
            asked = models.CreateCollection.model_validate(body)
            return client.create_collection(
                name,
                vectors_config=asked.vectors,
                sparse_vectors_config=asked.sparse_vectors,
                metadata=asked.metadata,
            )
        if not client.collection_exists(name):
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
        if what == ("GET", ""):
            return client.get_collection(name).model_dump(mode="json")
        if what == ("PATCH", ""):
            return client.update_collection(name, metadata=body["metadata"])
        if what == ("PUT", "index"):
            return {"operation_id": 0, "status": "completed"}  # local mode has none
        if what == ("PUT", "points"):
            points = models.PointsList.model_validate(body).points
            sizes = {key: each.size for key, each in client.get_collection(name).config.params.vectors.items()}
            for point in points:
                for key, size in sizes.items():
                    if len(point.vector[key]) != size:
                        got = len(point.vector[key])
                        raise Refused(400, f"Wrong input: Vector dimension error: expected dim: {size}, got {got}")
            return client.upsert(name, points).model_dump(mode="json")
        if what == ("POST", "points/delete"):
            return client.delete(name, models.PointIdsList.model_validate(body)).model_dump(mode="json")
        if what == ("POST", "points/count"):
            return client.count(name).model_dump(mode="json")
        if what == ("POST", "points/scroll"):
            asked = models.ScrollRequest.model_validate(body)
            points, following = client.scroll(
                name, limit=asked.limit, offset=asked.offset, with_payload=asked.with_payload, with_vectors=False
            )
            return {"points": [each.model_dump(mode="json") for each in points], "next_page_offset": following}
        if what == ("POST", "points/query/batch"):
            batch = models.QueryRequestBatch.model_validate(body)
            return [each.model_dump(mode="json") for each in client.query_batch_points(name, batch.searches)]
        raise Refused(404, f"{method} {path}: no such path")


class Refused(Exception):  # noqa: N818 — it is an answer
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RestServer

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.requests.append((self.command, self.path))
        if self.server.key is not None and self.headers.get("api-key") != self.server.key:
            self._send(401, b"Must provide an API key or an Authorization bearer token")
            return
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault == "drop":
            self.close_connection = True
            return
        if isinstance(fault, int):
            self._send(fault, json.dumps({"status": {"error": "Service unavailable"}, "time": 0.0}).encode())
            return
        try:
            with self.server.lock, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = self.server.answer(self.command, self.path, json.loads(body) if body else None)
            code, answer = 200, {"result": result, "status": "ok", "time": 0.001}
        except Refused as error:
            code, answer = error.code, {"status": {"error": str(error)}, "time": 0.0}
        except ValueError as error:
            code, answer = 400, {"status": {"error": f"Format error in JSON body: {error}"}, "time": 0.0}
        if fault == "late drop":
            self.close_connection = True
            return
        self._send(code, json.dumps(answer).encode())

    def _send(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return None

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815 — names of http.server


def serve(key: str | None = None) -> Iterator[RestServer]:
    server = RestServer(key)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def rest_server() -> Iterator[RestServer]:
    yield from serve()


@pytest.fixture
def locked_server() -> Iterator[RestServer]:
    yield from serve(key="the-right-key")


@pytest.fixture
def words() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def word_embedder() -> type[WordEmbedder]:
    return WordEmbedder


Place = Callable[..., Collection]


# No package registry has a Qdrant server, so that no machine can be given one: the case is there where one is named.
@pytest.fixture(params=["embedded", "rest", *(["server"] if os.environ.get("QDRANT_URL") else [])])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Opens collections: in a folder, on the tests' server, and on a real one where ``QDRANT_URL`` names it."""
    where: dict[str, Any] = {"path": tmp_path}
    if request.param == "rest":
        where = {"url": request.getfixturevalue("rest_server").url}
    elif request.param == "server":
        where = {"url": os.environ["QDRANT_URL"]}
    prefix, made = f"test-{uuid.uuid4().hex[:12]}-", set()

    def open_one(name: str = "demo", **settings: Any) -> Collection:
        made.add(prefix + name)
        return Collection.open(prefix + name, **where, **settings)

    yield open_one
    if request.param == "server":
        client = QdrantClient(url=where["url"], api_key=os.environ.get("QDRANT_API_KEY"))
        for name in made:
            client.delete_collection(name)


TEXTS = [
    "Leave is twenty five days a year.",
    "Salaries are paid on the last working day.",
    "The office cat is called Minka.",
    "Travel is booked by the assistant.",
    "Parental leave is twelve months.",
    "The chief earns more than the cat.",
]


@pytest.fixture
def policies() -> list[Passage]:
    """Six passages of three documents; the second is for ``hr``, the sixth for ``board``."""
    groups = {1: ["hr"], 5: ["board"]}
    return [
        Passage.of(text, source=f"{i // 2}.md", position=i % 2, groups=groups.get(i), document=f"hash{i // 2}")
        for i, text in enumerate(TEXTS)
    ]


@pytest.fixture
def filled(place: Place, words: WordEmbedder, policies: list[Passage]) -> Iterator[Collection]:
    with place(embedder=words) as collection:
        collection.upsert(policies, words.embed([each.text for each in policies]))
        yield collection
