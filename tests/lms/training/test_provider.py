from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.clients.utils_finetune import TrainDataFormat, TrainingStatus

import progspace as ps
from progspace.errors import FineTuningError
from progspace.lms.training.endpoint import Endpoint
from progspace.lms.training.examples import Cost
from progspace.lms.training.jobs import Event
from progspace.lms.training.provider import Trained, TrainingProvider, remote_provider, training_examples
from progspace.tests.lms.training.server import KEY, Server, Training, TrainingFailed, serving

ROWS = [
    {"messages": [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": "yes"}]}
    for i in range(10)
]


def in_the_format(mood: str) -> str:
    return f"[[ ## mood ## ]]\n{mood}\n\n[[ ## completed ## ]]"


def by_rule(prompt: str) -> str:
    """The teacher: tells the mood by the weather, of the last text that it is shown."""
    return in_the_format("glad" if prompt.rfind("sun") > prompt.rfind("rain") else "sad")


def learning_words(training: Training) -> Callable[[Any], str]:
    """A trainer that really learns: which answer the words of the last message go with, by counting."""
    counts: dict[str, dict[str, int]] = {}
    for messages in training.examples:
        answer = messages[-1]["content"]
        for word in set(messages[-2]["content"].split()):
            counts.setdefault(word, {}).setdefault(answer, 0)
            counts[word][answer] += 1
    training.report(1, 1, 0.5)
    answers = sorted({messages[-1]["content"] for messages in training.examples})

    def answer(messages: Any) -> str:
        def votes(one: str) -> float:
            words = [counts[word] for word in set(messages[-1]["content"].split()) if word in counts]
            return sum(count.get(one, 0) / sum(count.values()) for count in words)

        return max(answers, key=votes)

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    # Untrained, it answers in the format and always the same.
    with serving(learning_words, {"tiny": lambda messages: in_the_format("sad")}) as running:
        yield running


def endpoint(server: Server) -> Endpoint:
    return Endpoint(base_url=server.url, api_key=lambda: KEY, wait=lambda stop, seconds: stop.wait(0.005))


def student(server: Server, mood: type[dspy.Signature], **settings: Any) -> dspy.Module:
    provider = remote_provider(endpoint=endpoint(server), **settings)
    program = dspy.Predict(mood)
    program.set_lm(ps.lm("openai/tiny", base_url=server.url, api_key=KEY, provider=provider))
    return program


def examples(rows: list[dict[str, str]]) -> list[dspy.Example]:
    return [dspy.Example(**row).with_inputs("text") for row in rows]


def right(example: dspy.Example, prediction: Any, trace: Any = None) -> bool:
    return bool(example.mood == prediction.mood)


def score(program: dspy.Module, rows: list[dspy.Example]) -> float:
    return sum(right(row, program(**row.inputs())) for row in rows) / len(rows)


def teacher(rule_engine: Any, mood: type[dspy.Signature]) -> dspy.Module:
    program = dspy.Predict(mood)
    program.set_lm(rule_engine(by_rule).lm())
    return program


@pytest.mark.parametrize("multitask", [True, False])
def test_bootstrap_finetune_trains_as_it_ships(
    server: Server, mood: Any, mood_rows: Any, rule_engine: Any, multitask: bool
) -> None:
    train, test = examples(mood_rows[:40]), examples(mood_rows[40:80])
    program = student(server, mood)
    shown: list[Cost] = []

    def confirm(cost: Cost) -> bool:
        shown.append(cost)
        return True

    tuner = dspy.BootstrapFinetune(
        metric=right, multitask=multitask, train_kwargs={"n_epochs": 2, "suffix": "mood", "confirm": confirm}
    )
    before = score(program, test)
    tuned = tuner.compile(program, trainset=train, teacher=teacher(rule_engine, mood))
    assert before == 0.5
    assert score(tuned, test) == 1.0
    (job,) = server.jobs.values()
    assert tuned.lm.model == f"openai/{job['fine_tuned_model']}"
    assert job["hyperparameters"]["n_epochs"] == 2
    assert (shown[0].examples, shown[0].epochs) == (40, 2)


def test_better_together_trains_as_it_ships(server: Server, mood: Any, mood_rows: Any, rule_engine: Any) -> None:
    program = student(server, mood, confirm=lambda cost: True)
    tuner = dspy.BetterTogether(
        metric=right,
        p=dspy.BootstrapFewShotWithRandomSearch(metric=right, num_candidate_programs=1, max_bootstrapped_demos=1),
        w=dspy.BootstrapFinetune(metric=right, exclude_demos=True),
    )
    train, test = examples(mood_rows[:40]), examples(mood_rows[40:60])
    with dspy.context(lm=program.lm):  # the few-shot search forgets the LMs of what it copies
        taught = {"teacher": teacher(rule_engine, mood)}
        tuned = tuner.compile(
            program, trainset=train, valset=test, strategy="p -> w", optimizer_compile_args={"p": taught, "w": taught}
        )
    assert not tuned.flag_compilation_error_occurred
    assert tuned.lm.model.startswith("openai/ft:tiny:")
    assert [one["score"] for one in tuned.candidate_programs if one["strategy"] == "p -> w"] == [100.0]
    assert score(tuned, test) == 1.0


def test_an_lm_as_it_ships_sends_nothing_unasked_and_goes_where_it_answers(
    server: Server, mood: Any, mood_rows: Any, rule_engine: Any
) -> None:
    program = dspy.Predict(mood)
    program.set_lm(ps.lm("openai/tiny", base_url=server.url, api_key=KEY))
    tuner = dspy.BootstrapFinetune(metric=right)
    with pytest.raises(FineTuningError, match=f"training at {server.url} .*nobody confirmed"):
        tuner.compile(program, trainset=examples(mood_rows[:20]), teacher=teacher(rule_engine, mood))
    assert server.requests == []
    tuner = dspy.BootstrapFinetune(metric=right, train_kwargs={"confirm": lambda cost: True})
    tuned = tuner.compile(program, trainset=examples(mood_rows[:20]), teacher=teacher(rule_engine, mood))
    assert tuned.lm.model.startswith("openai/ft:tiny:")
    assert len(server.jobs) == 1


def test_a_training_that_was_paid_for_is_not_paid_for_again(
    server: Server, mood: Any, mood_rows: Any, rule_engine: Any, tmp_path: Path
) -> None:
    models = []
    for _ in range(2):
        program = student(server, mood, confirm=lambda cost: True, folder=tmp_path / "trainings")
        tuner = dspy.BootstrapFinetune(metric=right, num_threads=1)
        models.append(tuner.compile(program, examples(mood_rows[:20]), teacher(rule_engine, mood)).lm.model)
    assert models[0] == models[1]
    assert len(server.jobs) == len(server.files) == 1


def test_too_few_successes_are_told(server: Server, mood: Any, mood_rows: Any) -> None:
    def nothing_passes(example: Any, prediction: Any, trace: Any = None) -> bool:
        return False

    program = student(server, mood, confirm=lambda cost: True)
    with pytest.raises(ps.DataError, match="no run of the program passed the metric"):
        dspy.BootstrapFinetune(metric=nothing_passes).compile(program, examples(mood_rows[:10]))
    with pytest.raises(ps.DataError, match="5 examples are too few"):
        # It says sad, and half are: DSPy's filter reads what our metrics give.
        dspy.BootstrapFinetune(metric=ps.metrics.choice("mood")).compile(program, examples(mood_rows[:10]))
    assert not server.files


@pytest.mark.parametrize(
    ("rows", "data_format", "error", "told"),
    [
        ([], "chat", ps.DataError, "nothing to train on"),
        (ROWS, "grpo_chat", FineTuningError, "'grpo_chat' cannot be trained on"),
        (ROWS, None, FineTuningError, "None cannot"),
        ([*ROWS, {"prompt": "a"}], "chat", ps.DataError, "row 11, field 'messages': is missing"),
        ([{"prompt": "a"}], "completion", ps.DataError, "row 1, field 'completion'"),
        ([{"messages": ROWS[0]["messages"][:1]}], "chat", ps.DataError, "row 1, field 'messages': holds no question"),
        ([{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}], "chat", ps.DataError, "is no text"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_trained_on_is_told(rows: Any, data_format: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        training_examples(rows, data_format)


def test_settings_are_checked(server: Server) -> None:
    lm = dspy.LM("openai/tiny", provider=remote_provider(endpoint=endpoint(server), confirm=lambda cost: True))
    result = lm.finetune(ROWS, TrainDataFormat.CHAT, {"learning_rate": 1e-4}).result()
    assert isinstance(result, FineTuningError)
    assert "knows no learning_rate; there is epochs, batch_size, learning_rate_multiplier" in str(result)


def test_a_trained_engine_takes_the_place_of_the_untrained(rule_engine: Any) -> None:
    after = rule_engine(lambda prompt: "trained")
    told: list[Event] = []

    def trainer(model: str, examples: Any, *, settings: Any, progress: Any, stop: Any) -> Trained:
        assert not examples[0].templated
        progress(Event(f"{model} {settings['epochs']}"))
        return Trained("rule/two", after, after.lm()._async_engine_spec)

    lm = rule_engine(lambda prompt: "untrained").lm(provider=TrainingProvider(trainer, told.append))
    job = lm.finetune([{"prompt": "a", "completion": "b"}], "completion", {"epochs": 5})
    tuned = job.result(10)
    assert (tuned.model, tuned("?"), lm("?")) == ("rule/two", ["trained"], ["untrained"])
    assert job.status() == TrainingStatus.succeeded
    assert [event.message for event in told] == ["rule/one 5"]
    assert not job.cancel()
    job.thread.join()


async def test_a_trained_engine_answers_tasks_too(rule_engine: Any) -> None:
    after = rule_engine(lambda prompt: "trained")
    provider = TrainingProvider(lambda *_, **__: Trained("rule/two", after, after.lm()._async_engine_spec))
    tuned = rule_engine(lambda prompt: "untrained").lm(provider=provider).finetune(ROWS, "chat").result(10)
    assert await tuned.acall("?") == ["trained"]


def test_a_job_is_cancelled_at_the_endpoint() -> None:
    began = threading.Event()

    def endless(training: Training) -> Any:
        began.set()
        while not training.cancelled.wait(0.005):
            pass
        training.check()

    with serving(endless) as server:
        lm = dspy.LM("openai/tiny", provider=remote_provider(endpoint=endpoint(server), confirm=lambda cost: True))
        job = lm.finetune(ROWS, "chat")
        assert began.wait(10)
        assert job.status() == TrainingStatus.running
        assert job.cancel()
        job.thread.join(10)
        assert job.status() == TrainingStatus.cancelled
        (kept,) = server.jobs.values()
        assert kept["status"] == "cancelled"


def test_a_job_that_fails_is_told() -> None:
    def failing(training: Training) -> Any:
        raise TrainingFailed("the loss is not a number", "training_diverged")

    with serving(failing) as server:
        lm = dspy.LM("openai/tiny", provider=remote_provider(endpoint=endpoint(server), confirm=lambda cost: True))
        job = lm.finetune(ROWS, "chat")
        assert isinstance(job.result(10), FineTuningError)
        assert "the loss is not a number" in str(job.result())
        assert job.status() == TrainingStatus.failed
