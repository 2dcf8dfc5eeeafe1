from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
from dspy.clients.utils_finetune import TrainingStatus

import progspace as ps
from progspace.errors import FineTuningError
from progspace.lms.training.jobs import Event
from progspace.lms.training.local_provider import local_provider


def by_rule(prompt: str) -> str:
    mood = "glad" if prompt.rfind("sun") > prompt.rfind("rain") else "sad"
    return f"[[ ## mood ## ]]\n{mood}\n\n[[ ## completed ## ]]"


def right(example: dspy.Example, prediction: Any, trace: Any = None) -> bool:
    return bool(example.mood == prediction.mood)


def test_bootstrap_finetune_trains_the_embedded_lm_as_it_ships(
    trainable: str, mood: Any, mood_rows: Any, rule_engine: Any, tmp_path: Path
) -> None:
    rows = [dspy.Example(**row).with_inputs("text") for row in mood_rows]
    told: list[Event] = []
    provider = local_provider(trainable, f"local/{trainable}", folder=tmp_path, progress=told.append)
    program, teacher = dspy.Predict(mood), dspy.Predict(mood)
    program.set_lm(ps.lm("local", provider=provider, max_tokens=32))
    teacher.set_lm(rule_engine(by_rule).lm())
    untrained = program.lm
    asked = dspy.ChatAdapter().format(mood, demos=[], inputs={"text": "sun on day 99"})
    before = untrained(messages=asked)
    tuner = dspy.BootstrapFinetune(
        metric=right, train_kwargs={"n_epochs": 2, "validation_share": 0, "batch_examples": 4, "learning_rate": 1e-3}
    )
    tuned = tuner.compile(program, trainset=rows[:16], teacher=teacher)
    assert [event.data["step"] for event in told] == list(range(1, 9))
    assert told[-1].data["train_loss"] < told[0].data["train_loss"] / 2
    assert tuned.lm.model.startswith(f"local/{trainable}+")
    (after,) = tuned.lm(messages=asked)
    assert after.startswith("[[ ## mood ## ]]")
    assert [after] != before
    assert untrained(messages=asked) == before
    again = tuned.lm.finetune([{"messages": []}], "chat").result()
    assert isinstance(again, ps.DataError)
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert "is trained already" in str(tuned.lm.finetune([row], "chat").result())


def test_settings_and_cancel(trainable: str, tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"{i}"}, {"role": "assistant", "content": "yes"}]} for i in range(8)
    ]
    jobs: list[Any] = []

    def cancel(event: Event) -> None:
        jobs[0].cancel()

    lm = ps.lm("local")
    assert lm.provider.finetunable
    lm.provider = local_provider(trainable, lm.model, folder=tmp_path, progress=cancel)
    unknown = lm.finetune(rows, "chat", {"suffix": "x"}).result()
    assert isinstance(unknown, FineTuningError)
    assert "knows no suffix; there is rank" in str(unknown)
    jobs.append(lm.finetune(rows, "chat", {"epochs": 50, "batch_examples": 4, "validation_share": 0}))
    jobs[0].thread.join()
    assert jobs[0].status() == TrainingStatus.cancelled
