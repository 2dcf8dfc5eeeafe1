"""A module as data, and back, with nothing from a file run: what a program is made of before anything is chosen."""

from __future__ import annotations

import contextlib
import enum
import hashlib
import inspect
import json
import logging
import re
import sys
from types import ModuleType
from typing import Annotated, Any, Literal, get_args, get_origin

import dspy
from dspy.adapters.utils import serialize_for_json
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticUndefined

from ..errors import ArtifactError
from ..retrievers.retriever import Retriever
from .retrieval import ChosenRetriever, retrievers_of
from .source import source_text
from .state import digest, whole_text
from .types import NotEncodable, TypeCode, decode_type, encode_type

__all__ = ["Settings", "describe", "restore", "settings_of", "structure_hash"]

_log = logging.getLogger(__name__)

# What DSPy itself keeps in a module, and changes as it runs.
_DSPYS_OWN = frozenset({"_compiled", "callbacks", "history"})
_BUILT_IN: dict[str, type[dspy.Module]] = {"Predict": dspy.Predict, "ChainOfThought": dspy.ChainOfThought}
_REASONING = "reasoning"
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_SECRET = re.compile("key|token|secret|password|auth|credential", re.IGNORECASE)


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


class OwnModule(_Data):
    """A class that only the app's own code can bring back."""

    kind: Literal["class"]
    path: str = Field(pattern=r"^[^:\s]+:[^:\s]+$", max_length=500)
    # Not part of what it is: an artifact of before has none, and an app that gives an instance says what it holds.
    held: dict[str, str] = Field(default_factory=dict, exclude=True)


_Structure: TypeAdapter[BuiltInModule | OwnModule] = TypeAdapter(
    Annotated[BuiltInModule | OwnModule, Field(discriminator="kind")]
)


def describe(module: dspy.Module) -> dict[str, Any]:
    """Tells a module as JSON values: ``dspy.Predict`` and ``dspy.ChainOfThought`` whole, any other by its class.

    Whole means their signature, where what `restore` makes of it reads and validates as the original does; a type with
    code in it (a validator, ``dspy.Image``) or a field's default does not go into a file, and the class is told, with
    the plain values that it keeps of its constructor's arguments: text as a hash. The module's state (demonstrations,
    config, LM) is not told.

    >>> describe(dspy.Predict("text -> label"))["kind"]
    'Predict'
    """
    data = _data(module)
    told = data.model_dump(mode="json")
    if isinstance(data, OwnModule) and (held := _held(module)):
        told["held"] = held
    return told


def settings_of(predictor: dspy.Predict) -> Settings | None:
    """Gives how a predictor asks its LM, as far as a file may tell it; None for as DSPy does."""
    try:
        told = {name: value for name, value in predictor.config.items() if name in Settings.model_fields}
        settings = Settings.model_validate(told)
    except ValidationError:
        return None
    return None if settings == Settings() else settings


def _data(module: dspy.Module) -> BuiltInModule | OwnModule:
    for kind, built_in in _BUILT_IN.items():
        if type(module) is built_in:
            try:
                settings = Settings.model_validate(module.predictors()[0].config)
                signature = _signature_data(_declared_signature(module))
                return BuiltInModule(kind=kind, signature=signature, settings=settings)
            except (NotEncodable, ValidationError):
                break
    return OwnModule(kind="class", path=_path(type(module)))


def _path(owner: type) -> str:
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


def _signature_data(signature: Any) -> SignatureData:
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


def _signature(data: SignatureData) -> Any:
    fields = {}
    for field in data.fields:
        make = dspy.InputField if field.role == "input" else dspy.OutputField
        fields[field.name] = (decode_type(field.type), make(desc=field.desc) if field.desc is not None else make())
    signature = dspy.Signature(fields, data.instructions)
    signature.__name__ = signature.__qualname__ = data.name
    return signature


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
        return _BUILT_IN[data.kind](_signature(data.signature), **data.settings.model_dump(exclude_none=True))
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
    given = _data(program)
    # As JSON: to Python, a choice of 1 and one of true are equal.
    if given.model_dump_json() != data.model_dump_json():
        told = data.path if isinstance(data, OwnModule) else f"dspy.{data.kind} of {data.signature.name}"
        other = given.path if isinstance(given, OwnModule) else f"dspy.{given.kind} of {given.signature.name}"
        apart = ""
        if isinstance(data, BuiltInModule) and isinstance(given, BuiltInModule):
            apart = f"; they differ in {_difference(data.signature, given.signature)}"
        raise ArtifactError(f"the artifact was compiled from {told}, and the program given is {other}{apart}")
    # An app may well mean it: another device, another tenant.
    if isinstance(data, OwnModule) and (differing := _apart(data, program)):
        _log.warning("the program given is not as the one that was compiled, which had %s", ", ".join(differing))
    copy: dspy.Module = program.deepcopy()
    return copy


def _difference(told: SignatureData, given: SignatureData) -> str:
    old, new = ({field.name: field.model_dump_json() for field in each.fields} for each in (told, given))
    fields = [f"the field {name}" for name in {**old, **new} if old.get(name) != new.get(name)]
    order = ["the order of the fields"] if not fields and list(old) != list(new) else []
    instructions = ["the instructions"] if told.instructions != given.instructions else []
    return ", ".join([*fields, *order, *instructions]) or "the module or the signature's name"


def _registered(data: OwnModule) -> dspy.Module:
    """Finds a class that the app has imported by itself; a file may not have anything imported."""
    path = data.path
    module_name, _, qualified = path.partition(":")
    found: Any = sys.modules.get(module_name)
    for part in qualified.split("."):
        # Not getattr: a module that loads lazily would import what the file asks for.
        found = vars(found).get(part) if isinstance(found, ModuleType | type) else None
    mend = f"ps.load(path, program={qualified.rpartition('.')[2]}(…))"
    if any(found is each for each in _BUILT_IN.values()):
        raise ArtifactError(
            f"the program is a {path} whose signature no file can hold (a type with code in it, a field's default or "
            f"reasoning of its own); give an instance: {mend}"
        )
    if not (isinstance(found, type) and issubclass(found, dspy.Module) and _path(found) == path):
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
    if apart := _apart(data, made):
        arguments = ", ".join(each for each in apart if "." not in each) or "…"
        raise ArtifactError(
            f"the program was compiled as an instance of {path} with {', '.join(apart)}, which {qualified}() has not; "
            f"give an instance: {mend.replace('…', arguments)}"
        )
    return made


def _held(module: dspy.Module) -> dict[str, str]:
    """Tells what modules keep of their constructors' arguments; not what is a matter of the place, nor secrets."""
    told = {}
    for name, each in module.named_sub_modules():
        if isinstance(each, dspy.Predict):
            continue
        for key in sorted(_arguments(type(each)) - _DSPYS_OWN):
            value = vars(each).get(key, vars(each).get(f"_{key}", ...))
            if not _is_plain(value):
                continue
            path = f"{name}.{key}".removeprefix("self.")
            if isinstance(value, int | float | None):
                told[path] = repr(value)
            elif not _SECRET.search(key):
                told[path] = f"#{digest(_stable_repr(value))}"  # a file need not tell an app's texts
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


def _apart(data: OwnModule, module: dspy.Module) -> list[str]:
    """Tells what a module holds otherwise than was told; what only one of them has came with a change of its class."""
    given = _held(module)
    differ = {name: text for name, text in data.held.items() if given.get(name, text) != text}
    return [f"{name}={'…' if text.startswith('#') else text}" for name, text in differ.items()]


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
            [_stable_json(dict(demonstration)) for demonstration in predictor.demos],
            {key: _stable_repr(value) for key, value in sorted(predictor.config.items())},
        ]
        for name, predictor in [*named, *sorted(frozen, key=lambda pair: pair[0])]
    ]
    content: list[Any] = [_data(module).model_dump(mode="json"), _sources(module), _attributes(module), predictors]
    if knowledge := {path: retriever.identity for path, retriever in retrievers_of(module).items()}:
        content.append(knowledge)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _stable_repr(value: Any) -> str:
    """As ``repr``, without what differs between processes: the order of sets, and addresses."""
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_stable_repr, value)))}}}"
    if type(value) is dict:
        return f"{{{', '.join(f'{_stable_repr(key)}: {_stable_repr(each)}' for key, each in value.items())}}}"
    if type(value) in (list, tuple):
        text = ", ".join(map(_stable_repr, value))
        return f"[{text}]" if type(value) is list else f"({text},)" if len(value) == 1 else f"({text})"
    return _ADDRESS.sub("", repr(value))


def _stable_json(value: Any) -> Any:
    """As DSPy tells values in prompts, without what differs between processes."""
    if isinstance(value, set | frozenset):
        return [_stable_json(each) for each in sorted(value, key=_stable_repr)]
    if type(value) is dict:
        return {key: _stable_json(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return [_stable_json(each) for each in value]
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, enum.Enum)):
        return value
    told = serialize_for_json(value)
    return _ADDRESS.sub("", told) if isinstance(told, str) else told


def _told(signature: Any) -> Any:
    try:
        return _signature_data(signature).model_dump(mode="json")
    except (NotEncodable, ValidationError):
        return [signature.instructions, [[name, *_told_by_source(info)] for name, info in signature.fields.items()]]


def _told_by_source(info: Any) -> list[Any]:
    """What tells a field that is no data from others: its text, and the source of the author's classes in its type."""
    default = "" if info.default is PydanticUndefined else _stable_repr(info.default)
    texts = map(_stable_repr, [info.annotation, info.json_schema_extra, info.metadata])
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
        own, home = not _of_dspy_or_ours(type(each)), type(each).__module__
        told = {}
        for key, value in sorted(vars(each).items()):
            if key in _DSPYS_OWN or _told_elsewhere(value):
                continue
            if own:
                told[key] = digest(whole_text(value, _told_elsewhere, home=home))
            elif functions := _functions(value):
                told[key] = digest("".join(functions))
            elif not isinstance(each, dspy.Predict) and isinstance(value, str | int | float | tuple | list):
                told[key] = _stable_repr(value)
        if told or own:
            held.append([name, told])
    return held


def _of_dspy_or_ours(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] in ("dspy", "progspace")


def _told_elsewhere(value: Any) -> str | None:
    """Names the type of what is told by itself: predictors and other modules, retrievers."""
    parts = dspy.Module | Retriever | ChosenRetriever
    return _path(type(value)) if isinstance(value, parts) else None


def _functions(value: Any) -> list[str]:
    """Tells the user's functions that an attribute is, or holds: a ``Refine``'s reward, a ``ReAct``'s tools."""
    if isinstance(value, dict | list | tuple):
        each = value.values() if isinstance(value, dict) else value
        return [told for inner in each if not isinstance(inner, dict | list | tuple) for told in _functions(inner)]
    function = value.func if isinstance(value, dspy.Tool) else value
    if not callable(function) or isinstance(function, type | dspy.BaseLM) or _told_elsewhere(function):
        return []
    if not _of_dspy_or_ours(function):
        return [whole_text(function, _told_elsewhere)]
    wrapped = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]  # BestOfN wraps its reward
    return [whole_text(each, _told_elsewhere) for each in wrapped if inspect.isfunction(each)]


def _sources(module: dspy.Module) -> list[str]:
    """Hashes of the user's classes in a module; DSPy's own are told by its version elsewhere."""
    owners = [type(each) for _, each in sorted(module.named_sub_modules(), key=lambda pair: pair[0])]
    return [digest(whole_text(owner, _told_elsewhere)) for owner in owners if not _of_dspy_or_ours(owner)]


def _source(owner: type) -> str:
    text = source_text(owner) or ""
    if issubclass(owner, BaseModel):  # made by a call, it has no source
        with contextlib.suppress(PydanticUserError):
            text += json.dumps(owner.model_json_schema(), sort_keys=True, default=repr)
    return f"{_path(owner)}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"
