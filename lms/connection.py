"""An OpenAI-compatible endpoint by its address and key, through the ``openai`` client."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .keys import Keys

if TYPE_CHECKING:  # half a second at the first import, which who only asks the embedded LM does not pay
    import openai

__all__ = ["Connection", "told_params"]

_LOOK = 5.0  # seconds


class Connection:
    """Where an endpoint is, and how it is reached.

    Args:
        base_url: Such as ``http://127.0.0.1:8000/v1``; None for ``OPENAI_BASE_URL``, or OpenAI itself.
        api_key: The key, or what gives it: see `progspace.lms.keys.Keys`.
        api_version: Of Azure's API by deployments, such as ``2024-10-21``; ``base_url`` is then the resource's.
        timeout: Of one request, in seconds.

    Raises:
        ValueError: The address holds a password.

    >>> Connection("http://127.0.0.1:8000/v1", "a secret")
    Connection('http://127.0.0.1:8000/v1')
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | Callable[[], str] | Keys | None = None,
        *,
        api_version: str | None = None,
        timeout: float = 120.0,
    ) -> None:
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        if urlsplit(self.base_url).scheme not in ("http", "https"):
            raise ValueError(f"base_url={self.base_url!r}: it begins with http:// or https://")
        if urlsplit(self.base_url).username is not None:
            raise ValueError("the base_url holds a user's name or password: give the key by api_key instead")
        self.keys = api_key if isinstance(api_key, Keys) else Keys(api_key)
        self.api_version, self.timeout = api_version, timeout

    def __repr__(self) -> str:
        return f"Connection({self.base_url!r})"

    # Ours are the retries: the client's own would buy twice, and tell nobody that they wait.
    def client(self) -> openai.OpenAI:
        """Makes a client."""
        import openai

        give = self.keys.current
        if self.api_version is None:
            return openai.OpenAI(api_key=give, base_url=self.base_url, timeout=self.timeout, max_retries=0)
        return openai.AzureOpenAI(
            api_key=give, azure_endpoint=self.base_url, api_version=self.api_version, timeout=self.timeout,
            max_retries=0,
        )  # fmt: skip

    def async_client(self) -> openai.AsyncOpenAI:
        """Makes a client for tasks of one event loop."""
        import openai

        async def give() -> str:
            return self.keys.current()

        if self.api_version is None:
            return openai.AsyncOpenAI(api_key=give, base_url=self.base_url, timeout=self.timeout, max_retries=0)
        return openai.AsyncAzureOpenAI(
            api_key=give, azure_endpoint=self.base_url, api_version=self.api_version, timeout=self.timeout,
            max_retries=0,
        )  # fmt: skip


def told_params(connection: Connection) -> frozenset[str]:
    """Asks an endpoint once which parameters its models take besides OpenAI's; most tell none, and a few do not answer.

    `progspace lm serve` tells them in its list of models, under ``progspace``.
    """
    import openai

    try:
        models = connection.client().with_options(timeout=_LOOK).models.list().data
        told = [(model.model_extra or {}).get("progspace", {}).get("parameters", []) for model in models]
        return frozenset(str(name) for names in told for name in names)
    except (openai.OpenAIError, AttributeError, TypeError, ValueError):
        return frozenset()
