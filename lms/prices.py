"""What an LM's tokens cost: by a price that was given, or by the list that DSPy brings along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.lm15 import Message, Response, Usage

__all__ = ["Price", "may_be_priced", "price", "price_of"]


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens.

    Attributes:
        input: Of prompts.
        output: Of answers.
        cached: Of what the endpoint had cached of prompts; None where that costs as much as any.

    >>> Price(0.15, 0.60, cached=0.075).of(1_000_000, 1_000_000, cached_tokens=500_000)
    0.7125
    """

    input: float
    output: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached"):
            if (value := getattr(self, name)) is not None and not 0 <= value < float("inf"):
                raise ValueError(f"Price({name}={value}): must be US dollars for a million tokens, 0 or more")

    def of(self, input_tokens: float, output_tokens: float, cached_tokens: float = 0) -> float:
        """Gives US dollars; ``cached_tokens`` are among those of the input."""
        cached = self.input if self.cached is None else self.cached
        fresh = input_tokens - cached_tokens
        return (self.input * fresh + cached * cached_tokens + self.output * output_tokens) / 1e6

    def of_call(self, usage: Mapping[str, Any]) -> float:
        """Gives what a call cost, by the usage that DSPy tells of it."""
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return self.of(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0, cached)


def price(lm: dspy.BaseLM, input_tokens: float, output_tokens: float) -> float | None:
    """Gives US dollars; 0 for the embedded LM, None where no price is known.

    The list of prices is of the date of DSPy's release (``dspy.clients.model_metadata``) and, where there is a network,
    refreshed once a process; ``ps.lm(…, price=ps.Price(…))`` goes before it.

    Args:
        lm: The LM.
        input_tokens: Of the prompts.
        output_tokens: Of the answers.
    """
    held = price_of(lm)
    return None if held is None else held.of(input_tokens, output_tokens)


def may_be_priced(lm: dspy.BaseLM) -> bool:
    """Tells whether calls may have a price: where none is listed, DSPy may tell one by the model that an answer names.

    Of an engine of the app's own, or of progspace's, it tells none.
    """
    lm = _own(lm)
    asked_by_dspy = not isinstance(lm, dspy.LM) or isinstance(lm._engine_spec, str | None)
    return asked_by_dspy or price_of(lm) is not None


def _own(lm: dspy.BaseLM) -> dspy.BaseLM:
    while isinstance(inner := getattr(lm, "lm", None), dspy.BaseLM):  # a journal's own LM
        lm = inner
    return lm


def price_of(lm: dspy.BaseLM) -> Price | None:
    """Gives the price of an LM's tokens; None where it is not known."""
    lm = _own(lm)
    engine = getattr(lm, "_engine_spec", None)
    given = getattr(engine, "price", None)
    # An engine that knows of prices and was given none goes by the list, as DSPy's own engines do.
    listed = engine is None or isinstance(engine, str) or hasattr(engine, "price")
    return _listed(lm) if given is None and listed and isinstance(lm, dspy.LM) else given


def _listed(lm: dspy.LM) -> Price | None:
    from dspy.clients.capabilities import resolve
    from dspy.clients.costs import estimate_cost

    try:
        route = resolve(lm)
    except Exception:  # a name that DSPy cannot place has no price either
        return None

    def cost(tokens_in: int, tokens_out: int, cached: int = 0) -> float | None:
        usage = Usage(input_tokens=tokens_in, output_tokens=tokens_out, cache_read_tokens=cached)
        answer = Response(None, route.model, Message.assistant("…"), "stop", usage)
        estimated: tuple[float | None, Any] = estimate_cost(
            answer, provider=route.provider, requested_model=route.model
        )
        return None if estimated[0] is None else 1000 * estimated[0]

    # By a thousand tokens: a whole search's in one call would be of another tier.
    one, other, cached = cost(1000, 0), cost(0, 1000), cost(1000, 0, 1000)
    return None if one is None or other is None else Price(one, other, cached)
