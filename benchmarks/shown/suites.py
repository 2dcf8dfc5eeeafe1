"""What each suite's runs say: training, retrieval, robustness; and any other file of results as the table it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...evaluation import numbers
from .cards import LUCK, Card, cards, share, span
from .content import Kind, Mark, Plot, Suite, Table, Verdict, columns, judged
from .peers import PeerRun, ReplayRun, peers, replay
from .plain import plain, plain_table
from .reading import Run, fits, heading, parsed

__all__ = ["suite"]


def suite(name: str, file: str, lines: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]] = ()) -> Suite:
    """Shows a file of results by what its lines hold.

    Args:
        name: Of the suite.
        file: That the lines stand in.
        lines: The runs.
        before: Score cards of an earlier version.

    Raises:
        DataError: A line does not hold what it seems to.
    """
    if fits(Card, lines):
        return cards(name, file, lines, before)
    return next((show for kind, show in _VIEWS if fits(kind, lines)), plain)(name, file, lines)


def _compared(name: str, gain: float, sure: bool, told: str) -> Verdict:
    return judged(f"{name}: {numbers.points(gain)} points {told}", gain, sure)


class TrainedRun(Run):
    """A program of the ladder, or trained by a peer, as ``finetune`` writes it."""

    task: str
    seed: int
    optimizer: str
    choice: str
    score: float
    low: float
    high: float
    n_test: int
    calls: int
    input_tokens: int
    output_tokens: int
    kept: bool
    compile_seconds: float
    seconds: float = 0.0
    training_seconds: float | None = None


_OURS, _DECLARED = "finetuned", "baseline"


def _finetune(name: str, file: str, lines: Sequence[Mapping[str, Any]]) -> Suite:
    runs = parsed(TrainedRun, lines, file)
    places = list(dict.fromkeys((run.task, run.seed) for run in runs))
    return Suite(
        **heading(name, file, lines, like="finetune"),
        rule="Trained weights against the best prompt and the peer: a win needs intervals apart; any lower mean is a "
        "loss.",
        verdicts=tuple(_trained_verdicts(runs)),
        tables=tuple(_trained_table(place, [run for run in runs if (run.task, run.seed) == place]) for place in places),
    )


def _trained_verdicts(runs: Sequence[TrainedRun]) -> Iterator[Verdict]:
    for ours in (run for run in runs if run.optimizer == _OURS):
        for other in runs:
            if (other.task, other.seed) == (ours.task, ours.seed) and other.optimizer not in (_OURS, _DECLARED):
                told = f"over {other.optimizer} ({numbers.percent(other.score)} → {numbers.percent(ours.score)})"
                yield _compared(ours.task, ours.score - other.score, ours.low > other.high, told)


def _trained_table(place: tuple[str, int], runs: Sequence[TrainedRun]) -> Table:
    rows = [
        (
            f"{run.optimizer}{'' if run.kept else ', not kept'}\n{run.choice}", numbers.percent(run.score), span(run),
            _plot(run, "won" if run.optimizer == _OURS else ""), str(run.n_test), numbers.count(run.calls),
            numbers.figure(round(run.input_tokens / max(1, run.n_test))), numbers.duration(run.seconds),
            numbers.duration(run.training_seconds) if run.training_seconds else "–",
            numbers.duration(run.compile_seconds),
        )
        for run in runs
    ]  # fmt: skip
    task, seed = place
    return Table(
        caption=f"{task}{f', seed {seed}' if seed else ''}: sealed test rows; tokens an example; time of the test run",
        columns=columns(
            "program", "score", "95 %", "interval", "rows", "calls", "tokens in", "time", "training", "all of it"
        ),
        rows=tuple(rows),
        strong=tuple(index for index, run in enumerate(runs) if run.optimizer == _OURS),
    )  # fmt: skip


class RetrievalRun(Run):
    """A ranking, or a program's answers, as ``retrieval`` writes them."""

    measure: str
    name: str
    score: float | None = None
    low: float = 0.0
    high: float = 0.0
    n_test: int = 0
    calls: int = 0
    tokens_per_example: float = 0.0
    versus_plain: float = 0.0
    p: float = 1.0
    declines_answerable: float | None = None
    declines_unanswerable: float | None = None


_READY = ("compiled", "ready-made, as declared")


def _retrieval(name: str, file: str, lines: Sequence[Mapping[str, Any]]) -> Suite:
    runs = parsed(RetrievalRun, lines, file)
    answers = [run for run in runs if run.score is not None]
    rows = [
        (
            run.name, numbers.percent(run.score or 0.0), span(run), _plot(run, "won" if run.name in _READY else ""),
            numbers.points(run.versus_plain), numbers.p_value(run.p), numbers.count(run.calls),
            numbers.count(run.tokens_per_example),
            share(run.declines_answerable), share(run.declines_unanswerable),
        )
        for run in answers
    ]  # fmt: skip
    answered = Table(
        caption="Answers: F1 on sealed questions; gain over plain retrieval; tokens an example; how often it declines",
        columns=columns(
            "program", "F1", "95 %", "interval", "gain", "p", "calls", "tokens", "declines answerable",
            "declines others",
        ),
        rows=tuple(rows),
        strong=tuple(index for index, run in enumerate(answers) if run.name in _READY),
    )  # fmt: skip
    ranked = [
        {key: value for key, value in line.items() if key != "measure"}
        for line, run in zip(lines, runs, strict=True)
        if run.score is None
    ]
    return Suite(
        **heading(name, file, lines, like="retrieval"),
        rule="Against plain retrieval: a win needs p < 0.05; any lower mean is a loss.",
        verdicts=tuple(
            _compared(run.name, run.versus_plain, run.p < LUCK, f"of F1, p {numbers.p_told(run.p)}")
            for run in answers
            if run.name in _READY
        ),
        tables=(*([answered] if answers else []), *([plain_table("Ranking", ranked)] if ranked else [])),
    )


class PerturbedRun(Run):
    """A program's paired loss by a perturbation, as ``robustness`` writes it."""

    task: str
    optimizer: str
    perturbation: str
    score: float
    perturbed: float
    difference: float
    low: float
    high: float
    p_value: float
    broken: int
    mended: int
    n_test: int = 0
    calls: int = 0


def _robustness(name: str, file: str, lines: Sequence[Mapping[str, Any]]) -> Suite:
    runs = parsed(PerturbedRun, lines, file)
    rows = [
        (
            f"{run.perturbation}\n{run.task}, {run.optimizer}", numbers.percent(run.score),
            numbers.percent(run.perturbed), numbers.points(run.difference),
            numbers.points_between(run.low, run.high), numbers.p_value(run.p_value), str(run.broken),
            str(run.mended), str(run.n_test), numbers.count(run.calls),
        )
        for run in runs
    ]  # fmt: skip
    return Suite(
        **heading(name, file, lines, like="robustness"),
        rule="A win would need p < 0.05; any lower mean is a loss.",
        verdicts=tuple(
            _compared(
                f"{run.task}, {run.optimizer}, {run.perturbation}", run.difference, run.p_value < LUCK,
                f"(p {numbers.p_told(run.p_value)}; {run.broken} broken, {run.mended} mended)",
            )
            for run in runs
        ),
        tables=(
            Table(
                caption="Scores on the rows as they are, and perturbed; intervals and p-values corrected for how many",
                columns=columns(
                    "perturbation", "score", "perturbed", "gain", "corrected interval", "p", "broken", "mended",
                    "rows", "calls",
                ),
                rows=tuple(rows),
            ),
        ),
    )  # fmt: skip


def _plot(of: Any, kind: Kind) -> Plot:
    return Plot(marks=(Mark(score=of.score, low=of.low, high=of.high, kind=kind),))


_View = Callable[[str, str, Sequence[Mapping[str, Any]]], Suite]
_VIEWS: tuple[tuple[type[Run], _View], ...] = (
    (PeerRun, peers),
    (ReplayRun, replay),
    (PerturbedRun, _robustness),
    (TrainedRun, _finetune),
    (RetrievalRun, _retrieval),
)
"""What lines of a kind are shown by; the first that fits."""
