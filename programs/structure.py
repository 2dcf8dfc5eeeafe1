"""A module as data, and back, with nothing from a file run: what a program is made of before anything is chosen."""

from __future__ import annotations

import enum
import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import ModuleType
from typing import Annotated, Any, Literal, get_args, get_origin

import dspy
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator
from pydantic.errors import PydanticUserError

from ..errors import ArtifactError
from .copying import copied
from .held import held_otherwise, held_values
from .stable import stable_json
from .state import digest
from .types import EnumCode, ModelCode, NotEncodable, TypeCode, classes_in, decode_type, encode_type

__all__ = ["Settings", "describe", "module_data", "restore", "settings_of", "signature_data", "type_path"]

_log = logging.getLogger(__name__)

_BUILT_IN: dict[str, type[dspy.Module]] = {"Predict": dspy.Predict, "ChainOfThought": dspy.ChainOfThought}
_REASONING = "reasoning"
_SCRIPT = "__main__:"  # a script or a notebook: no app imports it by that name


def _public_identifier(name: str) -> str:
    if not name.isidentifier() or name.startswith("_"):
        raise ValueError("a name is an identifier that does not start with an underscore")
    return name


_Identifier = Annotated[str, Field(max_length=200), AfterValidator(_public_identifier)]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SignatureField(_Data):
    """A field of a signature."""

    name: _Identifier
    role: Literal["input", "output"]
    type: TypeCode
    desc: str | None = None


class SignatureData(_Data):
    """A signature."""

    name: _Identifier
    instructions: str
    fields: tuple[SignatureField, ...] = Field(min_length=1, max_length=200)

    @field_validator("fields")
    @classmethod
    def _each_once(cls, fields: tuple[SignatureField, ...]) -> tuple[SignatureField, ...]:
        names = [field.name for field in fields]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"a field is there twice: {', '.join(twice)}")
        return fields


class Settings(_Data):
    """How a predictor asks its LM; nothing that says where."""

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    n: int | None = None
    seed: int | None = None


class BuiltInModule(_Data):
    """One of DSPy's modules that a signature makes whole."""

    kind: Literal["Predict", "ChainOfThought"]
    signature: SignatureData
    settings: Settings = Settings()
    # By name, where the app has the enumerations and models of its fields; no part of what it is, as ``held`` below.
    classes: dict[str, str] = Field(default_factory=dict, exclude=True)


class OwnModule(_Data):
    """A class that only the app's own code can bring back."""

    kind: Literal["class"]
    path: str = Field(pattern=r"^[^:\s]+:[^:\s]+$", max_length=500)
    # Not part of what it is: an artifact of before has none, and an app that gives an instance says what it holds.
    held: dict[str, str] = Field(default_factory=dict, exclude=True)
    signatures: dict[str, str] = Field(default_factory=dict, exclude=True)


_Structure: TypeAdapter[BuiltInModule | OwnModule] = TypeAdapter(
    Annotated[BuiltInModule | OwnModule, Field(discriminator="kind")]
)


def describe(module: dspy.Module) -> dict[str, Any]:
    """Tells a module as JSON values: ``dspy.Predict`` and ``dspy.ChainOfThought`` whole, any other by its class.

    Whole means their signature, where what `restore` makes of it reads and validates as the original does; a type with
    code in it (a validator, ``dspy.Image``) or a field's default does not go into a file, and the class is told, with
    the plain values that it keeps of its constructor's arguments, text as a hash, and a hash of the fields that each
    predictor has. The module's state (demonstrations, config, LM) is not told.

    >>> describe(dspy.Predict("text -> label"))["kind"]
    'Predict'
    """
    data = module_data(module)
    told = data.model_dump(mode="json")
    if isinstance(data, OwnModule) and (held := held_values(module)):
        told["held"] = held
    if isinstance(data, OwnModule) and (signatures := _signatures(module)):
        told["signatures"] = signatures
    if isinstance(data, BuiltInModule):
        fields = _declared_signature(module).fields.values()
        if classes := {each.__name__: type_path(each) for info in fields for each in classes_in(info.annotation)}:
            told["classes"] = classes
    return told


def settings_of(predictor: dspy.Predict) -> Settings | None:
    """Gives how a predictor asks its LM, as far as a file may tell it; None for as DSPy does."""
    try:
        told = {name: value for name, value in predictor.config.items() if name in Settings.model_fields}
        settings = Settings.model_validate(told)
    except ValidationError:
        return None
    return None if settings == Settings() else settings


def module_data(module: dspy.Module) -> BuiltInModule | OwnModule:
    """Tells which module it is, but for what it holds of its constructor's arguments."""
    for kind, built_in in _BUILT_IN.items():
        if type(module) is built_in:
            try:
                settings = Settings.model_validate(module.predictors()[0].config)
                signature = signature_data(_declared_signature(module))
                return BuiltInModule(kind=kind, signature=signature, settings=settings)
            except (NotEncodable, ValidationError):
                break
    return OwnModule(kind="class", path=type_path(type(module)))


def type_path(owner: type) -> str:
    """Names a class by its module and itself: ``package.module:Class``."""
    return f"{owner.__module__}:{owner.__qualname__}"


def _declared_signature(module: Any) -> Any:
    """The signature that the author gave: ``ChainOfThought`` puts a field for its reasoning before the outputs."""
    if not isinstance(module, dspy.ChainOfThought):
        return module.signature
    signature = module.predict.signature
    first, info = next(iter(signature.output_fields), None), signature.output_fields.get(_REASONING)
    standard = info is not None and info.annotation is str and info.json_schema_extra["desc"] == f"${{{_REASONING}}}"
    if first != _REASONING or not standard or info.metadata or not info.is_required():
        raise NotEncodable("a reasoning field of the author's own")
    return signature.delete(_REASONING)


def signature_data(signature: Any) -> SignatureData:
    """Tells a signature as data.

    Raises:
        NotEncodable: A field has a type with code in it, a default or other metadata.
    """
    fields = []
    for role, group in (("input", signature.input_fields), ("output", signature.output_fields)):
        for name, info in group.items():
            if info.metadata or not info.is_required():
                raise NotEncodable(name)
            code = encode_type(info.annotation)
            if not _faithful(info.annotation, code):
                raise NotEncodable(name)
            fields.append(SignatureField(name=name, role=role, type=code, desc=info.json_schema_extra.get("desc")))
    # A leading underscore tells readers of the author's code to keep off; a file has no such readers.
    name = signature.__name__.lstrip("_")
    return SignatureData(name=name, instructions=signature.instructions, fields=tuple(fields))


def _signatures(module: dspy.Module) -> dict[str, str]:
    """Tells the fields of each predictor as a hash, and what it was given to decide by.

    Not its instructions, which a candidate brings along.
    """
    told = {}
    for name, predictor in module.named_sub_modules(dspy.Predict):
        decided = [stable_json(given)] if (given := getattr(predictor, "fields", None)) else []
        text = json.dumps([*_fields(predictor.signature), *decided], sort_keys=True)
        told[name.removeprefix("self.")] = digest(text)
    return told


def _fields(signature: Any) -> list[Any]:
    fields = []
    for role, group in (("input", signature.input_fields), ("output", signature.output_fields)):
        for name, info in group.items():
            try:
                kind: Any = encode_type(info.annotation).model_dump(mode="json")
            except (NotEncodable, ValidationError):
                # No more than its name: the same in every release of Python, of pydantic and of DSPy.
                plain = isinstance(info.annotation, type) and get_origin(info.annotation) is None
                kind = info.annotation.__name__ if plain else None
            fields.append([role, name, kind, info.json_schema_extra.get("desc")])
    return fields


def _faithful(annotation: Any, code: TypeCode) -> bool:
    """Whether the type made from its code stands in a prompt, validates and compares as the original does."""
    try:
        made = decode_type(code)
        if made == annotation:
            return True
        return _alike(annotation, made) and TypeAdapter(annotation).json_schema() == TypeAdapter(made).json_schema()
    except (ValueError, TypeError, NameError, PydanticUserError):
        return False


def _alike(told: Any, made: Any) -> bool:
    """Looks at what a JSON schema does not show: a member of ``class Label(str, Enum)`` equals its text."""
    if get_origin(told) is Literal:
        return bool(told == made)
    if isinstance(told, enum.EnumMeta):
        return told.__mro__[1:] == made.__mro__[1:] and "_missing_" not in vars(told)
    if isinstance(told, type) and issubclass(told, BaseModel):
        return all(
            _alike(info.annotation, made.model_fields[name].annotation) for name, info in told.model_fields.items()
        )
    return all(_alike(*pair) for pair in zip(get_args(told), get_args(made), strict=True))


def _signature(data: SignatureData, classes: Mapping[str, str]) -> Any:
    def own(code: EnumCode | ModelCode) -> Any:
        return _own_class(code, classes.get(code.enum if isinstance(code, EnumCode) else code.model))

    fields = {}
    for field in data.fields:
        make = dspy.InputField if field.role == "input" else dspy.OutputField
        fields[field.name] = (decode_type(field.type, own), make(desc=field.desc) if field.desc is not None else make())
    signature = dspy.Signature(fields, data.instructions)
    signature.__name__ = signature.__qualname__ = data.name
    return signature


def _own_class(code: EnumCode | ModelCode, path: str | None) -> Any:
    """Finds a class that the app has imported by itself, if it still is what was told: no other's values equal its."""
    if path is None:  # an artifact of before
        return None
    found = _imported(path)
    with suppress(NotEncodable, ValidationError):
        if encode_type(found).model_dump_json() == code.model_dump_json() and _faithful(found, code):
            return found
    if isinstance(code, EnumCode):
        _log.warning(
            "the program has an enumeration of its own in place of %s, whose members are equal to none of its: "
            "import that class before ps.load, or give an instance, ps.load(path, program=…)", path,
        )  # fmt: skip
    return None


def restore(structure: dict[str, Any], *, program: dspy.Module | None = None) -> dspy.Module:
    """Makes the module that was told.

    Args:
        structure: From `describe`; not to be trusted.
        program: The app's own instance; a copy of it is given back, if it is what was told.

    Raises:
        ArtifactError: What is told is malformed, or is not at hand, or the class's constructor gives another instance
            than the one that was told.
    """
    try:
        data = _Structure.validate_python(_tuples(structure), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its root"
        raise ArtifactError(f"the program's structure is damaged at {where}: {first['msg']}") from error
    except ValueError as error:
        raise ArtifactError(f"the program's structure is damaged: {error}") from error
    if program is not None:
        return _own(data, program)
    if isinstance(data, OwnModule):
        return _registered(data)
    try:
        return _BUILT_IN[data.kind](
            _signature(data.signature, data.classes), **data.settings.model_dump(exclude_none=True)
        )
    except Exception as error:  # a name or value that pydantic, enum or DSPy keeps to itself: each has its own errors
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
    given = module_data(program)
    # As JSON: to Python, a choice of 1 and one of true are equal.
    same = given.model_dump_json() == data.model_dump_json()
    if isinstance(data, OwnModule) and isinstance(given, OwnModule) and data.path.startswith(_SCRIPT):
        same = given.path.partition(":")[2] == data.path.removeprefix(_SCRIPT)
    if not same:
        told = data.path if isinstance(data, OwnModule) else f"dspy.{data.kind} of {data.signature.name}"
        other = given.path if isinstance(given, OwnModule) else f"dspy.{given.kind} of {given.signature.name}"
        apart = ""
        if isinstance(data, BuiltInModule) and isinstance(given, BuiltInModule):
            apart = f"; they differ in {_difference(data.signature, given.signature)}"
        raise ArtifactError(f"the artifact was compiled from {told}, and the program given is {other}{apart}")
    # An app may well mean it: another device, another tenant.
    if isinstance(data, OwnModule) and (differing := held_otherwise(data.held, program)):
        _log.warning("the program given is not as the one that was compiled, which had %s", ", ".join(differing))
    if isinstance(data, OwnModule):
        _check_signatures(data, program)
    return copied(program)


def _check_signatures(data: OwnModule, program: dspy.Module) -> None:
    given = _signatures(program)
    apart = [name for name, told in data.signatures.items() if given.get(name, told) != told]
    if apart and type(program) in _BUILT_IN.values():  # there is nothing to it but its signature
        raise ArtifactError(
            f"the artifact was compiled from a {data.path} whose signature has other fields than the one of the "
            "program given (another name, order, type, description, threshold or criterion); give the one that was "
            "compiled, or compile anew"
        )
    if apart:
        _log.warning(
            "the signature of %s has other fields than the one that was compiled (another name, order, type, "
            "description, threshold or criterion), and what was measured is another program; compile anew",
            ", ".join(apart),
        )


def _difference(told: SignatureData, given: SignatureData) -> str:
    old, new = ({field.name: field.model_dump_json() for field in each.fields} for each in (told, given))
    fields = [f"the field {name}" for name in {**old, **new} if old.get(name) != new.get(name)]
    order = ["the order of the fields"] if not fields and list(old) != list(new) else []
    instructions = ["the instructions"] if told.instructions != given.instructions else []
    return ", ".join([*fields, *order, *instructions]) or "the module or the signature's name"


def _imported(path: str) -> Any:
    """Finds what the app has imported by itself, None for anything else; a file may not have anything imported."""
    module_name, _, qualified = path.partition(":")
    found: Any = sys.modules.get(module_name)
    for part in qualified.split("."):
        # Not getattr: a module that loads lazily would import what the file asks for.
        found = vars(found).get(part) if isinstance(found, ModuleType | type) else None
    return found


def _registered(data: OwnModule) -> dspy.Module:
    """Finds a class that the app has imported by itself, and makes an instance."""
    path, found = data.path, _imported(data.path)
    module_name, _, qualified = path.partition(":")
    mend = f"ps.load(path, program={qualified.rpartition('.')[2]}(…)), in Python (progspace run and serve take none)"
    if any(found is each for each in _BUILT_IN.values()):
        raise ArtifactError(
            f"the program is a {path} whose signature or settings no file can hold (a type with code in it, a field's "
            "default or reasoning of its own; a setting other than "
            f"{', '.join(Settings.model_fields)}); give an instance: {mend}"
        )
    if not (isinstance(found, type) and issubclass(found, dspy.Module) and type_path(found) == path):
        if path.startswith(_SCRIPT):
            raise ArtifactError(
                f"the program is an instance of {qualified}, a class of the script or notebook that compiled it; "
                f"give an instance: {mend}"
            )
        raise ArtifactError(
            f"the program is an instance of {path}, which this app has not imported; "
            f"import the module {module_name} first, or: {mend}"
        )
    try:
        made: dspy.Module = found()
    except Exception as error:  # of the app's own class
        raise ArtifactError(
            f"{path} cannot be made without arguments ({type(error).__name__}: {error}); give an instance: {mend}"
        ) from error
    if apart := held_otherwise(data.held, made):
        arguments = ", ".join(each for each in apart if "." not in each) or "…"
        raise ArtifactError(
            f"the program was compiled as an instance of {path} with {', '.join(apart)}, which {qualified}() has not; "
            f"give an instance: {mend.replace('…', arguments)}"
        )
    _check_signatures(data, made)
    return made
