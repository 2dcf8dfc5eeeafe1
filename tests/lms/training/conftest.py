"""What tests of training share: the embedded LM's weights in torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from progspace.lms.models import installed, models_folder


@pytest.fixture(scope="session")
def trainable() -> str:
    """The name of the model that is trained; skips where that cannot be."""
    if missing := [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"training needs {', '.join(missing)}: pip install 'progspace[finetune]'")
    if not installed("smollm2-135m"):
        pytest.skip("the embedded LM is missing: progspace models install smollm2-135m")
    return "smollm2-135m"


@pytest.fixture(scope="session")
def adapted(trainable: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The torch model with an adapter whose every matrix is full of noise, and the adapter as a file."""
    import torch
    from peft import get_peft_model_state_dict

    from progspace.lms.adapters import write_adapter
    from progspace.lms.training.weights import base_digests, torch_model, with_lora

    base = torch_model(trainable)
    digests = base_digests(base)
    model = with_lora(base, rank=8, alpha=16, dropout=0.0, seed=1)
    drawn = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=drawn))
    tensors = {name: tensor.detach().numpy() for name, tensor in get_peft_model_state_dict(model).items()}
    path = tmp_path_factory.mktemp("adapters") / "noise.safetensors"
    return model.eval(), write_adapter(path, tensors, base=trainable, rank=8, alpha=16, weights=digests)


@pytest.fixture(scope="session")
def models_apart(trainable: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Merged models are large: they go with the tests' own folder."""
    own, kept = tmp_path_factory.mktemp("models"), models_folder()
    for folder in kept.iterdir():
        (own / folder.name).symlink_to(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGSPACE_MODELS", str(own))
        yield
