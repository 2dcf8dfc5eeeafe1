from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

import progspace as ps
from progspace.errors import FineTuningError
from progspace.lms.training.endpoint import Endpoint
from progspace.lms.training.examples import Cost, TrainingExample, write_jsonl
from progspace.lms.training.jobs import Event, Job
from progspace.lms.training.remote import RemoteSettings, RemoteTraining
from progspace.tests.lms.training.server import (
    KEY,
    Answerer,
    Server,
    Training,
    TrainingFailed,
    remembering,
    serving,
    validated,
)

EXAMPLES = [TrainingExample((("user", f"How is it to be {i}?"), ("assistant", f"fine {i}"))) for i in range(12)]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


class Waits:
    """Waits for nothing but the server's own threads, and keeps how long it should have."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, stop: threading.Event, seconds: float) -> None:
        self.seconds.append(seconds)
        stop.wait(0.005)


def training(server: Server, waits: Waits | None = None, **settings: Any) -> RemoteTraining:
    endpoint = Endpoint(base_url=server.url, api_key=lambda: KEY, wait=waits or Waits(), **settings)
    return RemoteTraining(endpoint, usd_per_million=2.0)


def yes(cost: Cost) -> bool:
    return True


def held(release: threading.Event) -> Callable[[Training], Answerer]:
    """A trainer that tells two steps, and then waits to be released or cancelled."""

    def train(asked: Training) -> Answerer:
        asked.report(1, 3, 2.0)
        asked.report(2, 3, 1.0)
        while not release.wait(0.005):
            asked.check()
        return remembering(asked)

    return train


def test_a_model_is_trained_and_answers_what_it_was_taught(server: Server) -> None:
    told: list[Event] = []
    asked = RemoteSettings(epochs=4, suffix="house", seed=7, batch_size=2, learning_rate_multiplier=0.5)
    job = training(server).train(
        "tiny", EXAMPLES[:10], confirm=yes, settings=asked, validation=EXAMPLES[10:], progress=told.append
    )
    assert job.status == "succeeded"
    assert job.model is not None
    assert job.model.startswith("ft:tiny:org:house:")
    assert job.trained_tokens == 4 * sum(len(text.split()) for one in EXAMPLES[:10] for _, text in one.messages)
    kept = server.jobs[job.id]
    assert (kept["seed"], kept["hyperparameters"]) == (
        7,
        {"n_epochs": 4, "batch_size": 2, "learning_rate_multiplier": 0.5},
    )
    assert validated(server.contents[kept["training_file"]], "training_file") == [
        [{"role": role, "content": content} for role, content in one.messages] for one in EXAMPLES[:10]
    ]
    assert len(validated(server.contents[kept["validation_file"]], "validation_file", least=1)) == 2
    client = openai.OpenAI(api_key=KEY, base_url=server.url)
    answer = client.chat.completions.create(
        model=job.model, messages=[{"role": "user", "content": "How is it to be 3?"}]
    )
    assert answer.choices[0].message.content == "fine 3"
    messages = [event.message for event in told]
    assert messages[0] == f"Created fine-tuning job: {job.id}"
    assert messages[-1] == "The job has successfully completed"
    assert [event.data["step"] for event in told if "step" in event.data] == [1, 2, 3, 4]
    assert len({event.id for event in told}) == len(told)


def test_nothing_is_sent_before_the_cost_is_confirmed(server: Server) -> None:
    shown: list[Cost] = []

    def no(cost: Cost) -> bool:
        shown.append(cost)
        return False

    with pytest.raises(FineTuningError, match=r"not confirmed, so nothing was sent: 12 examples × 3 epochs = .* USD"):
        training(server).train("tiny", EXAMPLES, confirm=no)
    assert server.requests == []
    assert shown == [training(server).estimate(EXAMPLES)]
    assert shown[0].usd == pytest.approx(shown[0].trained_tokens * 2e-6)


@pytest.mark.parametrize("kind", ["few", "completion"])
def test_examples_that_the_api_would_refuse_are_refused_here(server: Server, kind: str) -> None:
    given = EXAMPLES[:9] if kind == "few" else [*EXAMPLES[:-1], replace(EXAMPLES[-1], templated=False)]
    with pytest.raises(ps.DataError, match="no fewer than 10" if kind == "few" else "row 12: .*chat template"):
        training(server).train("tiny", given, confirm=yes)
    assert server.requests == []


def test_events_come_once_each_and_in_order_over_many_pages() -> None:
    def chatty(asked: Training) -> Answerer:
        for step in range(1, 251):
            asked.report(step, 250, 1.0)
        return remembering(replace(asked, hyperparameters={"n_epochs": 1}))

    told: list[Event] = []
    with serving(chatty) as server:
        training(server).train("tiny", EXAMPLES, confirm=yes, progress=told.append)
    assert [event.data["step"] for event in told if event.data.get("total_steps") == 250] == list(range(1, 251))
    assert len({event.id for event in told}) == len(told)


CHILD = """
import sys, threading
from progspace.lms.training.endpoint import Endpoint
from progspace.lms.training.examples import read_jsonl
from progspace.lms.training.remote import RemoteTraining

url, data, file = sys.argv[1:]
training = RemoteTraining(Endpoint(base_url=url), pauses=(0.01, 0.01))
training.train("tiny", read_jsonl(data), confirm=lambda cost: True, file=file,
               progress=lambda event: print(event.data.get("step"), flush=True))
"""


def test_another_process_goes_on_after_a_kill(tmp_path: Path) -> None:
    release, file = threading.Event(), tmp_path / "job.json"
    data = write_jsonl(EXAMPLES, tmp_path / "train.jsonl")
    with serving(held(release)) as server:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, server.url, str(data), str(file)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OPENAI_API_KEY": KEY, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert any(line == "2\n" for line in child.stdout)
        child.kill()
        child.wait()
        release.set()

        def never(cost: Cost) -> bool:
            raise AssertionError("asked again for what was confirmed")

        told: list[Event] = []
        job = training(server).train("tiny", EXAMPLES, confirm=never, file=file, progress=told.append)
        assert job.status == "succeeded"
        assert len(server.jobs) == len(server.files) == 1
        assert told[-1].message == "The job has successfully completed"
        before = len(server.requests)
        assert training(server).train("tiny", EXAMPLES, confirm=never, file=file) == job
        assert len(server.requests) == before + 2  # a look, and one at the events
        assert Job.load(file) == job
        assert KEY not in file.read_text()
        assert "How is it" not in file.read_text()


def test_a_job_is_followed_by_its_id_and_an_event_told_once(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    told: list[Event] = []
    job = training(server).train("tiny", EXAMPLES, confirm=yes, file=file, progress=told.append)
    again: list[Event] = []
    training(server).follow(Job.load(file), progress=again.append)
    assert again == []
    found = training(server).follow(replace(Job.load(file), last_event=None), progress=again.append)
    assert (found.model, found.base_model, found.trained_tokens) == (job.model, "tiny", job.trained_tokens)
    assert again == told


def test_a_kill_between_upload_and_job_creates_one_job(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    # The answer to the creation never arrives, and this process gives up.
    server.fail("POST", "/v1/fine_tuning/jobs", None, late=True)
    with pytest.raises(FineTuningError, match="connection lost") as caught:
        training(server, patience=0.5).start("tiny", EXAMPLES, confirm=yes, file=file)
    assert caught.value.retryable
    assert Job.load(file).id is None
    job = training(server).train("tiny", EXAMPLES, confirm=yes, file=file)
    assert job.status == "succeeded"
    assert len(server.jobs) == len(server.files) == 1


@pytest.mark.parametrize("status", [None, 500, 503])
@pytest.mark.parametrize("late", [False, True])
def test_a_creation_whose_answer_is_lost_creates_one_job(server: Server, status: int | None, late: bool) -> None:
    server.fail("POST", "/v1/fine_tuning/jobs", status, late=late)
    assert training(server).train("tiny", EXAMPLES, confirm=yes).status == "succeeded"
    assert len(server.jobs) == 1


def test_the_state_of_another_training_is_not_taken_for_this_one(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    training(server).train("tiny", EXAMPLES, confirm=yes, file=file)
    for examples, settings in ((EXAMPLES[1:], None), (EXAMPLES, RemoteSettings(epochs=1))):
        with pytest.raises(FineTuningError, match="another training"):
            training(server).train("tiny", examples, confirm=yes, file=file, settings=settings)
    file.write_text('{"id": 3}')
    with pytest.raises(ps.DataError, match="no training job"):
        training(server).train("tiny", EXAMPLES, confirm=yes, file=file)


def test_throttled_it_waits_as_long_as_it_is_told(server: Server) -> None:
    limit = {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}
    server.fail("POST", "/v1/files", 429, headers={"Retry-After": "37"}, body=limit)
    server.fail("GET", "/v1/fine_tuning/jobs/[^/]+", 429, body=limit, headers={
        "Retry-After": "Wed, 01 Jan 2020 00:00:41 GMT", "Date": "Wed, 01 Jan 2020 00:00:00 GMT",
    })  # fmt: skip
    server.fail("GET", "/v1/fine_tuning/jobs/[^/]+/events", 429, body=limit, times=3)
    waits, told = Waits(), []
    job = training(server, waits).train("tiny", EXAMPLES, confirm=yes, progress=told.append)
    assert job.status == "succeeded"
    assert {37.0, 1.0, 2.0, 4.0} <= set(waits.seconds)
    warned = [event.message for event in told if event.level == "warn"]
    assert len(warned) == 5
    assert "the upload of 12 examples" in warned[0]
    assert warned[0].endswith("too many requests: Rate limit reached; asked again in 37 s")


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 502, "body": "<html>Bad Gateway</html>"},
        {"status": None},
        {"status": 200, "body": "<html>Log in to the café's network</html>"},
        {"status": 200, "body": '{"id": "ft', "headers": {"Content-Type": "application/json"}},
    ],
)
def test_what_fails_for_a_while_is_borne_everywhere(server: Server, fault: dict[str, Any]) -> None:
    for method, path in [("POST", "/v1/files"), ("POST", "/v1/fine_tuning/jobs"), ("GET", "/v1/fine_tuning/jobs/[^/]+"),
                         ("GET", "/v1/fine_tuning/jobs/[^/]+/events")]:  # fmt: skip
        server.fail(method, path, times=2, **fault)
    job = training(server).train("tiny", EXAMPLES, confirm=yes)
    assert job.status == "succeeded"
    assert not [fault for fault in server.faults if fault.times]
    assert len(server.jobs) == 1


@pytest.mark.parametrize(
    ("fault", "told", "retryable"),
    [
        ({"status": 503}, "failed with status 503.*given up after", True),
        ({"status": None}, "connection lost.*given up", True),
        ({"status": 429, "headers": {"Retry-After": "86400"}}, "next pause is 86400 s", True),
        (
            {"status": 429, "body": {"error": {"message": "Exceeded", "code": "insufficient_quota"}}},
            "quota is spent: Exceeded",
            False,
        ),
        ({"status": 403, "body": {"error": {"message": "No access"}}}, "not allowed to do that: No access", False),
        ({"status": 413, "body": "too big"}, "what was sent is too large", False),
        ({"status": 200, "body": {"object": "file"}}, "answered without 'id'", True),
    ],
)  # fmt: skip
def test_what_does_not_pass_is_told(server: Server, fault: dict[str, Any], told: str, retryable: bool) -> None:
    server.fail("POST", "/v1/files", times=1000, **fault)
    with pytest.raises(FineTuningError, match=told) as caught:
        training(server).train("tiny", EXAMPLES, confirm=yes)
    assert caught.value.retryable is retryable
    assert not server.jobs


@pytest.mark.parametrize("body", ["null", "{}", "[]", '{"id": 3}'])
def test_rubbish_that_is_json_is_told_and_can_be_asked_again(server: Server, body: str) -> None:
    job = training(server).start("tiny", EXAMPLES, confirm=yes)
    json_type = {"Content-Type": "application/json"}
    server.fail("GET", "/v1/fine_tuning/jobs/[^/]+", 200, body=body, headers=json_type, times=1)
    with pytest.raises(FineTuningError, match=r"without 'id'|not its API's") as caught:
        training(server, patience=0.0).follow(job)
    assert caught.value.retryable
    assert training(server).follow(job).status == "succeeded"


def test_a_failed_job_tells_why(tmp_path: Path) -> None:
    reasons = [TrainingFailed("the loss is not a number", "training_diverged"), TrainingFailed("out of capacity")]

    def failing(asked: Training) -> Answerer:
        if reasons:
            raise reasons.pop(0)
        return remembering(asked)

    file = tmp_path / "job.json"
    with serving(failing) as server:
        with pytest.raises(FineTuningError, match=r"failed: the loss is not a number \(training_diverged\)") as caught:
            training(server).train("tiny", EXAMPLES, confirm=yes, file=file)
        assert not caught.value.retryable
        assert Job.load(file).status == "failed"
        with pytest.raises(FineTuningError, match="out of capacity") as caught:
            training(server).train("tiny", EXAMPLES, confirm=yes, file=file)
        assert caught.value.retryable
        assert training(server).train("tiny", EXAMPLES, confirm=yes, file=file).status == "succeeded"


def test_a_file_that_does_not_validate_fails_the_job(server: Server) -> None:
    # Written past our own checks: what the endpoint thinks of the file is what counts.
    job = training(server).start("tiny", EXAMPLES, confirm=yes)
    client = openai.OpenAI(api_key=KEY, base_url=server.url)
    bad = [*([{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}] * 9)]
    for rows, told in [
        (bad, "has 9 example.* must have at least 10.*invalid_n_examples"),
        ([*bad, {"messages": [{"role": "user", "content": "a"}]}], "Line 10: the last message must be from the ass"),
        ([*bad, {"messages": [{"role": "bot", "content": "a"}]}], "Line 10: unknown role 'bot'"),
    ]:
        content = "\n".join(map(json.dumps, rows)).encode()
        uploaded = client.files.create(file=("x.jsonl", content), purpose="fine-tune")
        created = client.fine_tuning.jobs.create(model="tiny", training_file=uploaded.id)
        with pytest.raises(FineTuningError, match=told):
            training(server).follow(replace(job, id=created.id))
    with pytest.raises(FineTuningError, match="status 400: Model huge is not available"):
        training(server).train("huge", EXAMPLES, confirm=yes)
    with pytest.raises(FineTuningError, match="status 404: Could not find fine tune: ftjob-none"):
        training(server).look(replace(job, id="ftjob-none"))


def test_a_training_is_cancelled() -> None:
    with serving(held(threading.Event())) as server:
        stop = threading.Event()

        def stopping(event: Event) -> None:
            if event.data.get("step") == 2:
                stop.set()

        with pytest.raises(FineTuningError, match="was cancelled"):
            training(server).train("tiny", EXAMPLES, confirm=yes, progress=stopping, stop=stop)
        (job,) = server.jobs.values()
        assert job["status"] == "cancelled"
        server.threads[job["id"]].join(10)
        assert not server.threads[job["id"]].is_alive()
        by_hand = training(server).start("tiny", EXAMPLES, confirm=yes)
        assert training(server).cancel(by_hand).status == "cancelled"
        assert training(server).cancel(by_hand).status == "cancelled"  # that was so already


def test_one_that_has_ended_is_not_cancelled(server: Server) -> None:
    job = training(server).train("tiny", EXAMPLES, confirm=yes)
    assert training(server).cancel(job) == replace(job)


def test_a_key_that_expires_is_asked_for_again() -> None:
    keys = iter(["sk-old-111", "sk-new-222"])
    release = threading.Event()
    with serving(held(release)) as server:
        server.keys = {"sk-old-111"}

        def expire(event: Event) -> None:
            if event.data.get("step") == 2:
                server.keys = {"sk-new-222"}
                release.set()

        endpoint = Endpoint(base_url=server.url, api_key=lambda: next(keys), wait=Waits())
        job = RemoteTraining(endpoint).train("tiny", EXAMPLES, confirm=yes, progress=expire)
        assert job.status == "succeeded"
        assert next(keys, None) is None


def test_the_environments_key_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = RemoteTraining(Endpoint(base_url=server.url, wait=Waits()))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(FineTuningError, match="no API key: set OPENAI_API_KEY"):
        remote.train("tiny", EXAMPLES, confirm=yes)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert remote.train("tiny", EXAMPLES, confirm=yes).status == "succeeded"


def test_no_key_in_messages_logs_and_reprs(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    secret = "hidden-5c0ffee-key"  # noqa: S105 — of no form that one would know as a key's
    caplog.set_level(logging.DEBUG)
    endpoint = Endpoint(base_url=server.url, api_key=lambda: secret, wait=Waits(), patience=0.0)
    remote, told = RemoteTraining(endpoint), []
    with pytest.raises(FineTuningError, match="refused the API key") as caught:  # whose answer repeats the key
        remote.train("tiny", EXAMPLES, confirm=yes, progress=told.append)
    server.fail("POST", "/v1/files", 500, body={"error": {"message": f"{secret} is overworked"}}, times=5)
    with pytest.raises(FineTuningError, match="overworked") as other:
        remote.train("tiny", EXAMPLES, confirm=yes, progress=told.append)
    seen = [
        *(repr(event) for event in told), repr(endpoint), caplog.text,
        *("".join(traceback.format_exception(error.value)) for error in (caught, other)),
    ]  # fmt: skip
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    assert not [text for text in seen if secret in text]
    assert "POST" in caplog.text  # something was logged
    with pytest.raises(ValueError, match="user's name or password") as refused:
        Endpoint(base_url=f"http://me:{secret}@127.0.0.1/v1")
    assert secret not in str(refused.value)
