"""progspace searches program space for the LLM program that empirically performs best on a task.

>>> import progspace as ps
>>> ps.Budget(calls=2000).calls
2000
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import optimizers, retrievers, teleprompters
    from .artifacts.load import load
    from .artifacts.registry import Registry
    from .compiler import compile  # noqa: A004 — the public name
    from .errors import (
        ArtifactError,
        BudgetExceeded,
        CallTimeout,
        DataError,
        FineTuningError,
        LMError,
        MetricError,
        ModelNotFound,
        ProgramError,
        ProgspaceError,
        RetrievalError,
        StoreError,
    )
    from .evaluation.edge_cases import edge_cases
    from .evaluation.gate import gate
    from .evaluation.robustness import robustness
    from .evaluation.scoring import compare, evaluate
    from .lms.budget import Budget
    from .lms.factory import lm
    from .lms.prices import Price
    from .monitoring.inputs import Strangeness
    from .monitoring.quality import monitor
    from .monitoring.watching import feedback, watch
    from .optimizers.finetuning_space import FineTuning
    from .optimizers.objectives import Objectives
    from .optimizers.space import Space
    from .programs import metrics
    from .programs.task import Task
    from .recompiling import recompile
    from .serving.guard import guarded
    from .transferring import transfer

# Looked up at first use: an app that loads a program imports no search.
_HOMES = {
    "ArtifactError": "errors",
    "Budget": "lms.budget",
    "BudgetExceeded": "errors",
    "CallTimeout": "errors",
    "DataError": "errors",
    "FineTuning": "optimizers.finetuning_space",
    "FineTuningError": "errors",
    "LMError": "errors",
    "MetricError": "errors",
    "ModelNotFound": "errors",
    "Objectives": "optimizers.objectives",
    "Price": "lms.prices",
    "ProgramError": "errors",
    "ProgspaceError": "errors",
    "Registry": "artifacts.registry",
    "RetrievalError": "errors",
    "Space": "optimizers.space",
    "StoreError": "errors",
    "Strangeness": "monitoring.inputs",
    "Task": "programs.task",
    "compare": "evaluation.scoring",
    "compile": "compiler",
    "edge_cases": "evaluation.edge_cases",
    "evaluate": "evaluation.scoring",
    "feedback": "monitoring.watching",
    "gate": "evaluation.gate",
    "guarded": "serving.guard",
    "lm": "lms.factory",
    "load": "artifacts.load",
    "metrics": "programs.metrics",
    "monitor": "monitoring.quality",
    "optimizers": "optimizers",
    "recompile": "recompiling",
    "retrievers": "retrievers",
    "robustness": "evaluation.robustness",
    "teleprompters": "teleprompters",
    "transfer": "transferring",
    "watch": "monitoring.watching",
}
_MODULES = ("metrics", "optimizers", "retrievers", "teleprompters")

__all__ = [
    "ArtifactError",
    "Budget",
    "BudgetExceeded",
    "CallTimeout",
    "DataError",
    "FineTuning",
    "FineTuningError",
    "LMError",
    "MetricError",
    "ModelNotFound",
    "Objectives",
    "Price",
    "ProgramError",
    "ProgspaceError",
    "Registry",
    "RetrievalError",
    "Space",
    "StoreError",
    "Strangeness",
    "Task",
    "compare",
    "compile",
    "edge_cases",
    "evaluate",
    "feedback",
    "gate",
    "guarded",
    "lm",
    "load",
    "metrics",
    "monitor",
    "optimizers",
    "recompile",
    "retrievers",
    "robustness",
    "teleprompters",
    "transfer",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f".{_HOMES[name]}", __name__)
    value = home if name in _MODULES else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
