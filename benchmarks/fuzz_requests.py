"""Requests that were spoilt, to the application of ``progspace serve``: each gets an answer that says what is wrong.

In this process by ASGI (any method, path, headers, body, also cut off), and as raw bytes to the server in a process of
its own, where broken HTTP is possible. The program answers at once, and always well: so an answer of 5xx is the
server's fault. Every answer is 2xx or 4xx with a body of JSON; but what is no HTTP at all is refused by uvicorn, in
plain text. Every 200 requests a good one must be answered.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote

import progspace as ps

from ..serving.http import Limits, application
from ..serving.server import run
from .fuzz_artifacts import artifacts, instant
from .mutations import spoilt_bytes, spoilt_text, spoilt_tree, value
from .serving import server

__all__ = ["fuzz_application", "fuzz_server", "serve"]

GOOD = {
    "text": "A joy.", "stars": 3, "weight": 0.5, "tags": ["x", "y"], "kind": "review", "tone": "warm",
    "places": {"home": {"city": "Oslo", "visits": 2}},
}  # fmt: skip
_PATHS = (
    "/predict/", "//predict", "/predict/../predict", "/PREDICT", "/",
    "/health", "/ready", "/openapi.json", "/docs", "/%00", "/%ff%fe", "/predict%2f", "/../../etc/passwd",
    "/" + "a" * 5_000, "/predict?x=1", "/predict#x", "/é", "*", "/predict;x", "/\\evil.example",
)  # fmt: skip
_METHODS = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "X", "post")
_TYPES = (
    "application/json; charset=utf-16", "APPLICATION/JSON", "application/json;;;", "text/plain",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/x-pickle", "", "/",
)  # fmt: skip
_HEADERS = (
    "host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "authorization", "accept",
    "content-encoding", "x-forwarded-for", "forwarded", "cookie", "range", "te", "trailer", "x" * 300, "traceparent",
)  # fmt: skip
_VALUES = (
    "", "0", "-1", "5", "99999999999999999999", "chunked", "identity, chunked", "gzip", "websocket", "100-continue",
    "close", "keep-alive, Upgrade", "evil.example", "a:b@c", "Bearer ", "Bearer x", "a" * 9_000, "\xff\xfe", "bytes=0-",
)  # fmt: skip
_EACH = 200  # requests until a good one must be answered
_LONGEST = 30.0  # seconds until an answer
_PATIENCE = 1.0  # seconds until it is taken that a server waits for the rest of a request
_WAITS = b"no answer yet"
_AT_A_TIME = 32
_TYPE = re.compile(rb"(?i)content-type: *application/(problem\+)?json")


def _body(draw: Random) -> bytes:
    way = draw.random()
    if way < 0.1:
        return json.dumps(GOOD).encode()
    if way < 0.7:
        return json.dumps(spoilt_tree(draw, GOOD), ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    if way < 0.75:
        return json.dumps(value(draw)).encode()
    return spoilt_text(draw, GOOD) if way < 0.9 else spoilt_bytes(draw, json.dumps(GOOD).encode())


def _or(draw: Random, usual: str, others: Sequence[str]) -> str:
    return usual if draw.random() < 0.85 else draw.choice(others)


def _headers(draw: Random) -> list[tuple[str, str]]:
    found = [("host", "localhost"), ("content-type", _or(draw, "application/json", _TYPES))]
    if draw.random() < 0.3:
        found += [(draw.choice(_HEADERS), draw.choice(_VALUES)) for _ in range(draw.choice((1, 1, 2, 5, 100)))]
    return found


async def _ask(
    app: Any, method: str, path: str, headers: list[tuple[str, str]], parts: list[bytes]
) -> tuple[int, bytes]:
    """Asks an ASGI application as a server does; None among the parts of the body is a client that hangs up."""
    raw, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(raw), "raw_path": raw.encode("utf-8"), "query_string": query.encode(), "root_path": "",
        "headers": [(name.encode("latin-1"), told.encode("latin-1")) for name, told in headers],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    waiting, status, body, kind = list(parts), 0, bytearray(), b""

    async def receive() -> dict[str, Any]:
        if not waiting:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def cut_off() -> dict[str, Any]:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": True} if waiting else await receive()

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, kind
        if message["type"] == "http.response.start":
            status, kind = message["status"], dict(message["headers"]).get(b"content-type", b"")
        else:
            body.extend(message.get("body", b""))

    await asyncio.wait_for(app(scope, cut_off if len(parts) == 3 else receive, send), _LONGEST)
    _check(status, b"content-type: " + kind, bytes(body), method)
    return status, bytes(body)


def _check(status: int, head: bytes, body: bytes, method: str) -> None:
    if not (200 <= status < 300 or 400 <= status < 500):
        raise ValueError(f"it answered {status}: {body[:200]!r}")
    if method == "HEAD":
        return
    if not _TYPE.search(head):
        raise ValueError(f"it answered {status} with {body[:200]!r}, which is no JSON: {head[:300]!r}")
    json.loads(body)


def fuzz_application(cases: range, seed: int) -> Counter[str]:
    """Asks the application so often, in this process; with and without a key.

    Raises:
        RuntimeError: An answer is none; with the number of the case.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = ps.guarded(ps.load(artifacts(Path(folder))[0], lm=instant()))
    apps = [application(program, limits=Limits(body=200_000), key=key) for key in (None, "x")]
    return asyncio.run(_fuzz(apps, cases, seed))


async def _fuzz(apps: list[Any], cases: range, seed: int) -> Counter[str]:
    outcomes = Counter[str]()
    for case in cases:
        draw = Random(f"{seed}:{case}")  # noqa: S311 — reproducible, not secret
        body = _body(draw)
        cut = draw.randint(0, len(body))
        parts = draw.choice(([body], [body], [body[:cut], body[cut:]], [body[:cut], b"", b""]))
        told = _or(draw, "POST", _METHODS), _or(draw, "/predict", _PATHS), _headers(draw), parts
        try:
            status, _ = await _ask(apps[draw.random() < 0.1], *told)
            if case % _EACH == 0:
                await _good(apps[0])
        except Exception as error:
            raise RuntimeError(f"request {case} of seed {seed}: {error!r}\n{told!r:.1000}") from error
        outcomes[str(status)] += 1
    await _good(apps[0])
    return outcomes


async def _good(app: Any) -> None:
    headers = [("content-type", "application/json")]
    found = await _ask(app, "POST", "/predict", headers, [json.dumps(GOOD).encode()])
    if found[0] != 200 or json.loads(found[1]) != {"sentiment": "positive"}:
        raise ValueError(f"a good request got {found!r}")


def serve(artifact: str) -> None:
    """What the server's process runs."""
    program = ps.guarded(ps.load(artifact, lm=instant()))
    run(application(program, limits=Limits(body=200_000, seconds=5)), host="127.0.0.1", port=0)


def _raw(draw: Random) -> bytes:
    body = _body(draw)
    headers = _headers(draw)
    if draw.random() < 0.8:
        headers.append(("content-length", str(len(body))))
    version = _or(draw, "HTTP/1.1", ("HTTP/1.0", "HTTP/2.0", "HTTP/9", "", "http/1.1"))
    lines = [f"{_or(draw, 'POST', _METHODS)} {_or(draw, '/predict', _PATHS)} {version}"]
    lines += [f"{name}: {told}" for name, told in headers]
    whole = "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body
    way = draw.random()
    if way < 0.3:
        return spoilt_bytes(draw, whole)
    if way < 0.35:
        return draw.randbytes(draw.choice((1, 100, 5_000)))
    if way < 0.4:
        return whole * 3  # one after the other, on one connection
    return whole.replace(b"\r\n", b"\n") if way < 0.43 else whole


def fuzz_server(cases: range, seed: int) -> Counter[str]:
    """Sends so many requests as raw bytes, each on a connection of its own, to a server in another process.

    Raises:
        RuntimeError: An answer is none, or the server is gone; with the number of the case.
    """
    outcomes = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        artifact = artifacts(Path(folder))[0]
        command = ["-c", f"from progspace.benchmarks.fuzz_requests import serve; serve({str(artifact)!r})"]
        with server(command) as (port, _), ThreadPoolExecutor(_AT_A_TIME) as pool:
            told = [pool.submit(_send, port, case, seed, case % _EACH == 0 or case == cases[-1]) for case in cases]
            outcomes.update(each.result() for each in told)
    return outcomes


def _send(port: int, case: int, seed: int, good: bool) -> str:
    sent = _raw(Random(f"{seed}:{case}"))  # noqa: S311 — reproducible, not secret
    try:
        outcome = _told(_exchange(port, sent), sent)
        if good:
            _good_exchange(port)
    except Exception as error:
        raise RuntimeError(f"raw request {case} of seed {seed}: {error!r}\n{sent[:1000]!r}") from error
    return outcome


def _exchange(port: int, sent: bytes, patience: float = _PATIENCE) -> bytes:
    """Sends all of it, and gives what comes back until the first answer is whole, or none comes."""
    got = bytearray()
    with socket.create_connection(("127.0.0.1", port), _LONGEST) as connection:
        try:
            connection.sendall(sent)
            connection.settimeout(patience)
            while not _whole(got, sent) and (part := connection.recv(65_536)):
                got += part
        except TimeoutError:
            return bytes(got) or _WAITS
        except (ConnectionResetError, BrokenPipeError):
            pass  # it hung up before it had read what it did not want
    return bytes(got)


def _parts(got: bytes, sent: bytes) -> tuple[bytes, bytes, int]:
    """The head of the first answer but those that only say that it goes on, what follows, and the body's length."""
    while got.startswith(b"HTTP/1.1 100"):
        got = got.partition(b"\r\n\r\n")[2]
    head, _, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return head, body, int(length[1]) if length and not sent.startswith(b"HEAD") else 0


def _whole(got: bytes | bytearray, sent: bytes) -> bool:
    head, body, length = _parts(bytes(got), sent)
    closes = b"connection: close" in head.lower()
    return bool(head) and b"\r\n\r\n" in got and not closes and len(body) >= length


def _told(got: bytes, sent: bytes) -> str:
    head, body, length = _parts(got, sent)
    if not head or head == _WAITS:
        return "waits for the rest" if head else "hung up"
    status = int(head.split(maxsplit=2)[1])
    if status == 400 and b"Invalid HTTP request received." in body:
        return "400 (no HTTP)"
    _check(status, head, body[: length or None], "HEAD" if sent.startswith(b"HEAD") else "")
    return str(status)


def _good_exchange(port: int) -> None:
    body = json.dumps(GOOD).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    got = _exchange(port, head.encode() + body, _LONGEST)
    if not got.startswith(b"HTTP/1.1 200 ") or not got.endswith(b'{"sentiment":"positive"}'):
        raise ValueError(f"a good request got {got!r}")
