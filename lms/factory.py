"""``ps.lm``: an LM by its name."""

from __future__ import annotations

from typing import Any

import dspy

from ..errors import LMError

__all__ = ["check_lm", "lm"]


def lm(name: str, *, base_url: str | None = None, **settings: Any) -> dspy.BaseLM:
    """Makes an LM by its name.

    Args:
        name: ``local`` is the embedded LM, ``local:/path`` a GGUF file or an OpenVINO folder in this process,
            ``openai/…`` a model at an OpenAI-compatible endpoint; anything else is a model as ``dspy.LM`` names it.
        base_url: Of the endpoint: ``lm("openai/qwen3", base_url="http://127.0.0.1:8000/v1")``.
        settings: temperature, max_tokens, …; for ``local`` also ``precision``, and ``adapter``: the path of trained
            weights; for ``openai/…`` those of `progspace.lms.remote.remote_lm`.

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
    if name.startswith("openai/"):
        from .remote import remote_lm

        return remote_lm(name, base_url=base_url, **settings)
    if base_url is not None:
        settings["api_base"] = base_url
    # DSPy's own cache would hide from the meter what was bought; progspace's store remembers instead.
    settings.setdefault("cache", False)
    return dspy.LM(name, **settings)


def check_lm(given: object) -> None:
    """Refuses what is no LM: most often the name of one.

    Raises:
        LMError: It is none; the message tells what makes one.
    """
    if not isinstance(given, dspy.BaseLM):
        name = given if given and isinstance(given, str) else "openai/…"
        raise LMError(f"{given!r} is no LM: in Python, ps.lm({name!r}) makes one")
