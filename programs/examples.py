"""Examples in every form that people have them in, checked before anything is spent on them."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import dspy
from dspy.adapters.utils import serialize_for_json
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..errors import DataError
from .fields import choices_of
from .stable import stable_json, stable_repr

__all__ = ["deduplicate", "example_hash", "in_order", "inputs_hash", "parsed", "plain_values", "read_examples"]

_SHOWN = 5
_WHOLE = re.compile(r"^(-?\d+)\.0+$")
_SCALARS = frozenset({str, int, float, bool, type(None)})
_FIELDS = TypeAdapter(dict, config=ConfigDict(ser_json_inf_nan="constants"))
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_Row = tuple[int, dict[str, Any]]


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Gives fields as JSON values.

    >>> plain_values({"text": "so so", "stars": 2})
    {'text': 'so so', 'stars': 2}
    """
    if all(type(value) in _SCALARS for value in values.values()):  # most are, and DSPy's way costs 40 µs
        return dict(values)
    plain: dict[str, Any] = serialize_for_json(in_order(values))
    return plain


def in_order(values: Mapping[str, Any]) -> dict[str, Any]:
    """Gives fields with sets as lists in an order that is the same in every process.

    >>> in_order({"text": "so so", "tags": {"b", "a"}})
    {'text': 'so so', 'tags': ['a', 'b']}
    """
    ordered: dict[str, Any] = _ordered(dict(values)) if _holds_set(dict(values)) else dict(values)
    return ordered


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(_whole_values(values), sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _whole_values(values: Mapping[str, Any], tell: Callable[[Any], Any] | None = None) -> Any:
    """Gives fields as JSON values that are the same in every process, and others wherever the fields are.

    Of text, numbers, lists, dicts, dates and pydantic's values they are what `plain_values` gives: cells of stores hang
    on it.
    """
    if all(type(value) in _SCALARS for value in values.values()):
        return dict(values)
    try:
        # A set within a pydantic value is a list in its JSON, of which nobody knows that it was a set.
        held = _FIELDS.dump_python(dict(values), mode="python")
    except Exception:  # of pydantic values in a set; and whatever the app's own serializers raise
        held = dict(values)
    try:
        return _FIELDS.dump_python(
            _ordered(held) if _holds_set(held) else dict(values), mode="json", fallback=tell or _whole
        )
    except Exception:  # as DSPy's own: bytes that are no text, say
        return stable_repr(dict(values))


def _holds_set(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_set, value.values()))
    return isinstance(value, set | frozenset) or (isinstance(value, list | tuple) and any(map(_holds_set, value)))


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=stable_repr)
    return [_ordered(each) for each in value] if isinstance(value, list | tuple) else value


def _whole(value: Any) -> Any:
    """What stands for a value that pydantic does not tell: arrays and tables in full, whose texts are abridged."""
    if hasattr(value, "to_frame"):
        value = value.to_frame()
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return [type(value).__name__, value.to_dict("split")]
    if getattr(value, "ndim", 0) and hasattr(value, "tolist"):
        if hasattr(value, "tobytes") and not getattr(value.dtype, "hasobject", False):
            return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
        return [str(value.dtype), value.tolist()]
    return stable_json(value)


def example_hash(example: dspy.Example) -> str:
    """Gives the identity of an example: 16 hexadecimal digits of the hash of all its fields.

    >>> example_hash(dspy.Example(a=1, b=2)) == example_hash(dspy.Example(b=2, a=1))
    True
    """
    return _digest(example.toDict())


def inputs_hash(example: dspy.Example) -> str:
    """Gives the identity of what a program is given, without the labels.

    >>> one = dspy.Example(text="so so", label="positive").with_inputs("text")
    >>> inputs_hash(one) == inputs_hash(dspy.Example(text="so so", label="negative").with_inputs("text"))
    True
    """
    return _digest(example.inputs().toDict())


def deduplicate(examples: Iterable[dspy.Example]) -> tuple[list[dspy.Example], int]:
    """Drops examples that are there already; gives the others, in order, and how many were dropped.

    >>> deduplicate([dspy.Example(a=1), dspy.Example(a=1)])[1]
    1
    """
    examples = list(examples)
    first = {example_hash(example): example for example in reversed(examples)}
    kept = list(reversed(first.values()))
    return kept, len(examples) - len(kept)


def read_examples(
    source: Any,
    *,
    inputs: Sequence[str],
    outputs: Mapping[str, Any] | None = None,
    label: str | None = None,
    nullable: Collection[str] = (),
) -> list[dspy.Example]:
    """Reads examples and sets their inputs. Fields that begin with ``dspy_`` are DSPy's own, and left out.

    Args:
        source: A path (``.jsonl``, ``.json``, ``.csv``, ``.parquet``), a list of ``dspy.Example`` or of dicts, a pandas
            DataFrame, or a Hugging Face Dataset.
        inputs: The fields that the program is given; every row must have them.
        outputs: Types of output fields by name. A row may lack them, but what it has must be of the type; text from a
            CSV file is converted.
        label: A field that every row must have, and not as null where its type is known and has none.
        nullable: Inputs that may be null.

    Raises:
        DataError: Rows that are not as they must be, with file, row and field; all of them are found at once.

    >>> [example.inputs().toDict() for example in read_examples([{"text": "so so", "label": "ok"}], inputs=["text"])]
    [{'text': 'so so'}]
    """
    name, rows = _rows(source)
    outputs = outputs or {}
    examples: list[dspy.Example] = []
    faults: list[DataError] = []
    read = 0
    for number, row in rows:
        read += 1
        try:
            _check_inputs(row, inputs, nullable, name, number)
            values = {
                field: _checked(value, outputs.get(field), name, number, field)
                for field, value in row.items()
                if not field.startswith("dspy_")
            }
            for field, value in values.items():
                _check_told(value, name, number, field)
        except DataError as fault:
            faults.append(fault)
        else:
            examples.append(dspy.Example(dict(values)).with_inputs(*inputs))
            if label and (label not in row or (row[label] is None and not _takes_none(outputs.get(label)))):
                faults.append(_unlabelled(row, name, number, label))
    if faults:
        raise _all_of(faults, read)
    if not examples:
        raise DataError("holds no examples", file=name)
    return examples


def _all_of(faults: list[DataError], rows: int) -> DataError:
    first = faults[0]
    if len(faults) == 1:
        return first
    more = f"\n  … and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    told = "\n  ".join(str(fault) for fault in faults[:_SHOWN])
    error = DataError(f"{len(faults)} of {rows} rows are not as they must be:\n  {told}{more}")
    error.file, error.row, error.field = first.file, first.row, first.field
    return error


def _hint(row: Mapping[str, Any], field: str) -> str:
    near = difflib.get_close_matches(field, list(row), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(map(repr, row)) or 'none'}"


def _takes_none(annotation: Any) -> bool:
    """Whether null may be meant: the type has it, or is not known."""
    return annotation in (None, Any, type(None)) or any(map(_takes_none, get_args(annotation)))


def _unlabelled(row: Mapping[str, Any], name: str, number: int, field: str) -> DataError:
    told = f"is missing{_hint(row, field)}" if field not in row else "is empty (null); give it a value or drop the row"
    return DataError(f"the label {told}", file=name, row=number, field=field)


def _check_inputs(
    row: Mapping[str, Any], inputs: Sequence[str], nullable: Collection[str], name: str, number: int
) -> None:
    for field in inputs:
        if field not in row:
            raise DataError(f"the input is missing{_hint(row, field)}", file=name, row=number, field=field)
        if row[field] is None and field not in nullable:
            raise DataError(
                "the input is empty (null); give it a value or drop the row", file=name, row=number, field=field
            )


def _check_told(value: Any, name: str, number: int, field: str) -> None:
    """Refuses what can be neither hashed, stored nor shown the same way twice."""
    addressed: list[Any] = []

    def tell(each: Any) -> Any:
        if isinstance(told := _whole(each), str) and _ADDRESS.search(str(each)):
            addressed.append(each)
        return told

    scalar = type(value) in _SCALARS  # most are: no need to write them twice
    text = str(value) if scalar else json.dumps(_whole_values({field: value}, tell), ensure_ascii=False, default=str)
    if addressed:
        raise DataError(
            f"a {type(addressed[0]).__qualname__} is told by its address, another one in each process, so that the row "
            "could not be known again: give text, numbers, lists, dicts or a pydantic value, or its class a __repr__",
            file=name, row=number, field=field,
        )  # fmt: skip
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(
            "half of a surrogate pair is no character; mend the text or drop the row",
            file=name,
            row=number,
            field=field,
        ) from None


def _checked(value: Any, annotation: Any, name: str, number: int, field: str) -> Any:
    """Gives a label's value, text from a CSV file in its type; one that is no choice of a ``Literal`` is an error."""
    if annotation is None or value is None:
        return value
    choices = choices_of(annotation)
    if choices:
        if any(type(choice) is type(value) and choice == value for choice in choices.values()):
            return value
        if isinstance(value, str) and value in choices:
            return choices[value]
        # As pandas writes what it holds: bools as Python does, and integers as floats where some are missing.
        text = _WHOLE.sub(r"\1", str(value)).lower()
        if isinstance(value, str | float) and isinstance(choices.get(text), int):
            return choices[text]
        raise DataError(f"{value!r} is none of {', '.join(choices)}", file=name, row=number, field=field)
    if annotation in (int, float) and isinstance(value, str):
        try:
            return TypeAdapter(annotation).validate_python(value)
        except ValidationError:
            raise DataError(
                f"{value!r} is no {annotation.__name__}, which the signature wants", file=name, row=number, field=field
            ) from None
    return value


def _rows(source: Any) -> tuple[str, Iterator[_Row]]:
    """Gives the source's name for messages, and its rows with their numbers, from 1."""
    if isinstance(source, str | Path):
        return _file_rows(Path(source).expanduser())
    if hasattr(source, "to_dict") and hasattr(source, "columns") and hasattr(source, "iloc"):
        return "DataFrame", _mapping_rows(_frame_rows(source), "DataFrame")
    if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes):
        return "examples", _mapping_rows(source, "examples")
    raise DataError(
        f"examples of type {type(source).__name__} cannot be read: give a path, a list of dspy.Example or dict, a "
        "DataFrame or a Dataset"
    )


def _mapping_rows(rows: Iterable[Any], name: str) -> Iterator[_Row]:
    for number, row in enumerate(rows, 1):
        if isinstance(row, dspy.Example):
            yield number, dict(row.items())  # not toDict: that makes dicts of pydantic values
        elif isinstance(row, Mapping):
            yield number, {str(key): value for key, value in row.items()}
        else:
            raise DataError(
                f"a {type(row).__name__} is no example: give a dspy.Example or a dict", file=name, row=number
            )


def _file_rows(path: Path) -> tuple[str, Iterator[_Row]]:
    readers: dict[str, Callable[[Path], Iterator[_Row]]] = {
        ".jsonl": _jsonl_rows,
        ".ndjson": _jsonl_rows,
        ".json": _json_rows,
        ".csv": _csv_rows,
        ".parquet": _parquet_rows,
    }
    if path.suffix.lower() not in readers:
        raise DataError(f"its format is not known; there is {', '.join(readers)}", file=str(path))
    if not path.is_file():
        raise DataError("a directory; name a file in it" if path.is_dir() else "no such file", file=str(path))
    return str(path), readers[path.suffix.lower()](path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        row = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError("not UTF-8 text; save it as UTF-8", file=str(path), row=row) from error


def parsed(text: str, path: Path, row: int | None = None) -> Any:
    """Reads JSON; what is none is told with its file and row."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error})", file=str(path), row=row) from error


def _jsonl_rows(path: Path) -> Iterator[_Row]:
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            row = parsed(line, path, number)
            if not isinstance(row, dict):
                raise DataError("not a JSON object with a value for each field", file=str(path), row=number)
            yield number, row


def _json_rows(path: Path) -> Iterator[_Row]:
    rows = parsed(_text(path), path)
    if not isinstance(rows, list):
        raise DataError("not a JSON list of objects", file=str(path))
    return _mapping_rows(rows, str(path))


def _csv_rows(path: Path) -> Iterator[_Row]:
    text = _text(path)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # the process's: it is only ever raised
    # Not splitlines: it would also break at characters that a value may hold, such as U+2028.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names, begins = list[str](), 1
    try:
        for values in reader:
            if len(values) > len(names) > 0:
                raise DataError("more values than the header has names", file=str(path), row=reader.line_num)
            if names and values:
                yield reader.line_num, dict(zip(names, values, strict=False))
            if not names:
                names = [name.strip() for name in values]
                if twice := next((name for name in names if name and names.count(name) > 1), None):
                    raise DataError("the header has this name twice", file=str(path), row=reader.line_num, field=twice)
            begins = reader.line_num + 1
    except csv.Error as error:
        told = f"a quotation mark is not closed, or stands within a value and is not doubled ({error})"
        raise DataError(told, file=str(path), row=begins) from error


def _parquet_rows(path: Path) -> Iterator[_Row]:
    try:
        import pandas
        import pyarrow
    except ImportError as error:
        raise DataError(
            "Parquet needs pandas and pyarrow: pip install 'progspace[dataframes]'", file=str(path)
        ) from error
    try:
        frame = pandas.read_parquet(path)
    except (pyarrow.lib.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file ({error})", file=str(path)) from error
    return _mapping_rows(_frame_rows(frame), str(path))


def _frame_rows(frame: Any) -> Iterator[dict[str, Any]]:
    """Gives a DataFrame's rows as Python values, without the cells that are missing."""
    for record in frame.to_dict(orient="records"):
        row = {str(name): value.item() if hasattr(value, "item") else value for name, value in record.items()}
        yield {name: None if isinstance(value, float) and value != value else value for name, value in row.items()}
