"""``progspace transfer``: a compiled program on another LM."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from .arguments import (
    DEFAULT_STORE,
    AlphaOption,
    BaseUrlOption,
    DataOption,
    JsonOption,
    SeedOption,
    StoreOption,
    TaskArgument,
    TestRowsOption,
    WorkersOption,
    artifact_path,
    find_lm,
    find_task,
    show,
    target,
    tell,
)

if TYPE_CHECKING:
    from ..transferring import Transferred

__all__ = ["add_transfer"]


def add_transfer(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command()(transfer)


def transfer(
    artifact: Annotated[str, typer.Argument(help="A `.progspace.json` artifact, or `@TAG` of the registry.")],
    task: TaskArgument,
    to: Annotated[str, typer.Option("--to", help="The new LM, as `--lm` of other commands names it.")],
    base_url: BaseUrlOption = None,
    old: Annotated[
        str | None, typer.Option("--from", help="The LM that it was compiled for, to compare the two.")
    ] = None,
    data: DataOption = None,
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="Test the parts on so many rows; on all of dev by default.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where the new artifact goes; `X-LM.progspace.json` by default.")
    ] = None,
    calls: Annotated[int, typer.Option("--calls", min=1, help="Budget of the search; the tests come on top.")] = 2000,
    alpha: AlphaOption = 0.05,
    seed: SeedOption = 0,
    test_rows: TestRowsOption = None,
    store: StoreOption = DEFAULT_STORE,
    workers: WorkersOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what will be tested, and what it will cost; ask no LM.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Takes a compiled program to another LM: tests what of it carries over, and searches only the rest.

    Each part is taken back alone on the new LM; what is shown to harm is dropped. What is lost is searched again, from
    what is left; the old artifact stays as it is.

    Example: `progspace transfer sentiment.progspace.json sentiment --to openai/gpt-4o-mini --dry-run`
    """
    from ..evaluation.rendering import report_view
    from ..lms.budget import Budget
    from ..progress import CompileProgress
    from ..store.database import open_store
    from ..transferring import forecast_transfer
    from ..transferring import transfer as run

    path, loaded, model = artifact_path(artifact), find_task(task), find_lm(to, base_url)
    if dry_run:
        with open_store(store) as opened:
            told = forecast_transfer(
                path, loaded, to=model, budget=Budget(calls=calls), data=data, rows=rows, store=opened,
                test_rows=test_rows,
            )  # fmt: skip
        show(told.to_dict(), Text(told.text), as_json)
        return
    place = target(out or _beside(Path(artifact.removeprefix("@")), model))
    progress = CompileProgress()
    with progress:
        done = run(
            path, loaded, to=model, old_lm=None if old is None else find_lm(old, None), budget=Budget(calls=calls),
            data=data, rows=rows, alpha=alpha, store=store, seed=seed, test_rows=test_rows, workers=workers,
            progress=progress,
        )  # fmt: skip
    saved = done.compiled.save(place)
    view = Group(_parts(done), *map(Text, done.lines), report_view(done.compiled.report))
    show({"artifact": str(saved), **done.to_dict()}, view, as_json)
    tell(f"saved: {saved}")


def _beside(path: Path, lm: Any) -> Path:
    slug = re.sub(r"[^\w.]+", "-", str(lm.model).rpartition("/")[2])
    return path.with_name(f"{path.name.removesuffix('.json').removesuffix('.progspace')}-{slug}.progspace.json")


def _parts(done: Transferred) -> Table:
    from ..evaluation import numbers

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ["predictor", "part", "what", "", "worth on the new LM"]:
        table.add_column(column, overflow="fold")
    for each in done.parts:
        told = each.part.impossible or "went with its format"
        if (test := each.test) is not None:
            between = numbers.points_between(test.interval.low, test.interval.high)
            told = f"{numbers.points(test.difference)} {between}"
        style = {"kept": "green", "lost": "red"}.get(each.verdict)
        what = each.part.told if len(each.part.told) <= 60 else each.part.told[:59] + "…"
        cells = [Text(cell) for cell in (each.part.where, each.part.kind, what, each.verdict, told)]
        cells[3].stylize(style or "")
        table.add_row(*cells)
    return table
