"""Values as texts and JSON that are the same in every process."""

from __future__ import annotations

import enum
import re
from typing import Any

from dspy.adapters.utils import serialize_for_json

__all__ = ["stable_json", "stable_repr"]

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def stable_repr(value: Any) -> str:
    """As ``repr``, without what differs between processes: the order of sets, and addresses."""
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(stable_repr, value)))}}}"
    if type(value) is dict:
        return f"{{{', '.join(f'{stable_repr(key)}: {stable_repr(each)}' for key, each in value.items())}}}"
    if type(value) in (list, tuple):
        text = ", ".join(map(stable_repr, value))
        return f"[{text}]" if type(value) is list else f"({text},)" if len(value) == 1 else f"({text})"
    return _ADDRESS.sub("", repr(value))


def stable_json(value: Any) -> Any:
    """As DSPy tells values in prompts, without what differs between processes."""
    if isinstance(value, set | frozenset):
        return [stable_json(each) for each in sorted(value, key=stable_repr)]
    if type(value) is dict:
        return {key: stable_json(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return [stable_json(each) for each in value]
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, enum.Enum)):
        return value
    told = serialize_for_json(value)
    return _ADDRESS.sub("", told) if isinstance(told, str) else told
