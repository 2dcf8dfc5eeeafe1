"""How a predictor talks to its LM: the prompt's format and the way an answer is decoded, one choice of the space."""

from __future__ import annotations

from typing import Any, Literal

import dspy
from pydantic import BaseModel, ConfigDict

from .compact import CompactAdapter

__all__ = ["Decoding", "Format", "FormatKind"]

FormatKind = Literal["chat", "json", "compact"]
Decoding = Literal["free", "constrained", "scored", "calibrated"]


class Format(BaseModel):
    """A prompt format and a decoding; immutable, and the same wherever it is equal.

    Attributes:
        kind: ``chat`` and ``json`` are DSPy's own adapters; ``compact`` is `CompactAdapter`, a completion-like prompt.
        decoding: ``free``; ``constrained`` to the output's type where the LM offers that; ``scored``: the choice with
        the
            highest log-probability; ``calibrated``: the same after the LM's prior for each choice is taken off.
        hints: Whether the compact prompt names the choices and types of the outputs.
        biases: With ``calibrated``, each choice's text and the log-probability to take off it.

    >>> Format(kind="compact", decoding="scored").label
    'compact, scored'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FormatKind = "chat"
    decoding: Decoding = "free"
    hints: bool = False
    biases: tuple[tuple[str, float], ...] = ()

    @property
    def label(self) -> str:
        """What a person reads."""
        return ", ".join([self.kind, *(["hints"] if self.hints else []), self.decoding])

    @property
    def asked(self) -> Format:
        """The format that asks an LM the same, before anything is taken off its scores: calibration changes no prompt.

        >>> Format(decoding="calibrated", biases=(("positive", 0.5),)).asked == Format(decoding="scored").asked
        True
        """
        return self.model_copy(update={"decoding": "scored", "biases": ()}) if self.decoding == "calibrated" else self

    def adapter(self) -> dspy.Adapter:
        """Makes the ``dspy.Adapter`` that this format is."""
        if self.kind == "chat":
            return dspy.ChatAdapter()
        if self.kind == "json":
            return dspy.JSONAdapter() if self.decoding == "constrained" else _PlainJSONAdapter()
        return CompactAdapter(decoding=self.decoding, hints=self.hints, biases=dict(self.biases))


class _PlainJSONAdapter(dspy.JSONAdapter):
    """DSPy's JSON format without the LM's structured outputs."""

    def _prepare_response_format(self, lm: Any, lm_kwargs: Any, signature: Any) -> None:
        """Asks for nothing: the prompt alone tells the format."""
