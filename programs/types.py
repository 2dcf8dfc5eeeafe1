"""Types of signature fields as JSON, and back; a type that cannot be told so is said to be one."""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import PydanticUndefined

__all__ = ["EnumCode", "ModelCode", "NotEncodable", "TypeCode", "classes_in", "decode_type", "encode_type"]

_SCALARS: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "any": Any, "null": type(None)}
_NAMES = {annotation: name for name, annotation in _SCALARS.items() if name != "any"}
_DEEPEST = 20
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=200)]
JsonScalar = str | bool | int | float | None


class NotEncodable(Exception):  # noqa: N818 — a fact, and always caught
    """A type that JSON cannot tell: only the app's own code can bring it back."""


class _Code(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScalarCode(_Code):
    """A type by its name."""

    scalar: Literal["str", "int", "float", "bool", "any", "null"]


class LiteralCode(_Code):
    """One of these values."""

    literal: tuple[str | bool | int, ...] = Field(min_length=1, max_length=10_000)


class ContainerCode(_Code):
    """A list, dict, tuple or union of other types."""

    container: Literal["list", "dict", "tuple", "union"]
    of: tuple[TypeCode, ...] = Field(min_length=1, max_length=200)


class EnumCode(_Code):
    """An enumeration: its members' names and values."""

    enum: Name
    members: tuple[tuple[Name, str | bool | int], ...] = Field(min_length=1, max_length=10_000)


class FieldCode(_Code):
    """A field of a pydantic model."""

    name: Name
    type: TypeCode
    required: bool
    default: JsonScalar = None
    description: str | None = None


class ModelCode(_Code):
    """A pydantic model: its fields."""

    model: Name
    fields: tuple[FieldCode, ...] = Field(max_length=200)


TypeCode = ScalarCode | LiteralCode | ContainerCode | EnumCode | ModelCode


def encode_type(annotation: Any, *, inside: tuple[Any, ...] = ()) -> TypeCode:
    """Tells a type as data.

    Args:
        annotation: The type.
        inside: The models that are being told.

    Raises:
        NotEncodable: It cannot be told.

    >>> encode_type(list[Literal["a", "b"]]).model_dump()
    {'container': 'list', 'of': ({'literal': ('a', 'b')},)}
    """
    if annotation is Any:
        return ScalarCode(scalar="any")
    if annotation is None or (isinstance(annotation, type) and annotation in _NAMES):
        return ScalarCode(scalar=_NAMES[annotation or type(None)])
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal and all(isinstance(value, str | bool | int) for value in arguments):
        return LiteralCode(literal=arguments)
    container = {list: "list", dict: "dict", tuple: "tuple", Union: "union", types.UnionType: "union"}.get(origin)
    if container and arguments and Ellipsis not in arguments:
        codes = tuple(encode_type(argument, inside=inside) for argument in arguments)
        return ContainerCode(container=container, of=codes)
    if isinstance(annotation, enum.EnumMeta):
        members = tuple((member.name, member.value) for member in annotation)  # type: ignore[var-annotated]
        if all(isinstance(value, str | bool | int) for _, value in members):
            return EnumCode(enum=annotation.__name__, members=members)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in inside:
        return _encode_model(annotation, (*inside, annotation))
    raise NotEncodable(f"{annotation!r}")


def _encode_model(model: type[BaseModel], inside: tuple[Any, ...]) -> ModelCode:
    # A validator or a config is code, and DSPy's own types (Image, Tool, History) act on prompts.
    decorators = model.__pydantic_decorators__
    validated = any(getattr(decorators, field.name) for field in dataclasses.fields(decorators))
    plain = model.__bases__ == (BaseModel,) and not model.model_config and not validated
    if not plain or model.__module__.startswith("dspy"):
        raise NotEncodable(model.__qualname__)
    fields = []
    for name, info in model.model_fields.items():
        default = None if info.default is PydanticUndefined else info.default
        if info.metadata or info.default_factory or not isinstance(default, str | bool | int | float | None):
            raise NotEncodable(f"{model.__qualname__}.{name}")
        code = encode_type(info.annotation, inside=inside)
        fields.append(
            FieldCode(name=name, type=code, required=info.is_required(), default=default, description=info.description)
        )
    return ModelCode(model=model.__name__, fields=tuple(fields))


def classes_in(annotation: Any) -> Iterator[type]:
    """Gives the enumerations and models that a type holds, where it can be told as data."""
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum | BaseModel):
        yield annotation
    inner = getattr(annotation, "model_fields", {}).values()
    for each in (*(info.annotation for info in inner), *get_args(annotation)):
        yield from classes_in(each)


def decode_type(code: TypeCode, own: Callable[[EnumCode | ModelCode], Any] = lambda _: None, *, depth: int = 0) -> Any:
    """Makes the type that was told.

    Args:
        code: What was told.
        own: Gives the app's own class for what one was told of; None for one that is made.
        depth: How deep it is in another.

    Raises:
        ValueError: It is told more deeply than any type is.

    >>> decode_type(encode_type(dict[str, int | None]))
    dict[str, typing.Optional[int]]
    """
    if depth > _DEEPEST:
        raise ValueError(f"a type is nested more than {_DEEPEST} deep")
    if isinstance(code, ScalarCode):
        return _SCALARS[code.scalar]
    if isinstance(code, LiteralCode):
        return Literal[code.literal]
    if isinstance(code, EnumCode | ModelCode) and (found := own(code)) is not None:
        return found
    if isinstance(code, EnumCode):
        return enum.Enum(code.enum, list(code.members))
    if isinstance(code, ModelCode):
        fields: dict[str, Any] = {
            field.name: (
                decode_type(field.type, own, depth=depth + 1),
                Field(... if field.required else field.default, description=field.description),
            )
            for field in code.fields
        }
        return create_model(code.model, **fields)
    parts = tuple(decode_type(part, own, depth=depth + 1) for part in code.of)
    if code.container == "union":
        return Union[parts]  # noqa: UP007 — parts are only known here
    arity = {"list": 1, "dict": 2}.get(code.container, len(parts))
    if len(parts) != arity:
        raise ValueError(f"a {code.container} has {arity} types, not {len(parts)}")
    generic: Any = {"list": list, "dict": dict, "tuple": tuple}[code.container]
    return generic[parts]


for _model in (ContainerCode, FieldCode, ModelCode):
    _model.model_rebuild()
