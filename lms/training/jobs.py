"""A training under way: what is known of it, and the file by which another process goes on with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ...errors import DataError, FineTuningError
from ..files import replace_text

__all__ = ["Event", "Job", "keep", "started", "succeeded"]

_FINISHED = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a training.

    Attributes:
        message: For a person.
        level: ``info``, ``warn`` or ``error``.
        at: When, in seconds since 1970; None where nobody said.
        data: Its figures, such as ``step`` and ``train_loss``.
        id: At the endpoint; empty for what did not come from there.
    """

    message: str
    level: str = "info"
    at: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A training at an endpoint, as it was when it was last asked about.

    Attributes:
        base_model: What is trained.
        training: The identity of what was asked for: data, model, settings, endpoint.
        training_file: The uploaded examples.
        validation_file: The uploaded examples of the validation, where there are some.
        id: By which the endpoint knows it; None while only the files are uploaded.
        status: ``uploaded``, then the endpoint's: ``validating_files``, ``queued``, ``running``, ``succeeded``,
            ``failed``, ``cancelled``.
        model: The trained model's name, once it has succeeded.
        trained_tokens: That are billed for, once it is known.
        error: Why it failed.
        error_code: The endpoint's word for that.
        last_event: The last event that was told, by its id.

    >>> Job(base_model="gpt-4.1-nano", training="0f", training_file="file-1", id="ftjob-1", status="running").finished
    False
    """

    base_model: str
    training: str
    training_file: str
    validation_file: str | None = None
    id: str | None = None
    status: str = "uploaded"
    model: str | None = None
    trained_tokens: int | None = None
    error: str | None = None
    error_code: str | None = None
    last_event: str | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in _FINISHED

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes it to a small JSON file, as a whole or not at all; it holds no key and no example.

        >>> import tempfile
        >>> job = Job(base_model="gpt-4.1-nano", training="0f", training_file="file-1", id="ftjob-1")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Job.load(job.save(Path(folder, "job.json"))) == job
        True
        """
        return replace_text(path, _JOB.dump_json(self, indent=1).decode() + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Job:
        """Reads what `save` wrote.

        Raises:
            DataError: The file is missing, or holds no job.
        """
        try:
            return _JOB.validate_json(Path(path).read_bytes())
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", file=str(path)) from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"])) or None
            raise DataError(f"holds no training job: {first['msg']}", file=str(path), field=where) from None


_JOB = TypeAdapter(Job)


def started(file: str | os.PathLike[str] | None, training: str) -> Job | None:
    """Gives the job whose state a file holds; None where there is no file yet.

    Raises:
        DataError: The file holds no job.
        FineTuningError: It holds one of another training.
    """
    if file is None or not Path(file).exists():
        return None
    job = Job.load(file)
    if job.training != training:
        raise FineTuningError(
            f"{file} is the state of another training ({job.id or job.status} of {job.base_model}): its examples, "
            "model, settings or endpoint differ; name another file, or delete it"
        )
    return job


def keep(job: Job, file: str | os.PathLike[str] | None) -> None:
    """Writes a job's state, where it is to be kept."""
    if file is not None:
        job.save(file)


def succeeded(job: Job) -> Job:
    """Gives a job that has ended as it should.

    Raises:
        FineTuningError: It failed, was cancelled, or left no model.

    >>> succeeded(Job(base_model="m", training="", training_file="", id="ftjob-1", status="cancelled"))
    Traceback (most recent call last):
    progspace.errors.FineTuningError: the training ftjob-1 of m was cancelled
    """
    if job.status == "cancelled":
        raise FineTuningError(f"the training {job.id} of {job.base_model} was cancelled")
    if job.status == "failed":
        code = f" ({job.error_code})" if job.error_code else ""
        raise FineTuningError(
            f"the training {job.id} of {job.base_model} failed: {job.error or 'the endpoint does not say why'}{code}",
            retryable=job.error_code in ("server_error", "internal_error"),
        )
    if not job.model:
        raise FineTuningError(f"the training {job.id} succeeded, and the endpoint names no trained model")
    return job
