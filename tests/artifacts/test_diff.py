"""What changed between two artifacts, in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest

from progspace.artifacts.artifact import Artifact, read_artifact
from progspace.artifacts.diff import diff_artifacts
from progspace.programs.answering import Answering
from progspace.programs.formats import Format
from progspace.programs.nearest import Nearest
from progspace.programs.retrieval import RetrievalChoice
from progspace.programs.structure import Settings

SHOWN = [{"text": "sun", "mood": "glad"}, {"text": "rain", "mood": "sad"}, {"text": "snow", "mood": "glad"}]


@pytest.fixture
def artifact(make_artifact: Callable[..., Path], mood: Any, tmp_path: Path) -> Callable[..., Artifact]:
    return lambda **choice: read_artifact(make_artifact(tmp_path / "x.json", dspy.Predict(mood), **choice))


def test_each_choice_has_its_words(artifact: Callable[..., Artifact]) -> None:
    compact = Format(kind="compact", decoding="scored")
    fitted = Format(kind="compact", hints=True, decoding="calibrated", biases=(("glad", 0.5),))
    for old, new, told in [
        ({}, {"instruction": "Look."}, "instruction: as declared → Look."),
        ({}, {"format": compact}, "format: as declared → compact"),
        ({"format": compact}, {"format": fitted}, "decoding: scored → calibrated"),
        ({"format": compact}, {"format": fitted}, "calibration: none → glad +0.500"),
        ({"format": compact}, {"format": fitted}, "format: compact → compact, hints"),
        ({}, {"answering": Answering(reasoning=True, votes=3)}, "way to answer: direct → chain of thought, 3 votes"),
        ({}, {"demonstrations": tuple(SHOWN)}, "demonstrations: as declared → 3 demonstrations"),
        ({"demonstrations": tuple(SHOWN[:2])}, {"demonstrations": tuple(SHOWN[1:])},
         "demonstrations: 2 demonstrations → 2 demonstrations (1 new, 1 gone)"),
        ({"demonstrations": tuple(SHOWN)}, {"demonstrations": tuple(SHOWN[::-1])}, "(in another order)"),
        ({"demonstrations": tuple(SHOWN)}, {"demonstrations": ()}, "3 demonstrations → no demonstrations"),
        ({}, {"nearest": Nearest(count=2, pool=tuple(SHOWN))}, "demonstrations: as declared → "),
        ({}, {"lm": "large"}, "LM: the program's own → large"),
        ({}, {"settings": Settings(temperature=0.5)}, "settings: as declared → temperature 0.5"),
    ]:  # fmt: skip
        found = diff_artifacts(artifact(**old), artifact(**new))
        assert found.lines[0] == "predictor self"
        assert told in " ".join(" ".join(found.lines).split()), found.lines
    long = diff_artifacts(artifact(instruction="a" * 50), artifact(instruction="b" * 50))
    assert long.lines[1] == f"  instruction:\n    before: {'a' * 50}\n    after:  {'b' * 50}"


def test_the_whole_program_has_its_words(artifact: Callable[..., Artifact]) -> None:
    base = artifact(score=0.5)
    engine = {"model": "small", "precision": "f32"}
    trained = {"model": "local/small", "engine": {**engine, "adapter": "ab" * 32}}
    for changed, told in [
        ({"lm": {"model": "openai/gpt"}}, "LM: rule/one → openai/gpt"),
        (
            {"lm": {"model": "rule/one", "settings": {"temperature": 1}}},
            "LM: rule/one as it was → rule/one with other settings",
        ),
        ({"lm": trained}, "weights: as they came → trained abababababab"),
        ({"lms": {"trained": trained}}, "weights of trained: as they came → trained abababababab"),
        ({"structure": {**base.structure, "x": 1}}, "module: as it was → another"),
    ]:
        found = diff_artifacts(base, base.model_copy(update=changed))
        assert told in " ".join(found.lines)
        assert found.lines[0] == "program"
    candidate = base.candidate.with_retrieval(RetrievalChoice(order="best last"), path="retriever")
    retrieval = diff_artifacts(base, base.model_copy(update={"candidate": candidate}))
    assert retrieval.lines[:2] == ["retriever retriever", "  retrieval: as declared → best last"]
    better = diff_artifacts(base, artifact(score=0.75))
    assert better.lines[0] == "Both make the same program."
    assert "50.0 % on 40 examples, 30 tokens each → 75.0 %" in better.lines[1]
    other = base.model_copy(update={"provenance": base.provenance.model_copy(update={"task_hash": "u"})})
    assert "do not compare" in diff_artifacts(base, other).notes[0]
    assert diff_artifacts(base, base).to_dict()["changes"] == []
