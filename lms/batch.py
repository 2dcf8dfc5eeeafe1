"""OpenAI's Batch API: requests go up as a file, answers come down as one within a day, at half the price.

After https://platform.openai.com/docs/guides/batch.
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import dspy
from dspy.lm15 import InvalidRequestError, ServerError

from ..errors import LMError
from .factory import check_lm
from .faults import Fault, refusal
from .remote_engine import RemoteEngine
from .training.endpoint import Endpoint
from .waves import Wave
from .wire import model_name

if TYPE_CHECKING:
    import openai

__all__ = ["BatchLog", "BatchRecord", "Batches"]

_log = logging.getLogger(__name__)

_MOST_REQUESTS, _MOST_BYTES = 50_000, 190_000_000
_RECENT = 200
_PAUSES = (5.0, 60.0)  # seconds between two looks at a batch: at first, and at most
_ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch as it is remembered.

    Attributes:
        endpoint: Address and model.
        input_file: Of the requests, as the endpoint calls it.
        requests: Keys of the requests whose answers it may hold.
        id: As the endpoint calls it; None where it was not created yet, or nobody heard of it.
    """

    endpoint: str
    input_file: str
    requests: frozenset[str]
    id: str | None = None


class BatchLog(Protocol):
    """What remembers batches."""

    def of(self, endpoint: str) -> Sequence[BatchRecord]:
        """Gives those of an endpoint, the oldest first."""

    def put(self, record: BatchRecord) -> None:
        """Remembers one, by its input file; it is safe when this returns."""

    def alone(self, endpoint: str) -> AbstractContextManager[None]:
        """Lets nobody else begin batches at the endpoint meanwhile."""


class Batches:
    """Answers waves of requests by batches.

    A batch is remembered before it is created and its id as soon as it is known: who comes after a kill finds it, waits
    for it and reads it, and sends nothing again. What expired or failed in a way that may pass goes into another batch.

    Args:
        lm: From ``ps.lm("openai/…")``.
        log: Remembers.
        wait: Waits that many seconds, or until the event is set.

    Raises:
        LMError: The LM is not at an endpoint that has the API.
    """

    def __init__(
        self,
        lm: dspy.BaseLM,
        log: BatchLog,
        *,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        check_lm(lm)
        engine = getattr(lm, "_engine_spec", None)
        if not isinstance(engine, RemoteEngine):
            raise LMError(f"{lm.model} takes no batches: name an LM at an endpoint, ps.lm('openai/…')")
        connection = engine.connection
        if connection.api_version is not None:
            raise LMError("batches go to Azure by its newer API: base_url='https://NAME.openai.azure.com/openai/v1'")
        self.engine, self._log_of = engine, log
        self._endpoint = Endpoint(
            base_url=connection.base_url,
            api_key=connection.keys,
            timeout=connection.timeout,
            wait=wait,
            failure=LMError,
        )
        self._name = f"{connection.base_url} {model_name(lm.model)}"
        self._read: set[str] = set()  # input files whose answers were handed out

    def wave(self) -> Wave:
        """Begins a wave."""
        return Wave(self.engine)

    def answer(self, wave: Wave) -> None:
        """Has answered what a wave wants, and waits for it.

        Raises:
            LMError: The endpoint refused a batch, or did not answer for long. What it has is fetched the next time.
        """
        wanted = wave.take()
        with self._log_of.alone(self._name):
            records = [
                each
                for each in self._log_of.of(self._name)
                if each.requests & wanted.keys() and each.input_file not in self._read
            ]
            missing = wanted.keys() - set[str]().union(*(each.requests for each in records))
            known = len(records)
            records += [self._uploaded(part) for part in _parts({key: wanted[key] for key in wanted if key in missing})]
            records = [self._created(each, looked=number >= known) for number, each in enumerate(records)]
        for record in records:
            for key, answer in self._results(record, wave).items():
                if key in wanted and not isinstance(wave.known.get(key), bytes):
                    wave.known[key] = answer
        nothing = Fault("the batch said nothing of it", ServerError, retryable=True)
        for key in wanted:
            wave.known.setdefault(key, nothing)

    def _uploaded(self, requests: Mapping[str, bytes]) -> BatchRecord:
        content = b"".join(requests.values())
        # Asked again it may be stored twice, which costs nothing; a batch is what must not be created twice.
        answer = self._endpoint.ask(
            f"the upload of {len(requests):,} requests",
            lambda client: client.files.create(file=("progspace.jsonl", content), purpose="batch"),
        )
        record = BatchRecord(self._name, self._text(answer, "id"), frozenset(requests))
        self._log_of.put(record)
        return record

    def _created(self, record: BatchRecord, *, looked: bool) -> BatchRecord:
        """Creates a batch, unless that was done by a request whose answer was lost: its file is ours alone."""
        if record.id is not None:
            return record

        def create(client: openai.OpenAI) -> Any:
            nonlocal looked
            if not looked:
                for other in itertools.islice(client.batches.list(limit=100), _RECENT):
                    if other.input_file_id == record.input_file:
                        return other
            looked = False
            return client.batches.create(
                input_file_id=record.input_file, endpoint="/v1/chat/completions", completion_window="24h"
            )

        answer = self._endpoint.ask(f"a batch of {len(record.requests):,} requests", create)
        record = replace(record, id=self._text(answer, "id"))
        self._log_of.put(record)
        _log.info("batch %s: %s requests sent", record.id, f"{len(record.requests):,}")
        return record

    def _results(self, record: BatchRecord, wave: Wave) -> dict[str, bytes | Fault]:
        """Waits for a batch and reads it; remembers which requests it answers."""
        batch = self._ended(record)
        self._read.add(record.input_file)
        found: dict[str, bytes | Fault] = {}
        for file in (batch.error_file_id, batch.output_file_id) if batch is not None else ():
            if file is not None:
                found |= self._lines(file)
        status = "gone" if batch is None else batch.status
        answered = frozenset(key for key, answer in found.items() if isinstance(answer, bytes))
        self._log_of.put(replace(record, requests=answered))
        _log.info(
            "batch %s: %s, %s of %s answered", record.id, status, f"{len(answered):,}", f"{len(record.requests):,}"
        )
        if status == "cancelled":  # which somebody wanted: this time nothing is sent again
            wave.over = Fault(f"the batch {record.id} was cancelled before it was answered", InvalidRequestError)
        if status == "failed":
            errors = batch.errors.data if batch.errors else None
            said = "; ".join(str(self._endpoint.scrubbed(each.message)) for each in (errors or [])[:3])
            raise LMError(f"{self._endpoint.base_url} refused the batch {record.id}: {said or 'it does not say why'}")
        return found

    def _ended(self, record: BatchRecord) -> Any:
        """Gives a batch when it has ended; None where the endpoint knows it no more."""
        import openai

        def look(client: openai.OpenAI) -> Any:
            try:
                return client.batches.retrieve(str(record.id))
            except openai.NotFoundError:
                return None

        pause, last = _PAUSES[0], None
        while True:
            batch = self._endpoint.ask(f"the state of the batch {record.id}", look)
            if batch is None or self._text(batch, "status") in _ENDED:
                return batch
            counts = batch.request_counts
            now = (batch.status, counts.completed + counts.failed if counts else 0)
            if now != last:
                _log.info("batch %s: %s, %s of %s", record.id, *now, f"{len(record.requests):,}")
            pause = _PAUSES[0] if now != last else min(1.5 * pause, _PAUSES[1])
            last = now
            self._endpoint.wait(threading.Event(), pause)

    def _lines(self, file: str) -> dict[str, bytes | Fault]:
        """Reads a file of answers or errors; nothing where it is gone."""
        import openai

        def fetch(client: openai.OpenAI) -> bytes:
            try:
                return client.files.content(file).content
            except openai.NotFoundError:
                return b""

        found: dict[str, bytes | Fault] = {}
        for line in self._endpoint.ask(f"the file {file}", fetch).splitlines():
            try:
                row = json.loads(line)
                found[row["custom_id"]] = self._answer(row)
            except (AttributeError, KeyError, TypeError, ValueError):
                continue  # what it was to tell counts as not told
        return found

    def _answer(self, row: Mapping[str, Any]) -> bytes | Fault:
        response = row.get("response") or {}
        status = int(response.get("status_code") or 0)
        body = response.get("body") or {}
        if status == 200:
            return json.dumps(body).encode()
        error = row.get("error") or body.get("error") or {}
        if not status:  # it was never asked: expired, or lost
            return Fault(str(self._endpoint.scrubbed(error.get("message") or error)), ServerError, retryable=True)
        return refusal(status, error, {}, self.engine.connection.keys)

    def _text(self, answer: Any, name: str) -> str:
        value = getattr(answer, name, None)
        if not isinstance(value, str) or not value:
            raise LMError(f"{self._endpoint.base_url} answered without {name!r}: does it know OpenAI's Batch API?")
        return value


def _parts(bodies: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, bytes]]:
    """Writes requests as lines, in as many files as the API's limits want."""
    part: dict[str, bytes] = {}
    size = 0
    for key, body in bodies.items():
        row = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
        line = json.dumps(row).encode() + b"\n"
        if part and (len(part) == _MOST_REQUESTS or size + len(line) > _MOST_BYTES):
            yield part
            part, size = {}, 0
        part[key] = line
        size += len(line)
    if part:
        yield part
