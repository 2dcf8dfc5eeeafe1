"""``ps.recompile``: a ratchet. A program that is compiled again takes the old one's place only if it is no worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dspy

from .artifacts.artifact import read_hashed
from .artifacts.compiled import Compiled
from .artifacts.load import program_of
from .artifacts.registry import Registry, check_no_version
from .compiler import Progress, compile  # noqa: A004 — the public name
from .errors import DataError
from .evaluation.executor import Workers
from .evaluation.gate import Gate, check_gate, gate
from .evaluation.labelled import Labelled, labelled
from .evaluation.scoring import DEFAULT_STORE
from .lms.budget import Budget
from .optimizers.proposers.known import KnownProposer
from .optimizers.space import Space
from .programs.examples import deduplicate, example_hash, inputs_hash
from .programs.splits import kept_back
from .programs.task import Task
from .store.database import Store, open_store
from .store.traces import read_traces

__all__ = ["Recompiled", "recompile"]

_FEWEST = 10


@dataclass(frozen=True, slots=True)
class Recompiled:
    """What came of a recompile.

    Attributes:
        compiled: The new program, whether or not it took the old one's place.
        gate: The new program against the old one, on rows that neither search has seen.
        replaced: Whether the new one stands in the file now, or is what the tag names.
        why: In a few words.
        joined: New examples that joined the task's.
        kept_back: New examples that the gate was read on.
        traces: What traces gave, where they were asked.
        seen: New examples from traces that joined because a search or a gate had seen them.
    """

    compiled: Compiled
    gate: Gate
    replaced: bool
    why: str
    joined: int
    kept_back: int
    traces: Labelled | None = None
    seen: int = 0

    @property
    def lines(self) -> list[str]:
        """Where the rows came from, and what became of the file."""
        told = [] if self.traces is None else [self.traces.line]
        if self.seen:
            told.append(f"{self.seen} rows from traces were seen by a search or a gate before: they joined.")
        return [*told, f"{self.joined} rows joined the examples, {self.kept_back} were kept back; {self.why}."]


def recompile(
    path: str | Path,
    task: Task,
    data: Any = None,
    *,
    lm: dspy.BaseLM,
    traces: str | Path | Store | None = None,
    name: str | None = None,
    margin: float = 0.01,
    alpha: float = 0.05,
    budget: Budget | None = None,
    store: str | Path | Store = DEFAULT_STORE,
    space: Space | None = None,
    seed: int = 0,
    test_rows: int | None = None,
    workers: Workers = None,
    progress: Progress | None = None,
) -> Recompiled:
    """Compiles a program anew with further examples, and lets it take the old one's place only if that is no loss.

    Half of the new rows, by a hash of their inputs, are kept back; the others join the task's examples, none of which
    changes sides. The old program is a candidate of the search, and what the store knows is not bought again. On the
    rows kept back the new program must be no worse than the old one, within the margin, and better on one of them at
    least; else the file, or the tag, stays as it is.

    Traces give rows where feedback tells the label, and by a score alone only where it can mean nothing else:
    `progspace.evaluation.labelled.labelled` says where. Those count that stand under the name, or are of this
    version, or of one that the registry (``.progspace/registry``) has it come from. A row from a trace that any program
    has a cell on in the store, of an earlier gate for instance, does not judge again: it joins.

    Args:
        path: The artifact in use: a file, or ``@TAG`` of the registry (``.progspace/registry``). A version is never
            changed: the new program is added as one that comes from the old, and the tag names it.
        task: As it was compiled for.
        data: New labelled rows, in any form that a task's examples may have. Those that the task has are left out.
        lm: As in ``ps.compile``.
        traces: The store whose traces give rows, besides ``data`` or in its place; None for none.
        name: Under which an app's traces stand, as in ``ps.watch``; by default the artifact's task's.
        margin: As in ``ps.gate``.
        alpha: As in ``ps.gate``.
        budget: As in ``ps.compile``; the gate's two runs over the rows kept back are not part of it.
        store: As in ``ps.compile``.
        space: As in ``ps.compile``; the old program runs on its ``lms``, too, by their names.
        seed: As in ``ps.compile``.
        test_rows: As in ``ps.compile``.
        workers: As in ``ps.compile``.
        progress: As in ``ps.compile``.

    Raises:
        ArtifactError: The file is no artifact, or is damaged, or cannot be written, or is a version of a registry; or
            there is no such tag.
        DataError: There are fewer than ten new rows, one has no label, or the margin or alpha is out of range.
        ProgspaceError: Others, as ``ps.compile`` raises them; the file is as it was.
    """
    check_gate(margin, alpha)
    if not isinstance(store, Store):
        with open_store(store) as opened:
            return recompile(
                path, task, data, lm=lm, traces=traces, name=name, margin=margin, alpha=alpha, budget=budget,
                store=opened, space=space, seed=seed, test_rows=test_rows, workers=workers, progress=progress,
            )  # fmt: skip
    if data is None and traces is None:
        raise DataError("there is nothing to learn from: give rows, data=…, or the store of traces, traces=…")
    file, tag = _in_use(str(path))
    digest, artifact = read_hashed(file)
    old = program_of(artifact, lm=lm, lms=(space or Space()).lms, program=task.program, path=file)
    known = {inputs_hash(each) for part in (task.train, task.dev, task.splits.test) for each in part}
    given = [] if data is None else deduplicate(task.read(data, labelled=True))[0]
    rows = [row for row in given if inputs_hash(row) not in known]
    known.update(map(inputs_hash, rows))
    told = None if traces is None else _labelled(task, traces, name or artifact.task, digest).without(known)
    joined, fresh = kept_back(rows, seed=task.seed)
    more, judging = kept_back([] if told is None else list(told.rows.values()), seed=task.seed)
    seen = _seen(store, task, judging)
    joined += [*more, *(row for row in judging if example_hash(row) in seen)]
    fresh += [row for row in judging if example_hash(row) not in seen]
    if (n := len(joined) + len(fresh)) < _FEWEST or not fresh or not joined:
        why = f"{n} rows are new to the task; to learn and to judge by them takes {_FEWEST} or more"
        if seen and not fresh:
            why = f"there is no row to judge by: a search or a gate has seen all {len(seen)} that were kept back"
        raise DataError(why if told is None else f"{why}. {told.line}")
    grown = task.grown(joined)
    compiled = compile(
        grown, lm=lm, budget=budget, store=store, space=space, seed=seed, test_rows=test_rows, workers=workers,
        progress=progress, proposers=[KnownProposer(artifact.candidate, "yesterday's")],
    )  # fmt: skip
    judged = gate(
        compiled.program, old, grown, lm=lm, margin=margin, alpha=alpha, data=fresh, store=store, workers=workers,
        seed=seed,
    )  # fmt: skip
    better, replaced = len(judged.mended), False
    if judged.comparison.same:
        why = "it is the same program"
    elif judged.verdict != "no worse":
        why = judged.verdict
    elif not better:
        why = "no worse, but better on none of the rows kept back"
    else:
        _put(compiled, file, tag, digest)
        replaced, why = True, f"no worse, and better on {better} of the rows kept back"
    return Recompiled(compiled, judged, replaced, why, len(joined), len(fresh), told, len(seen))


def _in_use(reference: str) -> tuple[Path, str | None]:
    """The file of what is in use, and the tag that names it, where it is one."""
    if not reference.startswith("@"):
        check_no_version(reference)
        return Path(reference), None
    registry, tag = Registry(), reference[1:]
    registry.history(tag)  # the hash of a version names that one for ever: only a tag can come to name another
    return registry.path(tag), tag


def _put(compiled: Compiled, file: Path, tag: str | None, digest: str) -> None:
    if tag is None:
        compiled.save(file)
        return
    with TemporaryDirectory() as folder:
        Registry().add(compiled.save(Path(folder) / "new.progspace.json"), tags=[tag], parent=digest)


def _labelled(task: Task, traces: str | Path | Store, name: str, digest: str) -> Labelled:
    """Reads the traces of a program and of the versions that it came from."""
    if not isinstance(traces, Store):
        with open_store(traces) as opened:
            return _labelled(task, opened, name, digest)
    registry = Registry()
    line = {digest}
    if any(version.hash == digest for version in registry.versions()):
        line.update(version.hash for version in registry.lineage(digest))
    return labelled(task, read_traces(traces, name=name, versions=line, judged=True))


def _seen(store: Store, task: Task, rows: Sequence[dspy.Example]) -> set[str]:
    """Which rows any program has a cell on: a search or a gate has seen them."""
    cells = store.all_cells(task.metric_identity, [example_hash(row) for row in rows])
    return {example for of in cells.values() for example in of}
