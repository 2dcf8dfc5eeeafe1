"""What an LM's tokens cost, by the prices that DSPy knows."""

from __future__ import annotations

from typing import Any

import dspy
from dspy.lm15 import Message, Response, Usage

from .journal import JournaledLM
from .local import LocalEngine

__all__ = ["price"]


def price(lm: dspy.BaseLM, input_tokens: float, output_tokens: float) -> float | None:
    """Gives US dollars, as DSPy reckons them when a call is paid; 0 for the embedded LM, None where no price is known.

    The prices are a list that DSPy brings along and, where there is a network, refreshes once.

    Args:
        lm: The LM.
        input_tokens: Of the prompts.
        output_tokens: Of the answers.
    """
    lm = lm.lm if isinstance(lm, JournaledLM) else lm
    engine = getattr(lm, "_engine_spec", None)
    if isinstance(engine, LocalEngine):
        return 0.0
    if not isinstance(lm, dspy.LM) or (engine is not None and not isinstance(engine, str)):
        return None
    from dspy.clients.capabilities import resolve
    from dspy.clients.costs import estimate_cost

    def cost(tokens_in: int, tokens_out: int) -> float | None:
        usage = Usage(input_tokens=tokens_in, output_tokens=tokens_out)
        answer = Response(None, route.model, Message.assistant("…"), "stop", usage)
        estimated: tuple[float | None, Any] = estimate_cost(
            answer, provider=route.provider, requested_model=route.model
        )
        return estimated[0]

    try:
        route = resolve(lm)
    except Exception:  # a name that DSPy cannot place has no price either
        return None
    # By a thousand tokens: a whole search's in one call would be of another tier.
    one, other = cost(1000, 0), cost(0, 1000)
    return None if one is None or other is None else (one * input_tokens + other * output_tokens) / 1000
