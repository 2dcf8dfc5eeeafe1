"""Which LM it is, without its secrets."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import dspy

__all__ = ["lm_identity", "without_secrets"]

_SECRET = ("api_key", "headers", "extra_headers", "azure_ad_token", "azure_ad_token_provider", "aws_")
_SECRET_NAME = re.compile("key|token|secret|password|header", re.IGNORECASE)


def lm_identity(lm: dspy.BaseLM) -> dict[str, Any]:
    """Says which LM this is, with its settings and without its secrets; as JSON.

    An engine, or a ``dspy.BaseLM``, of the app's own is known by its class and what its ``identity()`` gives, or else
    by the texts that it holds (where its weights are, say), as a hash.

    >>> lm_identity(dspy.LM("openai/gpt-4o-mini", temperature=0.0, api_key="sk-…"))
    {'model': 'openai/gpt-4o-mini', 'settings': {'temperature': 0.0}}
    """
    if isinstance(journaled := getattr(lm, "journaled", None), dspy.BaseLM):
        return lm_identity(journaled)
    settings = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in sorted(without_secrets(lm.kwargs).items())
        if isinstance(value, str | int | float | list | tuple | dict)
    }
    identity: dict[str, Any] = {"model": lm.model, "settings": settings}
    engine = getattr(lm, "_engine_spec", lm)
    if not isinstance(engine, str):  # the app's own code answers: its class is part of what the LM is
        tell = getattr(engine, "identity", None) or (engine is not lm and getattr(engine, "dump_state", None))
        identity["engine"] = {"class": type(engine).__qualname__, **(tell() if tell else _texts(engine))}
    return identity


def _texts(engine: Any) -> dict[str, str]:
    known = {"model", "model_type"}  # of every ``dspy.BaseLM``
    told = {
        name: str(value)
        for name, value in sorted(without_secrets(getattr(engine, "__dict__", {})).items())
        if isinstance(value, str | PurePath) and name not in known and not _SECRET_NAME.search(name)
    }
    return {"texts": hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]} if told else {}


def without_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Gives an LM's settings without its keys, and what else proves who asks."""
    return {key: value for key, value in settings.items() if not key.startswith(_SECRET)}
