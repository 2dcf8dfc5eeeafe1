"""Trains a LoRA adapter on the embedded LM's own weights, on this machine's CPU (https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...errors import FineTuningError
from ..adapters import Adapter, read_adapter, write_adapter
from ..embedded import engine_for
from ..files import replace_text
from ..models import DEFAULT_MODEL
from .batches import Encoded, encoded, epoch_batches
from .checkpoint import Progress, load_checkpoint, save_checkpoint
from .examples import TrainingExample, content_hash, deduplicated, split
from .learner import Learner
from .sizing import TrainingEstimate, check_fits, sized
from .weights import base_digests, require_finetune_extra, torch_config, torch_model, weights_file, with_lora

__all__ = ["LoRASettings", "TrainingProgress", "estimate_training", "train", "training_seconds"]

ADAPTER, CHECKPOINT, CLOCK = "adapter.safetensors", "checkpoint.safetensors", "seconds.json"


@dataclass(frozen=True, slots=True)
class LoRASettings:
    """How an adapter is trained.

    Attributes:
        rank: Of the matrices.
        alpha: They are scaled by ``alpha / rank``.
        dropout: Share of a layer's inputs that the matrices do not see.
        learning_rate: The highest; it rises over the first tenth of the steps, and falls to a tenth of itself.
        epochs: The most; fewer if the validation loss does not fall.
        batch_examples: Learnt from in one step.
        micro_batch_tokens: Held in memory at a time; gradients add up to the step's.
        validation_share: Of the examples, kept for the validation loss; 0 for none, and no early stopping.
        evaluations: Of the validation loss in an epoch.
        patience: So many evaluations without a better one end the training.
        checkpoint_steps: Steps between checkpoints.
        max_seconds: A training that is estimated to take longer is refused.
        precision: ``bf16``, ``f32``, or ``auto``: bf16 where the CPU computes in it.
        seed: Of matrices, order, split and dropout.

    Raises:
        ValueError: A number is out of its range.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    learning_rate: float = 5e-4
    epochs: int = 3
    batch_examples: int = 16
    micro_batch_tokens: int = 2048
    validation_share: float = 0.1
    evaluations: int = 2
    patience: int = 2
    checkpoint_steps: int = 10
    max_seconds: float | None = None
    precision: Literal["auto", "bf16", "f32"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "rank", "alpha", "epochs", "batch_examples", "micro_batch_tokens", "evaluations", "patience",
            "checkpoint_steps",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"LoRASettings({name}={getattr(self, name)}): must be at least 1")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"LoRASettings(learning_rate={self.learning_rate}): must be above 0 and below 1")
        for name in ("dropout", "validation_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"LoRASettings({name}={getattr(self, name)}): must be at least 0 and below 1")

    def rate(self, step: int, steps: int) -> float:
        """Gives the learning rate of a step, counted from 0.

        >>> [round(LoRASettings(learning_rate=0.1).rate(step, 20), 3) for step in (0, 1, 2, 10, 19)]
        [0.05, 0.1, 0.1, 0.063, 0.011]
        """
        warming = max(1, steps // 10)
        if step < warming:
            return self.learning_rate * (step + 1) / warming
        done = (step - warming) / max(1, steps - warming)
        return self.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far a training is.

    Attributes:
        step: Steps made.
        steps: Steps in all, if it is not stopped early.
        train_loss: Of the last step, for a token of the answers.
        validation_loss: Of the last evaluation; None before the first.
        seconds_left: If it is not stopped early; None before the first step.
    """

    step: int
    steps: int
    train_loss: float | None
    validation_loss: float | None
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class _Plan:
    """What will be trained on, as tokens."""

    train: tuple[Encoded, ...]
    validation: tuple[Encoded, ...]
    steps: int
    evaluated: frozenset[int]
    estimate: TrainingEstimate
    config: Any


def _precision(settings: LoRASettings) -> str:
    if settings.precision != "auto":
        return settings.precision
    import openvino as ov

    return "bf16" if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def _file_digest(model: str) -> str:
    with weights_file(model).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _plan(examples: Sequence[TrainingExample], settings: LoRASettings, model: str) -> _Plan:
    require_finetune_extra()
    if not examples:
        raise FineTuningError("there are no examples to train on")
    config = torch_config(model)
    engine = engine_for(model, "f32")
    end = int(engine.tokenizer.get_eos_token_id())
    unlike = deduplicated(examples)
    encoded(unlike, engine, end)  # a fault is told by its row here, before the split
    train, validation = (encoded(side, engine, end) for side in split(unlike, settings.seed, settings.validation_share))
    steps_an_epoch = -(-len(train) // settings.batch_examples)
    steps = settings.epochs * steps_an_epoch
    every = max(1, round(steps_an_epoch / settings.evaluations))
    evaluated = frozenset({*range(every, steps, every), steps}) if validation else frozenset()
    estimate = sized(
        config,
        train,
        validation,
        rank=settings.rank,
        epochs=settings.epochs,
        evaluations=len(evaluated) + 1,
        batch_examples=settings.batch_examples,
        micro_batch_tokens=settings.micro_batch_tokens,
        precision=_precision(settings),
    )
    return _Plan(train, validation, steps, evaluated, estimate, config)


def estimate_training(
    examples: Sequence[TrainingExample], settings: LoRASettings | None = None, *, model: str = DEFAULT_MODEL
) -> TrainingEstimate:
    """Tells what `train` would need, without loading the weights; takes a few seconds.

    Raises:
        FineTuningError: No examples, or torch, transformers or peft is missing.
        DataError: An example is longer than the model's context, or there are too few for a validation.
        ModelNotFound: The model is not on this machine.
    """
    return _plan(examples, settings or LoRASettings(), model).estimate


def train(
    examples: Sequence[TrainingExample],
    folder: str | os.PathLike[str],
    settings: LoRASettings | None = None,
    *,
    model: str = DEFAULT_MODEL,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> Adapter:
    """Trains an adapter; the loss is on the answers alone.

    What was killed goes on from its last checkpoint when it is called again with the same arguments, and comes to the
    same weights; what is finished is given at once. By the same seed, on the same machine, the weights are the same,
    but for rounding: torch's threads do not always add up in the same order.

    Args:
        examples: Duplicates count once. Some of them are kept apart for the validation loss: the weights of its lowest
            are the result.
        folder: For the checkpoint and the adapter; made if it is not there.
        settings: How.
        model: A name of the registry, or the path of a GGUF file.
        progress: Is told after each step.

    Raises:
        FineTuningError: It does not fit memory or time, the loss is not finite, the folder is another training's, the
            disk is full; retryable, if the same call may go through later.
        DataError: An example is longer than the model's context, or there are too few for a validation.
        ModelNotFound: The model is not on this machine.
    """
    settings = settings or LoRASettings()
    place = Path(folder).expanduser()
    how = dataclasses.asdict(dataclasses.replace(settings, max_seconds=None, checkpoint_steps=1))
    asked = json.dumps([content_hash(examples), how, model, _file_digest(model), _precision(settings)], sort_keys=True)
    training = hashlib.sha256(asked.encode()).hexdigest()[:32]
    if (place / ADAPTER).exists():
        finished = read_adapter(place / ADAPTER)
        if finished.training == training:
            return finished
        raise FineTuningError(
            f"{place / ADAPTER}: is the adapter of a training on other data or settings; train in another folder"
        )
    plan = _plan(examples, settings, model)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FineTuningError(f"{place}: the folder cannot be made: {error.strerror}") from None
    known = load_checkpoint(place / CHECKPOINT, training)
    check_fits(
        plan.estimate,
        epochs=settings.epochs,
        micro_batch_tokens=settings.micro_batch_tokens,
        max_seconds=None if known else settings.max_seconds,  # what has begun is brought to its end
    )
    base = torch_model(model, plan.config)
    digests = base_digests(base)
    lora = with_lora(base, rank=settings.rank, alpha=settings.alpha, dropout=settings.dropout, seed=settings.seed)
    learner = Learner(lora, plan.estimate.precision, settings.micro_batch_tokens)
    state = Progress(training=training)
    if known is not None:
        state = known[0]
        learner.restore(known[1])
    _learn(learner, state, plan, settings, place / CHECKPOINT, progress)
    try:
        # Beside the adapter, not in it: the same training is the same file, however long it took.
        replace_text(place / CLOCK, json.dumps(state.seconds))
        adapter = write_adapter(
            place / ADAPTER,
            learner.best(),
            base=model,
            training=training,
            rank=settings.rank,
            alpha=settings.alpha,
            weights=digests,
            train_losses=tuple(state.train_losses),
            validation_losses=tuple(state.validation_losses),
        )
    except OSError as error:
        raise FineTuningError(
            f"{place / ADAPTER}: cannot be written ({error.strerror}); free some disk and start the same training "
            "again: it goes on from the last checkpoint",
            retryable=True,
        ) from None
    (place / CHECKPOINT).unlink(missing_ok=True)
    return adapter


def training_seconds(adapter: Adapter) -> float | None:
    """Tells how long the steps of a training took; None for an adapter that is not where it was trained."""
    try:
        return float(json.loads((adapter.path.parent / CLOCK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _learn(
    learner: Learner,
    state: Progress,
    plan: _Plan,
    settings: LoRASettings,
    checkpoint: Path,
    progress: Callable[[TrainingProgress], None] | None,
) -> None:
    """Makes the steps that are left."""
    steps_an_epoch = plan.steps // settings.epochs
    if not state.validation_losses and plan.validation:
        state.validation_losses.append(learner.loss(plan.validation))
    batches: list[list[int]] = []
    while state.step < plan.steps and not _stale(state.validation_losses, settings.patience):
        started = time.perf_counter()
        epoch, place = divmod(state.step, steps_an_epoch)
        if not batches or place == 0:
            batches = epoch_batches(len(plan.train), settings.batch_examples, settings.seed, epoch)
        batch = [plan.train[index] for index in batches[place]]
        rate = settings.rate(state.step, plan.steps)
        state.train_losses.append(learner.step(batch, rate, seed=settings.seed * 1_000_003 + state.step))
        state.step += 1
        if state.step in plan.evaluated:
            state.validation_losses.append(learner.loss(plan.validation))
            if state.validation_losses[-1] <= min(state.validation_losses[1:]):
                state.best_step = state.step
                learner.keep_as_best()
        state.seconds += time.perf_counter() - started
        if state.step % settings.checkpoint_steps == 0 or state.step == plan.steps:
            save_checkpoint(checkpoint, state, learner.state())
        if progress is not None:
            left = (plan.steps - state.step) * state.seconds / state.step
            last = state.validation_losses[-1] if state.validation_losses else None
            progress(TrainingProgress(state.step, plan.steps, state.train_losses[-1], last, left))


def _stale(losses: Sequence[float], patience: int) -> bool:
    """Tells whether the last evaluations brought nothing better than was there before, the untrained one included."""
    return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])
