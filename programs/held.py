"""What modules keep of their constructors' arguments, for a file: it tells instances apart, and no app's texts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import dspy

from .stable import stable_repr
from .state import DSPYS_OWN, digest

__all__ = ["held_otherwise", "held_values"]

_SECRET = re.compile("key|token|secret|password|auth|credential", re.IGNORECASE)


def held_values(module: dspy.Module) -> dict[str, str]:
    """Tells what modules keep of their constructors' arguments; not what is a matter of the place, nor secrets."""
    told = {}
    for name, each in module.named_sub_modules():
        if isinstance(each, dspy.Predict):
            continue
        for key in sorted(_arguments(type(each)) - DSPYS_OWN):
            value = vars(each).get(key, vars(each).get(f"_{key}", ...))
            if not _is_plain(value):
                continue
            path = f"{name}.{key}".removeprefix("self.")
            if isinstance(value, int | float | None):
                told[path] = repr(value)
            elif not _SECRET.search(key):
                told[path] = f"#{digest(stable_repr(value))}"  # a file need not tell an app's texts
    return told


def _arguments(owner: type) -> set[str]:
    makers = (vars(each).get("__init__") for each in owner.__mro__)
    return {name for maker in makers if inspect.isfunction(maker) for name in inspect.signature(maker).parameters}


def _is_plain(value: Any) -> bool:
    if type(value) is dict:
        return all(map(_is_plain, (*value, *value.values())))
    if type(value) in (list, tuple, set, frozenset):
        return all(map(_is_plain, value))
    if type(value) is str:  # an address or a path is another on another machine
        return not {"/", "\\"} & set(value)
    return type(value) in (type(None), bool, int, float)


def held_otherwise(told: Mapping[str, str], module: dspy.Module) -> list[str]:
    """Tells what a module holds otherwise than was told; what only one of them has came with a change of its class."""
    given = held_values(module)
    differ = {name: text for name, text in told.items() if given.get(name, text) != text}
    return [f"{name}={'…' if text.startswith('#') else text}" for name, text in differ.items()]
