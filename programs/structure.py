"""A module as data, and back, with nothing from a file run: what a program is made of before anything is chosen."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from typing import Any, Literal

import dspy
from dspy.adapters.utils import serialize_for_json
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..errors import ArtifactError
from .types import Name, NotEncodable, TypeCode, decode_type, encode_type

__all__ = ["describe", "restore", "structure_hash"]

_BUILT_IN: dict[str, type[dspy.Module]] = {"Predict": dspy.Predict, "ChainOfThought": dspy.ChainOfThought}


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SignatureField(_Data):
    """A field of a signature."""

    name: Name
    role: Literal["input", "output"]
    type: TypeCode
    desc: str | None = None


class SignatureData(_Data):
    """A signature."""

    name: str = Field(max_length=200)
    instructions: str
    fields: tuple[SignatureField, ...] = Field(min_length=1, max_length=200)


class BuiltInModule(_Data):
    """One of DSPy's modules that a signature makes whole."""

    kind: Literal["Predict", "ChainOfThought"]
    signature: SignatureData


class OwnModule(_Data):
    """A class that only the app's own code can bring back."""

    kind: Literal["class"]
    path: str = Field(pattern=r"^[\w.]+:[\w.<>]+$", max_length=500)


_Structure: TypeAdapter[BuiltInModule | OwnModule] = TypeAdapter(BuiltInModule | OwnModule)


def describe(module: dspy.Module) -> dict[str, Any]:
    """Tells a module as JSON values: ``dspy.Predict`` and ``dspy.ChainOfThought`` whole, any other by its class.

    >>> describe(dspy.Predict("text -> label"))["kind"]
    'Predict'
    """
    for kind, built_in in _BUILT_IN.items():
        if type(module) is built_in:
            try:
                signature = _signature_data(_declared_signature(module))
            except NotEncodable:
                break
            return BuiltInModule(kind=kind, signature=signature).model_dump(mode="json")
    return OwnModule(kind="class", path=_path(type(module))).model_dump(mode="json")


def _path(owner: type) -> str:
    return f"{owner.__module__}:{owner.__qualname__}"


def _declared_signature(module: Any) -> Any:
    """The signature that the author gave: ``ChainOfThought`` puts a field for its reasoning before the outputs."""
    if isinstance(module, dspy.ChainOfThought):
        return module.predict.signature.delete("reasoning")
    return module.signature


def _signature_data(signature: Any) -> SignatureData:
    fields = []
    for role, group in (("input", signature.input_fields), ("output", signature.output_fields)):
        for name, info in group.items():
            if info.metadata:
                raise NotEncodable(name)
            extra = info.json_schema_extra
            desc = extra.get("desc")
            fields.append(SignatureField(name=name, role=role, type=encode_type(info.annotation), desc=desc))
    return SignatureData(name=signature.__name__, instructions=signature.instructions, fields=tuple(fields))


def _signature(data: SignatureData) -> Any:
    fields = {}
    for field in data.fields:
        make = dspy.InputField if field.role == "input" else dspy.OutputField
        fields[field.name] = (decode_type(field.type), make(desc=field.desc) if field.desc else make())
    signature = dspy.Signature(fields, data.instructions)
    signature.__name__ = signature.__qualname__ = data.name
    return signature


def restore(structure: dict[str, Any], *, program: dspy.Module | None = None) -> dspy.Module:
    """Makes the module that was told.

    Args:
        structure: From `describe`; not to be trusted.
        program: The app's own instance; a copy of it is given back, if it is what was told.

    Raises:
        ArtifactError: What is told is malformed, or is not at hand.
    """
    try:
        data = _Structure.validate_python(_tuples(structure))
        if program is not None:
            return _own(data, program)
        if isinstance(data, OwnModule):
            return _registered(data.path)
        return _BUILT_IN[data.kind](_signature(data.signature))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"the program's structure is damaged at {where}: {first['msg']}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(f"the program's structure is damaged: {error}") from error


def _tuples(structure: Any, depth: int = 0) -> Any:
    if depth > 60:
        raise ValueError("it is nested too deeply")
    if isinstance(structure, dict):
        return {key: _tuples(value, depth + 1) for key, value in structure.items()}
    if isinstance(structure, list):
        return tuple(_tuples(value, depth + 1) for value in structure)
    return structure


def _own(data: BuiltInModule | OwnModule, program: dspy.Module) -> dspy.Module:
    given = _Structure.validate_python(_tuples(describe(program)))
    if given != data:
        told = data.path if isinstance(data, OwnModule) else f"dspy.{data.kind} of {data.signature.name}"
        other = given.path if isinstance(given, OwnModule) else f"dspy.{given.kind} of {given.signature.name}"
        same = " with other fields or instructions" if told == other else ""
        raise ArtifactError(f"the artifact was compiled from {told}, and the program given is {other}{same}")
    copy: dspy.Module = program.deepcopy()
    return copy


def _registered(path: str) -> dspy.Module:
    """Finds a class that the app has imported by itself; a file may not have anything imported."""
    module_name, _, qualified = path.partition(":")
    found: Any = sys.modules.get(module_name)
    for part in qualified.split("."):
        found = getattr(found, part, None)
    mend = f"import the module {module_name} first, or: ps.load(path, program={qualified.rpartition('.')[2]}(…))"
    if not (isinstance(found, type) and issubclass(found, dspy.Module)):
        raise ArtifactError(f"the program is an instance of {path}, which this app has not imported; {mend}")
    try:
        return found()
    except TypeError as error:
        raise ArtifactError(f"{path} cannot be made without arguments ({error}); {mend}") from error


def structure_hash(module: dspy.Module) -> str:
    """Gives 16 hexadecimal digits that change with a module's structure, state or source, in every process the same.

    >>> structure_hash(dspy.Predict("text -> label")) == structure_hash(dspy.Predict("text -> label"))
    True
    """
    predictors = [
        [
            name,
            _told(predictor.signature),
            [serialize_for_json(dict(demonstration)) for demonstration in predictor.demos],
            {key: repr(value) for key, value in sorted(predictor.config.items())},
        ]
        for name, predictor in module.named_predictors()
    ]
    content = [describe(module), _sources(module), predictors]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _told(signature: Any) -> Any:
    try:
        return _signature_data(signature).model_dump(mode="json")
    except NotEncodable:
        return [signature.instructions, [[name, repr(info.annotation)] for name, info in signature.fields.items()]]


def _sources(module: dspy.Module) -> list[str]:
    """Hashes of the sources of the user's classes in a module; DSPy's own are told by its version elsewhere."""
    sources = []
    for _, each in sorted(module.named_sub_modules(), key=lambda pair: pair[0]):
        owner = type(each)
        if owner.__module__.split(".")[0] in ("dspy", "progspace"):
            continue
        try:
            text = inspect.getsource(owner)
        except (OSError, TypeError):
            text = ""
        sources.append(f"{_path(owner)}@{hashlib.sha256(text.encode()).hexdigest()[:12]}")
    return sources
