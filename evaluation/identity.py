"""Which program a cell is of: the one place that decides when two programs are the same."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import dspy

from ..lms.identity import lm_identity
from ..programs.program import Program
from ..programs.state import of_dspy_or_ours, whole_text
from ..programs.structure_hash import manners_told, own_lms, structure_hash

__all__ = ["program_identity"]

_WRITING = 2
"""How progspace's own formats write prompts: another number where a release writes others. Cells are made anew then,
and cost calls only where a prompt is another one."""


_RUNNING_CODE = (dspy.ProgramOfThought, dspy.RLM, dspy.Flex)
"""Modules that run an LM's code in the interpreter of ``dspy.settings``."""


def program_identity(program: dspy.Module, lm: dspy.BaseLM) -> str:
    """Gives a hash, 24 hexadecimal digits, of a program's structure, state and manners, and of the LM that runs it.

    Two programs of the same identity answer alike, in whatever process; a change of an instruction, a demonstration, a
    format, an LM's setting or a module's source gives another one.
    """
    module, manners = program, manners_told(program)
    if isinstance(program, Program):
        module, lm = program.module, program.own_lm or lm
    adapter = program.adapter if isinstance(program, Program) else dspy.settings.adapter
    content = {
        "structure": structure_hash(module),
        "manners": manners,
        "writing": _WRITING if manners else None,
        "adapter": None if adapter is None else _adapter(adapter),
        "lm": lm_identity(lm),
        "own_lms": own_lms(module),
    }
    if dspy.settings.rm is not None and any(module.named_sub_modules(dspy.Retrieve)):
        content["rm"] = _told(dspy.settings.rm)
    factory = dspy.settings.interpreter_factory
    if factory not in (None, dspy.PythonInterpreter) and any(module.named_sub_modules(_RUNNING_CODE)):
        content["interpreter"] = _told(factory)
    if dspy.settings.allow_tool_async_sync_conversion and any(module.named_sub_modules(dspy.Tool)):
        content["async_tools"] = "called"
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()[:24]


def _adapter(adapter: dspy.Adapter) -> str:
    """DSPy's by its name, and what it does otherwise than by default; the app's own by what it is made of as well."""
    if not of_dspy_or_ours(adapter):
        return whole_text(adapter)
    _, _, unlike = whole_text(adapter).partition("@")
    return f"{type(adapter).__qualname__}@{unlike}" if unlike else type(adapter).__qualname__


def _told(rm: Any) -> str:
    if isinstance(rm, dspy.Module):
        return structure_hash(rm)
    return str(getattr(rm, "identity", None) or whole_text(rm))
