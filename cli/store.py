"""``progspace store``: how large it is, what may go, what is damaged, and how it is carried elsewhere."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from ..errors import DataError
from .arguments import DEFAULT_STORE, JsonOption, StoreOption, show

if TYPE_CHECKING:
    from ..store.database import Store

__all__ = ["add_store", "check_store", "opened_store"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SPANS = {"h": "hours", "d": "days", "w": "weeks"}

store_app = typer.Typer(
    help="The store of cells and answers: its size, what may go, what is damaged, and how it is carried elsewhere.",
    no_args_is_help=True,
)


def add_store(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.add_typer(store_app, name="store")


@store_app.command("size")
def size_(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Says how much the store holds.

    Example: `progspace store size --store runs.db`
    """
    from ..store.upkeep import size

    with opened_store(store) as opened:
        found = size(opened)
    since = "" if found.oldest is None else f", the oldest of {time.strftime('%Y-%m-%d', time.localtime(found.oldest))}"
    told = f"{found.cells:,} cells, {found.answers:,} answers{since}, {found.traces:,} traces"
    counts = {"cells": found.cells, "answers": found.answers, "traces": found.traces}
    show(
        {**counts, "bytes": found.bytes, "oldest": found.oldest},
        Text(f"{told}: {found.bytes / 1e6:,.1f} MB"),
        as_json,
    )


@store_app.command()
def gc(
    store: StoreOption = DEFAULT_STORE,
    older_than: Annotated[
        str | None, typer.Option("--older-than", help="Cells, answers and traces of before: `12h`, `30d`, `8w`.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option("--max-size", help="The oldest answers go until it is no larger: `500M`, `2G`.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Deletes what is old. A search that needs it again pays for it again.

    Example: `progspace store gc --older-than 90d --max-size 2G`
    """
    from ..store.upkeep import collect

    if older_than is None and max_size is None:
        raise DataError("nothing says what may go: give --older-than or --max-size")
    age = None if older_than is None else _seconds(older_than)
    most = None if max_size is None else _bytes(max_size)
    with opened_store(store) as opened:
        before, after = collect(opened, older_than=age, max_bytes=most)
    gone = {name: getattr(before, name) - getattr(after, name) for name in ("answers", "cells", "traces")}
    show(
        {**gone, "bytes_before": before.bytes, "bytes": after.bytes},
        Text(
            f"{gone['answers']:,} answers, {gone['cells']:,} cells and {gone['traces']:,} traces deleted: "
            f"{before.bytes / 1e6:,.1f} MB before, {after.bytes / 1e6:,.1f} MB now"
        ),
        as_json,
    )


@store_app.command()
def export(
    table: Annotated[Literal["cells", "answers"], typer.Argument(help="What of it.")],
    file: Annotated[Path, typer.Argument(help="Of Parquet; one that is there is replaced.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Writes cells or answers as a Parquet file, for other tools or another store.

    Example: `progspace store export cells cells.parquet`
    """
    from ..store.upkeep import export_table

    with opened_store(store) as opened:
        rows = export_table(opened, table, file)
    show({"table": table, "rows": rows, "file": str(file)}, Text(f"{rows:,} {table} in {file}"), as_json)


@store_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="That `progspace store export` wrote.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Takes in what another store wrote; what this one knows already stays.

    Example: `progspace store import answers.parquet --store postgresql+psycopg://me@db/team`
    """
    from ..store.upkeep import import_table

    with opened_store(store, make=True) as opened:
        table, rows = import_table(opened, file)
    show({"table": table, "rows": rows}, Text(f"{rows:,} {table} are new"), as_json)


@store_app.command()
def check(
    store: StoreOption = DEFAULT_STORE,
    delete: Annotated[
        bool,
        typer.Option(
            "--delete", help="Delete damaged rows; a search that needs them buys them again, a trace of a call is lost."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Reads everything and tells what is damaged; exit status 1 where something is.

    Example: `progspace store check`
    """
    from ..store.upkeep import check as checked

    with opened_store(store) as opened:
        faults = list(checked(opened, delete=delete))
    show({"faults": faults}, Text("\n".join(faults) if faults else "nothing is damaged"), as_json)
    if faults:
        raise typer.Exit(1)


def opened_store(store: str, *, make: bool = False) -> Store:
    """Opens a store; one that is not there is an error, unless it shall be made."""
    from ..store.database import open_store

    if not make:
        check_store(store)
    return open_store(store)


def check_store(store: str) -> None:
    """Refuses a store that is not there."""
    if "://" not in store and not Path(store).expanduser().exists():
        raise DataError("there is no such store; name one with --store", file=store)


def _seconds(text: str) -> float:
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", text):
        return timedelta(**{_SPANS[found[2]]: float(found[1])}).total_seconds()
    raise DataError(f"{text!r} is no age: write 12h, 30d or 8w", field="--older-than")


def _bytes(text: str) -> int:
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]?)b?", text.lower()):
        return int(float(found[1]) * _UNITS[found[2]])
    raise DataError(f"{text!r} is no size: write 500M or 2G", field="--max-size")
