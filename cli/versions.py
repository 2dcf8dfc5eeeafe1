"""``progspace registry …``, ``diff`` and ``recompile``: versions of programs, what changed, and a ratchet."""

from __future__ import annotations

from collections.abc import Iterator
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
    LmOption,
    MarginOption,
    SeedOption,
    SplitOption,
    StoreOption,
    TaskArgument,
    TestRowsOption,
    TracesNameOption,
    WorkersOption,
    artifact_path,
    find_lm,
    find_task,
    show,
)

if TYPE_CHECKING:
    from ..artifacts.registry import Version

__all__ = ["add_versions"]

RegistryOption = Annotated[
    Path | None, typer.Option("--registry", help="The folder of versions; `.progspace/registry` by default.")
]
ReferenceArgument = Annotated[str, typer.Argument(help="A tag, or the first digits of a version's hash.")]

registry_app = typer.Typer(help="Versions of compiled programs: tags, lineage, rollback.", no_args_is_help=True)


def add_versions(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.add_typer(registry_app, name="registry")
    app.command()(diff)
    app.command()(recompile)


def _registry(folder: Path | None) -> Any:
    from ..artifacts.registry import DEFAULT_REGISTRY, Registry

    return Registry(folder or DEFAULT_REGISTRY)


def _told(version: Version, tags: dict[str, str]) -> dict[str, Any]:
    names = [tag for tag, name in tags.items() if name == version.hash]
    return {**version.model_dump(mode="json"), "tags": names}


@registry_app.command("add")
def add(
    artifact: Annotated[
        str,
        typer.Argument(
            help="A `.progspace.json` artifact, of which a copy is kept; or `@TAG` of `.progspace/registry`."
        ),
    ],
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A name that points at it: `prod`.")] = None,
    parent: Annotated[
        str | None, typer.Option("--parent", help="The version that it came from; by default what the tag named.")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="What there is to say of it.")] = "",
    folder: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keeps an artifact as a version, with its trained weights.

    Example: `progspace registry add sentiment.progspace.json --tag prod`
    """
    registry = _registry(folder)
    version = registry.add(artifact_path(artifact), tags=tag or [], parent=parent, note=note)
    _show_versions([version], registry.tags(), as_json)


@registry_app.command("list")
def list_(folder: RegistryOption = None, as_json: JsonOption = False) -> None:
    """Lists the versions, the last added first."""
    registry = _registry(folder)
    _show_versions(registry.versions(), registry.tags(), as_json, many=True)


@registry_app.command("show")
def show_(reference: ReferenceArgument, folder: RegistryOption = None, as_json: JsonOption = False) -> None:
    """Shows a version: its file, where it came from, and the way of the tag that names it.

    Example: `progspace registry show prod`
    """
    registry = _registry(folder)
    version, tags = registry.version(reference), registry.tags()
    path, line = registry.path(reference), registry.lineage(reference)
    moves = registry.history(reference) if reference in tags else []
    document = {
        **_told(version, tags),
        "path": str(path),
        "lineage": [each.hash for each in line],
        "history": [move.model_dump(mode="json") for move in moves],
    }
    parts = [Text(str(path)), Text("came from: " + (" ← ".join(each.hash[:12] for each in line[1:]) or "nowhere told"))]
    parts += [Text(f"{move.time}  {reference} → {move.version[:12]} ({move.how})") for move in moves]
    show(document, Group(_table([version], tags), *parts), as_json)


@registry_app.command("tag")
def tag(
    name: Annotated[str, typer.Argument(help="The tag.")],
    reference: ReferenceArgument,
    folder: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lets a tag name a version.

    Example: `progspace registry tag prod 3f9ac2`
    """
    registry = _registry(folder)
    _show_versions([registry.tag(name, reference)], registry.tags(), as_json)


@registry_app.command("rollback")
def rollback(
    name: Annotated[str, typer.Argument(help="The tag.")], folder: RegistryOption = None, as_json: JsonOption = False
) -> None:
    """Lets a tag name the version that it named before; again, the one before that.

    Example: `progspace registry rollback prod`
    """
    registry = _registry(folder)
    _show_versions([registry.rollback(name)], registry.tags(), as_json)


def _show_versions(versions: list[Version], tags: dict[str, str], as_json: bool, *, many: bool = False) -> None:
    told = [_told(version, tags) for version in versions]
    show({"versions": told} if many else told[0], _table(versions, tags), as_json)


def _table(versions: list[Version], tags: dict[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ["version", "task", "tags", "added", "from", "note"]:
        table.add_column(column, no_wrap=column in ("version", "from"), overflow="fold")
    for version in versions:
        names = ", ".join(_told(version, tags)["tags"])
        cells = (version.hash[:12], version.task, names, version.added[:19], (version.parent or "")[:12], version.note)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def diff(
    old: Annotated[str, typer.Argument(help="A `.progspace.json` artifact, or `@TAG` of the registry.")],
    new: Annotated[str, typer.Argument(help="The other one.")],
    task: Annotated[
        str | None, typer.Argument(help="A task, as for `compare`: run both, and tell which examples changed.")
    ] = None,
    lm: LmOption = "local",
    base_url: BaseUrlOption = None,
    split: SplitOption = "dev",
    data: DataOption = None,
    each: Annotated[
        bool, typer.Option("--each", help="Also take each change of a predictor back alone, and tell what it did.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tells in words what changed from one artifact to another; with a task, on which examples that shows.

    Example: `progspace diff @prod new.progspace.json sentiment --data rows.jsonl --each`
    """
    from ..artifacts.artifact import read_artifact
    from ..artifacts.diff import diff_artifacts, without
    from ..artifacts.load import load, program_of
    from ..errors import DataError
    from ..evaluation.gate import Gate, gate
    from ..evaluation.gate_rendering import changes_view
    from ..store.database import open_store

    paths = [artifact_path(reference) for reference in (old, new)]
    before, after = (read_artifact(path) for path in paths)
    found = diff_artifacts(before, after)
    document: dict[str, Any] = found.to_dict()
    parts: list[Any] = [Text(line) for line in found.lines]
    if task is None:
        if each or data is not None:
            raise DataError("to run the programs a task is needed, which has the metric: progspace diff OLD NEW TASK")
        show(document, Group(*parts), as_json)
        return
    loaded, model = find_task(task), find_lm(lm, base_url)
    programs = [load(path, lm=model, program=loaded.program) for path in paths]
    with open_store(store) as opened:

        def compared(one: Any, other: Any) -> Gate:
            return gate(
                one, other, loaded, lm=model, split=split, data=data, store=opened, workers=workers, names=(new, old)
            )

        def effects() -> Iterator[tuple[str, Gate]]:
            yield "all changes", compared(programs[1], programs[0])
            alone = {(change.where, change.field): change for change in found.changes if change.field}
            for change in alone.values() if each else ():
                candidate = without(change, before.candidate, after.candidate)
                back = program_of(
                    after.model_copy(update={"candidate": candidate, "lms": {**before.lms, **after.lms}}),
                    lm=model, program=loaded.program, path=paths[1],
                )  # fmt: skip
                yield f"{change.where}, {change.field} alone", compared(programs[1], back)

        effect = dict(effects())
    document["effects"] = {name: told.to_dict(rows=False)["gate"] for name, told in effect.items()}
    parts += [changes_view(name, told, all_rows=name == "all changes") for name, told in effect.items()]
    show(document, Group(*parts), as_json)


def recompile(
    artifact: Annotated[
        str,
        typer.Argument(
            help="The `.progspace.json` artifact in use, which a better one replaces; or `@TAG` of the registry, "
            "which comes to name a better one."
        ),
    ],
    task: TaskArgument,
    data: Annotated[
        Path | None, typer.Option("--data", help="New labelled rows: `.jsonl`, `.json`, `.csv`, `.parquet`.")
    ] = None,
    traces: Annotated[
        bool,
        typer.Option("--traces", help="New rows from the program's traces in the store, where feedback labels them."),
    ] = False,
    name: TracesNameOption = None,
    lm: LmOption = "local",
    base_url: BaseUrlOption = None,
    calls: Annotated[int, typer.Option("--calls", min=1, help="Budget of the search, in LM calls.")] = 2000,
    margin: MarginOption = 0.01,
    alpha: AlphaOption = 0.05,
    seed: SeedOption = 0,
    test_rows: TestRowsOption = None,
    store: StoreOption = DEFAULT_STORE,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compiles a program anew with further rows; the new one takes the old one's place only if that is no loss.

    Half of the new rows are kept back. On them the new program must be no worse than the old one, within the margin,
    and better on one at least; else the file, or the tag, stays as it is. The status is 0 either way.

    Example: `progspace recompile sentiment.progspace.json sentiment --traces --margin 0.02`
    """
    from ..lms.budget import Budget
    from ..progress import CompileProgress
    from ..recompiling import recompile as run

    loaded, model, progress = find_task(task), find_lm(lm, base_url), CompileProgress()
    with progress:
        done = run(
            artifact, loaded, data, lm=model, traces=store if traces else None, name=name, margin=margin,
            alpha=alpha, budget=Budget(calls=calls), store=store, seed=seed, test_rows=test_rows, workers=workers,
            progress=progress,
        )  # fmt: skip
    moved = "names the new one now" if artifact.startswith("@") else "was replaced"
    said = [*done.lines, f"{artifact} {moved if done.replaced else 'stays as it is'}."]
    document = {
        "replaced": done.replaced,
        "why": done.why,
        "joined": done.joined,
        "kept_back": done.kept_back,
        "traces": None if done.traces is None else {**done.traces.to_dict(), "seen": done.seen},
        **done.gate.to_dict(),
        "report": done.compiled.report.to_dict(),
    }
    show(document, Group(done.gate.view(), *map(Text, said)), as_json)
