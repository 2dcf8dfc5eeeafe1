"""The embedded LM in torch: the very weights of its GGUF file, to be trained on."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import FineTuningError
from ..adapters import weight_digest
from ..models import MODELS, gguf_file

__all__ = [
    "TARGETS",
    "base_digests",
    "require_finetune_extra",
    "torch_config",
    "torch_model",
    "weights_file",
    "with_lora",
]

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear layers of a block: on few examples better than the attention's alone (https://arxiv.org/abs/2305.14314)."""


def require_finetune_extra() -> None:
    """Checks that what trains is installed.

    Raises:
        FineTuningError: With the command that mends it.
    """
    missing = [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        raise FineTuningError(
            f"training needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            "pip install 'progspace[finetune]' (the CPU build of torch is enough; see the README for it)"
        )


def torch_config(model: str) -> Any:
    """Gives the ``transformers`` configuration of the embedded LM; the weights are not loaded.

    Raises:
        ModelNotFound: The model is not on this machine.
        FineTuningError: As `torch_model`.
    """
    file = weights_file(model)
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name, local_files_only=True)
    except (ValueError, KeyError, OSError) as error:
        raise FineTuningError(f"{file}: transformers cannot read this model: {error}") from None


def weights_file(model: str) -> Path:
    """Gives the GGUF file of a model of the registry, or the one that is named itself.

    Raises:
        ModelNotFound: The model is not on this machine.
        FineTuningError: It is no GGUF file, or what trains is not installed.
    """
    require_finetune_extra()
    file = gguf_file(model) if model in MODELS else Path(model).expanduser()
    if file.suffix != ".gguf" or not file.is_file():
        raise FineTuningError(
            f"{model}: only the weights of a GGUF file can be trained: name a model of the registry "
            f"({', '.join(sorted(MODELS))}) or the path of a .gguf file"
        )
    return file


def torch_model(model: str, config: Any = None) -> Any:
    """Gives the ``transformers`` model of the embedded LM, in 32-bit floats; needs no network.

    Args:
        model: A name of the registry, or the path of a GGUF file.
        config: As `torch_config` gives it, where it is at hand: it takes seconds to read.

    Raises:
        ModelNotFound: The model is not on this machine.
        FineTuningError: torch, transformers or peft is missing, or they cannot read the file.
    """
    file = weights_file(model)
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with _without_bars():
            loaded = AutoModelForCausalLM.from_pretrained(
                str(file.parent), config=config, gguf_file=file.name, dtype=torch.float32, local_files_only=True
            )
    except (ValueError, KeyError, OSError) as error:
        raise FineTuningError(f"{file}: transformers cannot read these weights: {error}") from None
    return loaded.eval()


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keeps transformers from drawing progress bars where the caller may draw its own."""
    from transformers import modeling_gguf_pytorch_utils as reader
    from transformers.utils import logging

    shown, drawn = logging.is_progress_bar_enabled(), reader.tqdm
    logging.disable_progress_bar()
    reader.tqdm = lambda tensors, **_: tensors  # reading GGUF, it heeds no setting
    try:
        yield
    finally:
        reader.tqdm = drawn
        if shown:
            logging.enable_progress_bar()


def base_digests(model: Any) -> dict[str, str]:
    """Gives the digest of each weight that an adapter may change, by the name of its module.

    Args:
        model: As `torch_model` gives it, before anything has changed it.
    """
    return {
        name: weight_digest(module.weight.detach().numpy())
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in TARGETS
    }


def with_lora(model: Any, *, rank: int, alpha: int, dropout: float, seed: int) -> Any:
    """Lays LoRA matrices beside the weights; the second ones are zero, so the model still answers as before.

    Args:
        model: As `torch_model` gives it; it is changed.
        rank: Of the matrices.
        alpha: Of the scale ``alpha / rank``.
        dropout: Share of a layer's inputs that are dropped before the matrices, in training.
        seed: Of the first ones.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(TARGETS), task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that will change
        torch.manual_seed(seed)
        return get_peft_model(model, config)
