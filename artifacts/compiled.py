"""What a compile gives: the winner as a module, the report, and the file that keeps both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy

from ..evaluation.report import Report
from ..lms.adapters import Adapter
from ..programs.candidate import Candidate
from ..programs.program import Program
from .artifact import Artifact, Provenance, write_artifact
from .registry import check_no_version
from .weights import put_beside

__all__ = ["Compiled", "FrontPoint"]


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A program on the Pareto front: no other is better in one objective without being worse in another.

    Attributes:
        program: The program.
        candidate: What it is made of.
        score: Its mean on dev.
        tokens: Tokens in and out, an example.
        values: All that was measured of it: quality, tokens, calls, seconds, other metrics; means on dev.
    """

    program: Program
    candidate: Candidate
    score: float
    tokens: float
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Compiled:
    """The outcome of ``ps.compile``.

    Attributes:
        program: The winner, a ``dspy.Module`` with its own manner and LM.
        candidate: What was chosen for it.
        report: The ladder, as a table for people (``print``), ``.to_dict()`` or ``.to_html(path)``.
        front: The Pareto front, by default of dev score and tokens, cheapest first.
        provenance: Task, seed, versions.
        structure: The user's module as JSON, for the artifact.
        lm: Identity of the LM, without secrets.
        lms: Identities of other LMs that predictors run on, by name.
        adapters: Trained weights among these, by the LM's name.
    """

    program: Program
    candidate: Candidate
    report: Report
    front: Sequence[FrontPoint] = ()
    provenance: Provenance = field(default_factory=Provenance)
    structure: dict[str, Any] = field(default_factory=dict)
    lm: dict[str, Any] = field(default_factory=dict)
    lms: dict[str, dict[str, Any]] = field(default_factory=dict)
    adapters: Mapping[str, Adapter] = field(default_factory=dict)

    def __call__(self, **inputs: Any) -> dspy.Prediction:
        """Runs the winner."""
        prediction: dspy.Prediction = self.program(**inputs)
        return prediction

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    @property
    def artifact(self) -> Artifact:
        """The content of the file that `save` writes."""
        return Artifact(
            task=self.report.task,
            structure=self.structure,
            candidate=self.candidate,
            lm=self.lm,
            lms=self.lms,
            provenance=self.provenance,
            report=self.report,
        )

    def save(self, path: str | Path) -> Path:
        """Writes the artifact: one readable JSON file, whole or not at all.

        Weights that were trained stand beside it as safetensors files, named by their hash, and go where it goes.

        Raises:
            ArtifactError: The file cannot be written, or is a version of a registry, or the weights are not where they
                were.
        """
        check_no_version(path)
        put_beside(Path(path), self.adapters)
        return write_artifact(self.artifact, Path(path))
