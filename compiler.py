"""The main job: climbs the ladder for a task and gives the program that does best, with the proof."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import dspy
from threadpoolctl import threadpool_limits

from .artifacts.artifact import Provenance
from .artifacts.compiled import Compiled, FrontPoint
from .artifacts.weights import adapters_of
from .errors import BudgetExceeded, StoreError
from .evaluation import numbers
from .evaluation.checks import check_at_least
from .evaluation.executor import Workers, executor_of
from .evaluation.findings import Point
from .evaluation.matrix import Matrix
from .evaluation.page.reading import read_content
from .evaluation.power import label_note
from .evaluation.report import Report
from .evaluation.scoring import DEFAULT_STORE
from .lms.budget import Budget, Meter, Spent, check_priced
from .lms.identity import lm_identity
from .lms.training.jobs import Event
from .optimizers.arena import Arena
from .optimizers.calibration import calibrate, is_calibrated
from .optimizers.judged import judge_note
from .optimizers.ladder import Ladder
from .optimizers.limits import limit_notes
from .optimizers.objectives import Objectives
from .optimizers.plans import default_plans
from .optimizers.promotion import Promotion
from .optimizers.proposers.base import Proposer
from .optimizers.races.base import RaceMaker
from .optimizers.races.registry import DEFAULT_RACE, race_maker
from .optimizers.rung import Climb, Listener, Rung
from .optimizers.rung_report import rung_reports
from .optimizers.rung_search import SearchMeans
from .optimizers.sealed_test import read_sealed
from .optimizers.space import Space
from .optimizers.standing import Standing
from .optimizers.stored_log import StoredLog
from .optimizers.study import record_study
from .programs.candidate import Candidate, known_lms
from .programs.examples import example_hash
from .programs.fields import choices_of
from .programs.retrieval import retrievers_of
from .programs.splits import stratified
from .programs.structure import describe
from .programs.task import Task
from .store.database import Store, open_store

__all__ = ["Progress", "compile"]


class Progress(Protocol):
    """Is told how a compile goes on; see `progspace.progress`."""

    def rung(self, name: str) -> None:
        """A rung begins; ``sealed test`` is the last."""

    def round(self, examples: int, candidates: int, leader: Standing | None) -> None:
        """A round of a race begins."""

    def cells(self, count: int) -> None:
        """So many cells were filled."""

    def kept(self, rung: Rung) -> None:
        """A rung has been climbed."""

    def spent(self, spent: Spent, budget: Budget) -> None:
        """So much of the budget is spent, before a round."""

    def training(self, event: Event) -> None:
        """A training goes on; of a local one ``event.data`` holds step, steps, losses and the seconds left."""


class _Silent:
    def rung(self, name: str) -> None: ...
    def round(self, examples: int, candidates: int, leader: Standing | None) -> None: ...
    def cells(self, count: int) -> None: ...
    def kept(self, rung: Rung) -> None: ...
    def spent(self, spent: Spent, budget: Budget) -> None: ...
    def training(self, event: Event) -> None: ...


def compile(  # noqa: A001 — the public name
    task: Task,
    *,
    lm: dspy.BaseLM,
    budget: Budget | None = None,
    store: str | Path | Store = DEFAULT_STORE,
    seed: int = 0,
    test_rows: int | None = None,
    workers: Workers = None,
    progress: Progress | None = None,
    space: Space | None = None,
    writer: dspy.BaseLM | None = None,
    proposers: Sequence[Proposer] = (),
    race: str | RaceMaker = DEFAULT_RACE,
    repeats: int = 1,
    objectives: Objectives | None = None,
    known: Candidate | None = None,
) -> Compiled:
    """Searches program space for the program that does best on a task.

    The search climbs a ladder: the program as declared is the baseline; then prompt formats and decodings; where
    it looks things up, ways to retrieve; then prompts, that is instructions and demonstrations together; then ways to
    answer; then, where the space asks for it, weights. A rung is kept only if its best beats the one below on dev, and
    what cannot be told from luck leaves the baseline. At the end the sealed test split is read, once, for the baseline
    and each rung's best (but for one that lost, and asks far more than the winner).

    The same task, LM, seed and budget of calls give the same winner; a budget of tokens, money or time ends a little
    sooner or later each time. What has been bought is in the store: a compile that was stopped, or is run again, buys
    no answer twice.

    Args:
        task: What is wanted and how it is scored.
        lm: Any ``dspy.BaseLM``: ``ps.lm("local")``, ``ps.lm("openai/…")``, your own.
        budget: What the search may spend; 2,000 calls by default. The sealed test is not part of it.
        store: A file, or an open store.
        seed: Of draws and intervals.
        test_rows: Read only so many examples of the sealed test; None for all. Each costs a call for the baseline and
            for each rung's best.
        workers: Examples that run at a time; None for as many as the LM takes well; ``"ray"`` for a Ray cluster, with a
            worker for each of its CPUs, or ``"ray:8"`` with so many.
        progress: Is told how it goes on.
        space: What may be chosen; all that the LM can serve by default.
        writer: The LM that writes instructions; by default the task's own.
        proposers: More of them, besides those that the space calls for:
            ``ps.optimizers.FromDSPy(dspy.MIPROv2(metric=…, prompt_model=lm, task_model=lm))``.
        race: A strategy by its name (see `progspace.optimizers.races.registry`), or what makes one of a seed.
        repeats: How often a program runs on an example; for an LM that samples. Scores are averaged.
        objectives: What is wanted besides quality: limits, other metrics, a preference.
        known: A candidate from elsewhere, the first rung: where it beats the program as declared, the search builds on
            it.

    Raises:
        DataError: A number is too small to mean anything: ``test_rows``, ``repeats`` or ``workers`` below 1,
            ``seed`` below 0. Or there is no such race.
        BudgetExceeded: The budget does not even hold the baseline, or is of money, and an LM's price is not known.
        ProgramError: The program as declared fails on every example, and not for what the LM wrote. Or it calls an
            async tool, which DSPy refuses in a thread.
        LMError: The LM does not answer, or is none.
        MetricError: The metric raised, or gave what is no score, or one below 0.
    """
    check_at_least(0, seed=seed)
    check_at_least(1, test_rows=test_rows, repeats=repeats)
    make_race = race_maker(race)
    if not isinstance(store, Store) or isinstance(workers, str):
        with (
            nullcontext(store) if isinstance(store, Store) else open_store(store) as opened,
            executor_of(workers, opened) as executor,
        ):
            return compile(
                task, lm=lm, budget=budget, store=opened, seed=seed, test_rows=test_rows, workers=executor,
                progress=progress, space=space, writer=writer, proposers=proposers, race=race, repeats=repeats,
                objectives=objectives, known=known,
            )  # fmt: skip
    told = progress or _Silent()
    budget = budget or Budget(calls=2000)
    meter = Meter(budget)
    matrix = Matrix.of(task, store, lm, meter, workers=workers, on_cells=told.cells)
    space = space or Space()
    check_priced(budget, *space.lms.values())
    arena = Arena(
        task,
        stratified(task.dev, _class_of(task)),
        matrix,
        lms=space.lms,
        repeats=repeats,
        max_prompt_tokens=space.max_prompt_tokens,
        # The last first: who writes instructions or bootstraps looks at the first. What is found elsewhere, by others
        # or by training, and ways to search, may have been chosen on all of them.
        spare=[] if proposers or known or space.finetuning or retrievers_of(task.program) else task.train[::-1],
    )

    def round_begins(examples: int, candidates: int, leader: Standing | None) -> None:
        told.spent(meter.spent, meter.budget)
        told.round(examples, candidates, leader)

    log = arena.log = StoredLog(
        store, matrix, task, lm=lm.model, seed=seed, raced=arena.raced, fresh=arena.fresh, repeats=repeats
    )
    promotion = Promotion(objectives or Objectives())
    ladder = Ladder(
        SearchMeans(
            arena,
            space,
            writer=matrix.journaled(writer or _writer(lm)),
            promotion=promotion,
            make_race=make_race,
            seed=seed,
            told=Listener(rung=_each(log.rung, told.rung), kept=_each(log.climbed, told.kept), round=round_begins),
        )
    )
    # The quality model inverts small matrices: threads of linear algebra would wait for the LM's, and for each other.
    with threadpool_limits(limits=1, user_api="blas"):
        climbed = ladder.climb(default_plans(space, task.program, lm, proposers, told.training, known))
    winner = _refit(climbed, arena)
    notes = [*_notes(climbed, arena), *limit_notes(promotion, arena, climbed.winner.best)]
    climbed = _booked(climbed, meter.spent)
    try:
        record_study(store, task, seed, list(arena.standings.values()))
    except StoreError as error:  # what the search found is paid for
        notes.append(f"optuna-dashboard will not show this search: {error}.")
    if task.test_size:
        told.rung("sealed test")
    sealed = read_sealed(
        climbed,
        winner,
        arena,
        Matrix.of(task, store, lm, Meter(), workers=workers, on_cells=told.cells),
        test_rows=test_rows,
        seed=seed,
    )
    lms = known_lms(task.program, arena.lms)
    whole = winner.candidate.complete(task.program, lms)
    used = {name: lms[name] for name in sorted(whole.lms)}
    # The winner may have run on less than half of what the program as declared ran on.
    measured = dict.fromkeys([*arena.measured, arena.key_of(climbed.winner.best)])
    values = {key: promotion.values(arena, key) for key in measured if not arena.too_long(key)}
    indices = promotion.objectives.front(list(values.values()))
    front = sorted(
        ((key, values[key]) for key in [list(values)[i] for i in indices]), key=lambda each: each[1]["tokens"]
    )
    report = Report(
        task=task.name,
        lm=lm.model,
        seed=seed,
        sizes={"train": len(task.train), "dev": len(arena.dev), "test": sealed.rows},
        notes=(*task.splits.notes, *notes, *([sealed.unread] if sealed.unread else [])),
        rungs=rung_reports(climbed.rungs, arena, sealed.compared, seed, sealed.paces),
        front=tuple(
            Point(choice=arena.standings[key].candidate.origin, score=point["quality"], tokens=point["tokens"])
            for key, point in front
        ),
        test_calls=sealed.spent.calls,
        test_seconds=sealed.spent.seconds,
        test_usd=sealed.spent.usd,
        test_reads=len(task.unsealed),
        seconds=meter.spent.seconds,
    )
    provenance = _provenance(task, seed, budget)
    places = [arena.standings[key].order for key, _ in front]
    log.finished(report, provenance, climbed.winner.best.order, places)
    return Compiled(
        program=winner.candidate.apply(task.program, lm, arena.lms),
        candidate=whole,
        report=report.showing(read_content(store, replace(log.search, finished=True))),
        front=tuple(
            FrontPoint(
                candidate.apply(task.program, lm, arena.lms), candidate, point["quality"], point["tokens"], point
            )
            for candidate, point in ((arena.standings[key].candidate, point) for key, point in front)
        ),
        provenance=provenance,
        structure=describe(task.program),
        lm=lm_identity(lm),
        lms={name: lm_identity(each) for name, each in used.items()},
        adapters=adapters_of({"": lm, **used}),
    )


def _each(*listeners: Callable[[Any], None]) -> Callable[[Any], None]:
    def told(of: Any) -> None:
        for listener in listeners:
            listener(of)

    return told


def _notes(climbed: Climb, arena: Arena) -> list[str]:
    """What a person should know of the data and the judge."""
    notes = [climbed.headroom.text, *([climbed.ended] if climbed.ended else []), *climbed.notes]
    if told := judge_note(arena, climbed.winner.best):
        notes.append(told)
    class_of = _class_of(arena.task)
    if any(map(class_of, arena.dev)) and (alike := label_note([class_of(example) for example in arena.dev])):
        notes.append(alike)
    if (scores := [score for each in arena.standings.values() for score in each.scores]) and not any(scores):
        notes.append(
            f"Each of {numbers.count(len(scores))} scores is 0, whatever was tried: see by some answers whether the "
            "metric takes what it should, or the task is beyond this LM."
        )
    return notes


def _writer(lm: dspy.BaseLM) -> dspy.BaseLM:
    """The task's own LM with room for an instruction."""
    room = lm.kwargs.get("max_tokens")
    return lm.copy(max_tokens=256) if room is not None and room < 256 else lm


def _class_of(task: Task) -> Callable[[dspy.Example], str]:
    """Tells the class of an example, by those of its labels that some predictor has as a choice."""
    chosen = sorted(
        {
            name
            for predictor in task.program.predictors()
            for name, info in predictor.signature.output_fields.items()
            if choices_of(info.annotation) and any(example.get(name) is not None for example in task.dev)
        }
    )
    return lambda example: "|".join(str(example.get(name)) for name in chosen)


def _refit(climbed: Climb, arena: Arena) -> Standing:
    """Fits the winner's calibration on all inputs that are not sealed, or on as many as the budget holds."""
    winner = climbed.winner.best
    if not is_calibrated(winner.candidate):
        return winner
    ran_on = [*arena.raced[: len(winner.cells)], *arena.fresh[: len(winner.fresh)]]
    known = set(map(example_hash, ran_on))
    others = [each for each in (*arena.task.train, *arena.dev) if example_hash(each) not in known]
    try:
        inputs = [*ran_on, *others[: arena.affordable([arena.key_of(winner)])]]
        fitted = calibrate(winner.candidate, arena.apply, inputs, arena.matrix)
    except BudgetExceeded:
        return winner
    return replace(winner, candidate=fitted.model_copy(update={"origin": winner.candidate.origin}))


def _booked(climbed: Climb, spent: Spent) -> Climb:
    """Books with the winner what was asked after the climb, so that the rungs add up to all that was spent."""
    winner = climbed.winner
    for rung in climbed.rungs:
        spent -= rung.spent
    told = replace(winner, spent=winner.spent + spent)
    return replace(climbed, rungs=tuple(told if each is winner else each for each in climbed.rungs))


def _provenance(task: Task, seed: int, budget: Budget) -> Provenance:
    return Provenance(
        task_hash=task.identity,
        seed=seed,
        budget=asdict(budget),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        versions={
            "progspace": version("progspace"),
            "dspy": version("dspy"),
            "python": platform.python_version(),
        },
    )
