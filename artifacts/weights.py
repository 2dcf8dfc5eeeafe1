"""The files of trained weights that stand beside an artifact, named by what they hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy

from ..errors import ArtifactError, LMError
from ..lms.files import replace_bytes

if TYPE_CHECKING:  # an app whose program has no weights of its own does without numpy
    from ..lms.adapters import Adapter

__all__ = ["adapters_of", "put_beside", "sought_beside"]


def adapters_of(lms: Mapping[str, dspy.BaseLM]) -> dict[str, Adapter]:
    """Gives the adapters that LMs answer with, by the name of the LM."""
    from ..lms.adapters import Adapter

    held = {name: getattr(getattr(lm, "_engine_spec", None), "adapter", None) for name, lm in lms.items()}
    return {name: adapter for name, adapter in held.items() if isinstance(adapter, Adapter)}


def put_beside(artifact: Path, adapters: Mapping[str, Adapter]) -> None:
    """Copies adapters to where an artifact will stand.

    Raises:
        ArtifactError: One was moved or altered since, or the copy cannot be written.
    """
    from ..lms.adapters import read_adapter

    for adapter in adapters.values():
        path = _beside(_linked(artifact), adapter.sha256)
        try:
            read_adapter(adapter.path, adapter.sha256)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.resolve() != adapter.path.resolve():
                replace_bytes(path, adapter.path.read_bytes())
        except LMError as error:
            raise ArtifactError(f"{artifact}: its weights cannot be kept: {error}") from error
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be written ({error.strerror or error})") from error


def sought_beside(artifact: Path, engine: Mapping[str, Any]) -> Adapter:
    """Finds the weights that an artifact names, and checks that they are those.

    Raises:
        ArtifactError: They are missing, damaged, or others.
    """
    from ..lms.adapters import read_adapter

    sha256 = str(engine.get("adapter"))
    path = _beside(artifact, sha256)
    if not path.exists():
        path = _beside(_linked(artifact), sha256)
    if not path.exists():
        raise ArtifactError(
            f"{artifact}: its trained weights are missing: {path.name} must stand beside it; or give an LM that has "
            f"them: ps.load(path, lm=ps.lm('local:{engine.get('model')}', adapter='/path/to/{path.name}'))"
        )
    try:
        return read_adapter(path, sha256)
    except LMError as error:
        raise ArtifactError(f"{artifact}: its trained weights are not as they were saved: {error}") from error


def _linked(artifact: Path) -> Path:
    """What a link points to; the weights go where the artifact goes."""
    return Path(os.path.realpath(artifact))


def _beside(artifact: Path, sha256: str) -> Path:
    # A hash from a file could be anything, a path too.
    name = "".join(each for each in sha256[:16] if each in "0123456789abcdef")
    return artifact.with_name(f"{name or 'none'}.safetensors")
