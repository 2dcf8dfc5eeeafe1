"""The parts that candidates are made of, as parameters of Optuna's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ...evaluation.statistics import shrunken_means
from ...programs.candidate import Candidate, PredictorChoice
from ..standing import Standing
from .novelty import unfitted

__all__ = ["Parts"]

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "instruction": ("instruction",),
    "demonstrations": ("demonstrations", "nearest"),
    "format": ("format",),
    "answering": ("answering",),
    "lm": ("lm",),
}
"""A predictor's parts, each with the fields that it is made of."""
_RETRIEVAL = "retrieval"
"""The one part of a retriever."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that were measured, as Optuna's parameters.

    Attributes:
        values: By predictor, or retriever's path, and part, each value by its label.
    """

    values: Mapping[tuple[str, str], Mapping[str, dict[str, Any]]]

    @classmethod
    def of(cls, standings: Sequence[Standing], names: Sequence[str], *, most: int | None) -> Parts:
        """Collects the parts of standings, the best first; at most so many values of each."""
        paths = sorted({path for standing in standings for path in standing.candidate.retrievals})
        values: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
            **{(name, part): {} for name in names for part in _FIELDS},
            **{(path, _RETRIEVAL): {} for path in paths},
        }
        for standing in standings:
            candidate = unfitted(standing.candidate)
            for (name, part), known in values.items():
                if most is None or len(known) < most:
                    known.setdefault(*_labelled(candidate, name, part))
        return cls({key: known for key, known in values.items() if len(known) > 1})

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Of the parts that leave a choice."""
        return {f"{name}.{part}": CategoricalDistribution(list(known)) for (name, part), known in self.values.items()}

    def trials(self, standings: Sequence[Standing]) -> list[FrozenTrial]:
        """Gives the standings whose parts are all known as finished trials."""
        distributions = self.distributions
        values = shrunken_means(
            [each.mean for each in standings], [_variance_of_mean(each.scores) for each in standings]
        )
        trials = []
        for standing, value in zip(standings, values, strict=True):
            candidate = unfitted(standing.candidate)
            labels = {key: _labelled(candidate, *key)[0] for key in self.values}
            if all(label in self.values[key] for key, label in labels.items()):
                params = {f"{name}.{part}": label for (name, part), label in labels.items()}
                trials.append(
                    create_trial(
                        state=TrialState.COMPLETE,
                        params=params,
                        distributions=distributions,
                        value=value,
                        user_attrs=_told(standing),
                    )
                )
        return trials

    def combined(self, base: Candidate, params: Mapping[str, Any]) -> Candidate:
        """Gives a candidate of these parts; whatever is no parameter it has from the base."""
        for (name, part), known in self.values.items():
            value = known[params[f"{name}.{part}"]]
            if part == _RETRIEVAL:
                base = base.with_retrieval(value[_RETRIEVAL], path=name)
            else:
                base = base.with_choice(predictor=name, **value)
        return base


def _variance_of_mean(scores: Sequence[float]) -> float:
    """How uncertain a mean is, by the scores' own spread; Laplace's two scores more keep it above zero."""
    return float(np.var([*scores, 0.0, 1.0])) / (len(scores) + 2)


def _told(standing: Standing) -> dict[str, Any]:
    return {
        "origin": standing.candidate.origin,
        "hash": standing.candidate.hash,
        "proposer": standing.proposer,
        "examples": len(standing.scores),
        "mean": standing.mean,
        "tokens": round(standing.tokens, 1),
    }


def _labelled(candidate: Candidate, name: str, part: str) -> tuple[str, dict[str, Any]]:
    """Gives a part's label, the same wherever its content is, and its fields."""
    if part == _RETRIEVAL:
        chosen = candidate.retrievals.get(name)
        return "as declared" if chosen is None else chosen.label, {_RETRIEVAL: chosen}
    return _labelled_choice(candidate.predictors[name], part)


def _labelled_choice(choice: PredictorChoice, part: str) -> tuple[str, dict[str, Any]]:
    value = {field: getattr(choice, field) for field in _FIELDS[part]}
    content = choice.model_dump(mode="json", include=set(_FIELDS[part]), exclude_none=True)
    if not content:
        return "as declared", value
    mark = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]
    if part == "instruction":
        text = str(choice.instruction)
        return f"{text if len(text) <= 60 else text[:59] + '…'} #{mark}", value
    if part == "demonstrations":
        kind = f"{choice.nearest.count} nearest" if choice.nearest else f"{len(choice.demonstrations or ())} shown"
        return f"{kind} #{mark}", value
    labels = {"format": choice.format, "answering": choice.answering}
    return str(choice.lm) if part == "lm" else str(getattr(labels[part], "label", mark)), value
