"""What is told of each rung: what was tried, what it cost, and when trained weights have paid for themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..evaluation.evaluation import Comparison, evaluate_cells, verdict_of
from ..evaluation.findings import Measured, ProposerReport, RungReport, TrainingReport, Tried
from ..lms.journal import JournaledLM
from ..lms.prices import price
from .arena import Arena
from .finetuning_space import Weights
from .rung import Rung

__all__ = ["rung_reports"]


def rung_reports(
    rungs: Sequence[Rung],
    arena: Arena,
    compared: Sequence[Comparison | None],
    seed: int,
    paces: Sequence[float | None],
) -> tuple[RungReport, ...]:
    """Tells of rungs.

    Args:
        rungs: From the baseline up.
        arena: Where they were measured.
        compared: Each one's best with the baseline on the sealed test, in the same order; None where it was not read.
        seed: Of intervals.
        paces: Seconds of the clock an example, of each on the sealed test; None where that is not known.
    """
    reports: list[RungReport] = []
    for index, (rung, on_test) in enumerate(zip(rungs, compared, strict=True)):
        told = _rung_report(rung, arena, on_test, seed)
        if trained := [weights for name, weights in arena.weights.items() if name in rung.best.candidate.lms]:
            at = max(place for place, each in enumerate(reports) if each.kept)
            pace = _pace(paces[at], paces[index])
            training = _training_report(trained[0], arena.matrix.lm, reports[at], told, pace)
            told = told.model_copy(update={"training": training})
        reports.append(told)
    return tuple(reports)


def _pace(before: float | None, after: float | None) -> tuple[float, float] | None:
    return None if before is None or after is None else (before, after)


def _training_report(
    weights: Weights, lm: JournaledLM, below: RungReport, trained: RungReport, pace: tuple[float, float] | None
) -> TrainingReport:
    both = below.test is not None and trained.test is not None
    before, after = (below.test, trained.test) if both else (below.dev, trained.dev)
    assert before is not None and after is not None  # noqa: S101, PT018 — for the type checker
    cost = weights.cost
    return TrainingReport(
        lm=weights.name,
        source=weights.source,
        examples=cost.examples,
        tokens=cost.trained_tokens,
        seconds=cost.seconds,
        usd=cost.usd,
        before=before,
        after=after,
        pace=pace,
        payback=_payback(weights, lm, before, after, pace),
    )


def _payback(
    weights: Weights, lm: JournaledLM, before: Measured, after: Measured, pace: tuple[float, float] | None
) -> int | None:
    """Examples until what is saved on each makes up for the training: money where it took money, else time."""
    if weights.cost.usd == 0:
        # Not the seconds of a cell: those count the wait for others that run beside it.
        spent, saved = weights.cost.seconds, pace[0] - pace[1] if pace else 0.0
    else:
        was, now = (
            price(each, measured.input_tokens, measured.tokens - measured.input_tokens)
            for each, measured in ((lm, before), (weights.lm, after))
        )
        spent, saved = weights.cost.usd, 0.0 if was is None or now is None else was - now
    return None if spent is None or saved <= 0 else math.ceil(spent / saved)


def _rung_report(rung: Rung, arena: Arena, on_test: Comparison | None, seed: int) -> RungReport:
    cells = (*rung.best.cells, *rung.best.fresh)
    examples = [*arena.raced[: len(rung.best.cells)], *arena.fresh[: len(rung.best.fresh)]]
    verdict, dropped = rung.verdict, dict(rung.dropped)
    confirmed = any(cell.score is not None for cell in rung.best.fresh)
    return RungReport(
        name=rung.name,
        choice=rung.best.candidate.origin,
        kept=rung.kept,
        candidates=len(rung.standings),
        dev=evaluate_cells(cells, examples, seed=seed).measured(),
        shrunken=rung.shrunken,
        confirmed=evaluate_cells(rung.best.fresh, arena.fresh, seed=seed).measured() if confirmed else None,
        test=on_test.a.measured() if on_test else None,
        versus_baseline=on_test.verdict() if on_test and rung.name != "baseline" else None,
        calls=rung.spent.calls,
        bought=rung.spent.bought,
        failed=rung.spent.failed,
        input_tokens=rung.spent.input_tokens,
        output_tokens=rung.spent.output_tokens,
        seconds=rung.spent.seconds,
        usd=rung.spent.usd,
        stopped=rung.stopped,
        reason=verdict.reason if verdict else "",
        fresh=verdict_of(verdict.fresh) if verdict and verdict.fresh else None,
        proposers=tuple(
            ProposerReport(name=name, candidates=each.candidates, calls=each.calls, promise=round(each.promise, 3))
            for name, each in rung.accounts
        ),
        tried=tuple(
            Tried(
                choice=each.candidate.origin,
                proposer=each.proposer,
                score=each.mean,
                n=len(each.scores),
                tokens=each.tokens,
                dropped=dropped.get(each.candidate.hash),
            )
            for each in rung.standings
            if each.scores
        ),
    )
