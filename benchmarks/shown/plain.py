"""Any file of results as the table that it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...evaluation import numbers
from .content import Column, Suite, Table
from .reading import heading

__all__ = ["plain", "plain_table"]

_MANY = 12  # rows of a table that is folded
_FEWEST = 2  # lines of which anything can be the same
_INNER = 9  # values in a cell of a plain table


def plain(name: str, file: str, lines: Sequence[Mapping[str, Any]]) -> Suite:
    """Any other file: its fields as columns, and what is the same in all lines told once."""
    first = lines[0] if len(lines) >= _FEWEST else {}
    same = {key: value for key, value in first.items() if _everywhere(key, value, lines)}
    told = ", ".join(f"{_words(key)} {_text(key, value)}" for key, value in same.items())
    varying = [{key: value for key, value in line.items() if key not in same} for line in lines]
    return Suite(
        **heading(name, file, lines),
        tables=(plain_table("1 run" if len(lines) == 1 else f"{numbers.count(len(lines))} runs", varying),)
        if lines
        else (),
        notes=(f"In all lines: {told}.",) if told else (),
    )


def _everywhere(key: str, value: Any, lines: Sequence[Mapping[str, Any]]) -> bool:
    return value is not None and not isinstance(value, dict | list) and all(line.get(key) == value for line in lines)


def plain_table(caption: str, lines: Sequence[Mapping[str, Any]]) -> Table:
    """A table of whatever lines hold: a measure's interval beside it, fields with many values left out."""
    fields = {key: [line.get(key) for line in lines] for line in lines for key in line}
    shown = {
        key: values
        for key, values in fields.items()
        if any(value is not None for value in values) and all(_short(value) for value in values)
    }
    ends = {key: found for key in shown if (found := _ends(key, shown))}
    names = [key for key in shown if key not in {end for pair in ends.values() for end in pair}]
    return Table(
        caption=caption,
        columns=tuple(
            Column(name=_words(key), kind="number" if all(map(_is_number, shown[key])) else "text") for key in names
        ),
        rows=tuple(tuple(_cell(key, line, ends.get(key)) for key in names) for line in lines),
        folded=len(lines) > _MANY,
    )


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(key: str, line: Mapping[str, Any], ends: tuple[str, str] | None) -> str:
    told = _text(key, line.get(key))
    if ends is None or line.get(key) is None:
        return told
    return f"{told} [{', '.join(_text(key, line.get(end)) for end in ends)}]"


def _ends(key: str, shown: Mapping[str, Any]) -> tuple[str, str] | None:
    """The fields of a measure's interval: ``f1_low`` and ``f1_high``; of a score ``low`` and ``high``."""
    pair = ("low", "high") if key == "score" else (f"{key}_low", f"{key}_high")
    return pair if all(end in shown for end in pair) else None


def _words(key: str) -> str:
    return key.replace("_", " ")


def _text(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return numbers.percent(value) if key == "score" else str(value) if key == "seed" else numbers.figure(value)
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_text('', each)}" for name, each in value.items())
    if isinstance(value, list):
        return "; ".join(_text("", each) for each in value)
    return str(value)


def _short(value: Any) -> bool:
    """Whether a value can stand in a cell."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return len(inner) <= _INNER and not any(isinstance(each, dict | list) for each in inner)
