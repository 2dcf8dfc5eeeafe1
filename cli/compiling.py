"""``progspace compile``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import DataError
from .arguments import (
    DEFAULT_STORE,
    BaseUrlOption,
    JsonOption,
    LmOption,
    SeedOption,
    StoreOption,
    TaskArgument,
    TestRowsOption,
    WorkersOption,
    fail,
    find_lm,
    find_task,
    given,
    show,
    target,
    tell,
)

__all__ = ["add_compile"]


def add_compile(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command()(compile)


def _above_0(limit: float | None) -> float | None:
    if limit is not None and not limit > 0:
        raise typer.BadParameter("Input should be greater than 0")
    if limit == math.inf:
        raise typer.BadParameter("Input should be a finite number; leave it out for no limit")
    return limit


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
    usd: Annotated[float | None, typer.Option("--usd", help="Budget of money.", callback=_above_0)] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Budget of time.", callback=_above_0)] = None,
    seed: SeedOption = 0,
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
    sure: Annotated[
        float,
        typer.Option("--sure", min=0.5, max=0.999, help="How probable a gain over the program as declared has to be."),
    ] = 0.9,
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
    from ..compiler import compile as compile_task
    from ..evaluation.rendering import report_view
    from ..lms.budget import Budget
    from ..optimizers.races.registry import DEFAULT_RACE, race_maker
    from ..progress import CompileProgress

    loaded, model, chosen = find_task(task), find_lm(lm, base_url), _space(space)
    progress = CompileProgress()
    if finetune:
        chosen = _with_finetuning(chosen, progress, yes)
    make_race = race_maker(race or DEFAULT_RACE)
    place = target(out or Path(f"{loaded.name}.progspace.json"))
    page = None if html is None else target(html)
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
                race=make_race,
                objectives=_objectives(limits, sure),
            )
    except KeyboardInterrupt:
        _interrupted(progress, store)
    path = compiled.save(place)
    show({"artifact": str(path), "report": compiled.report.to_dict()}, report_view(compiled.report), as_json)
    tell(f"saved: {path}")
    if page is not None:
        compiled.report.to_html(page)


def _space(told: str | None) -> Any:
    from pydantic import ValidationError

    from ..optimizers.space import Space

    try:
        return Space() if told is None else Space.model_validate_json(told)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"--space: {where}: {first['msg']}; it has {', '.join(Space.model_fields)}") from error


def _with_finetuning(space: Any, progress: Any, yes: bool) -> Any:
    from ..optimizers.finetuning_space import FineTuning

    def confirmed(cost: Any) -> bool:
        return yes or progress.ask(f"Training takes {cost}. Train?", "no terminal to ask on: give --yes to train")

    how = space.finetuning or FineTuning()
    return space.model_copy(update={"finetuning": how.model_copy(update={"confirm": confirmed})})


def _objectives(limits: list[str] | None, sure: float) -> Any:
    from pydantic import ValidationError

    from ..optimizers.objectives import Objectives

    try:
        return Objectives(limits={name: float(value) for name, value in given(limits or []).items()}, sure=sure)
    except ValidationError as error:
        raise DataError(f"--limit: {error.errors()[0]['msg']}") from error
    except ValueError as error:
        raise DataError(f"--limit: {error}") from error


def _dry_run(task: Any, lm: Any, budget: Any, space: Any, store: str, test_rows: int | None, as_json: bool) -> None:
    from rich.text import Text

    from ..evaluation.power import advice
    from ..optimizers.forecast import forecast
    from ..store.database import open_store

    with open_store(store) as opened:
        expected = forecast(task, lm, budget, space, store=opened, test_rows=test_rows)
    told = advice([], len(task.dev), expected.test_rows)
    document = {"forecast": expected.to_dict(), "data": told.text, "worth_it": told.worth_it}
    show(document, Text(f"{expected.text}\n\n{told.text}"), as_json)


def _interrupted(progress: Any, store: str) -> None:
    from ..store.postgres import without_password

    best = progress.best
    told = (
        f"the best so far: {best.best.candidate.origin}, {100 * best.best.mean:.1f} % on "
        f"{len(best.best.scores)} dev examples"
        if best
        else "no rung was finished yet"
    )
    fail(
        f"interrupted; {told}. All that was bought is in {without_password(store)}: run the same command again and it "
        "goes on from here.",
        status=130,
    )
