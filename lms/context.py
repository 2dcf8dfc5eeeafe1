"""How much an LM reads: its context and its tokens, as far as they are known here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dspy

__all__ = ["Context", "context_of", "estimated_tokens"]

UNKNOWN_LENGTH = 8192
"""What an LM is taken to hold that does not say: less than any that is sold today."""
_BYTES_PER_TOKEN = 3


@dataclass(frozen=True, slots=True)
class Context:
    """What fits into one call of an LM.

    Attributes:
        length: Prompt and answer together, in tokens.
        count: Gives the tokens of a text.
        exact: Whether both are the LM's own; else the length is guessed, and tokens are estimated on the high side.
    """

    length: int
    count: Callable[[str], int]
    exact: bool


def estimated_tokens(text: str) -> int:
    """Estimates the tokens of a text on the high side: one for three bytes of UTF-8.

    English takes about four bytes a token, and Chinese, at three bytes a character, a token a character or less.

    >>> estimated_tokens("The quick brown fox."), estimated_tokens("")
    (7, 0)
    """
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / _BYTES_PER_TOKEN)


def context_of(lm: dspy.BaseLM | None) -> Context:
    """Tells what fits into one call of an LM: the embedded one counts by its own tokenizer, others are estimated.

    Args:
        lm: The LM, also behind a journal; None for one that is not known yet.

    >>> context_of(None).exact
    False
    """
    held: Any = lm
    while isinstance(inner := getattr(held, "lm", None), dspy.BaseLM):  # a journal's own LM
        held = inner
    if isinstance(held, dspy.LM) and held.model.startswith("local/"):
        from .local import LocalEngine

        if isinstance(engine := held.engine, LocalEngine):
            embedded = engine.engine
            return Context(embedded.context_length, lambda text: len(embedded.encode(text)) if text else 0, True)
    return Context(UNKNOWN_LENGTH, estimated_tokens, False)
