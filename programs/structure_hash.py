"""By what a program is known: its structure, its state, and the code and values that it depends on."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import sys
from collections.abc import Iterator
from typing import Any, get_args

import dspy
from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticUndefined

from ..lms.identity import lm_identity
from ..retrievers.retriever import Retriever
from .program import Manner, Program
from .retrieval import ChosenRetriever, declared_retriever, retrievers_of
from .source import source_text
from .stable import stable_json, stable_repr
from .state import DSPYS_OWN, beside_source, digest, of_dspy_or_ours, whole_text
from .structure import module_data, signature_data, type_path
from .types import NotEncodable

__all__ = ["all_predictors", "manners_told", "own_lms", "structure_hash"]


def structure_hash(module: dspy.Module) -> str:
    """Gives 16 hexadecimal digits that change with a module's structure, state or source, in every process the same.

    >>> structure_hash(dspy.Predict("text -> label")) == structure_hash(dspy.Predict("text -> label"))
    True
    """
    return _hash(_Inside(module))


def all_predictors(module: dspy.Module) -> list[tuple[str, dspy.Predict]]:
    """Gives a module's predictors by name: those that may be optimized, then those of sub-modules that are frozen.

    >>> [name for name, _ in all_predictors(dspy.ChainOfThought("text -> label"))]
    ['predict']
    """
    named = list(module.named_predictors())
    # A sub-module that was compiled before is frozen: its predictors are not named, and answer all the same.
    known = {id(predictor) for _, predictor in named}
    frozen = [(name, each) for name, each in module.named_sub_modules(dspy.Predict) if id(each) not in known]
    return [*named, *sorted(frozen, key=lambda pair: pair[0])]


def own_lms(module: dspy.Module) -> dict[str, Any]:
    """Tells which of a module's predictors have an LM of their own, and which that is."""
    return {name: lm_identity(each.lm) for name, each in all_predictors(module) if each.lm is not None}


def manners_told(program: dspy.Module) -> dict[str, Any]:
    """Tells the manners of a program's predictors by name, and of those in the programs that it holds; as JSON."""
    if not isinstance(program, Program):
        return _own_manners(program)
    return {name: _as_json(manner) for name, manner in program.manners.items()} | _own_manners(program.module)


def _own_manners(module: dspy.Module) -> dict[str, Any]:
    """Tells which predictors of the programs in a module have a manner of their own, and which; as JSON."""
    heeded: dict[int, Manner] = {}  # in no `Program`, a predictor's manner says nothing
    for _, program in module.named_sub_modules(Program):
        predictors = dict(program.module.named_predictors())
        heeded |= {id(predictors[name]): manner for name, manner in program.manners.items()}
    named = all_predictors(module) if heeded else []
    return {name: _as_json(heeded[id(each)]) for name, each in named if id(each) in heeded}


def _as_json(manner: Manner) -> dict[str, Any]:
    return manner.model_dump(mode="json", exclude_none=True)


class _Inside:
    """A module, from which other modules are told: those that are its parts by their class, any other whole.

    Args:
        module: What is told.
        around: What tells it, where it is no part of a module itself.
    """

    def __init__(self, module: dspy.Module, around: _Inside | None = None) -> None:
        self.module, self._around = module, around
        self._parts = [each for _, each in module.named_sub_modules()]
        self._ids = {id(each) for each in (*self._parts, *retrievers_of(module).values())}

    def told(self, value: Any) -> str | None:
        """Tells a module or a retriever; None for anything else."""
        if not _stands_alone(value):
            return None
        path = type_path(type(value))
        if self.knows(value):
            return path
        if not isinstance(value, dspy.Module):
            return f"{path}@{value.identity}"
        inside = _Inside(value, self)
        # A function of a copied module closes over the original, which is another of the same.
        alike = [_Inside(each, inside) for each in self._owns() if type(each) is type(value)]
        if any(_declared(each) == _declared(inside) for each in alike):
            return path
        manners = _own_manners(value)
        own = json.dumps([own_lms(value), manners] if manners else own_lms(value), sort_keys=True, default=repr)
        return f"{path}@{_hash(inside)}{own}"

    def knows(self, value: Any) -> bool:
        """Whether it is told where it stands, or is being told."""
        return id(value) in self._ids or (self._around is not None and self._around.knows(value))

    def _owns(self) -> Iterator[dspy.Module]:
        """Its parts of the user's own classes, and those of what is around."""
        yield from (each for each in self._parts if not of_dspy_or_ours(type(each)))
        if self._around is not None:
            yield from self._around._owns()


def _declared(inside: _Inside) -> list[Any]:
    """Tells a module but for what a candidate chooses: its predictors' state, and how its retrievers search."""
    knowledge = {path: declared_retriever(each).identity for path, each in retrievers_of(inside.module).items()}
    return [_sources(inside), _attributes(inside), knowledge]


def _hash(inside: _Inside) -> str:
    predictors = [
        [
            name,
            _told(predictor.signature),
            [stable_json(dict(demonstration)) for demonstration in predictor.demos],
            {key: stable_repr(value) for key, value in sorted(predictor.config.items())},
            *([stable_json(fields)] if (fields := getattr(predictor, "fields", None)) else []),  # criteria of a choice
        ]
        for name, predictor in all_predictors(inside.module)
    ]
    content: list[Any] = [
        module_data(inside.module).model_dump(mode="json"),
        _sources(inside),
        _attributes(inside),
        predictors,
    ]
    if knowledge := {path: retriever.identity for path, retriever in retrievers_of(inside.module).items()}:
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
    classes = _classes(info.annotation, set())
    functions = sorted(map(whole_text, _validators([info.annotation, info.metadata], set())))
    return [*texts, default, sorted(map(_source, classes)), *functions]


def _validators(part: Any, seen: set[type]) -> Iterator[Any]:
    """Functions beside a type, in it, or beside the fields of the author's classes in it: ``AfterValidator(check)``."""
    if inspect.isroutine(function := getattr(part, "func", None)):
        yield function
    for each in part if isinstance(part, list | tuple) else get_args(part):
        yield from _validators(each, seen)
    if isinstance(part, type) and part not in seen and not _of_a_library(part):
        seen.add(part)
        for info in getattr(part, "model_fields", {}).values():
            yield from _validators([info.annotation, info.metadata], seen)


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


def _attributes(inside: _Inside) -> list[Any]:
    """Tells what modules hold beside predictors: ``Retrieve(k=3)`` is not ``Retrieve(k=4)``."""
    held = []
    for name, each in _parts(inside):
        own, home = not of_dspy_or_ours(type(each)), type(each).__module__
        told = {}
        for key, value in sorted(vars(each).items()):
            if key in DSPYS_OWN or _stands_alone(value):
                continue
            if own:
                told[key] = digest(whole_text(value, inside.told, home=home))
            elif functions := _functions(value, inside):
                told[key] = digest("".join(functions))
            elif isinstance(value, dspy.BaseLM) and not isinstance(each, dspy.Predict):  # an ``RLM``'s sub_lm
                told[key] = stable_json(lm_identity(value))
            elif not isinstance(each, dspy.Predict) and isinstance(value, str | int | float | tuple | list):
                told[key] = stable_repr(value)
        if not own and "<locals>" in type(each).__qualname__:  # one that DSPy makes around what it is given
            given = inspect.getclosurevars(type(each).forward).nonlocals
            told |= {key: digest(whole_text(value, inside.told)) for key, value in given.items() if value is not None}
        if told or own:
            held.append([name, told])
    return held


def _parts(inside: _Inside) -> list[tuple[str, dspy.Module]]:
    return sorted(inside.module.named_sub_modules(), key=lambda pair: pair[0])


def _stands_alone(value: Any) -> bool:
    """Whether a value is told by itself, and not as what holds it."""
    return isinstance(value, dspy.Module | Retriever | ChosenRetriever)


def _functions(value: Any, inside: _Inside) -> list[str]:
    """Tells the user's functions that an attribute is, or holds: a ``Refine``'s reward, a ``ReAct``'s tools."""
    if isinstance(value, dict | list | tuple):
        each = value.values() if isinstance(value, dict) else value
        return [
            told for inner in each if not isinstance(inner, dict | list | tuple) for told in _functions(inner, inside)
        ]
    if isinstance(value, dspy.Tool):
        return [*_said(value), *_functions(value.func, inside)]
    function = value
    if not callable(function) or isinstance(function, type | dspy.BaseLM) or inside.knows(function):
        return []
    if not of_dspy_or_ours(function) or _stands_alone(function):
        return [whole_text(function, inside.told)]
    if not inspect.isfunction(function):  # an ``Embeddings``, a method of one
        owner = getattr(function, "__self__", function)
        text = whole_text(owner, inside.told)
        return [text] if type(owner).__module__.startswith("dspy.") and text.rpartition("@")[0] else []
    wrapped = [cell.cell_contents for cell in function.__closure__ or ()]  # BestOfN wraps its reward
    return [whole_text(each, inside.told) for each in wrapped if inspect.isfunction(each)]


def _said(tool: dspy.Tool) -> list[str]:
    """Tells how a tool is described to an LM, where that is not what DSPy reads in its function."""
    plain = dspy.Tool(tool.func)
    said = {
        name: getattr(tool, name) for name in ("name", "desc", "args") if getattr(tool, name) != getattr(plain, name)
    }
    return [stable_repr(said)] if said else []


def _sources(inside: _Inside) -> list[str]:
    """Hashes of the user's classes in a module; DSPy's own are told by its version elsewhere."""
    owners = [type(each) for _, each in _parts(inside)]
    return [digest(whole_text(owner, inside.told)) for owner in owners if not of_dspy_or_ours(owner)]


def _source(owner: type) -> str:
    text = source_text(owner) or ""
    if issubclass(owner, BaseModel):  # made by a call, it has no source
        with contextlib.suppress(PydanticUserError):
            text += json.dumps(owner.model_json_schema(), sort_keys=True, default=repr)
    text += beside_source(owner)
    return f"{type_path(owner)}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"
