"""A published benchmark, or any file of rows, by one command: read, compiled, and scored on rows that stay sealed.

    progspace benchmark known bbh:boolean_expressions.json
    progspace benchmark known squad:train-v2.0.json --test dev-v2.0.json
    progspace benchmark known gsm8k:train.jsonl --test test.jsonl --rows 300
    progspace benchmark known saved_dataset/ --inputs text --output label    # a Hugging Face dataset, saved to disk
    progspace benchmark known reviews.csv --inputs text --output label       # CSV, JSON Lines, JSON, Parquet

Of a file of rows an output of few, short, recurring values becomes a choice, one of numbers is compared as a number,
any other by the F1 of its words.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import dspy

import progspace as ps

from ..programs.examples import read_examples
from ..programs.published import PUBLISHED
from . import core
from .results import append_results
from .suites import Entry

__all__ = ["known_task", "main"]

_CLASSES, _LONGEST_CLASS, _ROWS_A_CLASS = 20, 40, 5


def known_task(
    source: str,
    inputs: Sequence[str] = (),
    output: str | None = None,
    *,
    instructions: str | None = None,
    test: str | None = None,
    rows: int = 200,
    test_rows: int = 200,
    seed: int = 0,
) -> ps.Task:
    """Makes a task of a benchmark's file.

    Args:
        source: A file of a published benchmark with its name before it (``gsm8k:train.jsonl``); the folder of a saved
            Hugging Face dataset (its split ``train``, where it has several); or a file of rows.
        inputs: Of a file of rows: the fields that the program is given.
        output: Of a file of rows: the field that it gives.
        instructions: Of a file of rows: what the program is told to do.
        test: Another file, read in the same way, that stays sealed; None for rows that were not drawn.
        rows: Drawn for train and dev, at most; where ``test`` is None, at most half of all.
        test_rows: At most.
        seed: Of the draw.

    Raises:
        DataError: The file is none of these, or the fields are not there.
    """

    def read(where: str) -> ps.Task:
        name, colon, path = where.partition(":")
        if colon and name in PUBLISHED:
            return PUBLISHED[name](path, test=())
        return _task_of_rows(Path(where).expanduser(), inputs, output, instructions)

    whole = read(source)
    draw = random.Random(seed)  # noqa: S311 — reproducible, not secret
    drawn = [*whole.train, *whole.dev]
    draw.shuffle(drawn)
    if test is None:
        rows = min(rows, len(drawn) // 2)
        sealed = drawn[rows:]
    else:
        prefix = source.partition(":")[0]
        other = read(f"{prefix}:{test}" if prefix in PUBLISHED else test)
        sealed = [*other.train, *other.dev]
        random.Random(1).shuffle(sealed)  # noqa: S311 — the same test rows for every seed
    return ps.Task(
        program=whole.program,
        examples=drawn[:rows],
        test=sealed[:test_rows],
        inputs=whole.inputs,
        metric=whole.metric,
        name=whole.name,
        seed=seed,
    )


def _task_of_rows(path: Path, inputs: Sequence[str], output: str | None, instructions: str | None) -> ps.Task:
    rows = _saved_rows(path) if path.is_dir() else [dict(each.toDict()) for each in read_examples(path, inputs=inputs)]
    if not inputs or output is None:
        raise ps.DataError(
            f"say which fields go in and which comes out; there is {', '.join(rows[0])}: --inputs … --output …",
            file=str(path),
        )
    for number, row in enumerate(rows, 1):
        if lacking := [name for name in (*inputs, output) if row.get(name) is None]:
            raise ps.DataError("the field is missing or empty", file=str(path), row=number, field=lacking[0])
    kind, metric = _output_of([row[output] for row in rows], output)
    if kind not in (int, float):
        rows = [{**row, output: str(row[output])} for row in rows]
    fields: dict[str, Any] = {name: (str, dspy.InputField()) for name in inputs}
    fields[output] = (kind, dspy.OutputField())
    return ps.Task(
        program=dspy.Predict(dspy.make_signature(fields, instructions)),
        examples=[{name: row[name] for name in (*inputs, output)} for row in rows],
        inputs=inputs,
        metric=metric,
        test=(),
        name=path.stem,
    )


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
    parser.add_argument("source")
    parser.add_argument("--test", help="a file of the same kind that stays sealed; else rows that were not drawn")
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
    task = known_task(
        arguments.source, arguments.inputs, arguments.output, instructions=arguments.instructions,
        test=arguments.test, rows=arguments.rows, test_rows=arguments.test_rows, seed=arguments.seed,
    )  # fmt: skip
    given = {} if arguments.base_url is None else {"base_url": arguments.base_url}
    lm = ps.lm(arguments.lm, max_tokens=arguments.max_tokens, **given)
    entry = Entry(task.name, lambda data, seed: nullcontext(task), arguments.calls, public=False)  # noqa: ARG005
    lines = core.run(entry, None, arguments.seed, arguments.store, lm)
    if arguments.results is not None:
        append_results(arguments.results, lines)
    print(core.table(lines, suite=task.name))


if __name__ == "__main__":
    main()
