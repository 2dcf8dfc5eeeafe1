"""What a program gave, out of the JSON that a store keeps."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import dspy
from dspy.adapters.utils import parse_value

__all__ = ["prediction_of"]


def prediction_of(output: Mapping[str, Any], program: dspy.Module) -> dspy.Prediction:
    """Gives a stored output as the program gave it: each field of the type that the last predictor with it declares.

    A field that no predictor has, or whose value is not of its type, is given as it is stored.

    >>> prediction_of({"count": 3, "note": "x"}, dspy.Predict("text -> count: float")).count
    3.0
    """
    declared = {
        name: info.annotation
        for predictor in program.predictors()
        for name, info in predictor.signature.output_fields.items()
    }
    typed = dict(output)
    for name in typed.keys() & declared.keys():
        with suppress(Exception):  # whatever the type's own validation raises
            typed[name] = parse_value(typed[name], declared[name])
    return dspy.Prediction(**typed)
