"""``progspace report`` and ``progspace watch``: what a search found, as text or as a page, and while it runs."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ..errors import DataError
from .arguments import DEFAULT_STORE, JsonOption, PortOption, StoreOption, artifact_path, show, tell
from .store import opened_store

if TYPE_CHECKING:
    from ..evaluation.findings import Findings
    from ..evaluation.page.content import PageContent

__all__ = ["add_page"]


def add_page(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command()(report)
    app.command()(watch)


def report(
    what: Annotated[
        str | None,
        typer.Argument(
            help="A `.progspace.json` artifact, `@TAG` of the registry, a task's name or a search's id in the store; "
            "the latest search by default."
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write it as a page: one file.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Shows what a search found: its ladder as text, or everything as a page.

    The page has the race, the Pareto front, the matrix and the prompts, too, where the store of the search is at hand.

    Example: `progspace report sentiment.progspace.json --html report.html --open`
    """
    from ..evaluation.page.html import html_page, write_page
    from ..evaluation.rendering import report_view

    findings, content = _artifact(what, store) if what and _is_artifact(what) else _searched(what, store)
    if html is None and open_:
        html = Path(".progspace", f"{content.task}.html".replace("/", "-"))
    if html is not None:
        write_page(html_page(content), html)
        tell(f"page: {html}")
        if open_:
            webbrowser.open(html.resolve().as_uri())
    if findings is not None:
        show(findings.to_dict(), report_view(findings), as_json)
    else:
        told = (
            f"{content.task}: still running, or stopped: {content.calls:,} calls, {len(content.candidates)} candidates"
        )
        show({"task": content.task, "state": content.state, "calls": content.calls}, Text(told), as_json)


def watch(
    what: Annotated[
        str | None,
        typer.Argument(help="A task's name, a search's id, or a store; the latest search of --store by default."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    port: PortOption = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Shows a search while it runs in another process, as a page for this machine's browser.

    Example: `progspace watch sentiment --store runs.db --open`
    """
    from ..evaluation.page.live import Watch

    named = what is not None and ("://" in what or Path(what).is_file())
    with opened_store(what if what is not None and named else store) as opened:
        try:
            watching = Watch(opened, None if named else what, port)
        except OSError as error:
            raise DataError(f"port {port} cannot be had ({error.strerror}); give another one, or 0 for any") from error
        tell(f"watching on {watching.url} (Ctrl-C ends it)")
        if open_:
            webbrowser.open(watching.url)
        watching.serve()


def _is_artifact(what: str) -> bool:
    return what.startswith("@") or what.endswith(".json")


def _artifact(what: str, store: str) -> tuple[Findings, PageContent]:
    """The page of an artifact: all of its search, where the store still holds it."""
    from ..artifacts.artifact import read_artifact
    from ..evaluation.page.reading import content_of, read_content
    from ..store.searches import events, searches

    artifact = read_artifact(artifact_path(what))
    made = artifact.provenance
    if "://" in store or Path(store).expanduser().exists():
        with opened_store(store) as opened:
            for search in searches(opened):
                same = (search.task_hash, search.seed, search.finished) == (made.task_hash, made.seed, True)
                if same and events(opened, search.id)[-1].value["provenance"] == made.model_dump(mode="json"):
                    return artifact.report, read_content(opened, search)
    told = {
        "LM": artifact.report.lm,
        "seed": str(made.seed),
        "hash of the task": made.task_hash,
        "made": made.created,
        **{f"{name} version": value for name, value in made.versions.items()},
    }
    return artifact.report, content_of(artifact.report, {name: value for name, value in told.items() if value})


def _searched(what: str | None, store: str) -> tuple[Findings | None, PageContent]:
    from ..evaluation.findings import Findings
    from ..evaluation.page.live import find_search
    from ..evaluation.page.reading import read_content
    from ..store.searches import events, searches

    with opened_store(store) as opened:
        search = find_search(opened, what)
        if search is None:
            known = ", ".join(dict.fromkeys(each.task for each in searches(opened))) or "none"
            raise DataError(f"there is no search of {what!r}; those that were written down: {known}", file=store)
        last = events(opened, search.id)[-1].value if search.finished else {}
        return Findings.model_validate(last["findings"]) if last else None, read_content(opened, search)
