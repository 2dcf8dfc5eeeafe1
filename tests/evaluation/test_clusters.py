"""Cells on a Ray cluster of two nodes: the same search as in threads, and none is lost with a worker or a node."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.benchmarks.fault_server import KEY, Server, serving, text_of
from progspace.evaluation.executor import executor_of
from progspace.evaluation.matrix import Matrix
from progspace.evaluation.runner import Scoring, Work
from progspace.lms.budget import Meter
from progspace.lms.local import LocalEngine
from progspace.programs.examples import example_hash
from progspace.store.database import Store, open_store

METRIC = ps.metrics.choice("mood")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is missing: pip install ray")


def answer(body: Mapping[str, Any]) -> str:
    prompt = "\n".join(text_of(message) for message in body["messages"])
    glad = "sun" in text_of(body["messages"][-1]).rpartition("on day")[0][-8:]
    mood = "glad" if glad else "sad"
    return f"[[ ## mood ## ]]\n{mood}\n\n[[ ## completed ## ]]" if "[[ ## mood ## ]]" in prompt else mood


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(answer=answer, seconds=0.02) as running:
        yield running


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Two nodes with a CPU each, whose workers have the key in their environment."""
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        second = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster, second
        ray.shutdown()
        cluster.shutdown()


def lm_at(server: Server, **settings: Any) -> dspy.LM:
    return ps.lm("openai/rule", base_url=server.url, api_key=KEY, concurrency=4, **settings)


def examples(rows: list[dict[str, str]]) -> list[dspy.Example]:
    return [dspy.Example(**row).with_inputs("text") for row in rows]


def when(reached: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        while not reached():
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def winner(compiled: Any) -> Any:
    return compiled.candidate.hash, [(rung.choice, rung.dev.score, rung.calls) for rung in compiled.report.rungs]


@needs_ray
def test_the_same_winner_though_a_worker_is_killed(
    nodes: Any, server: Server, mood: Any, mood_rows: Any, tmp_path: Path, postgres: Callable[[], str]
) -> None:
    from progspace.evaluation.clusters.cluster import RayCluster

    def task() -> ps.Task:
        return ps.Task(program=dspy.Predict(mood), examples=mood_rows, metric=METRIC, name="mood", inputs=["text"])

    search: dict[str, Any] = {
        "lm": lm_at(server), "budget": ps.Budget(calls=120), "test_rows": 8, "seed": 3,
        "space": ps.Space(demonstrations=[0, 2], votes=[1]),
    }  # fmt: skip
    alone = ps.compile(task(), store=tmp_path / "alone.db", workers=4, **search)
    asked = {str(body["messages"]) for body in server.bodies}
    server.bodies.clear()
    with open_store(postgres()) as store, RayCluster(store, 2) as cluster:
        killer = when(lambda: len(server.bodies) > 30, lambda: os.kill(next(iter(cluster.processes)), signal.SIGKILL))
        together = ps.compile(task(), store=store, workers=cluster, **search)
        killer.join(1)
        assert not killer.is_alive()
        assert len(cluster.processes) >= 1
    assert winner(together) == winner(alone)
    assert {str(body["messages"]) for body in server.bodies} == asked
    # What was under way in the dead worker is asked again, and nothing else.
    assert len(server.bodies) - len(asked) <= 4
    spent = [(rung.input_tokens, rung.output_tokens) for rung in together.report.rungs]
    assert spent == [(rung.input_tokens, rung.output_tokens) for rung in alone.report.rungs]


def strict(example: Any, prediction: Any, trace: Any = None) -> float:
    return float(example.stars)


@needs_ray
def test_the_budget_and_errors_are_those_of_threads(
    nodes: Any, server: Server, store: Store, mood: Any, mood_rows: Any
) -> None:
    rows = examples(mood_rows)
    with executor_of("ray:1", store) as cluster:
        meter = Meter(ps.Budget(calls=30))
        with pytest.raises(ps.BudgetExceeded, match="30 calls"):
            Matrix(store, METRIC, lm_at(server), meter, workers=cluster).fill(dspy.Predict(mood), rows)
        assert (len(server.bodies), meter.spent.calls, meter.spent.bought) == (30, 30, 30)
        with pytest.raises(ps.MetricError, match="stars"):
            Matrix(store, strict, lm_at(server), Meter(), workers=cluster).fill(dspy.Predict(mood), rows[:4])
        wrong = ps.lm("openai/rule", base_url=f"{server.url}/nowhere", api_key=KEY, num_retries=0)
        cells = Matrix(store, METRIC, wrong, Meter(), workers=cluster).fill(dspy.Predict(mood), rows[:2])
        assert all(cell.score is None and "404" in str(cell.error) for cell in cells)
        matrix = Matrix(store, METRIC, lm_at(server), Meter(), workers=cluster)
        with dspy.context(adapter=dspy.ChatAdapter()):
            runs = matrix.traces(dspy.Predict(mood), rows[:3])
        told = [(name, outputs.mood) for row in rows[:3] for name, _, outputs in runs[example_hash(row)].trace]
        assert told == [("self", row.mood) for row in rows[:3]]


@needs_ray
def test_no_cell_is_lost_with_its_node(nodes: Any, server: Server, store: Store, mood: Any, mood_rows: Any) -> None:
    from progspace.evaluation.clusters.cluster import RayCluster

    cluster, second = nodes
    with RayCluster(store) as workers:
        killer = when(
            lambda: len(server.bodies) > 20 and len(set(workers.processes.values())) == 2,
            lambda: cluster.remove_node(second, allow_graceful=False),
        )
        server.seconds = 0.1
        meter = Meter()
        cells = Matrix(store, METRIC, lm_at(server), meter, workers=workers).fill(
            dspy.Predict(mood), examples(mood_rows)
        )
        killer.join(30)
        assert not killer.is_alive()
    assert [cell.score for cell in cells] == [1.0] * 100
    assert meter.spent.calls == 100


@pytest.mark.parametrize("workers", ["ray:0", "rays", "dask"])
def test_workers_that_there_are_not_are_refused(store: Store, workers: str) -> None:
    with pytest.raises(ps.DataError, match="'ray:N'"), executor_of(workers, store):
        pass


def test_no_key_travels_and_what_stands_for_it_does(
    server: Server, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cloudpickle")
    from progspace.evaluation.clusters.sending import received, sent

    (tmp_path / "my_modules.py").write_text(
        "import dspy\nclass Own(dspy.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.predict = dspy.Predict('text -> mood')\n    def forward(self, text):\n"
        "        return self.predict(text=text)\n"
        "def metric(example, prediction, trace=None):\n    return 1.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("my_modules")
    meter = Meter(ps.Budget(calls=7))
    matrix = Matrix(store, own.metric, lm_at(server), meter)
    program = own.Own()
    program.predict.lm = matrix.journaled(dspy.LM("openai/other", api_key="sk-hidden", cache=False))
    written = sent(Work(program, Scoring.of(own.metric), "p", matrix.lm), lambda known: str(known is meter))
    assert KEY.encode() not in written
    assert b"sk-hidden" not in written
    found: list[tuple[str, Any]] = []

    def stand_in(kind: str, state: Any) -> Any:
        found.append((kind, state))
        return meter if kind == "meter" else matrix.lm.lm.engine if kind == "remote" else None

    monkeypatch.delitem(sys.modules, "my_modules")  # a worker has none
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(tmp_path)])
    work, _ = received(written, stand_in)
    assert type(work.program).__name__ == "Own"
    assert work.scoring.metric(None, None) == 1.0
    assert work.lm._identity == matrix.lm._identity
    assert dict(found)["meter"] == ("True", ps.Budget(calls=7))
    assert "base_url" in dict(found)["remote"][0]
    assert {kind for kind, _ in found} == {"meter", "answers", "remote"}
    with dspy.context(rm=len, allow_tool_async_sync_conversion=True):
        told = sent(Work(program, Scoring.of(own.metric), "p", matrix.lm), lambda known: str(known is meter))
    assert received(told, stand_in)[1] | {"interpreter_factory": None} == {
        "adapter": None, "rm": len, "interpreter_factory": None, "allow_tool_async_sync_conversion": True,
    }  # fmt: skip
    program.lock = threading.Lock()
    with pytest.raises(ps.ProgramError, match="cannot be sent"):
        sent(Work(program, Scoring.of(own.metric), "p", matrix.lm), str)


def test_the_embedded_engine_of_a_node_counts_as_the_same() -> None:
    pytest.importorskip("ray")
    from progspace.evaluation.clusters.worker import NodeEngine
    from progspace.lms.identity import lm_identity

    state = {"model": "smollm2-135m", "precision": "f32"}
    engine = object.__new__(LocalEngine)
    engine.model, engine.precision, engine.adapter = "smollm2-135m", "f32", None
    here, there = (dspy.LM("local/x", engine=each, cache=False) for each in (engine, NodeEngine(state, None)))
    assert lm_identity(here) == lm_identity(there)
