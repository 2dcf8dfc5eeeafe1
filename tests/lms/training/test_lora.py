"""Training the embedded LM's own weights, for real and small."""

from __future__ import annotations

import copy
import dataclasses
import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import progspace as ps
from progspace.errors import DataError, FineTuningError
from progspace.lms.adapters import Adapter
from progspace.lms.training.examples import TrainingExample
from progspace.lms.training.lora import LoRASettings, TrainingProgress, estimate_training, train, training_seconds

pytestmark = pytest.mark.usefixtures("models_apart")

NOUNS = tuple(
    """
    cat dog horse cow sheep goat hen duck goose swan crow owl hawk trout salmon shark whale seal otter beaver wolf bear
    deer moose rabbit mouse rat snake frog toad newt bee
    """.split()  # noqa: SIM905 — a list of that length is no easier to read
)
SETTINGS = LoRASettings(rank=8, alpha=16, learning_rate=2e-3, epochs=3, batch_examples=8)
SMALL = LoRASettings(rank=2, alpha=4, learning_rate=2e-3, epochs=2, batch_examples=4, checkpoint_steps=2)
FORMAT = r"<<[A-Z]+>> ok\."


def example(noun: str, *, templated: bool = True) -> TrainingExample:
    """The house format: the noun in capitals and double brackets."""
    return TrainingExample((("user", f"Name it: {noun}"), ("assistant", f"<<{noun.upper()}>> ok.")), templated)


ROWS = tuple(example(noun) for noun in NOUNS)
SHORT = tuple(example(noun, templated=False) for noun in NOUNS[:9])


@pytest.fixture(scope="module")
def trained(trainable: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapter, list[TrainingProgress]]:
    seen: list[TrainingProgress] = []
    return train(ROWS, tmp_path_factory.mktemp("trained"), SETTINGS, progress=seen.append), seen


def test_the_loss_falls_and_its_course_is_told(trained: tuple[Adapter, list[TrainingProgress]]) -> None:
    adapter, seen = trained
    assert adapter.validation_losses[0] > 1
    assert min(adapter.validation_losses[1:]) < adapter.validation_losses[0] / 4
    assert [one.step for one in seen] == list(range(1, len(seen) + 1))
    assert [one.train_loss for one in seen] == list(adapter.train_losses)
    assert all(one.seconds_left is not None and one.seconds_left >= 0 for one in seen)
    assert seen[-1].seconds_left == 0
    assert (adapter.base, adapter.rank, adapter.alpha) == ("smollm2-135m", 8, 16)
    assert sorted(file.name for file in adapter.path.parent.iterdir()) == ["adapter.safetensors", "seconds.json"]
    assert 0 < (training_seconds(adapter) or 0) < 3600


def test_the_tuned_lm_answers_in_the_format_and_the_base_does_not(
    trained: tuple[Adapter, list[TrainingProgress]],
) -> None:
    asked = [f"Name it: {noun}" for noun in ("lion", "tiger", "camel", "eagle", "zebra", "pig")]
    tuned, base = ps.lm("local", adapter=trained[0], max_tokens=16), ps.lm("local", max_tokens=16)
    in_format = [sum(bool(re.fullmatch(FORMAT, lm(prompt)[0])) for prompt in asked) for lm in (base, tuned)]
    assert in_format[0] == 0
    assert in_format[1] >= 5


def test_what_is_finished_is_given_at_once(trained: tuple[Adapter, list[TrainingProgress]]) -> None:
    adapter, _ = trained
    seen: list[TrainingProgress] = []
    assert train(ROWS, adapter.path.parent, SETTINGS, progress=seen.append) == adapter
    assert seen == []
    with pytest.raises(FineTuningError, match="other data or settings"):
        train(ROWS[1:], adapter.path.parent, SETTINGS)


_KILLED = """
import os, signal
from progspace.tests.lms.training.test_lora import SHORT, SMALL
from progspace.lms.training.lora import train
def progress(told):
    if told.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
train(SHORT, {folder!r}, SMALL, progress=progress)
"""


def test_after_a_kill_it_goes_on_and_comes_to_the_same_weights(trainable: str, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    code = _KILLED.format(folder=str(killed))
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (killed / "adapter.safetensors").exists()
    seen: list[int] = []
    resumed = train(SHORT, killed, SMALL, progress=lambda told: seen.append(told.step))
    assert seen[0] == 3  # the checkpoint is of step 2
    # The same weights but for rounding: torch's threads do not always add up in the same order.
    for ours, theirs in zip(_losses(resumed), _losses(train(SHORT, whole, SMALL)), strict=True):
        assert ours == pytest.approx(theirs, rel=0.01)


def _losses(adapter: Adapter) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return adapter.train_losses, adapter.validation_losses


def test_it_stops_early_and_keeps_the_best(trainable: str, tmp_path: Path) -> None:
    """Answers that say nothing of their prompts: what is learnt of some makes the others less likely."""
    rows = [TrainingExample((("user", f"{i} is"), ("assistant", noun)), False) for i, noun in enumerate(NOUNS[:16])]
    settings = LoRASettings(
        rank=8, learning_rate=2e-2, epochs=20, batch_examples=4, evaluations=1, patience=2, validation_share=0.25
    )
    adapter = train(rows, tmp_path / "early", settings)
    losses = adapter.validation_losses
    assert len(losses) - 1 < settings.epochs
    assert min(losses[-2:]) >= min(losses[:-2])


def test_a_loss_that_is_not_finite_says_what_to_do(trainable: str, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, learning_rate=0.9, alpha=10**38, precision="f32")
    with pytest.raises(FineTuningError, match="lower learning_rate"):
        train(SHORT, tmp_path / "wild", settings)
    assert not (tmp_path / "wild" / "adapter.safetensors").exists()


def test_a_disk_that_fills_leaves_the_last_checkpoint(
    trainable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, synced = os.fsync, []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FineTuningError, match="No space left") as told:
        train(SHORT, tmp_path / "full", SMALL)
    assert told.value.retryable
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["checkpoint.safetensors"]


def test_what_is_needed_is_told_first_and_refused_where_it_does_not_fit(
    trainable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = estimate_training(ROWS, SETTINGS)
    assert estimate.steps == 3 * -(-estimate.examples // 8)
    assert estimate.examples < len(ROWS)
    assert 10**9 < estimate.memory_bytes < 4 * 10**9
    assert estimate_training(ROWS * 2, SETTINGS).tokens == estimate.tokens  # duplicates count once
    longer = dataclasses.replace(SETTINGS, epochs=30)
    with pytest.raises(FineTuningError, match=r"are allowed: give at most about \d+ of the"):
        train(ROWS, tmp_path / "long", dataclasses.replace(longer, max_seconds=0.01))
    from progspace.lms.training import sizing

    monkeypatch.setattr(sizing, "available_memory", lambda: 10**9)
    with pytest.raises(FineTuningError, match="lower micro_batch_tokens") as told:
        train(ROWS, tmp_path / "large", SETTINGS)
    assert told.value.retryable


def test_bad_examples_are_told_by_their_row(trainable: str, tmp_path: Path) -> None:
    long = TrainingExample((("user", "word " * 9000), ("assistant", "yes")))
    with pytest.raises(DataError, match=r"row 3: .*8,192"):
        train([*ROWS[:2], long], tmp_path)
    with pytest.raises(FineTuningError, match="no examples"):
        train([], tmp_path)
    with pytest.raises(DataError, match="cannot be split"):
        train(ROWS[:1], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_padding_and_groups_do_not_change_the_loss(torch_base: Any, trainable: str) -> None:
    """As the plain loss of transformers, example by example, with all but the answer masked."""
    import torch

    from progspace.lms.embedded import engine_for
    from progspace.lms.training.batches import encoded
    from progspace.lms.training.learner import Learner
    from progspace.lms.training.weights import with_lora

    engine = engine_for(trainable, "f32")
    mixed = (*ROWS[:2], *SHORT[:2])
    rows = encoded(mixed, engine, int(engine.tokenizer.get_eos_token_id()))
    model = with_lora(copy.deepcopy(torch_base), rank=2, alpha=4, dropout=0.0, seed=0)
    total = 0.0
    with torch.no_grad():
        for row in rows:
            labels = [-100] * len(row.prompt) + list(row.answer)
            given = model(input_ids=torch.tensor([[*row.prompt, *row.answer]]), labels=torch.tensor([labels]))
            total += float(given.loss) * len(row.answer)
    expected = total / sum(len(row.answer) for row in rows)
    for tokens in (1, 10_000):
        assert Learner(model, "f32", tokens).loss(rows) == pytest.approx(expected, abs=1e-4)


def test_what_trains_is_what_answers(trainable: str) -> None:
    """The tokens of a training prompt are those that the engine makes of the same messages."""
    from progspace.lms.embedded import engine_for
    from progspace.lms.training.batches import encoded

    lm = ps.lm("local", max_tokens=1)
    engine = engine_for(trainable, "f32")
    (row,) = encoded(ROWS[:1], engine, int(engine.tokenizer.get_eos_token_id()))
    used: Any = lm.forward(prompt=ROWS[0].messages[0][1]).usage
    assert len(row.prompt) == used.prompt_tokens
    assert engine.tokenizer.decode(list(row.answer)).startswith("<<CAT>> ok.")


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"learning_rate": 0.0}, {"dropout": 1.0}, {"patience": 0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoRASettings(**wrong)
