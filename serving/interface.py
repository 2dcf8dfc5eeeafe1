"""What a program takes and gives, as types that JSON is validated by."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import dspy
from dspy.adapters.utils import serialize_for_json
from pydantic import ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json
from typing_extensions import NotRequired, TypedDict

from ..errors import ProgramError
from ..programs.program import Program

__all__ = ["Interface", "check_abstention", "faults", "interface_of"]

_TOLD = 50


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a program.

    Attributes:
        description: What it does, in its author's words.
        inputs: Values by input field; strict, so that ``"1"`` is no number.
        outputs: Values by output field; of a module of the app's own any JSON object.
        output_fields: Their types by name; None where they are not known.
    """

    description: str
    inputs: TypeAdapter[dict[str, Any]]
    outputs: TypeAdapter[dict[str, Any]]
    output_fields: Mapping[str, Any] | None

    def read(self, text: bytes) -> dict[str, Any]:
        """Reads inputs.

        Raises:
            ValueError: It is not JSON (``NaN`` is not), or, as a ``ValidationError``, not these inputs.

        >>> interface_of(dspy.Predict("text -> label")).read(b'{"text": "Superb."}')
        {'text': 'Superb.'}
        """
        from_json(text, allow_inf_nan=False)
        return self.inputs.validate_json(text)

    def write(self, prediction: dspy.Prediction) -> bytes:
        """Writes outputs as JSON.

        Raises:
            ValueError: They are not of the types that are declared, or no JSON can hold them.
        """
        given = dict(prediction.items(include_dspy=False))
        if self.output_fields is None:
            values = serialize_for_json(given)
        else:
            values = {name: given[name] for name in self.output_fields if name in given}
        try:
            return to_json(self.outputs.dump_python(self.outputs.validate_python(values), mode="json"))
        except PydanticSerializationError as error:
            raise ValueError(str(error)) from error


def interface_of(program: dspy.Module, *, nullable: Collection[str] = ()) -> Interface:
    """Tells what a program takes and gives.

    ``dspy.Predict`` and ``dspy.ChainOfThought`` have their signature's fields, and so has a module with a ``signature``
    whose ``forward`` takes any inputs and names none that it needs, as that of ``dspy.ReAct``. Any other module has the
    parameters that its ``forward`` names, of any type where they have no annotation; one with a default may be left
    out, and ``**inputs`` takes nothing. It gives any JSON object.

    Args:
        program: Any module, also in a manner of its own or guarded.
        nullable: Output fields that may be null: what an abstention leaves open.

    Raises:
        ProgramError: Its inputs have no names, or a field's type cannot be told as JSON Schema.
    """
    if isinstance(own := getattr(program, "interface", None), Interface):
        return own
    if isinstance(watched := getattr(program, "watched", None), dspy.Module):
        return interface_of(watched, nullable=nullable)
    module = program.module if isinstance(program, Program) else program
    if (signature := _signature(module)) is not None:
        description = signature.instructions
        inputs = {name: _told(info) for name, info in signature.input_fields.items()}
        outputs = _outputs(signature, nullable)
    else:
        description = inspect.getdoc(type(module)) if "__doc__" in vars(type(module)) else ""
        inputs, outputs = _inputs(module), None
    try:
        found = Interface(
            description=description or "",
            inputs=_adapter("Inputs", inputs, strict=True),
            outputs=TypeAdapter(dict[str, Any]) if outputs is None else _adapter("Outputs", outputs, strict=False),
            output_fields=outputs,
        )
        found.inputs.json_schema()
        found.outputs.json_schema(mode="serialization")
    except PydanticUserError as error:
        raise ProgramError(f"a field's type cannot be told as JSON Schema: {error}") from error
    return found


def check_abstention(program: dspy.Module, values: Mapping[str, Any]) -> None:
    """Checks that values could be a program's answer; None may stand for any.

    Raises:
        ProgramError: They could not.
    """
    if isinstance(watched := getattr(program, "watched", None), dspy.Module):
        check_abstention(watched, values)
        return
    # Not its interface: inputs without names, which cannot be served, can be guarded.
    signature = _signature(program.module if isinstance(program, Program) else program)
    if signature is None:
        return
    fields = _outputs(signature, {name for name, value in values.items() if value is None})
    if set(values) != set(fields):
        raise ProgramError(f"an abstention has the output fields {', '.join(fields)}, and not {', '.join(values)}")
    try:
        _adapter("Outputs", fields, strict=False).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        raise ProgramError(f"an abstention's {first['loc'][0]}: {first['msg']}") from error


def faults(error: ValidationError) -> list[dict[str, str]]:
    """Tells what is wrong with inputs, by field, without quoting them; nothing where there is more than a person reads.

    Half a million faults fit into a body, and to list them takes seconds and hundreds of megabytes.
    """
    if error.error_count() > _TOLD:
        return []
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [{"field": ".".join(map(str, each["loc"])), "message": each["msg"]} for each in found]


def _told(info: Any, *, optional: bool = False) -> Any:
    description = (info.json_schema_extra or {}).get("desc")
    annotation = info.annotation | None if optional else info.annotation
    # What DSPy writes where the author has said nothing: ${text}.
    if not description or description.startswith("${"):
        return annotation
    return Annotated[annotation, Field(description=description)]


def _signature(module: dspy.Module) -> Any:
    """The signature whose fields a module takes and gives; None where its ``forward`` says itself what it takes."""
    if type(module) in (dspy.Predict, dspy.ChainOfThought):
        return module.predictors()[0].signature
    own = getattr(module, "signature", None)
    if not isinstance(own, dspy.SignatureMeta):
        return None
    parameters = _parameters(module)
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    return own if takes_any and not any(each.default is each.empty for each in _named(parameters)) else None


def _outputs(signature: Any, nullable: Collection[str]) -> dict[str, Any]:
    return {name: _told(info, optional=name in nullable) for name, info in signature.output_fields.items()}


def _inputs(module: dspy.Module) -> dict[str, Any]:
    named = _named(_parameters(module))
    if not named:
        raise ProgramError(f"the inputs of {type(module).__qualname__} have no names: give its forward parameters")
    try:
        hints = get_type_hints(type(module).forward)
    except (NameError, TypeError):
        hints = {}
    types = {each.name: hints.get(each.name, Any) for each in named}
    optional: Any = NotRequired
    return types | {each.name: optional[types[each.name]] for each in named if each.default is not each.empty}


def _parameters(module: dspy.Module) -> list[inspect.Parameter]:
    return list(inspect.signature(type(module).forward).parameters.values())[1:]


def _named(parameters: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    return [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]


def _adapter(name: str, fields: Mapping[str, Any], *, strict: bool) -> TypeAdapter[dict[str, Any]]:
    # Not a model: a field may have the name of one of its methods.
    make: Any = TypedDict
    made = make(name, dict(fields))
    made.__pydantic_config__ = ConfigDict(strict=strict, extra="forbid", allow_inf_nan=False)
    return TypeAdapter(made)
