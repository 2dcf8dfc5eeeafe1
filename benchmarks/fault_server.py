"""An OpenAI-compatible server over HTTP that limits, fails and answers by a rule; for tests and `benchmarks/faults.py`.

After https://platform.openai.com/docs/api-reference/chat and …/docs/guides/rate-limits: limits of requests and tokens
are buckets that fill again, and each answer's headers tell of them.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["FAULTS", "KEY", "Limits", "Server", "serving"]

KEY = "test-3f1c9a7e5b2d"
FAULTS = (
    "429", "429 bare", "500", "503", "reset", "half a body", "malformed", "html", "empty choices", "wrong schema",
    "content filter", "straggler", "slow drip", "timeout",
)  # fmt: skip
_SLOW = 2.0  # seconds of a straggler, or over which a body drips
_HANG = 30.0


@dataclass
class Limits:
    """What is granted: so much at once, filled again over ``window`` seconds."""

    requests: float = 600
    tokens: float = 100_000
    window: float = 60.0
    told: bool = True  # by headers
    retry_after: bool = True

    def __post_init__(self) -> None:
        self._left = {"requests": self.requests, "tokens": self.tokens}
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def admit(self, tokens: float) -> tuple[bool, dict[str, str]]:
        """Tells whether a request is let through, and the headers of its answer."""
        with self._lock:
            now = time.monotonic()
            whole = {"requests": self.requests, "tokens": self.tokens}
            filled = (now - self._at) / self.window
            self._left = {kind: min(whole[kind], left + whole[kind] * filled) for kind, left in self._left.items()}
            self._at = now
            wanted = {"requests": 1.0, "tokens": tokens}
            let = all(self._left[kind] >= wanted[kind] for kind in wanted)
            if let:
                self._left = {kind: left - wanted[kind] for kind, left in self._left.items()}
            headers = {}
            for kind, left in self._left.items():
                headers[f"x-ratelimit-limit-{kind}"] = f"{whole[kind]:.0f}"
                headers[f"x-ratelimit-remaining-{kind}"] = f"{int(left)}"
                headers[f"x-ratelimit-reset-{kind}"] = f"{(1 - left / whole[kind]) * self.window:.3f}s"
            headers = headers if self.told else {}
            if not let and self.retry_after:
                lacking = max((wanted[kind] - self._left[kind]) / whole[kind] for kind in wanted)
                headers["retry-after"] = f"{max(1.0, lacking * self.window):.0f}"
            return let, headers


def echo(body: Mapping[str, Any]) -> str:
    """Answers with the last message."""
    return text_of(body["messages"][-1])


@dataclass
class Server:
    """What the server does, and what it saw.

    Attributes:
        answer: Gives the text to a request's body.
        limits: None for none.
        fault: Tells which of `FAULTS` a request meets, by its number; None for none.
        seconds: That an answer takes.
        keys: Those that are taken.
        multiple: Whether ``n`` is known.
        log: Of each request: its second, status, and fault.
        bodies: What was asked.
    """

    answer: Callable[[Mapping[str, Any]], str] = echo
    limits: Limits | None = None
    fault: Callable[[int], str | None] = lambda _: None
    seconds: float = 0.0
    keys: set[str] = field(default_factory=lambda: {KEY})
    multiple: bool = True
    url: str = ""
    log: list[tuple[float, int, str | None]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    def __post_init__(self) -> None:
        self.numbers = itertools.count()
        self.lock = threading.Lock()
        self.prompts: set[str] = set()
        self.stopped = threading.Event()

    def completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Gives the answer to a request."""
        text = self.answer(body)
        choices = [_choice(body, text, index) for index in range(body.get("n", 1) if self.multiple else 1)]
        tokens = count_tokens(body), sum(len(text.split()) for _ in choices)
        with self.lock:
            prefix = json.dumps(body["messages"][:-1])
            cached = len(prefix.split()) if len(body["messages"]) > 1 and prefix in self.prompts else 0
            self.prompts.add(prefix)
        return {
            "id": f"chatcmpl-{len(self.log)}", "object": "chat.completion", "created": 1_700_000_000,
            "model": body["model"], "choices": choices,
            "usage": {
                "prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens),
                "prompt_tokens_details": {"cached_tokens": cached},
            },
        }  # fmt: skip


def text_of(message: Mapping[str, Any]) -> str:
    """Gives a message's text."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def count_tokens(body: Mapping[str, Any]) -> int:
    """Takes words for the tokens of a prompt."""
    return sum(len(text_of(message).split()) for message in body["messages"])


def _choice(body: Mapping[str, Any], text: str, index: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if "seed" in body and body.get("temperature"):
        message["content"] = f"{text} #{body['seed']}.{index}"
    if (form := body.get("response_format") or {}).get("type") == "json_schema":
        names = form["json_schema"]["schema"]["properties"]
        message["content"] = json.dumps(dict.fromkeys(names, text))
    if tools := body.get("tools"):
        call = {"name": tools[0]["function"]["name"], "arguments": json.dumps({"text": text})}
        message |= {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}
    logprobs = None
    if body.get("logprobs"):
        top = [{"token": text, "logprob": -0.5, "bytes": None}, {"token": "else", "logprob": -1.0, "bytes": None}]
        logprobs = {"content": [{**top[0], "top_logprobs": top[: body.get("top_logprobs", 0)]}]}
    reason = "tool_calls" if tools else "stop"
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}


def sometimes(share: float, kinds: tuple[str, ...] = FAULTS) -> Callable[[int], str | None]:
    """Gives a fault to that share of requests, of each kind as often."""

    def fault(number: int) -> str | None:
        drawn = random.Random(number)  # noqa: S311 — faults, not secrets
        return drawn.choice(kinds) if drawn.random() < share else None

    return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        """Tells the log."""
        self._send(200, {"log": self.server.state.log, "most": self.server.state.most_under_way})

    def do_POST(self) -> None:
        """Answers a request for chat completions."""
        state = self.server.state
        url = urlsplit(self.path)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with state.lock:
            number = next(state.numbers)
            state.bodies.append(body)
            state.under_way += 1
            state.most_under_way = max(state.most_under_way, state.under_way)
        try:
            self._answer(body, url.path, parse_qs(url.query), number)
        except OSError:
            self.close_connection = True  # who asked has gone
        finally:
            with state.lock:
                state.under_way -= 1

    def _answer(self, body: dict[str, Any], path: str, query: dict[str, Any], number: int) -> None:
        state = self.server.state
        azure = re.fullmatch(r"/openai/deployments/([^/]+)/chat/completions", path)
        if not azure and path != "/v1/chat/completions":
            return self._refuse(404, f"Invalid URL (POST {path})")
        if azure and not query.get("api-version"):
            return self._refuse(404, "Resource not found")
        key = self.headers.get("api-key" if azure else "Authorization", "").removeprefix("Bearer ")
        if key not in state.keys:
            return self._refuse(401, f"Incorrect API key provided: {key}.", "invalid_api_key")
        let, headers = state.limits.admit(count_tokens(body)) if state.limits else (True, {})
        if not let:
            return self._refuse(429, "Rate limit reached for requests", "rate_limit_exceeded", headers, "limit")
        if len(json.dumps(body["messages"])) > 100_000:
            return self._refuse(400, "This model's maximum context length is 100", "context_length_exceeded")
        return self._fail(state.fault(number), body, headers)

    def _fail(self, fault: str | None, body: dict[str, Any], headers: dict[str, str]) -> None:
        state = self.server.state
        state.stopped.wait(state.seconds + (_SLOW if fault == "straggler" else 0.0))
        if fault in ("429", "429 bare", "500", "503"):
            asked = {"retry-after": "1"} if fault in ("429", "503") else {}
            return self._refuse(int(fault[:3]), "The server is overloaded", None, {**headers, **asked}, fault)
        answer = state.completion(body)
        state.log.append((time.time(), 0 if fault in ("reset", "timeout") else 200, fault))
        if fault == "reset" and not body.get("stream"):
            return self._reset()
        if fault == "timeout":
            state.stopped.wait(_HANG)
            self.close_connection = True
            return None
        if fault == "wrong schema":
            answer = {"answer": answer["choices"][0]["message"]["content"]}
        elif fault == "empty choices":
            answer["choices"] = []
        elif fault == "content filter":
            answer["choices"][0] |= {"finish_reason": "content_filter"}
            answer["choices"][0]["message"]["content"] = ""
        elif body.get("stream"):
            return self._stream(answer, headers, fault)
        content = json.dumps(answer).encode()
        kind = "application/json"
        if fault == "malformed":
            content = content[: len(content) // 2]
        elif fault == "html":
            content, kind = b"<html><body>Welcome to the proxy</body></html>", "text/html"
        length = len(content)
        if fault == "half a body":
            content, self.close_connection = content[: length // 2], True
        self._head(200, {**headers, "Content-Type": kind, "Content-Length": str(length)})
        if fault != "slow drip":
            self.wfile.write(content)
            return None
        for at in range(0, length, max(1, length // 10)):
            self.wfile.write(content[at : at + max(1, length // 10)])
            self.wfile.flush()
            state.stopped.wait(_SLOW / 10)
        return None

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _stream(self, answer: dict[str, Any], headers: dict[str, str], fault: str | None) -> None:
        broken = fault in ("half a body", "reset")
        self._head(200, {**headers, "Content-Type": "text/event-stream", "Connection": "close"})
        self.close_connection = True
        head = {**answer, "object": "chat.completion.chunk"}
        message = answer["choices"][0]["message"]
        words = re.findall(r"\S+\s*", message["content"] or "")
        deltas: list[dict[str, Any]] = [{"role": "assistant"}, *({"content": word} for word in words)]
        deltas += [{"tool_calls": [{"index": 0, **call}]} for call in message.get("tool_calls", [])]
        chunks = [
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None}
            for delta in deltas
        ]
        if broken:
            chunks = chunks[: len(chunks) // 2]
        else:
            reason = answer["choices"][0]["finish_reason"]
            chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": None})
            chunks.append({**head, "choices": []})
        for chunk in chunks:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        if fault == "reset":
            self.server.state.stopped.wait(0.1)  # what was written would be lost with the connection
            self._reset()
        elif not broken:
            self.wfile.write(b"data: [DONE]\n\n")

    def _refuse(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None,
        fault: str | None = None,
    ) -> None:  # fmt: skip
        self.server.state.log.append((time.time(), status, fault))
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        self._send(status, {"error": error}, headers)

    def _send(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(answer).encode()
        length = str(len(content))
        self._head(status, {**(headers or {}), "Content-Type": "application/json", "Content-Length": length})
        self.wfile.write(content)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status, HTTPStatus(status).phrase)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, state: Server) -> None:
        self.state = state
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: Any) -> None:
        """Says nothing of clients that have gone."""


@contextmanager
def serving(**settings: Any) -> Iterator[Server]:
    """Runs a server in a thread, on a port of its own; takes the fields of `Server`."""
    state = Server(**settings)
    http = _Http(state)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield state
    finally:
        state.stopped.set()
        http.shutdown()
        http.server_close()
