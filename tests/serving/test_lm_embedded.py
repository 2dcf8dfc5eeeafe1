"""The embedded LM behind OpenAI's API, asked by OpenAI's client and by progspace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import openai
import pytest

import progspace as ps
from progspace.lms.local import AsyncLocalEngine
from progspace.lms.models import installed
from progspace.programs.compact import CompactAdapter
from progspace.tests.command_line import progspace as command

pytest.importorskip("starlette", reason="serving is missing: pip install 'progspace[serve]'")

from progspace.serving.lm_http import lm_application
from progspace.serving.service import Limits
from progspace.tests.serving.running import serving

MODEL = "smollm2-135m"
ANIMALS = [{"role": "user", "content": "Name three animals."}]


@pytest.fixture(scope="module")
def url(local_lm: dspy.LM) -> Iterator[str]:
    from progspace.lms.embedder import embedder_for

    name = "all-minilm-l6-v2"
    embedders = {name: embedder_for(name)} if installed(name) else {}
    limits = Limits(seconds=600)  # the first answer waits for the model
    app = lm_application({MODEL: AsyncLocalEngine(local_lm.engine)}, embedders, limits=limits)
    with serving(app) as running:
        yield f"{running}/v1"


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def test_it_answers_as_in_this_process(client: openai.OpenAI, local_lm: dspy.LM) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ANIMALS, max_tokens=16)
    assert [answer.choices[0].message.content] == local_lm("Name three animals.", max_tokens=16)
    assert answer.usage.completion_tokens <= 16
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=ANIMALS, max_tokens=16, stream=True, stream_options={"include_usage": True}
        )
    )
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert "".join(pieces) == answer.choices[0].message.content
    assert len(pieces) > 3
    assert chunks[-1].usage == answer.usage
    texts = ["The capital of France is", "Two and two make"]
    whole = client.completions.create(model=MODEL, prompt=texts, max_tokens=6, stop=".")
    assert len(whole.choices) == 2
    assert not any("." in choice.text for choice in whole.choices)


def test_forms_are_kept_and_bad_ones_refused_alone(client: openai.OpenAI, url: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    def form(told: Any) -> Any:
        return {"type": "json_schema", "json_schema": {"name": "n", "schema": told}}

    async def ask() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as many:
            forms: list[dict[str, Any]] = [
                {},
                {"response_format": form(schema)},
                {"response_format": form({"type": 1})},
            ]
            calls = [
                many.chat.completions.create(model=MODEL, messages=ANIMALS, max_tokens=24, **each) for each in forms
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

    free, kept, refused = asyncio.run(ask())
    again = client.chat.completions.create(model=MODEL, messages=ANIMALS, max_tokens=24)
    assert free.choices[0].message.content == again.choices[0].message.content
    assert kept.choices[0].finish_reason == "length" or isinstance(
        json.loads(kept.choices[0].message.content)["n"], int
    )
    assert isinstance(refused, openai.BadRequestError)
    assert "no answer can be held to that form" in str(refused)
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "a " * 9000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as unknown:
        client.chat.completions.create(model=MODEL, messages=ANIMALS, logprobs=True)
    assert unknown.value.param == "logprobs"


@pytest.mark.parametrize("decoding", ["constrained", "scored"])
def test_progspaces_own_formats_go_through(url: str, local_lm: dspy.LM, mood: Any, decoding: str) -> None:
    remote = ps.lm(f"openai/{MODEL}", base_url=url, api_key="none")
    answers = []
    for lm in (local_lm, remote):
        with dspy.context(lm=lm, adapter=CompactAdapter(decoding=decoding)):
            answers.append(dspy.Predict(mood)(text="sun").toDict())
    assert answers[0] == answers[1]


def test_embeddings(client: openai.OpenAI) -> None:
    if not installed("all-minilm-l6-v2"):
        pytest.skip("the embedder is missing: progspace models install all-minilm-l6-v2")
    answer = client.embeddings.create(model="all-minilm-l6-v2", input=["A great movie.", "My card was declined."])
    assert [len(each.embedding) for each in answer.data] == [384, 384]
    assert answer.usage.prompt_tokens > 8
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="all-minilm-l6-v2", input="word " * 300)
    assert refused.value.code == "context_length_exceeded"


def test_the_command_refuses_what_it_cannot_serve(tmp_path: Path) -> None:
    told = command("lm", "serve", "--host", "0.0.0.0", folder=tmp_path)  # noqa: S104
    assert (told.returncode, "set PROGSPACE_API_KEY" in told.stderr) == (2, True)
    told = command("lm", "serve", "gpt-4o", folder=tmp_path)
    assert (told.returncode, "no embedded model is called" in told.stderr) == (2, True)
