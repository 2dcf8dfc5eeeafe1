"""Evaluations by a batch API over real HTTP: what is sent, what it costs, and what a kill or a failure costs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.evaluation.batches import StoreBatches
from progspace.evaluation.matrix import Matrix
from progspace.lms.batch import Batches
from progspace.lms.budget import Meter
from progspace.store.database import Store, open_store
from progspace.tests.lms.batch_server import KEY, BatchServer, serving


def weather(messages: list[Mapping[str, Any]]) -> str:
    """Answers in DSPy's chat format."""
    mood = "glad" if "sun" in messages[-1]["content"].rsplit("## text ##", 1)[-1] else "sad"
    return f"[[ ## mood ## ]]\n{mood}\n\n[[ ## completed ## ]]"


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with serving(weather) as running:
        yield running


@pytest.fixture
def task(mood: Any, mood_rows: Any) -> ps.Task:
    program = dspy.Predict(mood)
    return ps.Task(program=program, examples=mood_rows, inputs=["text"], metric=ps.metrics.choice("mood"), name="mood")


def lm_at(server: BatchServer, **settings: Any) -> dspy.BaseLM:
    return ps.lm("openai/tiny", base_url=server.url, api_key=KEY, price=ps.Price(1.0, 10.0), **settings)


class Waits:
    """Waits for nothing, and can be killed in place of that."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.seconds: list[float] = []
        self.kill_at = kill_at

    def __call__(self, _: threading.Event, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) == self.kill_at:
            raise KeyboardInterrupt


def matrix_on(store: Store, task: ps.Task, lm: dspy.BaseLM, waits: Waits | None = None, **budget: Any) -> Matrix:
    batches = Batches(lm, StoreBatches(store), wait=waits or Waits())
    return Matrix(store, task.metric, lm, Meter(ps.Budget(**budget)), batches=batches)


def test_an_evaluation_is_one_batch_at_half_the_price(server: BatchServer, task: ps.Task, tmp_path: Path) -> None:
    server.states = []
    at_once = ps.evaluate(task.program, task, lm=lm_at(server), store=tmp_path / "other.db")
    chats = server.asked("POST", "/v1/chat/completions")
    batched = ps.evaluate(task.program, task, lm=lm_at(server), store=tmp_path / "store.db", batch=True)
    assert (batched.score, batched.calls) == (at_once.score, at_once.calls) == (1.0, len(task.dev))
    assert (len(server.batches), len(server.sent)) == (1, len(task.dev))
    ps.evaluate(task.program, task, lm=lm_at(server), store=tmp_path / "store.db", batch=True)
    assert (len(server.batches), server.asked("POST", "/v1/chat/completions")) == (1, chats)
    with open_store(":memory:") as store:
        live = Matrix(store, task.metric, lm_at(server), Meter(ps.Budget(usd=1.0)))
        live.fill(task.program, task.dev[:5])
    with open_store(":memory:") as store:
        half = matrix_on(store, task, lm_at(server), usd=1.0)
        half.fill(task.program, task.dev[:5])
    assert half.meter.spent.usd == pytest.approx(live.meter.spent.usd / 2)
    assert half.meter.spent.usd > 0
    assert (half.meter.spent.calls, half.meter.spent.bought) == (5, 5)
    assert half.meter.spent.input_tokens == live.meter.spent.input_tokens


class Chain(dspy.Module):
    """Asks four times, one after the other."""

    def __init__(self, mood: Any) -> None:
        super().__init__()
        self.first, self.second, self.third = dspy.Predict(mood), dspy.Predict(mood), dspy.Predict(mood)

    def forward(self, text: str) -> dspy.Prediction:
        before = self.first(text=text).mood
        moods = [self.second(text=f"{text}, {before}, {number}").mood for number in range(2)]
        return self.third(text=f"{text} {moods}")


def test_a_chain_is_a_batch_a_step(server: BatchServer, task: ps.Task, store: Store, mood: Any) -> None:
    waits = Waits()
    cells = matrix_on(store, task, lm_at(server), waits).fill(Chain(mood), task.dev[:6])
    assert [(cell.score, cell.calls) for cell in cells] == [(1.0, 4)] * 6
    assert len(server.batches) == 4
    assert len(set(server.sent)) == len(server.sent) == 24
    assert server.asked("POST", "/v1/chat/completions") == 0
    assert max(waits.seconds) <= 60


def test_several_answers_are_one_request(server: BatchServer, task: ps.Task, store: Store) -> None:
    lm = lm_at(server, n=2, temperature=1.0)
    server.line = lambda body: (200, _twice(server.complete(body, {}), body["n"]))
    assert matrix_on(store, task, lm).fill(task.program, task.dev[:3])[0].score == 1.0
    assert len(server.sent) == 3


def _twice(answer: dict[str, Any], n: int) -> dict[str, Any]:
    return {**answer, "choices": [{**answer["choices"][0], "index": index} for index in range(n)]}


@pytest.mark.parametrize("where", ["uploaded", "created", "waiting", "read"])
def test_after_a_kill_nothing_is_sent_again(
    server: BatchServer, task: ps.Task, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the file is there, when the batch is and its id is not stored, while it runs, and when it is read."""
    path, lm = tmp_path / "store.db", lm_at(server)
    with monkeypatch.context() as patch, open_store(path) as store:
        if where == "uploaded":
            patch.setattr(Batches, "_created", _killed_at(Batches._created, 1))
        if where in ("created", "read"):
            patch.setattr(StoreBatches, "put", _killed_at(StoreBatches.put, 2 if where == "created" else 3))
        dying = matrix_on(store, task, lm, Waits(kill_at=1 if where == "waiting" else None))
        with pytest.raises(KeyboardInterrupt):
            dying.fill(task.program, task.dev)
    assert len(server.batches) == (0 if where == "uploaded" else 1)
    with open_store(path) as store:
        cells = matrix_on(store, task, lm).fill(task.program, task.dev)
    assert {cell.score for cell in cells} == {1.0}
    assert (len(server.batches), server.asked("POST", "/v1/files")) == (1, 1)


def _killed_at(method: Any, number: int) -> Any:
    calls = 0

    def killed(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise KeyboardInterrupt
        return method(*arguments, **named)

    return killed


def test_a_request_whose_answer_is_lost_does_not_make_two_batches(
    server: BatchServer, task: ps.Task, store: Store
) -> None:
    server.fail("POST", "/v1/batches", None, late=True)
    server.fail("GET", "/v1/batches/[^/]+", 500)
    server.fail("GET", "/v1/files/[^/]+/content", 429, headers={"Retry-After": "3"})
    waits = Waits()
    assert {cell.score for cell in matrix_on(store, task, lm_at(server), waits).fill(task.program, task.dev)} == {1.0}
    assert (len(server.batches), 3.0 in waits.seconds) == (1, True)


def test_what_expired_is_sent_again_and_nothing_else(server: BatchServer, task: ps.Task, store: Store) -> None:
    server.ends, server.unanswered = ["expired", "completed"], lambda body: "sun" in body["messages"][-1]["content"]
    cells = matrix_on(store, task, lm_at(server)).fill(task.program, task.dev)
    assert {cell.score for cell in cells} == {1.0}
    suns = sum("sun" in example.text for example in task.dev)
    assert len(server.sent) == len(task.dev) + suns


def test_what_was_cancelled_is_not_sent_again_this_time(server: BatchServer, task: ps.Task, store: Store) -> None:
    server.ends, server.unanswered = ["cancelled", "completed"], lambda body: "sun" in body["messages"][-1]["content"]
    cells = matrix_on(store, task, lm_at(server)).fill(task.program, task.dev)
    suns = sum("sun" in example.text for example in task.dev)
    left = [cell for cell in cells if cell.score is None]
    assert len(left) == suns
    assert "was cancelled" in str(left[0].error)
    assert len(server.batches) == 1
    cells = matrix_on(store, task, lm_at(server)).fill(task.program, task.dev)
    assert {cell.score for cell in cells} == {1.0}
    assert len(server.sent) == len(task.dev) + suns


def test_lines_that_fail_are_told_apart(server: BatchServer, task: ps.Task, store: Store) -> None:
    """One prompt is too long, one answer is none at first, one request fails at first, one for ever."""
    examples = task.dev[:6]
    seen: dict[str, int] = {}

    def line(body: dict[str, Any]) -> tuple[int, Any]:
        text = body["messages"][-1]["content"]
        number = next(index for index, example in enumerate(examples) if f"{example.text}\n" in text)
        seen[text] = tries = seen.get(text, 0) + 1
        if number == 0:
            return 400, {"error": {"message": "too many tokens", "code": "context_length_exceeded"}}
        if number == 1 and tries == 1:
            return 200, {"choices": []}
        if (number == 2 and tries == 1) or number == 3:
            return 500, {"error": {"message": f"The server had an error with {KEY}"}}
        return 200, server.complete(body, {})

    server.line = line
    cells = matrix_on(store, task, lm_at(server)).fill(task.program, examples)
    assert [cell.score for cell in cells] == [0.0, 1.0, 1.0, None, 1.0, 1.0]
    assert "too long" in str(cells[0].error)
    assert "status 500" in str(cells[3].error)
    assert KEY not in str(cells[3].error)


def test_what_is_refused_is_told(server: BatchServer, task: ps.Task, store: Store) -> None:
    lm = ps.lm("openai/huge", base_url=server.url, api_key=KEY)
    with pytest.raises(ps.LMError, match=r"refused the batch .*'huge' is not supported by the Batch API"):
        matrix_on(store, task, lm).fill(task.program, task.dev)
    with pytest.raises(ps.BudgetExceeded, match="5 calls are left, and the next batch would be"):
        matrix_on(store, task, lm_at(server), calls=5).fill(task.program, task.dev)
    assert len(server.batches) == 1
    with pytest.raises(ps.LMError, match="takes no batches"):
        Batches(dspy.LM("openai/gpt-4o-mini", api_key="x"), StoreBatches(store))


def test_files_keep_to_the_apis_limits(
    server: BatchServer, task: ps.Task, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progspace.lms.batch._MOST_REQUESTS", 10)
    matrix_on(store, task, lm_at(server)).fill(task.program, task.dev[:25])
    assert (len(server.batches), len(set(server.sent))) == (3, 25)
