"""``progspace compare``: two programs on the same examples, and a gate for CI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import DataError
from .arguments import (
    DEFAULT_STORE,
    AlphaOption,
    BaseUrlOption,
    DataOption,
    JsonOption,
    LmOption,
    MarginOption,
    ProgramArgument,
    SeedOption,
    SplitOption,
    StoreOption,
    TaskArgument,
    WorkersOption,
    find_lm,
    find_program,
    find_task,
    show,
)

__all__ = ["add_gate"]

_WORSE, _CANNOT_TELL = 1, 3


def add_gate(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command()(compare)


def compare(
    new: ProgramArgument,
    old: ProgramArgument,
    task: TaskArgument,
    lm: LmOption = "local",
    base_url: BaseUrlOption = None,
    split: SplitOption = "dev",
    data: DataOption = None,
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help="Be a gate: the exit status tells the verdict.")
    ] = False,
    margin: MarginOption = 0.01,
    alpha: AlphaOption = 0.05,
    cannot_tell: Annotated[
        Literal["fail", "pass"],
        typer.Option("--cannot-tell", help="What a gate does where the rows show nothing: exit with 3, or with 0."),
    ] = "fail",
    junit: Annotated[Path | None, typer.Option("--junit", help="Write the gate as JUnit's XML, too.")] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(
            "--markdown", help="Write it as Markdown, too. A gate adds it to `$GITHUB_STEP_SUMMARY` where that is set."
        ),
    ] = None,
    seed: SeedOption = 0,
    store: StoreOption = DEFAULT_STORE,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compares two programs on the same examples: is the new one no worse, within a margin, and what did it break?

    With `--fail-if-worse` the exit status is 0 for *no worse*, 1 for *worse*, and 3 for *cannot tell* (0 with
    `--cannot-tell pass`). A program that was chosen by its scores on dev looks better there than it is: use
    `--split test`, or rows of your own with `--data`.

    Example: `progspace compare new.progspace.json old.progspace.json sentiment --split test --fail-if-worse`
    """
    from ..evaluation.gate import gate
    from ..evaluation.gate_rendering import gate_junit, gate_markdown

    loaded, model = find_task(task), find_lm(lm, base_url)
    told = gate(
        find_program(new, loaded, model), find_program(old, loaded, model), loaded,
        lm=model, margin=margin, alpha=alpha, split=split, data=data, store=store, workers=workers, seed=seed,
        names=(new, old),
    )  # fmt: skip
    show(told.to_dict(), told.view(), as_json)
    passing = cannot_tell == "pass"
    if junit is not None:
        _write(junit, gate_junit(told, cannot_tell=passing))
    if markdown is not None:
        _write(markdown, gate_markdown(told))
    if not fail_if_worse:
        return
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        _write(Path(summary), gate_markdown(told) + "\n", mode="a")
    if not told.passes(cannot_tell=passing):
        raise typer.Exit(_WORSE if told.verdict == "worse" else _CANNOT_TELL)


def _write(path: Path, text: str, mode: Literal["w", "a"] = "w") -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror or error})", file=str(path)) from error
