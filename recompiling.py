"""``ps.recompile``: a ratchet. A program that is compiled again takes the old one's place only if it is no worse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy

from .artifacts.artifact import read_artifact
from .artifacts.compiled import Compiled
from .artifacts.load import program_of
from .compiler import Progress, compile  # noqa: A004 — the public name
from .errors import DataError
from .evaluation.executor import Workers
from .evaluation.gate import Gate, gate
from .evaluation.scoring import DEFAULT_STORE
from .lms.budget import Budget
from .optimizers.proposers.known import KnownProposer
from .optimizers.space import Space
from .programs.examples import deduplicate, inputs_hash
from .programs.splits import kept_back
from .programs.task import Task
from .store.database import Store, open_store

__all__ = ["Recompiled", "recompile"]

_FEWEST = 10


@dataclass(frozen=True, slots=True)
class Recompiled:
    """What came of a recompile.

    Attributes:
        compiled: The new program, whether or not it took the old one's place.
        gate: The new program against the old one, on rows that neither search has seen.
        replaced: Whether the new one stands in the file now.
        why: In a few words.
        joined: New examples that joined the task's.
        kept_back: New examples that the gate was read on.
    """

    compiled: Compiled
    gate: Gate
    replaced: bool
    why: str
    joined: int
    kept_back: int


def recompile(
    path: str | Path,
    task: Task,
    data: Any,
    *,
    lm: dspy.BaseLM,
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
    least; else the file stays as it is.

    Args:
        path: The artifact in use.
        task: As it was compiled for.
        data: New labelled rows, in any form that a task's examples may have. Those that the task has are left out.
        lm: As in ``ps.compile``.
        margin: As in ``ps.gate``.
        alpha: As in ``ps.gate``.
        budget: As in ``ps.compile``; the gate's two runs over the rows kept back are not part of it.
        store: As in ``ps.compile``.
        space: As in ``ps.compile``.
        seed: As in ``ps.compile``.
        test_rows: As in ``ps.compile``.
        workers: As in ``ps.compile``.
        progress: As in ``ps.compile``.

    Raises:
        ArtifactError: The file is no artifact, or is damaged, or cannot be written.
        DataError: There are fewer than ten new rows.
        ProgspaceError: Others, as ``ps.compile`` raises them; the file is as it was.
    """
    if not isinstance(store, Store):
        with open_store(store) as opened:
            return recompile(
                path, task, data, lm=lm, margin=margin, alpha=alpha, budget=budget, store=opened, space=space,
                seed=seed, test_rows=test_rows, workers=workers, progress=progress,
            )  # fmt: skip
    artifact = read_artifact(Path(path))
    old = program_of(artifact, lm=lm, program=task.program, path=Path(path))
    known = {inputs_hash(each) for part in (task.train, task.dev, task.splits.test) for each in part}
    rows = [row for row in deduplicate(task.read(data))[0] if inputs_hash(row) not in known]
    joined, fresh = kept_back(rows, seed=task.seed)
    if len(rows) < _FEWEST or not fresh or not joined:
        raise DataError(f"{len(rows)} rows are new to the task; to learn and to judge by them takes {_FEWEST} or more")
    grown = task.grown(joined)
    compiled = compile(
        grown, lm=lm, budget=budget, store=store, space=space, seed=seed, test_rows=test_rows, workers=workers,
        progress=progress, proposers=[KnownProposer(artifact.candidate, "yesterday's")],
    )  # fmt: skip
    told = gate(
        compiled.program, old, grown, lm=lm, margin=margin, alpha=alpha, data=fresh, store=store, workers=workers,
        seed=seed,
    )  # fmt: skip
    better, replaced = len(told.mended), False
    if told.comparison.same:
        why = "it is the same program"
    elif told.verdict != "no worse":
        why = told.verdict
    elif not better:
        why = "no worse, but better on none of the rows kept back"
    else:
        compiled.save(path)
        replaced, why = True, f"no worse, and better on {better} of the rows kept back"
    return Recompiled(compiled, told, replaced, why, len(joined), len(fresh))
