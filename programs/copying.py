"""Copies of modules that hold what cannot be copied: a lock, a connection, a client."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import dspy

from .code_text import SCALARS

__all__ = ["copied"]


def copied(module: dspy.Module) -> dspy.Module:
    """Copies a module as its ``deepcopy()`` does, and its predictors wherever they stand.

    Where something in it cannot be copied, DSPy's own shares each list and dict that this stands in, predictors and
    all, and makes two of what a module holds under two names. Here only the thing itself is shared, or copied
    shallowly where that is possible.

    >>> import threading
    >>> step = dspy.ChainOfThought("text -> label")
    >>> step.lock = threading.Lock()
    >>> team = dspy.Module()
    >>> team.steps = [step]
    >>> twin = copied(team)
    >>> twin.steps[0].predict is step.predict, twin.steps[0].lock is step.lock
    (False, True)
    """
    if type(module).deepcopy not in (dspy.Module.deepcopy, copied):
        own: dspy.Module = module.deepcopy()
        return own
    with contextlib.suppress(Exception):
        return copy.deepcopy(module)
    with contextlib.suppress(Exception):
        return _copied_but_for_leaves(module)
    # Of a class that is copied in a way of its own, which fails.
    shared: dspy.Module = dspy.Module.deepcopy(module)
    return shared


def _copied_but_for_leaves(module: dspy.Module) -> dspy.Module:
    inside: dict[int, Any] = {}
    leaves: dict[int, Any] = {}
    waiting: list[Any] = [module]
    while waiting:
        value = waiting.pop()
        if isinstance(value, SCALARS) or id(value) in inside or id(value) in leaves:
            continue
        if isinstance(value, dspy.Module):
            waiting.append(value.__getstate__())
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        else:
            leaves[id(value)] = value
            continue
        inside[id(value)] = value
    # What a leaf refers to of the module, as a tool that is a method of it does, is no reason to share the leaf.
    tried = dict(inside)
    shared = {}
    for key, leaf in leaves.items():
        try:
            copy.deepcopy(leaf, tried)
        except Exception:
            shared[key] = _shared(leaf)
        while len(tried) > len(inside):
            tried.popitem()
    return copy.deepcopy(module, shared)


def _shared(leaf: Any) -> Any:
    # The end of a copy would close what it shares.
    if not hasattr(leaf, "__del__"):
        with contextlib.suppress(Exception):
            return copy.copy(leaf)
    return leaf
