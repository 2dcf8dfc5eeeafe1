"""Several objectives: quality, what it costs, and any other metric; limits, a Pareto front, and a stated preference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import dspy
import optuna
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..evaluation.quality import Quality
from ..programs.metrics import JudgeMetric, scored
from ..programs.outputs import prediction_of
from ..store.records import Cell
from .quiet import quiet
from .standing import Standing

__all__ = ["COSTS", "QUALITY", "Objectives"]

QUALITY = "quality"
"""The task's own metric: the higher, the better."""
COSTS = ("tokens", "input_tokens", "output_tokens", "calls", "seconds")
"""What a program costs an example, a mean: the lower, the better."""
_AS_CHEAP = 0.05


class Objectives(BaseModel):
    """What is wanted besides quality.

    All values are means an example, as the program runs in the app: a judge's calls are not in them.

    Attributes:
        limits: What a program must keep to: at most so many ``tokens``, ``input_tokens``, ``output_tokens``,
            ``calls``, ``seconds``, and of each other metric at most (or, where it is to be high, at least) so much.
        metrics: Other metrics by name, each ``(example, prediction, trace=None)``; they are computed from stored
            outputs and ask no LM.
        maximise: Those of the metrics that are the better the higher; the others, the lower.
        tolerance: By how much quality may be below the best one for a cheaper program.
        sure: How probably the winner has to be better than the program as declared, by dev, or else that stays. 0.5
            takes what is probably better: more is won on average, and what is no better is shipped more often.
        weights: A stated preference: what one unit of a cost or metric is worth in quality. A program's value is then
            its quality less the sum of weight × cost (plus, for what is maximised), and decides alone.
        axes: What the Pareto front is over.

    >>> wanted = Objectives(limits={"tokens": 300}, weights={"tokens": 0.0005})
    >>> wanted.allowed({"tokens": 250.0}), wanted.allowed({"tokens": 310.0})
    (True, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    limits: Mapping[str, float] = Field(default_factory=dict)
    metrics: Mapping[str, Callable[..., Any]] = Field(default_factory=dict)
    maximise: tuple[str, ...] = ()
    tolerance: float = Field(default=0.01, ge=0)
    sure: float = Field(default=0.9, ge=0.5, lt=1)
    weights: Mapping[str, float] = Field(default_factory=dict)
    axes: tuple[str, ...] = (QUALITY, "tokens")

    @model_validator(mode="after")
    def _names_are_known(self) -> Objectives:
        if taken := {QUALITY, *COSTS} & set(self.metrics):
            raise ValueError(f"{', '.join(sorted(taken))}: is measured anyway; give the metric another name")
        known = {QUALITY, *COSTS, *self.metrics}
        for setting in ("limits", "weights", "maximise", "axes"):
            allowed = set(self.metrics) if setting == "maximise" else known
            if setting == "weights":
                allowed = allowed - {QUALITY}
            if unknown := set(getattr(self, setting)) - allowed:
                there = ", ".join(sorted(allowed)) or "no metric"
                raise ValueError(f"{setting} names {', '.join(sorted(unknown))}; there is {there}")
        if below := [name for name in COSTS if self.limits.get(name, 0) < 0]:
            raise ValueError(f"a limit of {', '.join(below)} below 0 is one that nothing can keep")
        if endless := [name for name, limit in self.limits.items() if not math.isfinite(limit)]:
            raise ValueError(f"a limit of {', '.join(endless)} has to be a finite number; leave it out for none")
        if not self.axes:
            raise ValueError(f"axes is empty: a front is over one at least of {', '.join(sorted(known))}")
        if any(isinstance(metric, JudgeMetric) for metric in self.metrics.values()):
            raise ValueError("metrics are computed from stored outputs and ask no LM; a judge is the task's own metric")
        if any(not 0 <= weight < math.inf for weight in self.weights.values()):
            raise ValueError("a weight is not negative, and finite; what is better the higher is named in maximise")
        return self

    def measure(self, standing: Standing, examples: Sequence[dspy.Example]) -> dict[str, float]:
        """Gives all values of a candidate, from its cells; quality is the plain mean.

        A value that no cell tells of is NaN.

        Args:
            standing: The candidate.
            examples: In the order of its cells; there may be more.

        Raises:
            MetricError: One of the metrics raised.
        """
        return self.measure_cells(standing.cells, examples)

    def measure_cells(
        self, cells: Sequence[Cell], examples: Sequence[dspy.Example], program: dspy.Module | None = None
    ) -> dict[str, float]:
        """As `measure`, of cells; other metrics are given types that the program's predictors tell, or else JSON."""
        answered = [cell for cell in cells if cell.score is not None]
        values = {
            QUALITY: _mean([cell.score or 0.0 for cell in answered]),
            "tokens": _mean([float(cell.input_tokens + cell.output_tokens) for cell in answered]),
            "input_tokens": _mean([float(cell.input_tokens) for cell in answered]),
            "output_tokens": _mean([float(cell.output_tokens) for cell in answered]),
            "calls": _mean([float(cell.calls) for cell in answered]),
            "seconds": _mean([cell.seconds for cell in answered]),
        }
        said = [
            (example, prediction_of(cell.output, program or dspy.Module()))
            for example, cell in zip(examples, cells, strict=False)
            if cell.output and self.metrics
        ]
        for name, metric in self.metrics.items():
            values[name] = _mean(
                [scored(metric, example, prediction, least=-math.inf).score for example, prediction in said]
            )
        return values

    def higher_is_better(self, name: str) -> bool:
        """The direction of an objective."""
        return name == QUALITY or name in self.maximise

    def broken(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """Names the limits that a candidate does not keep; a value that is not known keeps none."""
        return tuple(
            name
            for name, limit in self.limits.items()
            if not (values[name] >= limit if self.higher_is_better(name) else values[name] <= limit)
        )

    def allowed(self, values: Mapping[str, float]) -> bool:
        """Tells whether a candidate keeps all limits."""
        return not self.broken(values)

    def value(self, values: Mapping[str, float], quality: float) -> float:
        """What a candidate is worth by the stated preference, in units of quality."""
        return quality + sum(
            weight * values[name] * (1 if self.higher_is_better(name) else -1) for name, weight in self.weights.items()
        )

    def front(self, points: Sequence[Mapping[str, float]]) -> list[int]:
        """Gives the points that no other beats in one of the axes without losing in another, in their order.

        Optuna's Pareto front. Points that break a limit, or that have an unknown value, are not on it; of equal points
        the first is.

        >>> points = [{"quality": q, "tokens": t} for q, t in [(0.8, 100), (0.9, 200), (0.7, 150), (0.9, 200)]]
        >>> Objectives().front(points)
        [0, 1]
        """
        directions: list[Literal["maximize", "minimize"]]
        directions = ["maximize" if self.higher_is_better(axis) else "minimize" for axis in self.axes]
        trials, seen = [], set[tuple[float, ...]]()
        for index, point in enumerate(points):
            values = tuple(point[axis] for axis in self.axes)
            if self.allowed(point) and all(map(math.isfinite, values)) and values not in seen:
                seen.add(values)
                trials.append(optuna.trial.create_trial(values=values, user_attrs={"index": index}))
        with quiet():
            study = optuna.create_study(directions=directions)
        study.add_trials(trials)
        return sorted(trial.user_attrs["index"] for trial in study.best_trials)

    def choose(self, points: Sequence[Mapping[str, float]], quality: Quality, *, sure: float = 0.5) -> int | None:
        """Chooses among candidates.

        Of those that keep all limits: by the stated preference, where there is one; else the cheapest, in tokens, of
        those that are no worse than the best, within the tolerance. Of candidates that cost the same (within 5 %), the
        better one.

        Args:
            points: What each costs, as `measure` gives it.
            quality: What is known of how good each is, luck taken off, in the same order.
            sure: How probable it has to be that a cheaper one is no worse, within the tolerance.

        Returns:
            Its index; None where none keeps the limits.
        """
        keeping = [index for index, point in enumerate(points) if self.allowed(point)]
        means = [float(mean) for mean in quality.mean]
        # One that was never answered is nobody's choice, if there is any other.
        priced = ("tokens", *self.weights)
        allowed = [
            index
            for index in keeping
            if math.isfinite(means[index]) and all(math.isfinite(points[index][name]) for name in priced)
        ]
        if not allowed:
            return keeping[0] if keeping else None
        if self.weights:
            return max(allowed, key=lambda index: (self.value(points[index], means[index]), -index))
        best = max(allowed, key=lambda index: (means[index], -points[index]["tokens"], -index))
        no_worse = quality.probability_better(than=best, by=-self.tolerance)
        near = [index for index in allowed if index == best or no_worse[index] >= sure]
        least = min(points[index]["tokens"] for index in near)
        cheap = [index for index in near if points[index]["tokens"] <= least * (1 + _AS_CHEAP)]
        return max(cheap, key=lambda index: (means[index], -points[index]["tokens"], -index))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
