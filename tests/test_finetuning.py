"""The whole way on real weights: searched, trained, raced, saved beside the artifact, loaded, run."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.artifacts.artifact import read_artifact
from progspace.artifacts.compiled import Compiled
from progspace.lms.training.examples import read_jsonl

NOUNS = tuple(
    """
    cat dog horse cow sheep goat hen duck goose swan crow owl hawk trout salmon shark whale seal otter beaver wolf bear
    deer moose rabbit mouse rat snake frog toad newt bee lion tiger camel eagle zebra pig ant fly fox hare lynx mole
    bat boar carp cod crab dove eel elk finch flea gnat gull heron ibis jay kite lark lice lamb
    """.split()  # noqa: SIM905 — a list of that length is no easier to read
)
TRAINING = {"epochs": 3, "rank": 8, "alpha": 16, "learning_rate": 2e-3, "batch_examples": 4, "evaluations": 1}


class Tag(dspy.Signature):
    """Write the tag of an animal."""

    animal: str = dspy.InputField()
    tag: str = dspy.OutputField()


@pytest.fixture(scope="module")
def compiled(trainable: str, models_apart: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Compiled, Path]:
    folder = tmp_path_factory.mktemp("finetuning")
    task = ps.Task(
        program=dspy.Predict(Tag),
        examples=[{"animal": noun, "tag": f"<<{noun}>> ok"} for noun in NOUNS],
        inputs=["animal"],
        metric=ps.metrics.exact_match("tag"),
        name="tags",
    )
    from progspace.lms.training.local_provider import local_provider

    provider = local_provider(trainable, f"local/{trainable}", folder=folder / "trainings")
    found = ps.compile(
        task,
        lm=ps.lm("local", max_tokens=16, provider=provider),
        budget=ps.Budget(calls=300),
        store=folder / "store.db",
        space=ps.Space(
            instructions=(), demonstrations=(), votes=(1,), answers=("direct",), formats=("compact",),
            finetuning=ps.FineTuning(settings=TRAINING, export=folder / "taught.jsonl"),
        ),
    )  # fmt: skip
    found.save(folder / "app" / "tags.progspace.json")
    return found, folder


def test_trained_weights_win_where_a_prompt_cannot_show_the_format(compiled: tuple[Compiled, Path]) -> None:
    found, folder = compiled
    winner = found.report.winner
    assert winner.name == "fine-tuning"
    training = winner.training
    assert training is not None
    assert training.after.score >= training.before.score + 0.5
    assert training.seconds is not None
    assert training.seconds > 0
    assert 0 < training.examples <= len(read_jsonl(folder / "taught.jsonl"))
    assert training.lm == f"local/smollm2-135m+{found.adapters[training.lm].sha256[:12]}"
    assert "Trained on" in str(found.report)


def test_the_artifact_takes_its_weights_along(compiled: tuple[Compiled, Path], tmp_path: Path) -> None:
    found, folder = compiled
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder / "app", moved)
    (adapter,) = found.adapters.values()
    assert sorted(file.name for file in moved.iterdir()) == [
        f"{adapter.sha256[:16]}.safetensors", "tags.progspace.json"
    ]  # fmt: skip
    artifact = read_artifact(moved / "tags.progspace.json")
    (identity,) = artifact.lms.values()
    assert identity["engine"]["adapter"] == adapter.sha256
    program = ps.load(moved / "tags.progspace.json")
    for noun in ("cat", "heron", "python"):
        assert program(animal=noun).tag == found.program(animal=noun).tag
    assert program(animal="cat").tag == "<<cat>> ok"


@pytest.mark.parametrize("harm", ["missing", "altered", "another's", "cut"])
def test_weights_that_are_not_those_are_refused(
    compiled: tuple[Compiled, Path], tmp_path: Path, adapted: Any, harm: str
) -> None:
    _, folder = compiled
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder / "app", moved)
    (weights,) = moved.glob("*.safetensors")
    content = weights.read_bytes()
    if harm == "missing":
        weights.unlink()
    elif harm == "altered":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "cut":
        weights.write_bytes(content[: len(content) // 2])
    else:
        shutil.copy(adapted[1].path, weights)
    told = "must stand beside it" if harm == "missing" else "not as they were saved"
    with pytest.raises(ps.ArtifactError, match=told):
        ps.load(moved / "tags.progspace.json")


def test_an_adapter_that_was_moved_since_cannot_be_kept(compiled: tuple[Compiled, Path], tmp_path: Path) -> None:
    found, _ = compiled
    (name,) = found.adapters
    (adapter,) = found.adapters.values()
    gone = dataclasses.replace(adapter, path=tmp_path / "no")
    lost = Compiled(found.program, found.candidate, found.report, adapters={name: gone})
    with pytest.raises(ps.ArtifactError, match="cannot be kept"):
        lost.save(tmp_path / "tags.progspace.json")
    assert not (tmp_path / "tags.progspace.json").exists()
