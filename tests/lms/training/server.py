"""A real HTTP server that speaks OpenAI's fine-tuning API, with a trainer plugged in.

After https://platform.openai.com/docs/api-reference/fine-tuning and …/files: files, jobs with their states, events by
pages, cancel, errors as OpenAI words them; and chat completions, so that a trained model can be asked.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

Messages = Sequence[Mapping[str, str]]
Answerer = Callable[[Messages], str]
KEY = "sk-test-3f1c9a7e5b2d"
MIN_EXAMPLES = 10
BEGAN = 1_700_000_000  # times are counted, not taken from a clock


class Cancelled(Exception):  # noqa: N818
    pass


class TrainingFailed(Exception):  # noqa: N818
    def __init__(self, message: str, code: str = "server_error") -> None:
        self.code = code
        super().__init__(message)


@dataclass
class Training:
    """What a trainer is given."""

    model: str
    examples: list[list[dict[str, str]]]
    validation: list[list[dict[str, str]]]
    hyperparameters: dict[str, Any]
    seed: int
    report: Callable[[int, int, float], None]
    cancelled: threading.Event

    def check(self) -> None:
        if self.cancelled.is_set():
            raise Cancelled


Trainer = Callable[[Training], Answerer]


def remembering(training: Training) -> Answerer:
    """A trainer that learns by heart, and so knows what it was taught and nothing else."""
    learnt = {json.dumps(messages[:-1]): messages[-1]["content"] for messages in training.examples}
    epochs = training.hyperparameters["n_epochs"]
    for step in range(1, epochs + 1):
        training.check()
        training.report(step, epochs, 1 / step)
    return lambda messages: learnt.get(json.dumps(list(messages)), "I was not taught that")


class Refused(Exception):  # noqa: N818
    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        self.status = status
        kind = {401: "invalid_request_error", 429: "requests", 500: "server_error"}.get(status, "invalid_request_error")
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        super().__init__(message)


@dataclass
class Fault:
    """A failure that the server shall show: status None drops the connection; ``late`` handles the request first."""

    method: str
    path: str
    status: int | None = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: str | dict[str, Any] = field(default_factory=lambda: {"error": {"message": "The server had an error"}})
    late: bool = False
    times: int = 1


class Server:
    def __init__(self, trainer: Trainer, models: Mapping[str, Answerer]) -> None:
        self.trainer, self.models = trainer, dict(models)
        self.keys = {KEY}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.cancelled: dict[str, threading.Event] = {}
        self.threads: dict[str, threading.Thread] = {}
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self.url = ""

    def fail(self, method: str, path: str, status: int | None = 500, **settings: Any) -> None:
        self.faults.append(Fault(method, path, status, **settings))

    def asked(self, method: str, path: str) -> int:
        """How often a path was asked, failures included."""
        return sum(one == method and re.fullmatch(path, other) is not None for one, other in self.requests)

    def fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.method == method and fault.times and re.fullmatch(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def handle(self, method: str, path: str, query: dict[str, str], content_type: str, content: bytes) -> Any:
        with self.lock:
            for (wanted, pattern), answer in _ROUTES.items():
                if wanted == method and (match := re.fullmatch(pattern, path)):
                    if wanted == "POST" and content_type.startswith("multipart/"):
                        body: dict[str, Any] = _multipart(content_type, content)
                    else:
                        body = json.loads(content) if content else {}
                    return answer(self, body, query, *match.groups())
        raise Refused(404, f"Invalid URL ({method} {path})")

    def upload(self, body: dict[str, Any], query: dict[str, str]) -> Any:
        if body.get("purpose") not in ("fine-tune", "batch"):
            raise Refused(400, f"Invalid value for 'purpose': {body.get('purpose')!r}", param="purpose")
        name, content = body.get("file", (None, b""))
        if not name or not name.endswith(".jsonl"):
            raise Refused(
                400, "Invalid file format for Fine-Tuning API. Must be .jsonl", code="invalid_file", param="file"
            )
        given = f"file-{next(self._numbers)}"
        self.contents[given] = content
        self.files[given] = {
            "id": given, "object": "file", "bytes": len(content), "created_at": self.now(), "filename": name,
            "purpose": body["purpose"], "status": "processed",
        }  # fmt: skip
        return self.files[given]

    def file(self, body: dict[str, Any], query: dict[str, str], given: str) -> Any:
        if given not in self.files:
            raise Refused(404, f"No such File object: {given}", param="id")
        return self.files[given]

    def create(self, body: dict[str, Any], query: dict[str, str]) -> Any:
        if body.get("model") not in self.models:
            message = f"Model {body.get('model')} is not available for fine-tuning"
            raise Refused(400, message, code="model_not_available", param="model")
        for name in ("training_file", "validation_file"):
            if (name == "training_file" or body.get(name)) and body.get(name) not in self.files:
                raise Refused(400, f"invalid {name}: {body.get(name)}", code="invalid_file", param=name)
        hyperparameters = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
        method = (body.get("method") or {}).get("supervised") or {}
        hyperparameters |= body.get("hyperparameters") or method.get("hyperparameters") or {}
        epochs = hyperparameters["n_epochs"]
        if epochs != "auto" and not (isinstance(epochs, int) and 1 <= epochs <= 50):
            raise Refused(400, f"{epochs} is not an epoch count between 1 and 50", param="hyperparameters.n_epochs")
        if len(body.get("suffix") or "") > 64:
            raise Refused(400, "suffix is longer than 64 characters", param="suffix")
        given = f"ftjob-{next(self._numbers)}"
        self.jobs[given] = {
            "id": given, "object": "fine_tuning.job", "created_at": self.now(), "model": body["model"],
            "organization_id": "org-1", "training_file": body["training_file"],
            "validation_file": body.get("validation_file"), "hyperparameters": hyperparameters,
            "seed": body.get("seed") or 1, "status": "validating_files", "fine_tuned_model": None, "error": None,
            "finished_at": None, "result_files": [], "trained_tokens": None, "estimated_finish": None,
            "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        }  # fmt: skip
        self.events[given], self.cancelled[given] = [], threading.Event()
        self.event(given, f"Created fine-tuning job: {given}")
        answer = dict(self.jobs[given])
        self.threads[given] = threading.Thread(target=self.run, args=(given, body.get("suffix") or ""), daemon=True)
        self.threads[given].start()
        return answer

    def list_jobs(self, body: dict[str, Any], query: dict[str, str]) -> Any:
        return _page([*self.jobs.values()][::-1], query, default=20)

    def retrieve(self, body: dict[str, Any], query: dict[str, str], given: str) -> Any:
        if given not in self.jobs:
            raise Refused(
                404, f"Could not find fine tune: {given}", code="fine_tune_not_found", param="fine_tuning_job_id"
            )
        return self.jobs[given]

    def list_events(self, body: dict[str, Any], query: dict[str, str], given: str) -> Any:
        self.retrieve(body, query, given)
        return _page(self.events[given][::-1], query, default=20)

    def cancel(self, body: dict[str, Any], query: dict[str, str], given: str) -> Any:
        job = self.retrieve(body, query, given)
        if job["finished_at"]:
            raise Refused(400, f"Job has already completed: {given}", code="invalid_request")
        self.cancelled[given].set()
        self.end(given, "cancelled", "The job was cancelled")
        return job

    def complete(self, body: dict[str, Any], query: dict[str, str]) -> Any:
        if body.get("model") not in self.models:
            raise Refused(404, f"The model `{body.get('model')}` does not exist", code="model_not_found")
        prompt = [{"role": one["role"], "content": _plain(one["content"])} for one in body["messages"]]
        answer = self.models[body["model"]](prompt)
        tokens = sum(len(one["content"].split()) for one in prompt), len(answer.split())
        return {
            "id": f"chatcmpl-{next(self._numbers)}", "object": "chat.completion", "created": self.now(),
            "model": body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)},
        }  # fmt: skip

    def run(self, given: str, suffix: str) -> None:
        job, cancelled = self.jobs[given], self.cancelled[given]
        try:
            self.event(given, f"Validating training file: {job['training_file']}")
            examples = validated(self.contents[job["training_file"]], "training_file")
            validation = job["validation_file"]
            validation = validated(self.contents[validation], "validation_file", least=1) if validation else []
            self.go(given, "queued", "Files validated, moving job to queued state")
            if job["hyperparameters"]["n_epochs"] == "auto":
                job["hyperparameters"]["n_epochs"] = 3
            self.go(given, "running", "Fine-tuning job started")
            answer = self.trainer(
                Training(
                    job["model"], examples, validation, job["hyperparameters"], job["seed"], self.reporter(given),
                    cancelled,
                )
            )  # fmt: skip
        except Cancelled:
            return
        except (TrainingFailed, Refused) as error:
            told = {"code": getattr(error, "code", None), "message": str(error), "param": None}
            told = error.body["error"] if isinstance(error, Refused) else told
            with self.lock:
                job["error"] = {name: told[name] for name in ("code", "message", "param")}
                self.end(given, "failed", f"The job failed: {told['message']}", level="error")
            return
        with self.lock:
            if cancelled.is_set():
                return
            name = f"ft:{job['model']}:org:{suffix}:{given.removeprefix('ftjob-')}"
            self.models[name] = answer
            job["fine_tuned_model"] = name
            words = sum(len(one["content"].split()) for messages in examples for one in messages)
            job["trained_tokens"] = words * job["hyperparameters"]["n_epochs"]
            self.event(given, f"New fine-tuned model created: {name}")
            self.end(given, "succeeded", "The job has successfully completed")

    def reporter(self, given: str) -> Callable[[int, int, float], None]:
        def report(step: int, total: int, loss: float) -> None:
            data = {"step": step, "total_steps": total, "train_loss": loss}
            self.event(given, f"Step {step}/{total}: training loss={loss:.2f}", kind="metrics", data=data)

        return report

    def go(self, given: str, status: str, message: str) -> None:
        with self.lock:
            if self.cancelled[given].is_set():
                raise Cancelled
            self.jobs[given]["status"] = status
            self.event(given, message)

    def end(self, given: str, status: str, message: str, level: str = "info") -> None:
        with self.lock:
            if self.jobs[given]["finished_at"] is None:
                self.jobs[given] |= {"status": status, "finished_at": self.now()}
                self.event(given, message, level=level)

    def event(self, given: str, message: str, *, level: str = "info", kind: str = "message", data: Any = None) -> None:
        with self.lock:
            self.events[given].append(
                {
                    "id": f"ftevent-{next(self._numbers)}", "object": "fine_tuning.job.event",
                    "created_at": self.now(), "level": level, "message": message, "type": kind, "data": data or {},
                }
            )  # fmt: skip

    def now(self) -> int:
        return BEGAN + next(self._numbers)


_JOB = r"/v1/fine_tuning/jobs/([^/]+)"
_ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("POST", "/v1/files"): Server.upload,
    ("GET", "/v1/files/([^/]+)"): Server.file,
    ("POST", "/v1/fine_tuning/jobs"): Server.create,
    ("GET", "/v1/fine_tuning/jobs"): Server.list_jobs,
    ("GET", _JOB): Server.retrieve,
    ("GET", _JOB + "/events"): Server.list_events,
    ("POST", _JOB + "/cancel"): Server.cancel,
    ("POST", "/v1/chat/completions"): Server.complete,
}


def validated(content: bytes, param: str, least: int = MIN_EXAMPLES) -> list[list[dict[str, str]]]:
    """Checks a file as OpenAI does, and gives its conversations."""
    found = []
    for number, line in enumerate(content.decode().split("\n"), start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise _invalid(param, f"Line {number}: not valid JSON") from None
        if not isinstance(row, dict) or not isinstance(row.get("messages"), list):
            raise _invalid(param, f"Line {number}: expected key `messages` with a list")
        if unknown := set(row) - {"messages", "tools", "functions", "parallel_tool_calls"}:
            raise _invalid(param, f"Line {number}: unexpected keys {sorted(unknown)}")
        for message in row["messages"]:
            if message.get("role") not in ("system", "user", "assistant"):
                raise _invalid(param, f"Line {number}: unknown role {message.get('role')!r}")
            if not isinstance(message.get("content"), str):
                raise _invalid(param, f"Line {number}: content must be a string")
        if not row["messages"] or row["messages"][-1]["role"] != "assistant":
            raise _invalid(param, f"Line {number}: the last message must be from the assistant")
        found.append(row["messages"])
    if len(found) < least:
        message = f"Training file has {len(found)} example(s), but must have at least {least} examples"
        raise Refused(400, message, code="invalid_n_examples", param=param)
    return found


def _invalid(param: str, message: str) -> Refused:
    told = f"The job failed due to an invalid file. Invalid file format. {message}"
    return Refused(400, told, code="invalid_training_file", param=param)


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _page(newest_first: list[dict[str, Any]], query: dict[str, str], *, default: int) -> dict[str, Any]:
    ids = [one["id"] for one in newest_first]
    begin = ids.index(query["after"]) + 1 if query.get("after") else 0
    end = begin + int(query.get("limit", default))
    return {"object": "list", "data": newest_first[begin:end], "has_more": end < len(ids)}


def _multipart(content_type: str, content: bytes) -> dict[str, Any]:
    parsed = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + content)
    fields: dict[str, Any] = {}
    for part in parsed.walk():
        if name := part.get_param("name", header="content-disposition"):
            payload = part.get_payload(decode=True)
            fields[str(name)] = (part.get_filename(), payload) if part.get_filename() else payload.decode()
    return fields


AnyServer = TypeVar("AnyServer", bound=Server)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.handle_any("GET")

        def do_POST(self) -> None:
            self.handle_any("POST")

        def handle_any(self, method: str) -> None:
            url = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.requests.append((method, url.path))
            fault = server.fault(method, url.path)
            if fault is None or fault.late:
                status, body = self.answer(method, url.path, url.query, content)
            if fault is None:
                self.send(status, body, {})
            elif fault.status is None:
                self.close_connection = True
            else:
                self.send(fault.status, fault.body, fault.headers)

        def answer(self, method: str, path: str, query: str, content: bytes) -> tuple[int, Any]:
            try:
                given = self.headers.get("Authorization", "").removeprefix("Bearer ")
                if given not in server.keys:
                    raise Refused(401, f"Incorrect API key provided: {given}.", code="invalid_api_key")
                found = {name: values[0] for name, values in parse_qs(query).items()}
                return 200, server.handle(method, path, found, self.headers.get("Content-Type", ""), content)
            except Refused as error:
                return error.status, error.body

        def send(self, status: int, body: Any, headers: dict[str, str]) -> None:
            plain = isinstance(body, str)
            content = body.encode() if plain else json.dumps(body).encode()
            self.send_response(status, HTTPStatus(status).phrase)
            for name, value in {"Content-Type": "text/html" if plain else "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler


@contextmanager
def serving(trainer: Trainer = remembering, models: Mapping[str, Answerer] | None = None) -> Iterator[Server]:
    with running(Server(trainer, models or {"tiny": lambda messages: "I am not trained"})) as server:
        yield server


@contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        for event in server.cancelled.values():
            event.set()
        http.shutdown()
        http.server_close()
