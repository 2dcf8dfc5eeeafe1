"""``progspace evaluate``, ``inspect`` and ``run``: a program or a task as it stands."""

from __future__ import annotations

import json
import logging
import sys
from typing import Annotated, Any

import typer

from ..errors import DataError, ProgramError, ProgspaceError
from .arguments import (
    DEFAULT_STORE,
    ArtifactArgument,
    BaseUrlOption,
    JsonOption,
    LmOption,
    OtherLmOption,
    ProgramArgument,
    SplitOption,
    StoreOption,
    TaskArgument,
    WorkersOption,
    artifact_path,
    find_lm,
    find_other_lm,
    find_program,
    find_task,
    given,
    results,
    show,
    utf8,
)

__all__ = ["add_programs"]


def add_programs(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    for command in (inspect, evaluate, run):
        app.command()(command)


def evaluate(
    program: ProgramArgument,
    task: TaskArgument,
    lm: LmOption = "local",
    base_url: BaseUrlOption = None,
    split: SplitOption = "dev",
    store: StoreOption = DEFAULT_STORE,
    workers: WorkersOption = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Ask by OpenAI's Batch API: within a day, at half the price.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Scores a program on a task.

    With `--batch`, stopped or killed, it goes on where it was when it is run again: nothing is sent twice.

    Example: `progspace evaluate sentiment.progspace.json sentiment --split dev`
    """
    from ..evaluation.rendering import evaluation_view
    from ..evaluation.scoring import evaluate as score

    loaded, model = find_task(task), find_lm(lm, base_url)
    if batch:  # what is told of them meanwhile
        logging.basicConfig(format="%(message)s")
        logging.getLogger("progspace.lms.batch").setLevel(logging.INFO)
    result = score(
        find_program(program, loaded, model), loaded, lm=model, split=split, store=store, workers=workers, name=program,
        batch=batch,
    )  # fmt: skip
    show(result.to_dict(), evaluation_view(result), as_json)


def inspect(
    what: Annotated[str, typer.Argument(help="A `.progspace.json` artifact, `@TAG` of the registry, or a task.")],
    lm: Annotated[
        str | None, typer.Option("--lm", help="Show a task's choices on this LM; by default on one that can do all.")
    ] = None,
    base_url: BaseUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows what an artifact holds, or what a task is made of: its data, its choices, and how many there are.

    Example: `progspace inspect sentiment --lm local`
    """
    from ..inspection import artifact_view, task_document, task_view

    if what.startswith("@") or what.endswith(".json"):
        from ..artifacts.artifact import read_artifact

        artifact = read_artifact(artifact_path(what))
        show(artifact.model_dump(mode="json"), artifact_view(artifact), as_json)
    else:
        loaded, model = find_task(what), find_lm(lm, base_url) if lm else None
        show(task_document(loaded, model), task_view(loaded, model), as_json)


def run(
    artifact: ArtifactArgument,
    fields: Annotated[
        list[str] | None,
        typer.Argument(
            help="Inputs as `name=value`; without any, JSON objects are read from standard input, one a line."
        ),
    ] = None,
    lm: OtherLmOption = None,
    base_url: BaseUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Runs a compiled program.

    Example: `progspace run sentiment.progspace.json review="A joy from start to finish."`
    """
    from dspy.adapters.utils import serialize_for_json

    from ..artifacts.load import load
    from ..evaluation.judging import told

    program = load(artifact_path(artifact), lm=find_other_lm(lm, base_url))
    rows: list[tuple[int | None, dict[str, Any]]] = (
        [(None, given(fields))]
        if fields
        else [(number, _json_row(line, number)) for number, line in enumerate(sys.stdin, 1) if line.strip()]
    )
    wanted = [name for predictor in program.predictors() for name in predictor.signature.output_fields]
    inputs = _inputs(program)
    for number, row in rows:
        if inputs is not None:
            _check_inputs(row, *inputs, number)
        try:
            outputs = serialize_for_json(program(**row).toDict())
        except ProgspaceError:
            raise
        except Exception as error:  # an LM's, or of an answer that cannot be read
            raise ProgramError(f"{'' if number is None else f'row {number}: '}no answer: {told(error)}") from error
        shown = {name: value for name, value in outputs.items() if name in wanted} or outputs
        if as_json or not fields:
            results().write(json.dumps(shown, ensure_ascii=not utf8()) + "\n")
        else:
            for name, value in shown.items():
                results().write(f"{name}: {value}\n")


def _inputs(program: Any) -> tuple[list[str], set[str]] | None:
    """Which inputs a program has, and which of them it needs; None where they have no names."""
    from ..serving.interface import interface_of

    try:
        schema = interface_of(program).inputs.json_schema()
    except ProgramError:
        return None
    return list(schema.get("properties", {})), set(schema.get("required", ()))


def _check_inputs(row: dict[str, Any], names: list[str], needed: set[str], number: int | None) -> None:
    for name in (*(set(row) - set(names)), *(needed - set(row))):
        problem = "the program has no such input" if name in row else "is missing"
        raise DataError(f"{problem}; its inputs are {', '.join(names)}", field=name, row=number)


def _json_row(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"not JSON ({error})", file="standard input", row=number) from error
    if not isinstance(row, dict):
        raise DataError("not a JSON object with a value for each input", file="standard input", row=number)
    return row
