"""Training the embedded LM as DSPy asks for it: a LoRA adapter, trained on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import FineTuningError
from ..embedded import Precision, engine_for
from ..models import models_folder
from .batches import fits
from .cost import Cost
from .examples import TrainingExample, content_hash
from .jobs import Event
from .provider import Trained, TrainingProvider, read_settings

if TYPE_CHECKING:
    from .lora import LoRASettings

__all__ = ["local_provider"]


def local_provider(
    model: str,
    name: str,
    *,
    precision: Precision = "f32",
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[Event], None] | None = None,
) -> TrainingProvider:
    """Makes a provider that trains the embedded LM; what ``train_kwargs`` may hold are the fields of `LoRASettings`.

    Args:
        model: As ``local_lm`` takes it.
        name: The name of the untrained LM; one that has an adapter already cannot be trained on.
        precision: Of the trained LM's generation.
        folder: Each training has a folder of its own in it, and goes on there after a kill; None for ``trainings``
            beside the models.
        progress: Is told of each step.

    >>> local_provider("smollm2-135m", "local/smollm2-135m").finetunable
    True
    """
    where = models_folder().parent / "trainings" if folder is None else Path(folder)
    trainer = _LocalTrainer(model, name, precision, where)
    return TrainingProvider(trainer, progress, trainer.estimate, _ready, trainer.fits)


def _ready() -> None:
    from .weights import require_finetune_extra

    require_finetune_extra()


@dataclass(frozen=True, slots=True)
class _LocalTrainer:
    """A `Trainer` on this machine."""

    model: str
    name: str
    precision: Precision
    folder: Path

    def __call__(
        self,
        model: str,
        examples: Sequence[TrainingExample],
        *,
        settings: Mapping[str, Any],
        progress: Callable[[Event], None],
        stop: threading.Event,
    ) -> Trained:
        from ..local import AsyncLocalEngine, LocalEngine
        from .lora import TrainingProgress, train, training_seconds

        lora = self._settings(model, settings)

        def tell(now: TrainingProgress) -> None:
            if stop.is_set():
                raise FineTuningError(f"the training of {model} was cancelled at step {now.step} of {now.steps}")
            progress(Event(f"Step {now.step}/{now.steps}", data=asdict(now)))

        # What does not change the weights is left out: a training goes on where it was, in whatever time is left now.
        parts = [self.model, content_hash(examples), asdict(replace(lora, max_seconds=None, checkpoint_steps=1))]
        identity = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
        adapter = train(examples, self.folder / identity, lora, model=self.model, progress=tell)
        engine = LocalEngine(self.model, precision=self.precision, adapter=adapter)
        seconds = training_seconds(adapter)
        return Trained(f"{self.name}+{adapter.sha256[:12]}", engine, AsyncLocalEngine(engine), seconds)

    def estimate(self, model: str, examples: Sequence[TrainingExample], *, settings: Mapping[str, Any]) -> Cost:
        from .lora import estimate_training

        lora = self._settings(model, settings)
        told = estimate_training(examples, lora, model=self.model)
        return Cost(told.examples, told.tokens, lora.epochs, usd=0.0, seconds=told.seconds)

    def fits(self, model: str, examples: Sequence[TrainingExample]) -> list[bool]:  # noqa: ARG002
        engine = engine_for(self.model, "f32")
        end = int(engine.tokenizer.get_eos_token_id())
        return [fits(example, engine, end) for example in examples]

    def _settings(self, model: str, settings: Mapping[str, Any]) -> LoRASettings:
        from .lora import LoRASettings

        if model != self.name:
            raise FineTuningError(f"{model} is trained already: train {self.name}, on all of the examples at once")
        return read_settings(LoRASettings, settings, "the local training")
