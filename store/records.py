"""The records of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Answer", "AskedCall", "Cell", "asked_call"]

AskedCall: TypeAlias = tuple[str, int, int] | tuple[str, int, int, float]
"""An LM call: its answer's key, tokens in and out and, where money was limited, its price in US dollars."""


def asked_call(key: Any, input_tokens: Any, output_tokens: Any, usd: Any = None) -> AskedCall:
    """Makes the record of a call.

    >>> asked_call("key", 60, 2), asked_call("key", 60, 2, 0.5)
    (('key', 60, 2), ('key', 60, 2, 0.5))
    """
    told = str(key), int(input_tokens), int(output_tokens)
    return told if usd is None else (*told, float(usd))


@dataclass(frozen=True, slots=True)
class Cell:
    """What one program did on one example.

    Attributes:
        program: Identity of the program with its LM, a hash.
        example: Identity of the example, a hash.
        metric: Identity of the metric.
        repeat: 0, 1, … for programs that answer differently each time.
        score: None where the LM did not answer: such a cell is counted apart, and bought again another time.
        feedback: What the metric said of the output.
        error: Why there is no output, or none that could be read; the score is then 0, or None where the LM failed.
        output: The program's output fields, as JSON values.
        calls: LM calls that the program made.
        asked: Each of these calls, and those of the metric after them.
        input_tokens: Of all its calls.
        output_tokens: Of all its calls.
        seconds: From the program's start to its end, as measured when the cell was bought.
    """

    program: str
    example: str
    metric: str
    repeat: int = 0
    score: float | None = None
    feedback: str | None = None
    error: str | None = None
    output: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 0
    asked: Sequence[AskedCall] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What an LM answered to one prompt with one set of parameters.

    Attributes:
        key: Hash of LM, parameters and prompt.
        value: The answer as JSON.
        input_tokens: Of the prompt.
        output_tokens: Of the answer.
        seconds: That it took.
    """

    key: str
    value: Any
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
