"""``progspace ingest`` and ``progspace search``: a folder made searchable, and searched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..errors import DataError
from .arguments import JsonOption, results, show, tell

if TYPE_CHECKING:
    from ..retrievers.ingesting import IngestReport

__all__ = ["add_retrieval"]

PathOption = Annotated[
    Path | None,
    typer.Option("--path", help="The folder of embedded collections; `.progspace/collections` by default."),
]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="Of a Qdrant server instead; its key is `QDRANT_API_KEY` of the environment."),
]
EmbedderOption = Annotated[
    str | None,
    typer.Option(
        "--embedder", help="`all-minilm-l6-v2` (embedded, the default), `openai/MODEL`, or `fastembed/MODEL`."
    ),
]
BaseUrlOption = Annotated[
    str | None, typer.Option("--base-url", help="Of an OpenAI-compatible endpoint of embeddings.")
]

_SHOWN = 10


def add_retrieval(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command()(ingest)
    app.command()(search)


def ingest(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER…", help="Folders or files: text, Markdown, HTML, PDF, DOCX, JSONL, CSV."),
    ],
    collection: Annotated[str, typer.Option("--collection", "-c", help="Its name.")],
    path: PathOption = None,
    url: UrlOption = None,
    chunk_tokens: Annotated[
        list[int] | None,
        typer.Option("--chunk-tokens", help="The most tokens of a passage (256); several make a collection each."),
    ] = None,
    overlap: Annotated[int, typer.Option("--overlap", min=0, help="Tokens that neighbouring passages share.")] = 0,
    groups: Annotated[
        str | None,
        typer.Option("--groups", help="Who may read what does not say so itself, as `hr,board`; everyone by default."),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option("--origin", help="A name for where it is from, if the folder's place changes from run to run."),
    ] = None,
    language: Annotated[str | None, typer.Option("--language", help="Of the documents; `english` by default.")] = None,
    embedder: EmbedderOption = None,
    base_url: BaseUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Makes the documents of a folder searchable, or brings what is there up to date.

    Run again, it embeds only what changed and removes what is gone; stopped or killed, it goes on where it was. Rows of
    JSONL and CSV are documents: `text`, and `title`, `source`, `time`, `groups`, `id` where they are there.

    Example: `progspace ingest handbook/ --collection handbook --groups staff`
    """
    from ..evaluation.numbers import count
    from ..retrievers.embedders import find_embedder
    from ..retrievers.ingesting import ingest as run

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("passages"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task(f"ingesting into {collection}", total=None)
    with bar:
        retriever = run(
            sources,
            collection=collection,
            path=path,
            url=url,
            embedder=find_embedder(embedder, base_url=base_url) if embedder else None,
            chunk_tokens=chunk_tokens or 256,
            overlap=overlap,
            groups=None if groups is None else groups.split(","),
            origin=origin,
            language=language,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    made = [retriever, *retriever.variants.values()]
    reports = [each.ingested for each in made if each.ingested is not None]
    for each in made:
        each.collection.close()
    if as_json:
        show(reports[0].to_dict() | {"variants": [report.to_dict() for report in reports[1:]]}, "", as_json)
        return
    for report in reports:
        tell(_told(report))
    skipped = reports[0].skipped
    if skipped:
        tell(f"skipped: {count(len(skipped))}")
    for left in skipped[:_SHOWN]:
        tell(f"  {left.source}: {left.reason}")
    if len(skipped) > _SHOWN:
        tell(f"  … and {count(len(skipped) - _SHOWN)} more (--json names all)")


def search(
    collection: Annotated[str, typer.Argument(help="A collection of `progspace ingest`.")],
    query: Annotated[str, typer.Argument(help="A question, or words.")],
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many passages.")] = 5,
    mode: Annotated[
        str, typer.Option("--mode", help="`dense` (by meaning), `sparse` (by words, BM25), or `hybrid`.")
    ] = "hybrid",
    groups: Annotated[
        str | None, typer.Option("--groups", help="Of whoever asks, as `hr,board`; without, only what is public.")
    ] = None,
    path: PathOption = None,
    url: UrlOption = None,
    embedder: EmbedderOption = None,
    base_url: BaseUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Finds the passages of a collection that a query is about.

    Example: `progspace search handbook "how much leave do I have?" --k 3 --groups staff`
    """
    from pydantic import ValidationError

    from ..retrievers.collection import Collection
    from ..retrievers.embedders import find_embedder
    from ..retrievers.retriever import Retriever
    from ..retrievers.search import Search

    try:
        how = Search.model_validate({"mode": mode, "k": k, "candidates": max(50, k)})
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"--{first['loc'][0]}: {first['msg']}") from error
    found_by = find_embedder(embedder, base_url=base_url) if embedder else None
    with Collection.open(collection, path=path, url=url, embedder=found_by, create=False) as opened:
        names = None if groups is None else tuple(name.strip() for name in groups.split(",") if name.strip())
        found = Retriever(opened, how, names)(query)
    if as_json:
        fields = ("id", "score", "source", "position", "title", "time", "text")
        rows = [{field: getattr(passage, field) for field in fields} for passage in found]
        show({"collection": collection, "query": query, "passages": rows}, "", as_json)
        return
    console = Console(file=results())
    for number, passage in enumerate(found, 1):
        title = f" · {passage.title}" if passage.title else ""
        console.print(Text(f"{number}. {passage.source}{title}  ({passage.score:.3f})", "bold"))
        console.print(Text(passage.text))
    if not found:
        tell("nothing was found")


def _told(report: IngestReport) -> str:
    from ..evaluation.numbers import count, duration

    return (
        f"{report.collection}: {count(report.added)} passages added ({count(report.embedded)} embedded), "
        f"{count(report.kept)} kept, {count(report.removed)} removed; {count(report.documents)} documents, "
        f"{duration(report.seconds)}"
    )
