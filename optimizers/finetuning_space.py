"""Weights as a choice: what is trained on, how, and what was trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
from pydantic import BaseModel, ConfigDict, Field

from ..lms.training.cost import Cost

__all__ = ["FineTuning", "Weights"]


class FineTuning(BaseModel):
    """How the task's LM may be trained, once the prompt has been pushed as far as it goes.

    Attributes:
        labels: Whether train examples that hold all of a predictor's fields are taught as they are labelled, which asks
            no LM. Other predictors, or all where this is False, are taught what a teacher did where it succeeded.
        teacher: That teacher: a module, or an LM on which the best program so far shows how it is done; None for that
            program as it is.
        threshold: The least score of a success.
        examples: Of train, at most.
        export: A file for what is trained on, in OpenAI's chat format (JSON Lines); written before anything is spent.
        settings: Of the training, as the LM's provider takes them: for the embedded LM fields of
            `progspace.lms.training.lora.LoRASettings`, at an endpoint those of ``RemoteSettings``.
        confirm: Is told what the training will take before anything is spent, and says whether to go on. None: what is
            free goes on, what costs money does not.

    >>> FineTuning(settings={"epochs": 2}).labels
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    labels: bool = True
    teacher: dspy.Module | dspy.BaseLM | None = None
    threshold: float = 1.0
    examples: int | None = Field(default=None, ge=2)
    export: Path | None = None
    settings: Mapping[str, Any] = Field(default_factory=dict)
    confirm: Callable[[Cost], bool] | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that a search has trained.

    Attributes:
        lm: Answers with them.
        source: What was taught, in a few words.
        cost: What the training took, as it was estimated; the seconds are measured, where it ran on this machine.
    """

    lm: dspy.BaseLM
    source: str
    cost: Cost

    @property
    def name(self) -> str:
        """By which a candidate chooses them: of embedded weights it holds their hash."""
        return str(self.lm.model)
