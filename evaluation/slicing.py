"""What examples are sliced by: their length, their script, their class, a field."""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy
import numpy as np

from ..errors import DataError
from ..programs.fields import choices_of

__all__ = ["SliceBy", "class_fields", "input_text", "slice_values"]

SliceBy = str | Callable[[dspy.Example], Any]
"""A field, or what gives an example's value; None for none."""

_VALUES = 20


def input_text(example: dspy.Example) -> str:
    """The example's inputs as one text."""
    return "\n".join(str(value) for value in example.inputs().toDict().values())


def class_fields(program: dspy.Module) -> tuple[str, ...]:
    """Outputs that are a choice."""
    return tuple(
        dict.fromkeys(
            name
            for predictor in program.predictors()
            for name, info in predictor.signature.output_fields.items()
            if choices_of(info.annotation)
        )
    )


def slice_values(
    examples: Sequence[dspy.Example], program: dspy.Module, by: Mapping[str, SliceBy]
) -> dict[str, list[str | None]]:
    """Gives, by what examples are sliced, the value of each.

    Always by the length of the inputs and by the script that most of their letters are of; by labels that are a choice;
    and by what ``by`` names. Numbers of more than 20 values are cut at their quartiles.

    Raises:
        DataError: No example has a field, or a field holds more than 20 values that are no numbers.
    """
    texts = [input_text(example) for example in examples]
    values = {"length": _quartiles([float(len(text)) for text in texts]), "script": [_script(text) for text in texts]}
    wanted: dict[str, SliceBy] = {name: name for name in class_fields(program)}
    for name, how in {**wanted, **by}.items():
        told = [how(each) if callable(how) else each.get(how) for each in examples]
        if name in wanted and all(value is None for value in told):
            continue
        values[name] = _binned(name, told)
    return values


def _binned(name: str, told: Sequence[Any]) -> list[str | None]:
    there = [value for value in told if value is not None]
    if not there:
        raise DataError("no example has it, so there is nothing to slice by", field=name)
    if len({str(value) for value in there}) <= _VALUES:
        return [None if value is None else str(value) for value in told]
    if all(isinstance(value, int | float) for value in there):
        return _quartiles([None if value is None else float(value) for value in told])
    raise DataError(f"it holds more than {_VALUES} different values; give a function that groups them", field=name)


def _quartiles(told: Sequence[float | None]) -> list[str | None]:
    cuts = np.unique(np.quantile([value for value in told if value is not None], [0.25, 0.5, 0.75], method="lower"))
    edges = [None, *cuts.tolist(), None]
    names = [_between(low, high) for low, high in itertools.pairwise(edges)]
    return [None if value is None else names[int(np.searchsorted(cuts, value, side="left"))] for value in told]


def _between(low: float | None, high: float | None) -> str:
    if low is None:
        return f"up to {high:g}"
    return f"over {low:g}" if high is None else f"over {low:g}, up to {high:g}"


def _script(text: str) -> str | None:
    """The first word of most letters' names: LATIN, CYRILLIC, CJK."""
    scripts = Counter(unicodedata.name(letter, "UNKNOWN").split()[0] for letter in text if letter.isalpha())
    return max(scripts, key=lambda script: (scripts[script], script)).lower() if scripts else None
