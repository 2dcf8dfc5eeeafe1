"""OpenAI's Batch API on the server of the fine-tuning tests: files, batches with their states, files of answers.

After https://platform.openai.com/docs/api-reference/batch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from progspace.tests.lms.training import server as fine_tuning
from progspace.tests.lms.training.server import KEY, Refused, Server, _page, running

__all__ = ["KEY", "BatchServer", "serving"]

_MOST = 50_000


class BatchServer(Server):
    """A batch moves on by a state each time that it is looked at.

    Attributes:
        states: That it passes before it ends.
        ends: As what each batch ends, in turn; the last one again and again.
        unanswered: Tells which requests, by their bodies, an expired or cancelled batch leaves.
        line: Gives a request's answer: status, and body.
    """

    def __init__(self, answer: Callable[[list[Mapping[str, Any]]], str]) -> None:
        super().__init__(fine_tuning.remembering, {"tiny": answer})
        self.batches: dict[str, dict[str, Any]] = {}
        self.states = ["in_progress", "finalizing"]
        self.ends = ["completed"]
        self.unanswered: Callable[[Mapping[str, Any]], bool] = lambda body: False
        self.line: Callable[[dict[str, Any]], tuple[int, Any]] = lambda body: (200, self.complete(body, {}))

    @property
    def sent(self) -> list[str]:
        """The keys of all requests of all batches."""
        return [row["custom_id"] for batch in self.batches.values() for row in self._rows(batch)]

    def handle(self, method: str, path: str, query: dict[str, str], content_type: str, content: bytes) -> Any:
        with self.lock:
            if method == "POST" and path == "/v1/batches":
                return self.create_batch(json.loads(content))
            if method == "GET" and path == "/v1/batches":
                return _page([*self.batches.values()][::-1], query, default=20)
            if match := re.fullmatch(r"/v1/batches/([^/]+)", path):
                return self.look(match[1])
            if match := re.fullmatch(r"/v1/files/([^/]+)/content", path):
                self.file({}, {}, match[1])
                return self.contents[match[1]].decode()
        return super().handle(method, path, query, content_type, content)

    def create_batch(self, body: dict[str, Any]) -> Any:
        file = self.files.get(body.get("input_file_id"))
        if file is None or file["purpose"] != "batch":
            raise Refused(400, f"Invalid input file: {body.get('input_file_id')}", param="input_file_id")
        if body.get("completion_window") != "24h" or body.get("endpoint") != "/v1/chat/completions":
            raise Refused(400, "Invalid completion_window or endpoint", param="endpoint")
        given = f"batch_{next(self._numbers)}"
        self.batches[given] = {
            "id": given, "object": "batch", "endpoint": body["endpoint"], "errors": None, "status": "validating",
            "input_file_id": file["id"], "completion_window": "24h", "output_file_id": None, "error_file_id": None,
            "created_at": self.now(), "metadata": body.get("metadata"),
            "request_counts": {"total": 0, "completed": 0, "failed": 0}, "left": list(self.states),
        }  # fmt: skip
        return self.batches[given]

    def look(self, given: str) -> Any:
        if given not in self.batches:
            raise Refused(404, f"No batch found with id '{given}'.")
        batch = self.batches[given]
        if batch["status"] in ("completed", "failed", "expired", "cancelled"):
            return batch
        if fault := self._invalid(batch):
            batch |= {"status": "failed", "errors": {"object": "list", "data": [fault]}}
        elif batch["left"]:
            batch["status"] = batch["left"].pop(0)
        else:
            self._end(batch, self.ends.pop(0) if len(self.ends) > 1 else self.ends[0])
        return batch

    def _rows(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.contents[batch["input_file_id"]].splitlines()]

    def _invalid(self, batch: dict[str, Any]) -> dict[str, Any] | None:
        """Checks a file as OpenAI does."""
        rows = self._rows(batch)
        names = [row.get("custom_id") for row in rows]
        if len(set(names)) != len(rows):
            return {"code": "duplicate_custom_id", "message": "The custom_id is not unique", "line": 1, "param": None}
        if len(rows) > _MOST or len({row["body"]["model"] for row in rows}) > 1:
            return {"code": "invalid_batch", "message": "Too many requests, or models", "line": None, "param": None}
        if any(row.get("method") != "POST" or row.get("url") != batch["endpoint"] for row in rows):
            return {"code": "invalid_url", "message": "The URL is not the batch's", "line": 1, "param": "url"}
        if rows[0]["body"]["model"] not in self.models:
            message = f"The provided model '{rows[0]['body']['model']}' is not supported by the Batch API."
            return {"code": "model_not_found", "message": message, "line": 1, "param": "body.model"}
        return None

    def _end(self, batch: dict[str, Any], status: str) -> None:
        answers, errors = [], []
        for number, row in enumerate(self._rows(batch)):
            head = {"id": f"batch_req_{number}", "custom_id": row["custom_id"]}
            if status != "completed" and self.unanswered(row["body"]):
                told = {"code": f"batch_{status}", "message": "This request could not be executed before the end."}
                errors.append({**head, "response": None, "error": told})
                continue
            code, body = self.line(row["body"])
            response = {"status_code": code, "request_id": f"req_{number}", "body": body}
            (answers if code == 200 else errors).append({**head, "response": response, "error": None})
        batch["status"] = status
        batch["request_counts"] = {
            "total": len(answers) + len(errors), "completed": len(answers), "failed": len(errors)
        }  # fmt: skip
        for name, rows in (("output_file_id", answers), ("error_file_id", errors)):
            if rows:
                batch[name] = given = f"file-{next(self._numbers)}"
                # The order of answers is not that of requests.
                self.contents[given] = b"".join(json.dumps(row).encode() + b"\n" for row in rows[::-1])
                self.files[given] = {"id": given, "purpose": "batch_output"}


@contextmanager
def serving(answer: Callable[[list[Mapping[str, Any]]], str]) -> Iterator[BatchServer]:
    """Runs a server in a thread, on a port of its own."""
    with running(BatchServer(answer)) as server:
        yield server
