"""Embedders: an endpoint over real HTTP, and vectors that are remembered."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from progspace.errors import ModelNotFound, RetrievalError, StoreError
from progspace.retrievers.embedders import FastEmbedEmbedder, OpenAIEmbedder, find_embedder
from progspace.retrievers.vectors import RememberingEmbedder


class Endpoint(ThreadingHTTPServer):
    """Answers as OpenAI's embeddings API does, its vectors in another order; ``faults`` come first."""

    daemon_threads = True

    def __init__(self) -> None:
        self.faults: deque[tuple[int, dict[str, str], Any]] = deque()
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(asked)
            self.server.keys.append(self.headers["Authorization"])
            fault = self.server.faults.popleft() if self.server.faults else None
        rows = [
            {"object": "embedding", "index": index, "embedding": vector(text, asked.get("dimensions", 4))}
            for index, text in enumerate(asked["input"])
        ]
        told: Any = {
            "object": "list",
            "data": rows[::-1],
            "model": asked["model"],
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
        status, headers, told = fault or (200, {}, told)
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


def vector(text: str, dimension: int) -> list[float]:
    return [float(len(text)), *(float(text.count(letter)) + 0.5 for letter in "abcdefgh"[: dimension - 1])]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def embedder(endpoint: Endpoint, **settings: Any) -> OpenAIEmbedder:
    return OpenAIEmbedder("test", base_url=endpoint.url, **{"api_key": "k", "retries": 2, **settings})


def test_vectors_come_in_batches_in_order_and_of_length_one(endpoint: Endpoint) -> None:
    texts = ["a" * (number + 1) for number in range(25)]
    vectors = embedder(endpoint, batch=4).embed(texts)
    assert vectors.shape == (25, 4)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    wanted = np.array([vector(text, 4) for text in texts])
    np.testing.assert_allclose(vectors, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)
    assert sorted(len(asked["input"]) for asked in endpoint.asked) == [1, 4, 4, 4, 4, 4, 4]
    assert all(asked["encoding_format"] == "float" for asked in endpoint.asked)


def test_a_request_is_not_larger_than_endpoints_take(endpoint: Endpoint) -> None:
    embedder(endpoint).embed(["a" * 150_000] * 5)
    assert sorted(len(asked["input"]) for asked in endpoint.asked) == [1, 2, 2]


def test_no_text_is_no_request(endpoint: Endpoint) -> None:
    assert embedder(endpoint).embed([]).shape == (0, 0)
    assert not endpoint.asked


def test_dimensions_are_asked_for_and_part_of_the_name(endpoint: Endpoint) -> None:
    short = embedder(endpoint, dimensions=3)
    assert short.embed(["a"]).shape == (1, 3)
    assert endpoint.asked[0]["dimensions"] == 3
    assert short.name != embedder(endpoint).name


def test_what_passes_is_tried_again(endpoint: Endpoint) -> None:
    endpoint.faults.extend(
        [(429, {"Retry-After": "0"}, {"error": "slow"}), (503, {"Retry-After": "0"}, {"error": "x"})]
    )
    assert embedder(endpoint).embed(["a"]).shape == (1, 4)
    assert len(endpoint.asked) == 3


@pytest.mark.parametrize(
    ("status", "body", "told", "retryable"),
    [
        (401, {"error": {"message": "bad key"}}, "401", False),
        (400, {"error": {"message": "no such model"}}, "400", False),
        (503, {"error": {"message": "down"}}, "503", True),
        (200, {"data": []}, "gave", False),
        (200, {"nothing": 1}, "gave no vectors", False),
        (200, {"data": [{"index": 0, "embedding": "rubbish"}]}, "gave no vectors", False),
        (200, {"data": [{"index": 0, "embedding": [0, 0, 0]}]}, "without a direction", False),
        (200, b"<html>proxy</html>", "gave no vectors", False),
    ],
)
def test_rubbish_is_an_error_and_never_a_vector(
    endpoint: Endpoint, status: int, body: Any, told: str, retryable: bool
) -> None:
    endpoint.faults.extend([(status, {"Retry-After": "0"}, body)] * 3)
    with pytest.raises(RetrievalError, match=told) as raised:
        embedder(endpoint).embed(["a"])
    assert raised.value.retryable is retryable


def test_a_dimension_that_changes_is_an_error(endpoint: Endpoint) -> None:
    changing = embedder(endpoint)
    changing.embed(["a"])
    endpoint.faults.append((200, {}, {"data": [{"index": 0, "embedding": [1, 2]}]}))
    with pytest.raises(RetrievalError, match="2 dimensions, not 4"):
        changing.embed(["a"])


def test_an_endpoint_that_is_not_there_is_told_of() -> None:
    with pytest.raises(RetrievalError, match="cannot be reached") as raised:
        OpenAIEmbedder("test", base_url="http://127.0.0.1:9/v1", retries=0).embed(["a"])
    assert raised.value.retryable


def test_the_key_is_asked_for_and_never_shown(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    rotating = iter(["first", "second"])
    asking = embedder(endpoint, api_key=lambda: next(rotating))
    asking.embed(["a"])
    asking.embed(["b"])
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-environment")
    told = OpenAIEmbedder("test", base_url=endpoint.url)
    told.embed(["a"])
    assert endpoint.keys == ["Bearer first", "Bearer second", "Bearer of-the-environment"]
    assert "second" not in repr(asking)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(RetrievalError, match="OPENAI_API_KEY"):
        OpenAIEmbedder("text-embedding-3-small").embed(["a"])


def test_embedders_are_found_by_name() -> None:
    assert isinstance(find_embedder("openai/text-embedding-3-small"), OpenAIEmbedder)
    assert isinstance(find_embedder("fastembed/BAAI/bge-small-en-v1.5"), FastEmbedEmbedder)
    with pytest.raises(ModelNotFound, match="no embedder is called"):
        find_embedder("nothing")


class Counting:
    """Embeds by length, and keeps what it was asked."""

    def __init__(self, name: str = "counting") -> None:
        self.name = name
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        self.asked += texts
        angles = np.array([len(text) for text in texts], np.float32)
        return np.stack([np.cos(angles), np.sin(angles)], 1) if texts else np.empty((0, 2), np.float32)


def test_no_text_is_embedded_twice(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "vectors.db"
    counting = Counting()
    with RememberingEmbedder(counting, file) as memory:
        first = memory.embed(["a", "bb", "a"])
        assert counting.asked == ["a", "bb"]
        np.testing.assert_array_equal(first, Counting().embed(["a", "bb", "a"]))
        assert memory.embed([]).shape == (0, 2)
    with RememberingEmbedder(counting, file) as memory:
        np.testing.assert_array_equal(memory.embed(["ccc", "bb"]), Counting().embed(["ccc", "bb"]))
        assert counting.asked == ["a", "bb", "ccc"]
        assert memory.embedded == 1
    with RememberingEmbedder(Counting("other"), file) as memory:
        memory.embed(["a"])
        assert memory.embedded == 1
    assert b"ccc" not in file.read_bytes()


def test_many_texts_and_threads_share_a_file(tmp_path: Path) -> None:
    texts = [f"text {number}" + "x" * number for number in range(1200)]
    with RememberingEmbedder(Counting(), tmp_path / "v.db") as memory:
        results: list[Any] = []
        threads = [threading.Thread(target=lambda: results.append(memory.embed(texts))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 4
    for result in results:
        np.testing.assert_array_equal(result, Counting().embed(texts))


def test_a_file_that_is_none_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "v.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="delete it"):
        RememberingEmbedder(Counting(), tmp_path / "v.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        RememberingEmbedder(Counting(), tmp_path / "file" / "v.db")
