"""``progspace traces``, ``feedback`` and ``monitor``: what watched programs did, and how well."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from ..errors import DataError
from .arguments import (
    DEFAULT_STORE,
    JsonOption,
    KnownOption,
    StoreOption,
    find_strangeness,
    finite,
    results,
    show,
    utf8,
)
from .store import check_store, opened_store

__all__ = ["add_watch"]

NameOption = Annotated[str | None, typer.Option("--name", help="Of one program only, by the name of its traces.")]


def add_watch(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command()(traces)
    app.command()(feedback)
    app.command()(monitor)


def traces(
    ids: Annotated[list[str] | None, typer.Argument(help="Of single traces; all of each is shown.")] = None,
    name: NameOption = None,
    last: Annotated[int, typer.Option("--last", min=1, help="The latest.")] = 20,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Lists the calls of watched programs.

    Example: `progspace traces --last 100 --json`
    """
    from ..monitoring.rendering import traces_view
    from ..store.traces import read_traces

    with opened_store(store) as opened:
        found = read_traces(opened, name=name, last=last, ids=ids or None)
    if ids and len(found) < len(set(ids)):
        raise DataError(f"there is no trace {', '.join(sorted(set(ids) - {trace.id for trace in found}))}", file=store)
    documents = [asdict(trace) for trace in found]
    if ids and not as_json:
        Console(file=results()).print_json(data=finite(documents), default=str, ensure_ascii=not utf8())
        return
    show({"traces": documents}, traces_view(found), as_json)


def feedback(
    trace: Annotated[str, typer.Argument(help="Its id.")],
    score: Annotated[
        float | None, typer.Option("--score", min=0.0, max=1.0, help="1 where the answer was right, 0 where not.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", help="What an output should have been, `field=value`; scores it where outputs are kept whole."
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Says of a call whether it was right, or what would have been.

    Example: `progspace feedback 0f3c… --label sentiment=negative`
    """
    from ..monitoring.watching import feedback as tell

    check_store(store)
    pairs = [each.partition("=") for each in label or []]
    if wrong := [name for name, equals, _ in pairs if not (name and equals)]:
        raise DataError(f"{wrong[0]!r} is not of the form field=value", field="--label")
    told = tell(trace, store=store, score=score, labels={name: value for name, _, value in pairs})
    scored = "has no score: its outputs were not kept whole" if told.score is None else f"has the score {told.score:g}"
    show({"trace": told.id, "score": told.score, "labels": dict(told.labels)}, Text(f"{told.id} {scored}"), as_json)


def monitor(
    name: NameOption = None,
    last: Annotated[int, typer.Option("--last", min=1, help="Traces that are read, the latest.")] = 10_000,
    window: Annotated[
        int,
        typer.Option(
            "--window", min=20, help="The first calls among them, which say what a long call is, or many tokens."
        ),
    ] = 500,
    reference: Annotated[
        float | None,
        typer.Option("--reference", help="The score that is no change, in place of the artifact's and its own past."),
    ] = None,
    known: KnownOption = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write it as a page, too.")] = None,
    fail: Annotated[bool, typer.Option("--fail-if-changed", help="Exit status 1 where there is an alarm.")] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Tells how well watched programs do, and since when they do otherwise.

    Example: `progspace monitor --html monitor.html`
    """
    from ..evaluation.page.html import write_page
    from ..monitoring.page import page
    from ..monitoring.quality import monitor as look
    from ..monitoring.rendering import quality_view

    check_store(store)
    inputs = None if known is None else find_strangeness(known)
    found = look(store, name=name, last=last, window=window, reference=reference, known=inputs)
    show({"programs": [quality.to_dict() for quality in found]}, quality_view(found), as_json)
    if html is not None:
        write_page(page(found), html)
    if fail and any(quality.changed for quality in found):
        raise typer.Exit(1)
