"""The file that holds a compiled program: JSON with a schema version and a content hash; nothing of it is run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ArtifactError
from ..evaluation.findings import Findings
from ..lms.files import replace_text
from ..programs.candidate import Candidate

__all__ = ["FORMAT", "SCHEMA_VERSION", "Artifact", "Provenance", "read_artifact", "read_hashed", "write_artifact"]

FORMAT = "progspace artifact"
SCHEMA_VERSION = 1
_LARGEST = 64 * 2**20  # bytes; a program's demonstrations are text


class Provenance(BaseModel):
    """Where an artifact comes from.

    Attributes:
        task_hash: Of the examples, their split and the metric.
        seed: Of the compile.
        budget: Its limits.
        created: ISO 8601, UTC.
        versions: Of progspace, DSPy and Python.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task_hash: str = ""
    seed: int = 0
    budget: dict[str, float | None] = Field(default_factory=dict)
    created: str = ""
    versions: dict[str, str] = Field(default_factory=dict)


class Artifact(BaseModel):
    """A compiled program as data.

    Attributes:
        task: Name of the task.
        structure: The user's module, as `progspace.programs.structure.describe` tells it.
        candidate: What was chosen for each predictor: instruction, demonstrations, format and decoding; and what the
            module's predictors had of their own that the structure does not tell.
        lm: The LM that it was compiled for, without secrets.
        lms: Other LMs that its predictors run on, by name, without secrets.
        provenance: Where it comes from.
        report: What was measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    structure: dict[str, Any]
    candidate: Candidate
    lm: dict[str, Any]
    lms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    provenance: Provenance
    report: Findings


def _hash(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def write_artifact(artifact: Artifact, path: Path) -> Path:
    """Writes an artifact, whole or not at all; a file that stands there gives way at the last moment.

    Raises:
        ArtifactError: The file cannot be written.
    """
    content = artifact.model_dump(mode="json")
    document = {"format": FORMAT, "schema": SCHEMA_VERSION, "hash": _hash(content), "content": content}
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Half of a surrogate pair, which an LM may write and UTF-8 has not: as JSON has it.
        return replace_text(path, text.encode("utf-8", "backslashreplace").decode())
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written ({error.strerror or error})") from error


def read_artifact(path: Path) -> Artifact:
    """Reads an artifact and checks it.

    Raises:
        ArtifactError: The file is missing, damaged, foreign, newer than this release, or was edited; it says which.
    """
    return read_hashed(path)[1]


def read_hashed(path: Path) -> tuple[str, Artifact]:
    """Gives the hash of an artifact's content as well; otherwise as `read_artifact`."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ArtifactError(f"{path}: larger than any artifact ({_LARGEST // 2**20} MiB)")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: damaged, or no artifact: it is not JSON ({error})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ArtifactError(f"{path}: foreign: not a file that progspace has saved")
    schema = document.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise ArtifactError(f"{path}: damaged: its schema version is {schema!r}")
    if schema > SCHEMA_VERSION:
        raise ArtifactError(
            f"{path}: newer: it has schema {schema}, and this release of progspace knows {SCHEMA_VERSION}; "
            "upgrade: pip install -U progspace"
        )
    content = document.get("content")
    try:
        intact = _hash(content) == document.get("hash")
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: damaged ({error})") from error
    if not intact:
        raise ArtifactError(
            f"{path}: edited or damaged: its content is not what was saved; compile again, or restore the file"
        )
    try:
        return document["hash"], Artifact.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{path}: damaged at {where}: {first['msg']}") from error
