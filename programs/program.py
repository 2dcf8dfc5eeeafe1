"""A DSPy module with its own formats: what a candidate makes of the user's module, and what an artifact holds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import dspy

from .formats import Format

__all__ = ["Program"]

_FORMAT = "progspace_format"


class _OwnFormats(dspy.Adapter):
    """Formats each predictor's call in that predictor's own format."""

    def __init__(self, fallback: dspy.Adapter | None = None) -> None:
        super().__init__()
        self._fallback = fallback or dspy.ChatAdapter()
        self._adapters: dict[Format, dspy.Adapter] = {}

    def _adapter(self) -> dspy.Adapter:
        callers = dspy.settings.caller_modules or [None]
        own: Format | None = getattr(callers[-1], _FORMAT, None)
        if own is None:
            return self._fallback
        if own not in self._adapters:
            self._adapters[own] = own.adapter()
        return self._adapters[own]

    def __call__(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = self._adapter()(lm, lm_kwargs, signature, demos, inputs)
        return answers

    async def acall(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = await self._adapter().acall(lm, lm_kwargs, signature, demos, inputs)
        return answers


class Program(dspy.Module):
    """Runs a module in its own formats, and with its own LM if it has one, whatever ``dspy.settings`` says.

    Sync and async calls, threads and tasks are those of the module.

    Args:
        module: Any module; it becomes this program's own (give it a copy).
        formats: A format for each predictor by its name; predictors without one are formatted as DSPy does by default.
        lm: The LM of the predictors that have none of their own; None for the one of ``dspy.settings``.

    >>> Program(dspy.Predict("text -> label"), {"self": Format(kind="compact")}).formats["self"].label
    'compact, free'
    """

    def __init__(self, module: dspy.Module, formats: Mapping[str, Format], lm: dspy.BaseLM | None = None) -> None:
        super().__init__()
        predictors = dict(module.named_predictors())
        if unknown := set(formats) - set(predictors):
            raise ValueError(f"no predictor is called {', '.join(sorted(unknown))}; there is {', '.join(predictors)}")
        for name, own in formats.items():
            setattr(predictors[name], _FORMAT, own)
        self.module = module
        self.own_lm = lm
        self._adapter = _OwnFormats()

    @property
    def formats(self) -> dict[str, Format]:
        """The predictors' own formats by name."""
        owns = {name: getattr(predictor, _FORMAT, None) for name, predictor in self.module.named_predictors()}
        return {name: own for name, own in owns.items() if own is not None}

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Runs the module."""
        with self._settings():
            return self.module(**inputs)

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Runs the module in a task."""
        with self._settings():
            return await self.module.acall(**inputs)

    def _settings(self) -> AbstractContextManager[Any]:
        lm = {"lm": self.own_lm} if self.own_lm is not None else {}
        context: AbstractContextManager[Any] = dspy.context(adapter=self._adapter, **lm)
        return context
