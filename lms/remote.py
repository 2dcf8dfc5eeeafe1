"""An LM at an OpenAI-compatible endpoint as DSPy knows an LM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dspy

from .connection import Connection
from .keys import Keys
from .prices import Price
from .remote_engine import AsyncRemoteEngine, RemoteEngine, candidates

__all__ = ["RemoteLM", "remote_lm"]


class RemoteLM(dspy.LM):
    """A ``dspy.LM`` whose ``n`` answers are bought in one request."""

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """Answers, as any ``dspy.LM``."""
        with candidates(self._n(kwargs)):
            return super().__call__(prompt, messages=messages, **kwargs)

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """As a call, for tasks."""
        with candidates(self._n(kwargs)):
            return await super().acall(prompt, messages=messages, **kwargs)

    def _n(self, kwargs: Mapping[str, Any]) -> int:
        n = kwargs.get("n", self.kwargs.get("n"))
        return n if isinstance(n, int) else 1  # DSPy says what is wrong with another


def remote_lm(
    model: str,
    *,
    base_url: str | None = None,
    api_key: str | Callable[[], str] | None = None,
    api_version: str | None = None,
    timeout: float = 120.0,
    concurrency: int = 256,
    num_retries: int = 6,
    patience: float = 900.0,
    hedge: float | None = None,
    extra_body: Mapping[str, Any] | None = None,
    price: Price | None = None,
    **settings: Any,
) -> RemoteLM:
    """Makes an LM that answers at an OpenAI-compatible endpoint, by its chat completions.

    Args:
        model: ``openai/`` and the model as the endpoint names it.
        base_url: Of the endpoint; None for ``OPENAI_BASE_URL``, or OpenAI itself.
        api_key: The key, or a function that gives it, and is asked again when the last one has expired; None for the
            environment's ``OPENAI_API_KEY``. For an endpoint that wants none any text will do.
        api_version: Of Azure's API by deployments; the model is then the deployment, ``base_url`` the resource.
        timeout: Of one request, in seconds.
        concurrency: Never more requests under way than this.
        num_retries: How often a request that failed is sent again; after a 429 it is, while ``patience`` lasts.
        patience: How long, in seconds, one request that is refused is asked again before it is given up.
        hedge: Times the usual seconds after which a second, identical request is sent; None for never.
        extra_body: Parameters of each request that only this endpoint knows.
        price: What its tokens cost; None for the list that DSPy brings along.
        settings: Of ``dspy.LM``: temperature, max_tokens, …

    Raises:
        ValueError: A setting is out of its range, the address holds a password, or another API than chat completions
            is asked for.

    >>> remote_lm("openai/qwen3", base_url="http://127.0.0.1:8000/v1", api_key="none", price=Price(0.1, 0.4)).model
    'openai/qwen3'
    """
    if (kind := settings.get("model_type", "chat")) != "chat":
        raise ValueError(
            f"model_type={kind!r}: ps.lm('openai/…') asks for chat completions; dspy.LM(…, model_type={kind!r}) serves "
            "progspace too"
        )
    connection = Connection(base_url, Keys(api_key), api_version=api_version, timeout=timeout)
    engine = RemoteEngine(
        connection, concurrency=concurrency, num_retries=num_retries, patience=patience, hedge=hedge,
        extra_body=extra_body, price=price,
    )  # fmt: skip
    if "provider" not in settings:
        from .training.provider import remote_provider

        # DSPy's own would train at OpenAI, wherever the base_url is, and ask nobody before it sends the examples.
        settings["provider"] = remote_provider(base_url=base_url, api_key=connection.keys)
    # DSPy's own cache would hide from the meter what was bought; progspace's store remembers instead.
    settings.setdefault("cache", False)
    return RemoteLM(model, engine=engine, async_engine=AsyncRemoteEngine(engine), num_retries=0, **settings)
