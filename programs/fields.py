"""Values of signature fields as one line of text, and back: what completion-like prompts are made of."""

from __future__ import annotations

import enum
import json
from typing import Any, Literal, get_args, get_origin

import pydantic
from dspy.adapters.types import Code, History, Type
from dspy.adapters.utils import parse_value, serialize_for_json
from pydantic import TypeAdapter

__all__ = ["choices_of", "field_label", "is_text", "parse_field", "type_hint", "write_field"]


def field_label(name: str) -> str:
    """Gives the words that stand before a field's value, with a colon.

    >>> field_label("movie_text")
    'Movie Text:'
    """
    return " ".join(word[:1].upper() + word[1:] for word in name.split("_") if word) + ":"


def choices_of(annotation: Any) -> dict[str, Any]:
    """Gives the values of a field that has finitely many, by their text; empty for any other type.

    >>> choices_of(Literal["positive", "negative"])
    {'positive': 'positive', 'negative': 'negative'}
    >>> choices_of(bool)
    {'true': True, 'false': False}
    >>> choices_of(str)
    {}
    """
    if annotation is bool:
        return {"true": True, "false": False}
    if isinstance(annotation, enum.EnumMeta):
        return {str(member.value): member for member in annotation}  # type: ignore[var-annotated]
    if get_origin(annotation) is Literal:
        return {_write_plain(value): value for value in get_args(annotation)}
    return {}


def type_hint(annotation: Any) -> str:
    """Names in a few words what a value must be; empty for text.

    >>> type_hint(Literal["a", "b"]), type_hint(int), type_hint(str)
    ('a or b', 'an integer', '')
    """
    if choices := list(choices_of(annotation)):
        return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
    if annotation is str:
        return ""
    plain = {int: "an integer", float: "a number"}.get(annotation)
    return plain or "JSON: " + json.dumps(TypeAdapter(annotation).json_schema(), ensure_ascii=False)


def is_text(annotation: Any) -> bool:
    """Tells whether a field's values are written as text: not a conversation, a picture, a sound.

    >>> is_text(list[str]), is_text(History)
    (True, False)
    """
    own = [each for each in Type.extract_custom_type_from_annotation(annotation) if each is not Code]
    return annotation is not History and not own


def _write_plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def write_field(value: Any, annotation: Any) -> str:
    r"""Writes a value as one line, such that `parse_field` gives it back.

    >>> write_field("so so", str), write_field("two\nlines", str), write_field([1, 2], list[int])
    ('so so', '"two\\nlines"', '[1, 2]')
    """
    for text, choice in choices_of(annotation).items():
        if type(choice) is type(value) and choice == value:
            return text
    if isinstance(value, str) and (annotation is str or not _is_json_like(value)):
        plain = value and value == value.strip() and not set(value) & {"\n", "\r"} and value[0] != '"'
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(serialize_for_json(value), ensure_ascii=False)


def _is_json_like(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def parse_field(text: str, annotation: Any) -> Any:
    """Reads a value that an LM wrote.

    Raises:
        ValueError: The text holds no value of that type.

    >>> parse_field(" Positive.", Literal["positive", "negative"])
    'positive'
    >>> parse_field('["a", "b"]', list[str])
    ['a', 'b']
    """
    text = text.strip()
    if choices := choices_of(annotation):
        return _parse_choice(text, choices)
    if text[:1] == '"':
        try:
            decoded = json.loads(text)
        except ValueError:
            pass
        else:
            if annotation is str:
                return str(decoded)
            return TypeAdapter(annotation).validate_python(decoded)
    if annotation is str:
        return text
    try:
        return TypeAdapter(annotation).validate_json(text)
    except pydantic.ValidationError:
        try:
            return parse_value(text, annotation)
        except (pydantic.ValidationError, SyntaxError, TypeError) as error:
            raise ValueError(str(error)) from error


def _parse_choice(text: str, choices: dict[str, Any]) -> Any:
    if text in choices:
        return choices[text]
    folded = {_fold(choice): value for choice, value in choices.items()}
    if (answer := _fold(text)) in folded:
        return folded[answer]
    # "positive, because …": the longest choice that the answer begins with
    beginning = [choice for choice in folded if choice and answer.startswith(choice) and _ends(answer, len(choice))]
    if beginning:
        return folded[max(beginning, key=len)]
    raise ValueError(f"{text[:80]!r} is none of {', '.join(choices)}")


def _fold(text: str) -> str:
    return text.strip(" \t\r\n.,;:!?'\"`*[](){}").casefold()


def _ends(text: str, at: int) -> bool:
    return at == len(text) or not text[at].isalnum()
