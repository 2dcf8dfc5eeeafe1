"""A compiled program whose LM answers by a rule, so that each answer shows whose question it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest

from progspace.artifacts.artifact import Artifact, Provenance, write_artifact
from progspace.evaluation.findings import Findings
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.programs.structure import describe


class Echo(dspy.Signature):
    """Repeat the text."""

    text: str = dspy.InputField(desc="what is repeated")
    echo: str = dspy.OutputField()


class Typed(dspy.Signature):
    """Judge the text."""

    text: str = dspy.InputField()
    stars: int = dspy.InputField()
    tags: list[str] = dspy.InputField()
    kind: Literal["review", "letter"] = dspy.InputField()
    mood: Literal["glad", "sad"] = dspy.OutputField()
    score: float = dspy.OutputField()


@pytest.fixture
def artifact(tmp_path: Path) -> Callable[..., Path]:
    """Writes an artifact of a signature in the compact format, as a compile would."""

    def write(signature: type[dspy.Signature] = Echo, lm: dict[str, Any] | None = None) -> Path:
        program = dspy.Predict(signature)
        made = Artifact(
            task="echo",
            structure=describe(program),
            candidate=Candidate.declared(program).with_choice(format=Format(kind="compact")),
            lm=lm or {"model": "rule/one"},
            provenance=Provenance(),
            report=Findings(
                task="echo", lm="rule/one", seed=0, sizes={"train": 1, "dev": 1, "test": 1}, rungs=()
            ),
        )  # fmt: skip
        return write_artifact(made, tmp_path / f"{signature.__name__}.progspace.json")

    return write


def echo(prompt: str) -> str:
    """What stands in the prompt's last text field."""
    return prompt.rsplit("Text: ", 1)[-1].rpartition("\nEcho:")[0]


TYPED = {"text": "a", "stars": 3, "tags": ["x"], "kind": "review"}


def judge(prompt: str) -> str:
    """Answers `Typed`."""
    return "glad\nScore: 0.5"
