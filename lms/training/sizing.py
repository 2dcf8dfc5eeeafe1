"""What a local training will need, told before it begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import FineTuningError
from .batches import Encoded, micro_batches

__all__ = ["TrainingEstimate", "available_memory", "check_fits", "measured_speed", "sized"]

_TORCH_BYTES = 700_000_000  # the interpreter with torch, transformers and peft, measured
_EFFICIENCY = 0.5  # of the speed of bare products, measured on two cores: the rest goes to attention, norms, LoRA


@dataclass(frozen=True, slots=True)
class TrainingEstimate:
    """What a training needs.

    Attributes:
        examples: To train on, without those of the validation.
        tokens: That go through the model in one epoch.
        steps: Of all epochs.
        seconds: Of all epochs with their evaluations, about.
        memory_bytes: At its peak, about.
        available_bytes: Of memory on this machine (or in its container) now.
        precision: In which it runs: ``bf16`` or ``f32``.
    """

    examples: int
    tokens: int
    steps: int
    seconds: float
    memory_bytes: int
    available_bytes: int
    precision: str

    def __str__(self) -> str:
        return (
            f"{self.examples:,} examples, {self.tokens:,} tokens an epoch, {self.steps:,} steps in {self.precision}: "
            f"about {self.seconds / 60:.1f} min and {self.memory_bytes / 1e9:.1f} GB of memory "
            f"({self.available_bytes / 1e9:.1f} GB are free)"
        )


def available_memory() -> int:
    """Gives the bytes of memory that are free, in a container those that it may still take."""
    import psutil

    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no control groups here
    return max(free, 0)


def measured_speed(width: int, inner: int, precision: str) -> float:
    """Measures products of the model's shapes, as training makes them: multiplications and additions a second."""
    import torch

    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    rows, weight = torch.ones((512, width), dtype=kind), torch.ones((inner, width), dtype=kind)
    done, started = 0, 0.0
    with torch.no_grad():
        for turn in range(1000):
            if turn == 1:  # the first one prepares
                started = time.perf_counter()
            (rows @ weight.T) @ weight
            if turn and (done := turn) >= 4 and time.perf_counter() - started > 0.2:
                break
    return done * 4 * 512 * width * inner / max(time.perf_counter() - started, 1e-9)


def sized(
    config: Any,
    train: Sequence[Encoded],
    validation: Sequence[Encoded],
    *,
    rank: int,
    epochs: int,
    evaluations: int,
    batch_examples: int,
    micro_batch_tokens: int,
    precision: str,
) -> TrainingEstimate:
    """Estimates a training from the model's ``transformers`` configuration and the examples' tokens.

    A token's work is 2 · weights forward and as much again backward: the base's own weights get no gradients.
    """
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    heads = width + 2 * config.num_key_value_heads * (width // config.num_attention_heads)
    block = layers * (width * (heads + width) + 3 * width * inner)
    lora = layers * rank * (heads + 7 * width + 3 * inner + width)
    tokens, checked = sum(one.length for one in train), sum(one.length for one in validation)
    head = width * config.vocab_size
    answers, told = (sum(len(one.answer) for one in side) for side in (train, validation))
    work = epochs * 4 * (block * tokens + head * answers) + evaluations * 2 * (block * checked + head * told)
    seconds = work / (_EFFICIENCY * measured_speed(width, inner, precision))
    groups = micro_batches([*train, *validation], micro_batch_tokens)
    area = max((len(group) * group[0].length for group in groups), default=0)
    most = max((sum(len(one.answer) for one in group) for group in groups), default=0)
    size = 2 if precision == "bf16" else 4
    weights = block + head
    kept = layers * area * size * (9 * width + 4 * inner) + layers * area * 4 * 4 * width
    logits = most * config.vocab_size * 4 * 3
    # The weights are read in 32-bit floats; LoRA's stand with gradients and two moments, and as the best so far.
    memory = _TORCH_BYTES + max(weights * 4 * 2, weights * size + kept + logits) + lora * 4 * 6
    return TrainingEstimate(
        examples=len(train),
        tokens=tokens,
        steps=epochs * -(-len(train) // batch_examples),
        seconds=seconds,
        memory_bytes=int(memory),
        available_bytes=available_memory(),
        precision=precision,
    )


def check_fits(estimate: TrainingEstimate, *, epochs: int, micro_batch_tokens: int, max_seconds: float | None) -> None:
    """Refuses a training that needs more memory or time than there is.

    Raises:
        FineTuningError: With what would make it fit.

    >>> told = TrainingEstimate(100, 9_000, 21, 1_800.0, 2 * 10**9, 8 * 10**9, "bf16")
    >>> check_fits(told, epochs=3, micro_batch_tokens=2048, max_seconds=900)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    progspace.errors.FineTuningError: the training would take about 30.0 min, and 15.0 are allowed: ...
    """
    if estimate.memory_bytes > 0.9 * estimate.available_bytes:
        raise FineTuningError(
            f"the training needs about {estimate.memory_bytes / 1e9:.1f} GB of memory, and "
            f"{estimate.available_bytes / 1e9:.1f} GB are free: lower micro_batch_tokens (now {micro_batch_tokens:,}), "
            "leave out the longest examples, or end other programs",
            retryable=True,
        )
    if max_seconds is not None and estimate.seconds > max_seconds:
        share = max_seconds / estimate.seconds
        raise FineTuningError(
            f"the training would take about {estimate.seconds / 60:.1f} min, and {max_seconds / 60:.1f} are allowed: "
            f"give at most about {max(1, int(estimate.examples * share)):,} of the {estimate.examples:,} examples, "
            f"fewer epochs (now {epochs}), or shorter prompts"
        )
