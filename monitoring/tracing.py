"""Makes a trace of a recorded call: what is kept of it, what is taken out, and what is scored without a label."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from pydantic import ConfigDict, TypeAdapter

from ..programs.examples import in_order
from ..programs.wording import abstains
from ..retrievers.passage import Passage, Passages
from ..store.traces import Trace
from .recording import Call
from .redaction import Redaction, redacted

__all__ = ["Keeping", "Signal"]

Signal = Callable[..., Any]
"""A metric that needs no label: takes an example of the inputs and a prediction, gives a number."""

_LONGEST = 20_000  # characters of a text that is kept
_FIELDS = TypeAdapter(dict[str, Any], config=ConfigDict(ser_json_inf_nan="constants"))
_NOTHING = {"inputs": None, "outputs": None, "whole": False, "outputs_whole": False}


@dataclass(frozen=True, slots=True)
class Keeping:
    """What traces of a program keep.

    Attributes:
        name: Of the program.
        version: Of it.
        declared: The score that its artifact promises.
        content: Whether inputs, outputs and messages of errors are kept.
        redact: What is taken out of them.
        signals: What is scored without a label.
        lose: Is told what could not be kept, and why.
    """

    name: str
    version: str
    declared: float | None
    content: bool
    redact: Sequence[Redaction]
    signals: Mapping[str, Signal]
    lose: Callable[[str, BaseException], None]

    def trace(self, call: Call) -> Trace:
        """Makes a trace. What a hook fails on is not kept; a signal that fails is left out."""
        outputs = _outputs(call.output)
        content: dict[str, Any] = dict(_NOTHING)
        error = None if call.error is None else type(call.error).__qualname__
        if self.content:
            try:
                inputs = _by_ids(call.inputs)
                told, all_told = _told(inputs)
                content["inputs"], whole = self._kept(told)
                whole = whole and all_told and inputs is call.inputs
                if outputs is not None:
                    content["outputs"], content["outputs_whole"] = self._kept(_told(_by_ids(outputs))[0])
                content["whole"] = whole and (outputs is None or content["outputs_whole"])
                if call.error is not None:
                    error = f"{error}: {self._kept({'error': str(call.error)})[0]['error']}"
            except Exception as failure:
                content = dict(_NOTHING)
                self.lose("content", failure)
        steps = list(call.steps)
        return Trace(
            id=call.id,
            name=self.name,
            version=self.version,
            created=call.began / 1e9,
            seconds=call.seconds,
            error=error,
            calls=sum(step.kind == "chat" for step in steps),
            input_tokens=sum(step.input_tokens for step in steps),
            output_tokens=sum(step.output_tokens for step in steps),
            unreadable=call.unreadable,
            retries=call.notes["retries"],
            fallbacks=call.notes["fallbacks"],
            abstained=bool(call.notes["abstentions"]) or (outputs is not None and _declines(outputs)),
            confidence=call.confidence,
            signals=self._signals(call),
            declared=self.declared,
            **content,
        )

    def _kept(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Gives what may be kept of JSON values, and whether that is all of them."""
        plain = json.loads(json.dumps(values))
        kept: dict[str, Any] = _shortened(redacted(plain, self.redact))
        return kept, kept == plain

    def _signals(self, call: Call) -> dict[str, float]:
        found = dict[str, float]()
        example = dspy.Example(dict(call.inputs)).with_inputs(*call.inputs)
        for name, signal in self.signals.items():
            if call.error is not None and not getattr(signal, "inputs_only", False):
                continue
            try:
                value = float(signal(example, call.output))
            except Exception as failure:
                self.lose(f"signal {name!r}", failure)
                continue
            if math.isfinite(value):
                found[name] = value
        return found


def _outputs(output: Any) -> dict[str, Any] | None:
    if not isinstance(output, dspy.Prediction):
        return None if output is None else {"value": repr(_by_ids(output))}
    return {name: value for name, value in output.items() if name != "choice_logprobs"}


def _by_ids(value: Any) -> Any:
    """Puts ids in place of passages, wherever they stand: their text stays where rights are asked for."""
    if isinstance(value, Passage):
        return value.id
    named: Any
    if isinstance(value, Mapping | dspy.Example):
        named = {_by_ids(key): _by_ids(each) for key, each in value.items()}
        same = all(map(operator.is_, (*named, *named.values()), (*value.keys(), *value.values())))
    elif isinstance(value, list | tuple | set | frozenset):
        named = [_by_ids(each) for each in value]
        same = not isinstance(value, Passages) and all(map(operator.is_, named, value))
    else:
        return value
    return value if same else named  # what holds none is kept as its own type is


def _declines(outputs: Mapping[str, Any]) -> bool:
    return any(value is None or (isinstance(value, str) and abstains(value)) for value in outputs.values())


def _told(values: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Gives JSON values, and whether they tell all: of an object that JSON does not know there is its text alone."""
    objects = list[Any]()

    def text(value: Any) -> Any:
        if getattr(value, "ndim", None) == 0:
            return value.item()  # a number of NumPy's
        objects.append(value)
        return str(value)

    return _FIELDS.dump_python(in_order(values), mode="json", fallback=text), not objects


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else value[:_LONGEST] + "…"
    if isinstance(value, dict):
        return {name: _shortened(each) for name, each in value.items()}
    return [_shortened(each) for each in value] if isinstance(value, list) else value
