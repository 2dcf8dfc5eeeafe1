"""``ps.lm``: an LM by its name."""

from __future__ import annotations

from typing import Any

import dspy

__all__ = ["lm"]


def lm(name: str, *, base_url: str | None = None, **settings: Any) -> dspy.BaseLM:
    """Makes an LM by its name.

    Args:
        name: ``local`` is the embedded LM, ``local:/path`` a GGUF file or an OpenVINO folder in this process; anything
            else is a model as ``dspy.LM`` names it: ``openai/gpt-4o-mini``.
        base_url: Of an OpenAI-compatible endpoint: ``lm("openai/qwen3", base_url="http://127.0.0.1:8000/v1")``.
        settings: temperature, max_tokens, …; for ``local`` also ``precision``, and ``adapter``: the path
            of trained weights.

    Raises:
        ModelNotFound: The embedded model is not on this machine; the message holds the command that mends it.
        LMError: The adapter is missing, altered, or of another model.

    >>> lm("local", max_tokens=4)("Say yes.")  # doctest: +ELLIPSIS
    [...]
    """
    if name == "local" or name.startswith("local:"):
        from .local import local_lm
        from .models import DEFAULT_MODEL

        if base_url is not None:
            raise ValueError("ps.lm('local') answers in this process and takes no base_url")
        return local_lm(name.partition(":")[2] or DEFAULT_MODEL, **settings)
    if base_url is not None:
        settings["api_base"] = base_url
    if name.startswith("openai/") and "provider" not in settings:
        from .training.endpoint import GivenKey
        from .training.provider import remote_provider

        # DSPy's own would train at OpenAI, wherever the base_url is, and ask nobody before it sends the examples.
        key = settings.get("api_key")
        settings["provider"] = remote_provider(base_url=base_url, api_key=None if key is None else GivenKey(key))
    # DSPy's own cache would hide from the meter what was bought; progspace's store remembers instead.
    settings.setdefault("cache", False)
    return dspy.LM(name, **settings)
