"""What changed from one artifact to another, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..evaluation import numbers
from ..evaluation.findings import Measured
from ..programs.answering import Answering
from ..programs.candidate import Candidate, PredictorChoice
from ..programs.formats import Format
from ..programs.retrieval import RetrievalChoice
from .artifact import Artifact

__all__ = ["ArtifactDiff", "Changed", "diff_artifacts", "without"]

_DECLARED = "as declared"


@dataclass(frozen=True, slots=True)
class Changed:
    """One thing that is not as it was.

    Attributes:
        where: ``predictor NAME``, ``retriever PATH`` or ``program``.
        what: Instruction, demonstrations, format, decoding, calibration, way to answer, LM, weights, …
        before: As it was, in words.
        after: As it is.
        field: The field of the predictor's choice that holds it; None for what belongs to no predictor's choice.
    """

    where: str
    what: str
    before: str
    after: str
    field: str | None = None

    @property
    def line(self) -> str:
        """In a line, or two where it is long."""
        short = len(self.before) + len(self.after) < 60
        told = f"{self.before} → {self.after}" if short else f"\n    before: {self.before}\n    after:  {self.after}"
        return f"{self.what}: {told}".replace(": \n", ":\n")


@dataclass(frozen=True, slots=True)
class ArtifactDiff:
    """What changed from one artifact to another.

    Attributes:
        changes: By predictor, then what belongs to the whole.
        notes: What its reports measured, and whether on the same data.
    """

    changes: tuple[Changed, ...]
    notes: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """For people."""
        lines, before = [], None
        for change in self.changes:
            if change.where != before:
                lines.append(change.where)
                before = change.where
            lines.append(f"  {change.line}")
        return [*(lines or ["Both make the same program."]), *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Gives everything as JSON values."""
        return {"changes": [asdict(change) for change in self.changes], "notes": list(self.notes)}


def diff_artifacts(old: Artifact, new: Artifact) -> ArtifactDiff:
    """Tells what changed from an old artifact to a new one.

    Args:
        old: As it was.
        new: As it is.
    """
    changes = [change for part in (_predictors(old, new), _retrievers(old, new), _program(old, new)) for change in part]
    notes = []
    if old.provenance.task_hash != new.provenance.task_hash:
        notes.append("They were compiled on different examples, splits or metrics: their reports do not compare.")
    notes += [_score("dev", *(each.report.winner.dev for each in (old, new)))]
    tests = [each.report.winner.test for each in (old, new)]
    if tests[0] is not None and tests[1] is not None:
        notes.append(_score("test", tests[0], tests[1]))
    return ArtifactDiff(tuple(changes), tuple(notes))


def without(change: Changed, old: Candidate, new: Candidate) -> Candidate:
    """Gives the new candidate with one predictor's change taken back.

    >>> import dspy
    >>> old = Candidate.declared(dspy.Predict("text -> label"))
    >>> new = old.with_choice(instruction="Look closely.", lm="large")
    >>> change = Changed("predictor self", "instruction", "as declared", "Look closely.", field="instruction")
    >>> without(change, old, new).predictors["self"].instruction, without(change, old, new).predictors["self"].lm
    (None, 'large')
    """
    name = change.where.removeprefix("predictor ")
    if change.field is None or name not in old.predictors:
        raise ValueError(f"{change.what} is not a predictor's choice, and cannot be taken back alone")
    fields = ("demonstrations", "nearest") if change.field == "demonstrations" else (change.field,)
    return new.with_choice(predictor=name, **{field: getattr(old.predictors[name], field) for field in fields})


def _predictors(old: Artifact, new: Artifact) -> Iterator[Changed]:
    before, after = old.candidate.predictors, new.candidate.predictors
    for name in dict.fromkeys([*before, *after]):
        where = f"predictor {name}"
        if name not in before or name not in after:
            yield Changed(where, "predictor", *(("none", "new") if name in after else ("there", "gone")))
            continue
        yield from _choice(where, before[name], after[name])


def _choice(where: str, old: PredictorChoice, new: PredictorChoice) -> Iterator[Changed]:
    if old.instruction != new.instruction:
        before, after = (each.instruction or _DECLARED for each in (old, new))
        yield Changed(where, "instruction", before, after, "instruction")
    if (old.demonstrations, old.nearest) != (new.demonstrations, new.nearest):
        yield Changed(where, "demonstrations", _shown(old), _shown_after(old, new), field="demonstrations")
    yield from _format(where, old.format, new.format)
    if (old.answering or Answering()) != (new.answering or Answering()):
        before, after = ((each.answering or Answering()).label for each in (old, new))
        yield Changed(where, "way to answer", before, after, "answering")
    if old.lm != new.lm:
        before, after = (each.lm or "the program's own" for each in (old, new))
        yield Changed(where, "LM", before, after, "lm")
    if old.settings != new.settings:
        yield Changed(where, "settings", _settings(old), _settings(new), "settings")


def _settings(choice: PredictorChoice) -> str:
    told = {} if choice.settings is None else choice.settings.model_dump(exclude_none=True)
    return ", ".join(f"{name} {value}" for name, value in told.items()) or _DECLARED


def _format(where: str, old: Format | None, new: Format | None) -> Iterator[Changed]:
    for what, tell in (
        ("format", lambda each: f"{each.kind}{', hints' if each.hints else ''}"),
        ("decoding", lambda each: each.decoding),
        ("calibration", lambda each: ", ".join(f"{text} {bias:+.3f}" for text, bias in each.biases) or "none"),
    ):
        before, after = (_DECLARED if each is None else tell(each) for each in (old, new))
        if before != after:
            yield Changed(where, what, before, after, field="format")


def _shown(choice: PredictorChoice) -> str:
    if choice.nearest is not None:
        return choice.nearest.label
    return _DECLARED if choice.demonstrations is None else _count(len(choice.demonstrations))


def _count(number: int) -> str:
    return f"{number or 'no'} demonstration{'' if number == 1 else 's'}"


def _shown_after(old: PredictorChoice, new: PredictorChoice) -> str:
    if new.nearest is not None or not old.demonstrations or not new.demonstrations:
        return _shown(new)
    before, after = ([json.dumps(each, sort_keys=True) for each in side.demonstrations or ()] for side in (old, new))
    added, gone = len(set(after) - set(before)), len(set(before) - set(after))
    how = f"{added} new, {gone} gone" if added or gone else "in another order"
    return f"{_shown(new)} ({how})"


def _retrievers(old: Artifact, new: Artifact) -> Iterator[Changed]:
    before, after = old.candidate.retrievals, new.candidate.retrievals
    for path in dict.fromkeys([*before, *after]):
        if before.get(path) != after.get(path):
            told = [side.get(path, RetrievalChoice()).label for side in (before, after)]
            yield Changed(f"retriever {path}", "retrieval", *told)


def _program(old: Artifact, new: Artifact) -> Iterator[Changed]:
    if old.structure != new.structure:
        yield Changed("program", "module", "as it was", "another, or with another signature")
    lms = [{"the program's own": each.lm, **each.lms} for each in (old, new)]
    for name in dict.fromkeys([*lms[0], *lms[1]]):
        before, after = (each.get(name) for each in lms)
        if before == after:
            continue
        whose = "LM" if name == "the program's own" else f"LM {name}"
        models = [_model(each) for each in (before, after)]
        weights = [_weights(each) for each in (before, after)]
        if weights[0] != weights[1]:
            yield Changed("program", f"weights of {name}" if whose != "LM" else "weights", *weights)
        if models[0] != models[1] or weights[0] == weights[1]:
            settings = ["", ""] if models[0] != models[1] else [" as it was", " with other settings"]
            yield Changed("program", whose, *(f"{model}{how}" for model, how in zip(models, settings, strict=True)))


def _model(lm: Mapping[str, Any] | None) -> str:
    return "none" if lm is None else str(lm.get("model"))


def _weights(lm: Mapping[str, Any] | None) -> str:
    engine = (lm or {}).get("engine")
    adapter = engine.get("adapter") if isinstance(engine, Mapping) else None
    return f"trained {str(adapter)[:12]}" if adapter else "as they came"


def _score(split: str, old: Measured, new: Measured) -> str:
    sides: Sequence[str] = [
        f"{numbers.percent(each.score)} on {numbers.count(each.n)} examples, {numbers.count(each.tokens)} tokens each"
        for each in (old, new)
    ]
    return f"{split} in their reports: {sides[0]} → {sides[1]}."
