"""How it is searched: the ladder, its races, and what proposes candidates.

>>> from progspace import optimizers
>>> optimizers.Space(votes=[1]).votes
(1,)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .objectives import Objectives
    from .proposers.base import Proposer, SearchState
    from .proposers.from_dspy import FromDSPy
    from .pruner import PairedPruner
    from .races.base import Purchase, Race
    from .space import Space

_HOMES = {
    "FromDSPy": "proposers.from_dspy",
    "Objectives": "objectives",
    "PairedPruner": "pruner",
    "Proposer": "proposers.base",
    "Purchase": "races.base",
    "Race": "races.base",
    "SearchState": "proposers.base",
    "Space": "space",
}

__all__ = ["FromDSPy", "Objectives", "PairedPruner", "Proposer", "Purchase", "Race", "SearchState", "Space"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
