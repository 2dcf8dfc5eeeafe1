"""DSPy's optimizers as they ship, their knobs set so that their calls fit the budget.

What does not fit is stopped by the meter: an example that can no longer be paid for fails, scores 0 in the optimizer's
eyes, and so leaves the best program before it in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspy.teleprompt import COPRO, GEPA, SIMBA, BootstrapFewShotWithRandomSearch, LabeledFewShot, MIPROv2
from dspy.teleprompt.gepa.instruction_proposal import InstructionProposer

from ..programs.compact import CompactAdapter
from .peer_search import Found, Search, drawn

__all__ = ["DSPY_OPTIMIZERS", "NEVER"]

NEVER = 10**9
"""Errors that an optimizer bears: a small LM fails often, and each failure is a score of 0."""

_SHARE = 0.95  # of the budget that is planned for


def labeled_few_shot(search: Search) -> Found:
    """LabeledFewShot: makes no call, and tries nothing."""
    program = LabeledFewShot(k=search.shots).compile(search.task.program, trainset=search.everything)
    return Found(program, f"no search: {search.shots} labelled demonstrations")


def bootstrap_random_search(search: Search) -> Found:
    """BootstrapFewShotWithRandomSearch: DSPy's 16 candidate programs, or as many as leave 50 rows to choose on."""
    candidates = min(16, max(2, int(_SHARE * search.runs / 58) - 3))
    rows = max(10, int(_SHARE * search.runs / (candidates + 3)) - 8)
    optimizer = BootstrapFewShotWithRandomSearch(
        metric=search.metric(),
        max_labeled_demos=search.shots,
        num_candidate_programs=candidates,
        num_threads=search.threads,
        max_errors=NEVER,
    )
    valset = drawn(search.dev, rows, search.seed)
    program = optimizer.compile(search.task.program, trainset=drawn(search.train, NEVER, search.seed), valset=valset)
    scores = ", ".join(f"{each['score']:g}" for each in program.candidate_programs)
    return Found(program, f"{len(program.candidate_programs)} programs on {len(valset)} rows: {scores}")


def miprov2(search: Search) -> Found:
    """MIPROv2: instructions and demonstrations by TPE, on minibatches of 25 to 35 rows."""
    runs, planned = search.runs, _SHARE * search.runs
    candidates = 4 if runs <= 500 else 6 if runs <= 1000 else 10
    valset = drawn(search.dev, max(20, runs // 8), search.seed)
    batch = min(25 if runs <= 500 else 35, len(valset))
    begun = 8 * candidates + (12 + 2 * candidates) / search.per_example + len(valset)
    trials = 2
    while begun + (trials + 1) * batch + ((trials + 1) // 5 + 1) * len(valset) <= planned:
        trials += 1
    optimizer = MIPROv2(
        metric=search.metric(),
        prompt_model=search.prompt_lm,
        task_model=search.lm,
        auto=None,
        num_candidates=candidates,
        max_labeled_demos=min(4, search.shots),
        num_threads=search.threads,
        max_errors=NEVER,
    )
    program = optimizer.compile(
        search.task.program,
        trainset=search.train,
        valset=valset,
        num_trials=trials,
        minibatch_size=batch,
        seed=search.seed + 1,  # 0 would be taken for none
    )
    logs = [log for log in program.trial_logs.values() if "mb_score" in log]
    tried = {tuple(sorted((key, value) for key, value in log.items() if key[0].isdigit())) for log in logs}
    written = {predictor.signature.instructions for log in logs for predictor in log["mb_program"].predictors()} - {
        predictor.signature.instructions for predictor in search.task.program.predictors()
    }
    return Found(
        program,
        f"{len(logs)} trials of {len(tried)} combinations, {len(written)} instructions written; "
        f"best full score {program.score:g} on {len(valset)} rows",
    )


def simba(search: Search) -> Found:
    """SIMBA: as many steps as leave a third of the budget to choose among what they gave."""
    runs, planned = search.runs, _SHARE * search.runs
    batch, candidates = (16, 3) if runs <= 600 else (16, 4) if runs <= 1200 else (32, 6)
    step = batch * (2 * candidates + 1) + (candidates + 1) / search.per_example
    steps = max(1, min(8, int(planned * 0.6 / step)))
    rows = int((planned - steps * step) / (min(steps, candidates) + 1))
    trainset = drawn(search.everything, max(batch, rows), search.seed)
    optimizer = SIMBA(
        metric=search.metric(),
        bsize=batch,
        num_candidates=candidates,
        max_steps=steps,
        prompt_model=search.prompt_lm,
        num_threads=search.threads,
    )
    program = optimizer.compile(search.task.program, trainset=trainset, seed=search.seed)
    scores = ", ".join(f"{each['score']:.3f}" for each in program.candidate_programs)
    return Found(program, f"{steps} steps of {batch} x {candidates}; finalists on {len(trainset)} rows: {scores}")


def gepa(search: Search) -> Found:
    """GEPA: stopped by its own stop condition, when the meter has nothing left."""
    reserve = int(12 * search.per_example) + 2
    valset = drawn(search.dev, max(20, search.runs // 5), search.seed)

    def spent(state: Any) -> bool:  # noqa: ARG001 — GEPA's contract
        left = search.meter.calls_left
        return left is not None and left < reserve

    optimizer = GEPA(
        metric=search.feedback_metric(),
        max_metric_calls=4 * search.runs,
        reflection_lm=search.prompt_lm,
        instruction_proposer=InstructionProposer(adapter=CompactAdapter()) if search.best else None,
        num_threads=search.threads,
        track_stats=True,
        seed=search.seed,
        gepa_kwargs={"stop_callbacks": [spent]},
    )
    program = optimizer.compile(search.task.program, trainset=search.train, valset=valset)
    result = program.detailed_results
    scores = ", ".join(f"{score:.3f}" for score in result.val_aggregate_scores)
    return Found(
        program,
        f"{len(result.candidates)} candidates kept, {result.total_metric_calls} metric calls; "
        f"on {len(valset)} rows: {scores}",
    )


def copro(search: Search) -> Found:
    """COPRO: breadth and depth by the budget, each instruction on at least 30 rows."""
    runs, planned = search.runs, _SHARE * search.runs
    breadth, depth = (4, 2) if runs <= 600 else (6, 2) if runs <= 1200 else (8, 3)
    predictors = len(search.task.program.predictors())
    evaluations = sum(
        predictors * breadth * (level + 1 if predictors > 1 else 1) for level in range(depth)
    )  # a chain's earlier instructions are evaluated again
    trainset = drawn(search.everything, max(15, int((planned - 2 * depth * breadth) / evaluations)), search.seed)
    optimizer = COPRO(prompt_model=search.prompt_lm, metric=search.metric(), breadth=breadth, depth=depth)
    settings = {"num_threads": search.threads, "display_progress": False}
    program = optimizer.compile(search.task.program, trainset=trainset, eval_kwargs=settings)
    scores = ", ".join(f"{each['score']:g}" for each in program.candidate_programs)
    return Found(program, f"{program.total_calls} evaluations on {len(trainset)} rows; different ones: {scores}")


DSPY_OPTIMIZERS: dict[str, Callable[[Search], Found]] = {
    "LabeledFewShot": labeled_few_shot,
    "BootstrapFewShotWithRandomSearch": bootstrap_random_search,
    "MIPROv2": miprov2,
    "GEPA": gepa,
    "SIMBA": simba,
    "COPRO": copro,
}
"""DSPy's optimizers by their names."""
