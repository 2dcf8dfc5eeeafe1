"""LoRA adapters of the embedded LM: the file that holds one, and the model that it makes of its base.

An adapter is one safetensors file: its tensors, named as ``peft`` names them, and its description as JSON in the file's
header. The description holds the SHA-256 of every base weight that the adapter changes, so an adapter only meets the
weights it was trained on, and one of its own tensors: altered weights are an error, not other answers.

openvino-genai's own adapters are of no use here: they find a weight by its name, which a graph made of a GGUF file has
not, and the scorer runs the graph without that library. So ``W + (alpha / rank) · B · A`` takes the place of ``W``
(https://arxiv.org/abs/2106.09685, section 4.1).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import LMError
from .files import replace_bytes
from .models import models_folder
from .provision import GRAPH, copy_tokenizers

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Adapter", "merged_folder", "read_adapter", "weight_digest", "write_adapter"]

_DESCRIPTION = "progspace"  # the one key in the header: the order of several would differ from file to file
_BEFORE, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter that was trained, as a file.

    Attributes:
        path: The safetensors file.
        sha256: Of the file: the adapter's identity.
        base: The name of the model it was trained on.
        rank: Of its matrices.
        alpha: Its products are scaled by ``alpha / rank``.
        train_losses: Mean loss for a token of the answers, one a step.
        validation_losses: The same on the validation examples: before the training, then at each evaluation.
        weights: The SHA-256 of each base weight it changes, in 16-bit floats, by the name of the weight's module.
        training: The identity of the training: data, settings, base.
    """

    path: Path
    sha256: str
    base: str
    rank: int
    alpha: float
    train_losses: tuple[float, ...] = ()
    validation_losses: tuple[float, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    training: str = ""


class _Description(BaseModel):
    """What the header tells of the tensors."""

    model_config = ConfigDict(extra="forbid")

    format: int = 1
    base: str
    rank: int
    alpha: float
    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    weights: dict[str, str]
    training: str
    seal: str = ""
    """Of all the above and the tensors."""


def weight_digest(weight: NDArray[Any]) -> str:
    """Gives the identity of a base weight: of its values as 16-bit floats, as the embedded LM's graph holds them.

    >>> weight_digest(np.zeros((2, 2))) == weight_digest(np.zeros((2, 2), np.float16))
    True
    """
    return hashlib.sha256(np.asarray(weight, np.float16).tobytes()).hexdigest()[:32]


def _seal(description: _Description, tensors: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(description.model_dump_json(exclude={"seal"}).encode())
    for name in sorted(tensors):
        digest.update(f"{name}{tensors[name].shape}".encode())
        digest.update(np.asarray(tensors[name], np.float32).tobytes())
    return digest.hexdigest()


def write_adapter(
    path: Path,
    tensors: Mapping[str, NDArray[np.float32]],
    *,
    base: str,
    rank: int,
    alpha: float,
    weights: Mapping[str, str],
    train_losses: tuple[float, ...] = (),
    validation_losses: tuple[float, ...] = (),
    training: str = "",
) -> Adapter:
    """Writes an adapter; a file of that name is replaced as a whole or not at all.

    Args:
        path: Of the file; its folder must be there.
        tensors: As ``peft.get_peft_model_state_dict`` names them.
        base: The name of the model.
        rank: Of the matrices.
        alpha: Of the scale ``alpha / rank``.
        weights: `weight_digest` of each base weight, by the name of its module.
        train_losses: One a step.
        validation_losses: One an evaluation.
        training: The identity of the training.

    Raises:
        OSError: The disk is full, the folder is missing, …
    """
    from safetensors.numpy import save

    description = _Description(
        base=base,
        rank=rank,
        alpha=alpha,
        train_losses=train_losses,
        validation_losses=validation_losses,
        weights=dict(sorted(weights.items())),
        training=training,
    )
    description.seal = _seal(description, tensors)
    replace_bytes(path, save(dict(tensors), {_DESCRIPTION: description.model_dump_json()}))
    return read_adapter(path)


def read_adapter(path: str | os.PathLike[str], sha256: str | None = None) -> Adapter:
    """Reads an adapter's description and checks the file.

    Args:
        path: Of the safetensors file.
        sha256: The file's hash, where it is known: another file is refused.

    Raises:
        LMError: The file is missing, damaged, altered, or no adapter of ours.

    >>> read_adapter("nowhere.safetensors")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    progspace.errors.LMError: nowhere.safetensors: there is no such adapter; was it moved or deleted? ...
    """
    file = Path(path).expanduser()
    return _read(file, sha256)[0]


def _read(file: Path, sha256: str | None) -> tuple[Adapter, dict[str, NDArray[np.float32]]]:
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load

    try:
        content = file.read_bytes()
    except OSError as error:
        raise LMError(
            f"{file}: there is no such adapter; was it moved or deleted? Give its path: ps.lm('local', adapter=…)"
            if isinstance(error, FileNotFoundError)
            else f"{file}: the adapter cannot be read: {error.strerror}"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise LMError(f"{file}: the adapter is not the one that was meant (SHA-256 {found}, not {sha256})")
    try:
        tensors: dict[str, NDArray[np.float32]] = load(content)
        with safe_open(file, "numpy") as opened:
            header = opened.metadata() or {}
        description = _Description.model_validate_json(header[_DESCRIPTION])
    except (SafetensorError, ValidationError, KeyError) as error:
        raise LMError(f"{file}: is damaged, or no adapter of progspace's: {error}") from None
    if _seal(description, tensors) != description.seal:
        raise LMError(f"{file}: the adapter was altered after the training; train it again")
    told = description.model_dump(exclude={"format", "seal"})
    return Adapter(path=file.resolve(), sha256=found, **told), tensors


def merged_folder(folder: Path, adapter: Adapter) -> Path:
    """Gives the OpenVINO folder of a base model with the adapter in its weights; made at the first call, then kept.

    It is as large as the base model's, and lies in the models folder beside it.

    Args:
        folder: The base model's OpenVINO folder, its weights in 16-bit floats, as `provision` writes it.
        adapter: As `read_adapter` gives it.

    Raises:
        LMError: The adapter was moved or altered, belongs to other weights, or the disk is full.
    """
    read, tensors = _read(adapter.path, adapter.sha256)
    name = hashlib.sha256(f"{folder.resolve()}\n{read.sha256}".encode()).hexdigest()[:16]
    merged = models_folder() / f"{folder.name}-lora-{name}"
    if not (merged / GRAPH).exists():
        _merge(folder, merged, read, tensors)
    return merged


def _merge(folder: Path, merged: Path, adapter: Adapter, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    import openvino as ov
    from openvino import opset13 as ops

    model = ov.Core().read_model(str(folder / GRAPH))
    constants = _constants(model)
    for module, digest in adapter.weights.items():
        if not constants.get(digest):
            raise LMError(
                f"{adapter.path}: the adapter changes {module} of {adapter.base}, and {folder} holds no such weight in "
                "16-bit floats: it was trained on another model, or another release of it"
            )
        try:
            down, up = tensors[_BEFORE + module + _A], tensors[_BEFORE + module + _B]
        except KeyError as error:
            raise LMError(f"{adapter.path}: holds no {error.args[0]}") from None
        # Equal weights of two modules, if a model had such, stand in the order of the graph, which is theirs.
        constant = constants[digest].pop(0)
        weight = np.array(constant.data, np.float32) + (adapter.alpha / adapter.rank) * (up @ down)
        changed = ops.constant(weight.astype(np.float16))
        for target in constant.output(0).get_target_inputs():
            target.replace_source_output(changed.output(0))
    model.validate_nodes_and_infer_types()
    merged.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=merged.parent) as scratch:
        whole = Path(scratch, "whole")
        whole.mkdir()
        try:
            ov.save_model(model, str(whole / GRAPH), compress_to_fp16=False)
            copy_tokenizers(folder, whole)
        except (OSError, RuntimeError) as error:
            raise LMError(
                f"{merged}: the model with its adapter cannot be written; is the disk full? {error}"
            ) from None
        try:
            whole.rename(merged)
        except OSError:  # another process was first
            if not (merged / GRAPH).exists():
                raise


def _constants(model: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type().get_type_name() != "f16":
            continue
        if len(node.shape) == 2:
            found.setdefault(weight_digest(node.data), []).append(node)
    return found
