"""By what a program is known: its structure, its state, and the code and values that it depends on."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import sys
from typing import Any, get_args

import dspy
from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticUndefined

from ..retrievers.retriever import Retriever
from .retrieval import ChosenRetriever, retrievers_of
from .source import source_text
from .stable import stable_json, stable_repr
from .state import DSPYS_OWN, digest, of_dspy_or_ours, whole_text
from .structure import module_data, signature_data, type_path
from .types import NotEncodable

__all__ = ["structure_hash"]


def structure_hash(module: dspy.Module) -> str:
    """Gives 16 hexadecimal digits that change with a module's structure, state or source, in every process the same.

    >>> structure_hash(dspy.Predict("text -> label")) == structure_hash(dspy.Predict("text -> label"))
    True
    """
    named = list(module.named_predictors())
    # A sub-module that was compiled before is frozen: its predictors are not named, and answer all the same.
    known = {id(predictor) for _, predictor in named}
    frozen = [(name, each) for name, each in module.named_sub_modules(dspy.Predict) if id(each) not in known]
    predictors = [
        [
            name,
            _told(predictor.signature),
            [stable_json(dict(demonstration)) for demonstration in predictor.demos],
            {key: stable_repr(value) for key, value in sorted(predictor.config.items())},
        ]
        for name, predictor in [*named, *sorted(frozen, key=lambda pair: pair[0])]
    ]
    content: list[Any] = [
        module_data(module).model_dump(mode="json"),
        _sources(module),
        _attributes(module),
        predictors,
    ]
    if knowledge := {path: retriever.identity for path, retriever in retrievers_of(module).items()}:
        content.append(knowledge)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _told(signature: Any) -> Any:
    try:
        return signature_data(signature).model_dump(mode="json")
    except (NotEncodable, ValidationError):
        return [signature.instructions, [[name, *_told_by_source(info)] for name, info in signature.fields.items()]]


def _told_by_source(info: Any) -> list[Any]:
    """What tells a field that is no data from others: its text, and the source of the author's classes in its type."""
    default = "" if info.default is PydanticUndefined else stable_repr(info.default)
    texts = map(stable_repr, [info.annotation, info.json_schema_extra, info.metadata])
    return [*texts, default, sorted(map(_source, _classes(info.annotation, set())))]


def _classes(annotation: Any, seen: set[type]) -> set[type]:
    if isinstance(annotation, type) and annotation not in seen and not _of_a_library(annotation):
        seen.add(annotation)
        for info in getattr(annotation, "model_fields", {}).values():
            _classes(info.annotation, seen)
    for argument in get_args(annotation):
        _classes(argument, seen)
    return seen


def _of_a_library(owner: type) -> bool:
    root = owner.__module__.partition(".")[0]
    # Python names the module of a model made by a call ``abc``.
    built_in = root in sys.stdlib_module_names and not issubclass(owner, BaseModel)
    return built_in or root in ("dspy", "progspace", "pydantic")


def _attributes(module: dspy.Module) -> list[Any]:
    """Tells what modules hold beside predictors: ``Retrieve(k=3)`` is not ``Retrieve(k=4)``."""
    held = []
    for name, each in sorted(module.named_sub_modules(), key=lambda pair: pair[0]):
        own, home = not of_dspy_or_ours(type(each)), type(each).__module__
        told = {}
        for key, value in sorted(vars(each).items()):
            if key in DSPYS_OWN or _told_elsewhere(value):
                continue
            if own:
                told[key] = digest(whole_text(value, _told_elsewhere, home=home))
            elif functions := _functions(value):
                told[key] = digest("".join(functions))
            elif not isinstance(each, dspy.Predict) and isinstance(value, str | int | float | tuple | list):
                told[key] = stable_repr(value)
        if told or own:
            held.append([name, told])
    return held


def _told_elsewhere(value: Any) -> str | None:
    """Names the type of what is told by itself: predictors and other modules, retrievers."""
    parts = dspy.Module | Retriever | ChosenRetriever
    return type_path(type(value)) if isinstance(value, parts) else None


def _functions(value: Any) -> list[str]:
    """Tells the user's functions that an attribute is, or holds: a ``Refine``'s reward, a ``ReAct``'s tools."""
    if isinstance(value, dict | list | tuple):
        each = value.values() if isinstance(value, dict) else value
        return [told for inner in each if not isinstance(inner, dict | list | tuple) for told in _functions(inner)]
    function = value.func if isinstance(value, dspy.Tool) else value
    if not callable(function) or isinstance(function, type | dspy.BaseLM) or _told_elsewhere(function):
        return []
    if not of_dspy_or_ours(function):
        return [whole_text(function, _told_elsewhere)]
    wrapped = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]  # BestOfN wraps its reward
    return [whole_text(each, _told_elsewhere) for each in wrapped if inspect.isfunction(each)]


def _sources(module: dspy.Module) -> list[str]:
    """Hashes of the user's classes in a module; DSPy's own are told by its version elsewhere."""
    owners = [type(each) for _, each in sorted(module.named_sub_modules(), key=lambda pair: pair[0])]
    return [digest(whole_text(owner, _told_elsewhere)) for owner in owners if not of_dspy_or_ours(owner)]


def _source(owner: type) -> str:
    text = source_text(owner) or ""
    if issubclass(owner, BaseModel):  # made by a call, it has no source
        with contextlib.suppress(PydanticUserError):
            text += json.dumps(owner.model_json_schema(), sort_keys=True, default=repr)
    return f"{type_path(owner)}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"
