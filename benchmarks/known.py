"""A known benchmark, or any file of rows, by one command: read, compiled, and scored on rows that stay sealed.

    progspace benchmark known boolean_expressions.json            # BIG-bench Hard
    progspace benchmark known dev-v2.0.json --rows 300            # SQuAD
    progspace benchmark known train.jsonl --test test.jsonl       # GSM8K
    progspace benchmark known saved_dataset/ --inputs text --output label    # a Hugging Face dataset, saved to disk
    progspace benchmark known reviews.csv --inputs text --output label       # CSV, JSON Lines, JSON, Parquet

What a file is, is seen from it. An output of few, short, recurring values becomes a choice, one of numbers is compared
as a number, any other by the F1 of its words.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dspy

import progspace as ps

from ..programs.examples import read_examples
from . import core
from .suites import Entry
from .tasks import Reading, any_answer

__all__ = ["Known", "main", "read_known"]

_CLASSES, _LONGEST_CLASS, _ROWS_A_CLASS = 20, 40, 5


@dataclass(frozen=True, slots=True)
class Known:
    """What a benchmark asks.

    Attributes:
        rows: With inputs and the expected output.
        signature: Of the program.
        metric: Scores an output.
    """

    rows: list[dict[str, Any]]
    signature: type[dspy.Signature]
    metric: Callable[..., Any]


def read_known(
    path: str | Path, inputs: Sequence[str] = (), output: str | None = None, *, instructions: str | None = None
) -> Known:
    """Reads a benchmark.

    Args:
        path: A file of BIG-bench Hard, SQuAD or GSM8K as it is distributed; a folder of a saved Hugging Face dataset
            (its split ``train``, where it has several); or a file of rows.
        inputs: The fields that the program is given, where the file does not say.
        output: The field that it gives.
        instructions: What the program is told to do.

    Raises:
        DataError: The file is none of these, or the fields are not there.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        rows = _saved_rows(place)
    elif place.suffix.lower() == ".json" and isinstance(document := _document(place), dict):
        if "data" in document:
            return Known(_squad_rows(document, place), Reading, any_answer)
        rows = _bbh_rows(document, place)
        inputs, output = inputs or ["question"], output or "answer"
    else:
        rows = [dict(each.toDict()) for each in read_examples(place, inputs=list(inputs))]
        if all("####" in str(row.get("answer")) for row in rows):
            rows = [_gsm8k_row(row) for row in rows]
            inputs, output = inputs or ["question"], output or "answer"
    if not inputs or output is None:
        raise ps.DataError(
            f"say which fields go in and which comes out; there is {', '.join(rows[0])}: --inputs … --output …",
            file=str(place),
        )
    for number, row in enumerate(rows, 1):
        if lacking := [name for name in (*inputs, output) if row.get(name) is None]:
            raise ps.DataError("the field is missing or empty", file=str(place), row=number, field=lacking[0])
    kind, metric = _output_of([row[output] for row in rows], output)
    if kind not in (int, float):
        rows = [{**row, output: str(row[output])} for row in rows]
    fields: dict[str, Any] = {name: (str, dspy.InputField()) for name in inputs}
    fields[output] = (kind, dspy.OutputField())
    signature = dspy.make_signature(fields, instructions)
    return Known([{name: row[name] for name in (*inputs, output)} for row in rows], signature, metric)


def _output_of(values: Sequence[Any], field: str) -> tuple[Any, Callable[..., Any]]:
    """The type of an output, and what scores it."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return (int if all(isinstance(value, int) for value in values) else float), ps.metrics.numeric(field)
    texts = [str(value) for value in values]
    classes = sorted(set(texts))
    recurring = len(classes) * _ROWS_A_CLASS <= len(texts)
    if 1 < len(classes) <= _CLASSES and recurring and all(len(each) <= _LONGEST_CLASS for each in classes):
        return Literal[tuple(classes)], ps.metrics.choice(field)
    return str, ps.metrics.f1(field)


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ps.DataError(f"cannot be read as JSON ({error})", file=str(path)) from error


def _bbh_rows(document: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    examples = document.get("examples")
    if not isinstance(examples, list) or not all(
        isinstance(each, dict) and {"input", "target"} <= each.keys() for each in examples
    ):
        raise ps.DataError(
            "is neither of SQuAD (data) nor of BIG-bench Hard (examples, each with input and target)", file=str(path)
        )
    return [{"question": str(each["input"]), "answer": str(each["target"])} for each in examples]


def _squad_rows(document: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    try:
        rows = [
            {"passage": paragraph["context"], "question": asked["question"], "answer": asked["answers"][0]["text"],
             "answers": [each["text"] for each in asked["answers"]]}
            for article in document["data"]
            for paragraph in article["paragraphs"]
            for asked in paragraph["qas"]
            if asked["answers"]
        ]  # fmt: skip
    except (KeyError, TypeError) as error:
        raise ps.DataError(f"is not as SQuAD is: {error!r}", file=str(path)) from error
    if not rows:
        raise ps.DataError("has no question with an answer", file=str(path))
    return rows


def _gsm8k_row(row: dict[str, Any]) -> dict[str, Any]:
    number = str(row["answer"]).rsplit("####", 1)[1].strip().replace(",", "")
    return {"question": row.get("question"), "answer": float(number) if "." in number else int(number)}


def _saved_rows(folder: Path) -> list[dict[str, Any]]:
    try:
        from datasets import DatasetDict, load_from_disk
    except ImportError as error:
        raise ps.DataError("a saved dataset is read by: pip install datasets", file=str(folder)) from error
    try:
        found = load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise ps.DataError(f"is no saved dataset ({error})", file=str(folder)) from error
    if isinstance(found, DatasetDict):
        found = found["train" if "train" in found else next(iter(found))]
    names = {name: getattr(kind, "names", None) for name, kind in found.features.items()}
    return [
        {name: labels[value] if (labels := names[name]) and value is not None and value >= 0 else value
         for name, value in row.items()}
        for row in found
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Compiles and scores; prints the report and a score card, and writes lines where it is told to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--test", type=Path, help="a file of the same kind that stays sealed; else rows not drawn")
    parser.add_argument("--inputs", nargs="*", default=[])
    parser.add_argument("--output")
    parser.add_argument("--instructions", help="what the program is told to do")
    parser.add_argument("--lm", default="local")
    parser.add_argument("--base-url")
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--rows", type=int, default=200, help="for train and dev")
    parser.add_argument("--test-rows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, default=Path(".progspace/benchmark-known.db"))
    parser.add_argument("--results", type=Path, help="JSON Lines to add to")
    arguments = parser.parse_args(argv)
    known = read_known(arguments.path, arguments.inputs, arguments.output, instructions=arguments.instructions)
    sealed = None
    if arguments.test is not None:
        sealed = read_known(arguments.test, arguments.inputs, arguments.output).rows
    draw = random.Random(arguments.seed)  # noqa: S311 — reproducible, not secret
    rows = draw.sample(known.rows, len(known.rows))
    if sealed is None:
        cut = min(arguments.rows, len(rows) // 2)
        rows, sealed = rows[:cut], rows[cut:]

    @contextmanager
    def make(_: Path | None, seed: int) -> Iterator[ps.Task]:
        yield ps.Task(
            program=dspy.Predict(known.signature),
            examples=rows[: arguments.rows],
            test=sealed[: arguments.test_rows],
            inputs=list(known.signature.input_fields),
            metric=known.metric,
            name=arguments.path.stem,
            seed=seed,
        )

    given = {} if arguments.base_url is None else {"base_url": arguments.base_url}
    lm = ps.lm(arguments.lm, max_tokens=arguments.max_tokens, **given)
    entry = Entry(arguments.path.stem, make, arguments.calls, public=False)
    lines = core.run(entry, None, arguments.seed, arguments.store, lm)
    if arguments.results is not None:
        with arguments.results.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    print(core.table(lines))


if __name__ == "__main__":
    main()
