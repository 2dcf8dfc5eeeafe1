"""``ps.transfer``: what of a compiled program carries over to another LM, and a search of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import dspy

from .artifacts.artifact import Artifact, read_artifact
from .artifacts.compiled import Compiled
from .compiler import Progress, compile  # noqa: A004 — the public name
from .errors import LMError, ProgramError
from .evaluation import numbers
from .evaluation.checks import check_alpha, check_at_least
from .evaluation.matrix import Matrix
from .evaluation.scoring import DEFAULT_STORE, examples_of
from .evaluation.statistics import PairedTest, paired_test
from .lms.budget import Budget, Meter
from .lms.factory import check_lm
from .optimizers.calibration import calibrate, is_calibrated
from .optimizers.carrying import Part, narrowed, parts_of, without_part
from .optimizers.forecast import Forecast, Range, forecast
from .optimizers.rehearsal import rehearse
from .optimizers.space import Space
from .programs.candidate import Candidate
from .programs.task import Task
from .store.database import Store, open_store
from .store.records import Cell

__all__ = ["Carried", "TransferForecast", "Transferred", "forecast_transfer", "transfer"]

_FITTED_ON = 40  # inputs of train that a calibration is fitted on
_REHEARSED = 5


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of a part.

    Attributes:
        part: Of the old program.
        verdict: ``kept``: shown to help on the new LM; ``lost``: shown to harm, or impossible; ``not shown``: neither.
        test: The program with it minus the program without it, on the new LM; None where it is impossible.
    """

    part: Part
    verdict: Literal["kept", "lost", "not shown"]
    test: PairedTest | None


@dataclass(frozen=True)
class Transferred:
    """What came of a transfer.

    Attributes:
        parts: Of the old program, and what became of them.
        whole: What is left of it, minus the program as declared, on the new LM.
        before: What is left of it on the new LM, minus the old program on the old; None where that LM was not given.
        calibration: With calibrations fitted anew, minus with the old ones; None where nothing is calibrated.
        again: What was searched again.
        calls: LM calls of the tests, those known before among them; the search's own are in the report.
        notes: What else did not carry over.
        compiled: The program for the new LM.
    """

    parts: tuple[Carried, ...]
    whole: PairedTest
    before: PairedTest | None
    calibration: PairedTest | None
    again: tuple[Part, ...]
    calls: int
    notes: tuple[str, ...]
    compiled: Compiled

    @property
    def lines(self) -> list[str]:
        """What a person should know, in sentences."""
        lines = [f"What carries over, against the program as declared, on the new LM: {_told(self.whole)}."]
        if self.before is not None:
            lines.append(f"On the new LM, against the old program on the old one: {_told(self.before)}.")
        if self.calibration is not None:
            lines.append(f"Calibration is fitted anew; against the old one: {_told(self.calibration)}.")
        again = ", ".join(f"{part.where}: {part.kind}" for part in self.again)
        lines.append(f"Searched again: {again}." if again else "Nothing had to be searched again.")
        return [*lines, *self.notes, f"The tests asked {numbers.count(self.calls)} calls."]

    def to_dict(self) -> dict[str, Any]:
        """Gives everything as JSON values."""
        return {
            "parts": [asdict(each) for each in self.parts],
            "whole": asdict(self.whole),
            "before": None if self.before is None else asdict(self.before),
            "calibration": None if self.calibration is None else asdict(self.calibration),
            "again": [asdict(part) for part in self.again],
            "calls": self.calls,
            "notes": list(self.notes),
            "report": self.compiled.report.to_dict(),
        }


def _told(test: PairedTest) -> str:
    between = numbers.points_between(test.interval.low, test.interval.high)
    return (
        f"{numbers.points(test.difference)} points {between} on {numbers.count(test.n)} rows, "
        f"p {numbers.p_value(test.p_value)}"
    )


@dataclass(frozen=True, slots=True)
class TransferForecast:
    """What a transfer will cost.

    Attributes:
        parts: What will be tested.
        calls: Of the tests; the high end is for parts that are lost one after the other.
        tokens: Of the tests.
        search: A search of all parts, which the budget limits; parts that are kept are not searched.
    """

    parts: tuple[Part, ...]
    calls: Range
    tokens: Range
    search: Forecast

    @property
    def text(self) -> str:
        """All of it for a person."""
        lines = [f"{part.where}: {part.kind}: {part.impossible or 'will be tested'}" for part in self.parts]
        told = [f"{numbers.count(each.low)} to {numbers.count(each.high)}" for each in (self.calls, self.tokens)]
        lines.append(f"The tests: {told[0]} calls, {told[1]} tokens. A search of all of it, at most:")
        return "\n".join([*lines, self.search.text])

    def to_dict(self) -> dict[str, Any]:
        """Gives everything as JSON values."""
        return asdict(self)


def transfer(
    compiled: Compiled | Artifact | str | Path,
    task: Task,
    *,
    to: dspy.BaseLM,
    old_lm: dspy.BaseLM | None = None,
    budget: Budget | None = None,
    data: Any = None,
    rows: int | None = None,
    alpha: float = 0.05,
    store: str | Path | Store = DEFAULT_STORE,
    space: Space | None = None,
    seed: int = 0,
    test_rows: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Transferred:
    """Finds out what of a compiled program carries over to another LM, and searches only the rest.

    On the new LM each part of the program (of each predictor the instruction, demonstrations, format, decoding, way to
    answer, LM; each retriever's choice) is taken back alone, on the same rows. What is shown to harm is dropped, the
    worst first, and the others are tested again without it. Trained weights, and decodings that the new LM does not
    offer, are lost without a test. Calibrations are numbers of an LM: they are fitted anew, on inputs of train.

    What is lost is searched again; what is neither shown to help nor to harm is, too, unless what is left of the
    program is shown to beat the program as declared. The search starts from what is left, in a space that holds nothing
    else, and its report reads the sealed test.

    Args:
        compiled: The program, or the file that holds it.
        task: What it was compiled for.
        to: The new LM.
        old_lm: The LM that it was compiled for, to compare the two; what the store knows of it costs nothing.
        budget: Of the search; 2,000 calls by default. The tests are not part of it.
        data: Rows to test the parts on, in place of dev.
        rows: Test the parts on so many of them; None for all.
        alpha: How often any of the parts' intervals is wrong, in one round of tests.
        store: A file, or an open store.
        space: What may be chosen; ``lms`` are those that predictors may run on besides the new one.
        seed: Of draws and intervals.
        test_rows: As in ``ps.compile``.
        workers: As in ``ps.compile``.
        progress: As in ``ps.compile``.

    Raises:
        ArtifactError: The file is no artifact.
        ProgramError: The program has other predictors than the task's.
        LMError: The new LM does not answer.
        DataError: Alpha is out of range, ``rows`` or ``test_rows`` below 1, or ``seed`` below 0.
        ProgspaceError: Others, as ``ps.compile`` raises them.
    """
    check_at_least(0, seed=seed)
    check_at_least(1, rows=rows, test_rows=test_rows)
    if not isinstance(store, Store):
        with open_store(store) as opened:
            return transfer(
                compiled, task, to=to, old_lm=old_lm, budget=budget, data=data, rows=rows, alpha=alpha, store=opened,
                space=space, seed=seed, test_rows=test_rows, workers=workers, progress=progress,
            )  # fmt: skip
    check_alpha(alpha)
    check_lm(to)
    old, space = _artifact(compiled), space or Space()
    parts, notes = _parts(old, task, to, space)
    examples = list(examples_of(task, "dev", data))[:rows]
    meter = Meter()
    matrix = Matrix.of(task, store, to, meter, workers=workers)
    trial = _Trial(task, matrix, space, examples, 1 - alpha / max(1, len(parts)), seed)
    possible = [part for part in parts if part.impossible is None]
    left = old.candidate
    for part in parts:
        left = left if part.impossible is None else without_part(left, part)
    fitted = trial.fitted(left)
    calibration = trial.test(trial.cells(fitted), trial.cells(left)) if is_calibrated(left) else None
    left, tests, harmful = trial.eliminate(fitted, possible)
    carried = [Carried(part, "lost", harmful.get(part)) for part in parts if part not in tests]
    carried += [Carried(part, "kept" if test.interval.low > 0 else "not shown", test) for part, test in tests.items()]
    whole = trial.test(trial.cells(left), trial.cells(Candidate.declared(task.program)), level=1 - alpha)
    before = None
    if old_lm is not None:
        program = old.candidate.apply(task.program, lms=space.lms)
        there = Matrix.of(task, store, old_lm, meter, workers=workers).fill(program, examples)
        before = trial.test(trial.cells(left), there, level=1 - alpha)
    better = whole.difference > 0 and whole.p_value < alpha
    again = tuple(
        each.part for each in carried if each.verdict == "lost" or (each.verdict == "not shown" and not better)
    )
    declared = Candidate.declared(task.program)
    found = compile(
        task, lm=to, budget=budget, store=store, seed=seed, test_rows=test_rows, workers=workers, progress=progress,
        space=narrowed(space, again),
        known=None if left.hash == declared.hash else left.model_copy(update={"origin": "carried over"}),
    )  # fmt: skip
    ordered = tuple(sorted(carried, key=lambda each: parts.index(each.part)))
    return Transferred(ordered, whole, before, calibration, again, meter.spent.calls, notes, found)


def forecast_transfer(
    compiled: Compiled | Artifact | str | Path,
    task: Task,
    *,
    to: dspy.BaseLM,
    budget: Budget | None = None,
    data: Any = None,
    rows: int | None = None,
    space: Space | None = None,
    store: Store | None = None,
    test_rows: int | None = None,
) -> TransferForecast:
    """Tells what a transfer will test, and what it will cost; no LM is called. Arguments are those of `transfer`."""
    check_at_least(1, rows=rows)
    check_lm(to)
    old, space = _artifact(compiled), space or Space()
    parts, _ = _parts(old, task, to, space)
    count = len(list(examples_of(task, "dev", data))[:rows])
    left = old.candidate
    for part in parts:
        left = left if part.impossible is None else without_part(left, part)
    asked = [
        rehearse(each.apply(task.program, lms=space.lms), task.train[:_REHEARSED], to)
        for each in (left, Candidate.declared(task.program))
    ]
    possible = sum(part.impossible is None for part in parts)
    fitting = min(_FITTED_ON, len(task.train)) if is_calibrated(left) else 0
    programs = Range(1 + possible, 1 + possible, 1 + possible * (possible + 1) / 2)  # the declared one apart

    def all_of(of_left: float, of_declared: float) -> Range:
        each = (count + fitting) * of_left
        most = Range(programs.low * each, programs.expected * each, programs.high * each)
        once = count * of_declared
        return Range(most.low + once, most.expected + once, most.high + once)

    tokens = [each.input_tokens + each.output_tokens for each in asked]
    search = forecast(task, to, budget or Budget(calls=2000), narrowed(space, parts), store=store, test_rows=test_rows)
    return TransferForecast(tuple(parts), all_of(asked[0].calls, asked[1].calls), all_of(*tokens), search)


class _Trial:
    """Programs on the new LM, on the same rows.

    Args:
        task: Gives the module, and inputs of train to fit calibrations on.
        matrix: Runs programs on the new LM.
        space: Names other LMs.
        examples: The rows.
        level: Of the parts' intervals.
        seed: Of resampling.
    """

    def __init__(
        self, task: Task, matrix: Matrix, space: Space, examples: Sequence[dspy.Example], level: float, seed: int
    ) -> None:
        self._task, self._matrix, self._space, self._examples = task, matrix, space, examples
        self._level, self._seed = level, seed

    def _apply(self, candidate: Candidate) -> dspy.Module:
        return candidate.apply(self._task.program, lms=self._space.lms)

    def fitted(self, candidate: Candidate) -> Candidate:
        """With its calibrations fitted to the new LM."""
        return calibrate(candidate, self._apply, self._task.train[:_FITTED_ON], self._matrix)

    def cells(self, candidate: Candidate) -> list[Cell]:
        """Of a candidate on the rows."""
        return self._matrix.fill(self._apply(candidate), self._examples)

    def test(self, a: Sequence[Cell], b: Sequence[Cell], *, level: float | None = None) -> PairedTest:
        """Compares two candidates on the rows that both have a score on."""
        both = [(x.score, y.score) for x, y in zip(a, b, strict=True) if x.score is not None and y.score is not None]
        if not both:
            raise LMError(f"the LM answered none of {len(a)} rows; the first error: {a[0].error or b[0].error}")
        one, other = ([pair[side] for pair in both] for side in (0, 1))
        return paired_test(one, other, level=level or self._level, seed=self._seed)

    def eliminate(
        self, left: Candidate, parts: Sequence[Part]
    ) -> tuple[Candidate, dict[Part, PairedTest], dict[Part, PairedTest]]:
        """Takes parts back that are shown to harm, the worst first.

        Gives what is left, the tests of its parts, and those of the parts that were taken back.
        """
        harmful: dict[Part, PairedTest] = {}
        while True:
            own = self.cells(left)
            without = {
                part: self.fitted(without_part(left, part))
                for part in parts
                if part not in harmful and _holds(left, part)
            }
            tests = {part: self.test(own, self.cells(other)) for part, other in without.items()}
            worse = [part for part in tests if tests[part].interval.high < 0]
            if not worse:
                return left, tests, harmful
            worst = min(worse, key=lambda part: tests[part].difference)
            harmful[worst], left = tests[worst], without[worst]


def _holds(candidate: Candidate, part: Part) -> bool:
    """Tells whether a candidate still has a part: a decoding goes with its format."""
    return without_part(candidate, part).hash != candidate.hash


def _artifact(compiled: Compiled | Artifact | str | Path) -> Artifact:
    if isinstance(compiled, Compiled):
        return compiled.artifact
    return compiled if isinstance(compiled, Artifact) else read_artifact(Path(compiled))


def _parts(old: Artifact, task: Task, to: dspy.BaseLM, space: Space) -> tuple[list[Part], tuple[str, ...]]:
    predictors = [name for name, _ in task.program.named_predictors()]
    if set(predictors) != set(old.candidate.predictors):
        raise ProgramError(
            f"the program was compiled for the predictors {', '.join(old.candidate.predictors)}, and the task's has "
            f"{', '.join(predictors)}"
        )
    trained = [name for name, identity in old.lms.items() if _is_trained(identity)]
    notes = ("The old LM's weights were trained, and belong to it.",) if _is_trained(old.lm) else ()
    return parts_of(old.candidate, task.program, to, space, trained), notes


def _is_trained(lm: Mapping[str, Any]) -> bool:
    engine = lm.get("engine")
    return isinstance(engine, Mapping) and bool(engine.get("adapter"))
