"""A DSPy module in its own manner: what a candidate makes of the user's module, and what an artifact holds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import dspy
from pydantic import BaseModel, ConfigDict

from .answering import Answering
from .bars import bear_cleared_bars
from .copying import copied
from .formats import Format
from .nearest import Nearest
from .threads import in_thread

__all__ = ["Manner", "Origin", "Program", "acall", "give_manner", "runs_in_tasks"]

bear_cleared_bars()

_MANNER = "progspace_manner"


class Manner(BaseModel):
    """How a predictor talks to its LM; what is None is as DSPy does it.

    Attributes:
        format: Prompt format and decoding.
        answering: At once, after reasoning, by a vote.
        nearest: Demonstrations that are chosen for each input, in place of the predictor's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Format | None = None
    answering: Answering | None = None
    nearest: Nearest | None = None


def give_manner(predictor: dspy.Predict, manner: Manner) -> dspy.Predict:
    """Lets a predictor talk to its LM in a manner of its own, inside any `Program`."""
    setattr(predictor, _MANNER, manner)
    return predictor


def _manner_of(predictor: object) -> Manner:
    own: Manner | None = getattr(predictor, _MANNER, None)
    return own or Manner()


def runs_in_tasks(module: dspy.Module) -> bool:
    """Whether a module has an ``aforward`` that does as its ``forward`` does.

    >>> class Louder(dspy.ChainOfThought):
    ...     def forward(self, **inputs):
    ...         return dspy.Prediction(label=super().forward(**inputs).label.upper())
    >>> runs_in_tasks(dspy.ChainOfThought("text -> label")), runs_in_tasks(Louder("text -> label"))
    (True, False)
    """
    places = [vars(module), *map(vars, type(module).__mro__)]

    def place(name: str) -> int:
        return next((number for number, held in enumerate(places) if name in held), len(places))

    return hasattr(module, "aforward") and place("aforward") <= place("forward")


async def acall(module: dspy.Module, **inputs: Any) -> dspy.Prediction:
    """Calls a module in a task; one that has no ``aforward`` runs in a thread of its own, in the same context.

    So does one whose ``forward`` is of a class that inherits its ``aforward``: that knows nothing of it.
    """
    if runs_in_tasks(module):
        return await module.acall(**inputs)
    prediction: dspy.Prediction = await asyncio.wrap_future(in_thread(module, inputs))
    return prediction


class _OwnManner(dspy.Adapter):
    """Makes each predictor's call in that predictor's own manner.

    Args:
        plain: For predictors that have no format of their own; None where it only passes calls on: ``dspy.Refine``
            makes a class of this one's kind, without arguments, to add its advice.
    """

    def __init__(self, plain: dspy.Adapter | None = None) -> None:
        super().__init__()
        self.plain = plain or dspy.ChatAdapter()
        self._adapters: dict[tuple[Format | None, Answering | None], dspy.Adapter] = {}

    def _prepare(self, signature: Any, demos: Any, inputs: Any) -> tuple[dspy.Adapter, Any]:
        callers = dspy.settings.caller_modules or [None]
        own = _manner_of(callers[-1])
        key = own.format, own.answering
        if key not in self._adapters:
            inner = own.format.adapter() if own.format else self.plain
            self._adapters[key] = (own.answering or Answering()).adapter(inner)
        if own.nearest is not None:
            demos = own.nearest.select(signature, inputs)
        return self._adapters[key], demos

    def __call__(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> list[dict[str, Any]]:
        adapter, demos = self._prepare(signature, demos, inputs)
        answers: list[dict[str, Any]] = adapter(lm, lm_kwargs, signature, demos, inputs)
        return answers

    async def acall(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> list[dict[str, Any]]:
        adapter, demos = self._prepare(signature, demos, inputs)
        answers: list[dict[str, Any]] = await adapter.acall(lm, lm_kwargs, signature, demos, inputs)
        return answers

    def format_user_message_content(self, *args: Any, **kwargs: Any) -> str:
        """Writes what a module formats itself, outside a predictor's call (``ReAct`` its trajectory), as DSPy does."""
        content: str = self.plain.format_user_message_content(*args, **kwargs)
        return content


@dataclass(frozen=True, slots=True)
class Origin:
    """The artifact that a program was loaded from.

    Attributes:
        task: Name of the task.
        hash: Of the artifact's content; empty where it is not known.
        declared: The lower end of the interval of its held-out score; None where that was not measured.
    """

    task: str
    hash: str
    declared: float | None


class Program(dspy.Module):
    """Runs a module in its own manner, and with its own LM if it has one, whatever ``dspy.settings`` says.

    Predictors that have no format of their own talk as they would without it: by the adapter of ``dspy.settings``.

    Sync and async calls, threads and tasks are those of the module.

    Args:
        module: Any module; it becomes this program's own (give it a copy).
        manners: A manner for each predictor by its name; predictors without one do as DSPy does by default.
        lm: The LM of the predictors that have none of their own; None for the one of ``dspy.settings``.

    Attributes:
        origin: Where it was loaded from; None where it was not.

    >>> program = Program(dspy.Predict("text -> label"), {"self": Manner(format=Format(kind="compact"))})
    >>> program.manners["self"].format.label
    'compact, free'
    """

    def __init__(self, module: dspy.Module, manners: Mapping[str, Manner], lm: dspy.BaseLM | None = None) -> None:
        super().__init__()
        predictors = dict(module.named_predictors())
        if unknown := set(manners) - set(predictors):
            raise ValueError(f"no predictor is called {', '.join(sorted(unknown))}; there is {', '.join(predictors)}")
        for name, own in manners.items():
            give_manner(predictors[name], own)
        self.module = module
        self.own_lm = lm
        self.origin: Origin | None = None
        self._chat = dspy.ChatAdapter()
        self._adapter = _OwnManner(self._chat)

    @property
    def manners(self) -> dict[str, Manner]:
        """The predictors' own manners by name."""
        owns = {name: getattr(predictor, _MANNER, None) for name, predictor in self.module.named_predictors()}
        return {name: own for name, own in owns.items() if own is not None}

    deepcopy = copied  # DSPy's teleprompters call it

    def get_lm(self) -> dspy.BaseLM | None:
        """Gives the one LM of all predictors, as ``dspy.BestOfN``, ``dspy.Refine`` and ``dspy.SIMBA`` ask for it.

        Raises:
            ValueError: They have several.
        """
        lms = {id(lm): lm for lm in (each.lm or self.own_lm for each in self.predictors())}
        return next(iter(lms.values())) if len(lms) == 1 else super().get_lm()

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Runs the module."""
        with self._settings():
            return self.module(**inputs)

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Runs the module in a task."""
        with self._settings():
            return await acall(self.module, **inputs)

    @property
    def adapter(self) -> dspy.Adapter | None:
        """The adapter of ``dspy.settings`` where it counts: where a predictor has no format of its own."""
        outer = dspy.settings.adapter
        if outer is None:  # on every call: so the module is not gone through for nothing
            return None
        bare = any(_manner_of(each).format is None for each in self.module.predictors())
        return (outer.plain if isinstance(outer, _OwnManner) else outer) if bare else None

    def _settings(self) -> AbstractContextManager[Any]:
        own, plain = self._adapter, self.adapter or self._chat
        if own.plain is not plain:  # as seldom as the app's settings change: what it makes of formats is used again
            own = self._adapter = _OwnManner(plain)
        lm = {"lm": self.own_lm} if self.own_lm is not None else {}
        context: AbstractContextManager[Any] = dspy.context(adapter=own, **lm)
        return context
