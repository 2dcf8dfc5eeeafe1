"""``progspace edge-cases`` and ``robustness``: where a program fails, and what makes it fail."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from .arguments import (
    DEFAULT_STORE,
    AlphaOption,
    BaseUrlOption,
    DataOption,
    JsonOption,
    LmOption,
    ProgramArgument,
    SeedOption,
    SplitOption,
    StoreOption,
    TaskArgument,
    TracesNameOption,
    WorkersOption,
    artifact_path,
    find_lm,
    find_program,
    find_task,
    show,
)

__all__ = ["add_edge"]

SuiteOption = Annotated[
    Path | None,
    typer.Option("--suite", help="Add them to a regression suite, a `.jsonl` file that `compare --data` reads."),
]


def add_edge(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command("edge-cases")(edge_cases)
    app.command()(robustness)


def edge_cases(
    task: TaskArgument,
    program: Annotated[
        str | None,
        typer.Option(
            "--program",
            help="An artifact, `@TAG` or `baseline`, which is run; the best in the store else. With --traces, whose.",
        ),
    ] = None,
    lm: LmOption = "local",
    base_url: BaseUrlOption = None,
    split: SplitOption = "dev",
    data: DataOption = None,
    by: Annotated[list[str] | None, typer.Option("--by", help="A further field to slice by.")] = None,
    traces: Annotated[
        bool, typer.Option("--traces", help="Read the traces of a running program in the store, in place of examples.")
    ] = False,
    name: TracesNameOption = None,
    last: Annotated[int, typer.Option("--last", min=1, help="Traces that are read, the latest.")] = 1_000,
    to_label: Annotated[
        Path | None,
        typer.Option("--to-label", help="Add the traces' cases without a label to a `.jsonl` file of rows."),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option("--embedder", help="Tells which inputs are near each other, by its name; `none` leaves that out."),
    ] = None,
    suite: SuiteOption = None,
    alpha: AlphaOption = 0.05,
    seed: SeedOption = 0,
    store: StoreOption = DEFAULT_STORE,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Finds examples on which good programs fail or disagree, and slices on which a program does worse.

    It reads what searches and evaluations have stored, and calls no LM, but with `--program`. Slices are told of only
    where they cannot be luck, given how many were looked at.

    With `--traces` it tells of calls in an app: what failed, could not be read, was retried, abstained, unsure, judged
    wrong by feedback, or far from the task's examples.

    Example: `progspace edge-cases sentiment --program sentiment.progspace.json --suite hard.jsonl`
    """
    from ..artifacts.artifact import read_hashed
    from ..evaluation.edge_cases import edge_cases as find
    from ..lms.models import DEFAULT_EMBEDDER

    loaded = find_task(task)
    model = None if program is None or traces else find_lm(lm, base_url)
    near = None if embedder == "none" else embedder or DEFAULT_EMBEDDER
    found = find(
        loaded, None if model is None else find_program(str(program), loaded, model),
        lm=model, split=split, data=data, by=by or (), embedder=near, alpha=alpha,
        store=store, workers=workers, seed=seed, name=name or program, traces=store if traces else None, last=last,
        version=read_hashed(artifact_path(program))[0] if traces and program is not None else None,
    )  # fmt: skip
    added = None if suite is None else found.suite(suite, loaded)
    asked = None if to_label is None else found.to_label(to_label, loaded)
    document = {**found.to_dict(), **_kept(suite, added), **_kept(to_label, asked, "to_label")}
    show(document, Group(found.view(), *_said(suite, added), *_said(to_label, asked)), as_json)


def robustness(
    program: ProgramArgument,
    task: TaskArgument,
    lm: LmOption = "local",
    base_url: BaseUrlOption = None,
    split: SplitOption = "dev",
    data: DataOption = None,
    perturbation: Annotated[
        list[str] | None,
        typer.Option(
            "--perturbation", help="`case`, `typos`, `whitespace`, `distractor`, `truncation`, `injection`; all else."
        ),
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option("--field", help="An input to change; those that hold prose by default.")
    ] = None,
    suite: SuiteOption = None,
    alpha: AlphaOption = 0.05,
    seed: SeedOption = 0,
    store: StoreOption = DEFAULT_STORE,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Scores a program on rows whose inputs are changed such that the label stays, against the rows as they are.

    Example: `progspace robustness sentiment.progspace.json sentiment --perturbation typos --perturbation injection`
    """
    from ..evaluation.robustness import robustness as score

    loaded, model = find_task(task), find_lm(lm, base_url)
    found = score(
        find_program(program, loaded, model), loaded, lm=model, perturbations=perturbation, fields=field, split=split,
        data=data, alpha=alpha, store=store, workers=workers, seed=seed, name=program,
    )  # fmt: skip
    added = None if suite is None else found.suite(suite, loaded)
    show({**found.to_dict(), **_kept(suite, added)}, Group(found.view(), *_said(suite, added)), as_json)


def _kept(suite: Path | None, added: int | None, name: str = "suite") -> dict[str, Any]:
    return {} if suite is None else {name: {"file": str(suite), "added": added}}


def _said(suite: Path | None, added: int | None) -> list[Text]:
    return [] if suite is None else [Text(f"{added} rows are new in {suite}.")]
