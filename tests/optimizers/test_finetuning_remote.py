"""The last rung at an endpoint: over HTTP, by the API that OpenAI has, confirmed before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.lms.training.cost import Cost
from progspace.lms.training.provider import remote_provider
from progspace.tests.lms.training.server import KEY, serving
from progspace.tests.lms.training.test_provider import endpoint, learning_words


@pytest.mark.parametrize("agreed", [True, False])
def test_the_search_trains_at_an_endpoint_if_that_is_confirmed(
    mood: Any, mood_rows: Any, tmp_path: Path, agreed: bool
) -> None:
    asked: list[Cost] = []

    def confirm(cost: Cost) -> bool:
        asked.append(cost)
        return agreed

    with serving(learning_words, {"tiny": lambda messages: "sad"}) as server:
        provider = remote_provider(endpoint=endpoint(server), usd_per_million=3.0, folder=tmp_path / "jobs")
        lm = ps.lm("openai/tiny", base_url=server.url, api_key=KEY, provider=provider)
        task = ps.Task(
            program=dspy.Predict(mood), examples=mood_rows, inputs=["text"], metric=ps.metrics.choice("mood"),
            name="mood",
        )  # fmt: skip
        space = ps.Space(
            instructions=(), demonstrations=(), votes=(1,), answers=("direct",), formats=("compact",),
            finetuning=ps.FineTuning(confirm=confirm, export=tmp_path / "taught.jsonl"),
        )  # fmt: skip
        compiled = ps.compile(
            task, lm=lm, budget=ps.Budget(calls=200), store=tmp_path / "store.db", space=space, test_rows=20
        )
        jobs = len(server.jobs)
    (cost,) = asked
    assert cost.usd == pytest.approx(cost.trained_tokens * 3e-6)
    assert (tmp_path / "taught.jsonl").read_text().count("\n") == cost.examples
    training = compiled.report.rungs[-1].training
    if not agreed:
        assert training is None
        assert any("was not confirmed" in note for note in compiled.report.notes)
        assert (jobs, server.files) == (0, {})
        return
    assert jobs == 1
    assert training is not None
    assert (training.usd, training.seconds) == (cost.usd, None)
    assert training.lm.startswith("openai/ft:tiny")
    assert training.after.score > training.before.score
    saved = compiled.save(tmp_path / "mood.progspace.json")
    assert KEY not in saved.read_text()
    assert [file.suffix for file in tmp_path.glob("*.safetensors")] == []
