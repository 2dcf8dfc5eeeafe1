"""The state of a training under way, as one safetensors file: after a kill it goes on as if nothing had been.

All of it is kept, the optimizer's moments too: they are tensors, and the numbers beside them are JSON in the header. No
random state is needed: order and dropout of a step follow from the seed and the step's number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ...errors import FineTuningError
from ..files import replace_bytes

__all__ = ["Progress", "load_checkpoint", "save_checkpoint"]

_KEY = "progspace"


class Progress(BaseModel):
    """The numbers of a training under way.

    Attributes:
        training: The identity of data, settings and base weights.
        step: How many steps have been made.
        train_losses: One a step.
        validation_losses: One an evaluation, the first before the training.
        best_step: After which the validation loss was lowest.
        seconds: Spent on steps, in all processes.
    """

    model_config = ConfigDict(extra="forbid")

    training: str
    step: int = 0
    train_losses: list[float] = []
    validation_losses: list[float] = []
    best_step: int = 0
    seconds: float = 0.0


def save_checkpoint(path: Path, progress: Progress, tensors: dict[str, Any]) -> None:
    """Writes a checkpoint, as a whole or not at all.

    Raises:
        FineTuningError: It cannot be written; the last one is as it was.
    """
    from safetensors.torch import save

    try:
        replace_bytes(path, save(tensors, {_KEY: progress.model_dump_json()}))
    except OSError as error:
        raise FineTuningError(
            f"{path}: the checkpoint cannot be written ({error.strerror}); free some disk and start the same training "
            "again: it goes on from the last checkpoint",
            retryable=True,
        ) from None


def load_checkpoint(path: Path, training: str) -> tuple[Progress, dict[str, Any]] | None:
    """Reads a checkpoint; None where there is none.

    Args:
        path: Of the file.
        training: The identity of the training that wants to go on.

    Raises:
        FineTuningError: The file is damaged, or another training's.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    mend = f"delete {path} to begin anew, or train in another folder"
    try:
        with safe_open(path, "pt") as opened:
            progress = Progress.model_validate_json((opened.metadata() or {})[_KEY])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 — no mapping
    except (SafetensorError, ValidationError, KeyError, OSError) as error:
        raise FineTuningError(f"{path}: the checkpoint is damaged ({error}); {mend}") from None
    if progress.training != training:
        raise FineTuningError(f"{path}: is the checkpoint of a training on other data or settings; {mend}")
    return progress, tensors
