"""Which LM it is, without its secrets."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import dspy

__all__ = ["class_told", "lm_identity", "without_login", "without_secrets"]

# By whole words: an ``eos_token``, a ``prompt_cache_key`` or a ``system_header`` says how an LM answers.
_SECRET = re.compile(
    r"^aws_|secret|passw|credential|authorization|bearer|headers$|(?:^|[_-])auth[_-]?header"
    r"|(?:^|(?<!cache)[_-])key$|(?:api|access|private|account|subscription)[_-]?key"
    r"|^token$|(?:^|[_-])(?:access|ad|api|auth|hf|id|jwt|oauth|refresh|security|session)[_-]?token(?!s|i[sz])",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"(?<=://)[^/?#\s]*@")
_OF_A_QUERY = re.compile(r"(?<=[?&])([^=&#\s]+)=[^&#\s]*")


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
        # Under another name than its like in JSON, which a file may choose: no file makes a class.
        f"{key}_class" if isinstance(value, type) else key: _told(value)
        for key, value in sorted(without_secrets(lm.kwargs).items())
        if isinstance(value, str | int | float | list | tuple | dict | set | frozenset | type)
    }
    identity: dict[str, Any] = {"model": lm.model, "settings": settings}
    if lm.model_type != "chat":
        identity["model_type"] = lm.model_type
    engine = getattr(lm, "_engine_spec", lm)
    if not isinstance(engine, str):  # the app's own code answers: its class is part of what the LM is
        if tell := getattr(engine, "identity", None):
            own = tell()
        elif engine is not lm and (dump := getattr(engine, "dump_state", None)):
            own = without_secrets(dump())
        else:
            own = _texts(engine)
        identity["engine"] = {"class": type(engine).__qualname__, **_told(own)}
    return identity


def class_told(kind: type) -> list[Any]:
    """Tells a class by its name, and its schema where it is pydantic's; as JSON."""
    schema = getattr(kind, "model_json_schema", None)
    return [kind.__qualname__, schema() if schema else None]


def without_login(address: str) -> str:
    """Gives an address as it may be shown: without who asks there, and what proves it.

    >>> without_login("https://me:secret@host/v1?key=secret&version=2")
    'https://host/v1?key=***&version=2'
    """
    if "://" not in address:
        return address
    return _OF_A_QUERY.sub(
        lambda part: f"{part[1]}=***" if _SECRET.search(part[1]) else part[0], _LOGIN.sub("", address)
    )


def _told(value: Any) -> Any:
    """Gives a setting as JSON, the same in every process; what it is not told of stays as it is."""
    if isinstance(value, str):
        return without_login(value)
    if isinstance(value, dict):
        return {key: _told(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_told(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(map(_told, value), key=repr)
    return class_told(value) if isinstance(value, type) else value


def _texts(engine: Any) -> dict[str, str]:
    known = {"model", "model_type"}  # of every ``dspy.BaseLM``
    told = {
        name: str(value)
        for name, value in sorted(getattr(engine, "__dict__", {}).items())
        if isinstance(value, str | PurePath) and name not in known and not _SECRET.search(name)
    }
    return {"texts": hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]} if told else {}


def without_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Gives an LM's settings without its keys, and what else proves who asks, however deep that stands.

    >>> without_secrets({"max_tokens": 9, "client_secret": "…", "extra_body": {"api_key": "…", "top_k": 1}})
    {'max_tokens': 9, 'extra_body': {'top_k': 1}}
    """
    return {
        key: _without_secrets(value)
        for key, value in settings.items()
        if not _SECRET.search(key) or isinstance(value, int | float)
    }


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_secrets(each)
            for key, each in value.items()
            # A schema may have a field of such a name: what is told of it is a dict.
            if not _SECRET.search(str(key)) or isinstance(each, int | float | dict)
        }
    return [_without_secrets(each) for each in value] if isinstance(value, list) else value
