"""An LM behind OpenAI's API: asked by OpenAI's own client, and by progspace itself."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import dspy
import httpx
import numpy as np
import openai
import pytest
from dspy.lm15 import (
    ContextLengthError,
    Message,
    Request,
    Response,
    StreamDeltaEvent,
    StreamEndEvent,
    StreamStartEvent,
    TextDelta,
    TokenLogprob,
    TopLogprob,
    UnsupportedFeatureError,
    Usage,
)

import progspace as ps

pytest.importorskip("starlette", reason="serving is missing: pip install 'progspace[serve]'")

from progspace.serving.lm_http import lm_application
from progspace.serving.service import Limits
from progspace.tests.serving.running import serving

SECRET = "open sesame"  # noqa: S105 — a test's


class Words:
    """Repeats the last message, word by word; its own log-probabilities are those of the choices' order."""

    supported_params = frozenset({"temperature", "structured_outputs", "choice_logprobs", "apply_chat_template"})

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.begun, self.given_up, self.free = threading.Semaphore(0), threading.Semaphore(0), threading.Event()
        self.free.set()

    async def complete(self, request: Request) -> Response:
        self.requests.append(request)
        text = request.messages[-1].text or ""
        if text == "wait":
            self.begun.release()
            try:
                while not self.free.is_set():
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                self.given_up.release()
                raise
        if text == "long":
            raise ContextLengthError("the prompt has 9,000 tokens, and tiny holds 8,192 with the answer")
        if text == "broken":
            raise RuntimeError(SECRET)
        usage = Usage(input_tokens=10, output_tokens=len(text.split()))
        choices = (request.config.extensions or {}).get("structured_outputs", {}).get("choice")
        if request.config.logprobs is not None:
            if not choices:
                raise UnsupportedFeatureError("tiny gives log-probabilities of choices only", feature="logprobs")
            top = tuple(TopLogprob(token=choice, logprob=-float(rank)) for rank, choice in enumerate(choices))
            given = (TokenLogprob(token=choices[0], logprob=0.0, top=top),)
            return Response(None, request.model, Message.assistant(choices[0]), "stop", usage, logprobs=given)
        seed = f" #{request.config.seed}" if request.config.seed is not None else ""
        return Response(None, request.model, Message.assistant(text + seed), "stop", usage)

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        answer = await self.complete(request)
        yield StreamStartEvent(model=request.model)
        for word in (answer.message.text or "").split(" "):
            if word == "breaks":
                raise RuntimeError(SECRET)
            yield StreamDeltaEvent(TextDelta(word + " "))
        yield StreamEndEvent(finish_reason="stop", usage=answer.usage)


class Letters:
    """Embeds a text as how many letters and spaces it has."""

    max_tokens = 8

    def count(self, texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def embed(self, texts: list[str]) -> np.ndarray:
        return np.array([[len(text), text.count(" ")] for text in texts], np.float32)


@pytest.fixture(scope="module")
def words() -> Words:
    return Words()


@pytest.fixture(scope="module")
def url(words: Words) -> Iterator[str]:
    limits = Limits(body=100_000, concurrency=4)
    with serving(lm_application({"tiny": words}, {"letters": Letters()}, limits=limits, key=SECRET)) as running:
        yield f"{running}/v1"


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=SECRET, max_retries=0)


def chat(client: openai.OpenAI, text: str, **settings: Any) -> Any:
    return client.chat.completions.create(
        model="tiny", messages=[{"role": "system", "content": "Repeat."}, {"role": "user", "content": text}], **settings
    )


def test_a_chat_and_what_it_took(client: openai.OpenAI, words: Words) -> None:
    answer = chat(client, "one two", n=2, seed=7, max_completion_tokens=5, stop="\n", temperature=0.5)
    assert [choice.message.content for choice in answer.choices] == ["one two #7", "one two #8"]
    assert [choice.finish_reason for choice in answer.choices] == ["stop", "stop"]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (10, 4, 14)
    assert (answer.object, answer.model, answer.id[:9]) == ("chat.completion", "tiny", "chatcmpl-")
    asked = words.requests[-2]
    assert (asked.system, asked.config.max_tokens, asked.config.stop) == ("Repeat.", 5, ("\n",))


def test_a_chat_of_parts_and_a_schema(client: openai.OpenAI, words: Words) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    parts = [{"role": "user", "content": [{"type": "text", "text": "par"}, {"type": "text", "text": "ts"}]}]
    client.chat.completions.create(model="tiny", messages=parts, response_format=form)
    assert words.requests[-1].config.response_format["schema"] == schema
    assert [part.text for part in words.requests[-1].messages[0].parts] == ["par", "ts"]


def test_a_stream_comes_in_pieces_and_tells_what_it_took(client: openai.OpenAI) -> None:
    chunks = list(chat(client, "one two", stream=True, n=2, stream_options={"include_usage": True}))
    pieces: dict[int, list[str]] = {0: [], 1: []}
    for chunk in chunks:
        for choice in chunk.choices:
            pieces[choice.index].append(choice.delta.content or "")
    assert pieces == {0: ["", "one ", "two ", ""], 1: ["", "one ", "two ", ""]}
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 14)
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert [chunk.usage for chunk in chat(client, "one", stream=True)] == [None] * 3


def test_a_stream_that_breaks_says_so(client: openai.OpenAI) -> None:
    stream = chat(client, "it breaks", stream=True)
    assert [next(stream).choices[0].delta.content for _ in "12"] == ["", "it "]
    with pytest.raises(openai.APIError, match="the LM failed"):
        next(stream)


def test_texts_are_gone_on_with(client: openai.OpenAI, words: Words) -> None:
    answer = client.completions.create(model="tiny", prompt=["one", "two"], n=2)
    assert [choice.text for choice in answer.choices] == ["one", "one", "two", "two"]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (20, 4)
    assert words.requests[-1].config.extensions == {"apply_chat_template": False}
    assert words.requests[-1].config.max_tokens == 16
    streamed = client.completions.create(model="tiny", prompt="one two", stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == "one two "
    scored = client.completions.create(
        model="tiny", prompt="x", logprobs=2, extra_body={"structured_outputs": {"choice": [" a", " b"]}}
    )
    assert scored.choices[0].logprobs.top_logprobs == [{" a": 0.0, " b": -1.0}]


def test_embeddings_as_numbers_and_as_the_client_asks(client: openai.OpenAI) -> None:
    coded = client.embeddings.create(model="letters", input=["a b", "abc d e"])
    plain = client.embeddings.create(model="letters", input="a b", encoding_format="float")
    assert [each.embedding for each in coded.data] == [[3.0, 1.0], [7.0, 2.0]]
    assert (plain.data[0].embedding, coded.usage.prompt_tokens) == ([3.0, 1.0], 5)
    raw = httpx.post(
        f"{client.base_url}embeddings",
        json={"model": "letters", "input": "a b", "encoding_format": "base64"},
        headers={"Authorization": f"Bearer {SECRET}"},
    ).json()["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(raw), "<f4").tolist() == [3.0, 1.0]
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="letters", input="a " * 9)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "letters"]
    assert client.models.retrieve("letters").owned_by == "progspace"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt/4o")


REFUSED = [
    ({"model": "gpt-4o"}, 404, "model", "model_not_found"),
    ({"temperature": 3}, 400, "temperature", "invalid_value"),
    ({"temperature": "1"}, 400, "temperature", "invalid_value"),
    ({"frequency_penalty": 1}, 400, "frequency_penalty", "invalid_value"),
    ({"max_tokens": 0}, 400, "max_tokens", "invalid_value"),
    ({"tools": [{}]}, 400, "tools", "unknown_parameter"),
    ({"logit_bias": {}}, 400, "logit_bias", "unknown_parameter"),
    ({"messages": []}, 400, "messages", "invalid_value"),
    ({"messages": [{"role": "robot", "content": "a"}]}, 400, "messages", "invalid_value"),
    ({"messages": None}, 400, "messages", "invalid_value"),
    ({"response_format": {"type": "xml"}}, 400, "response_format", "invalid_value"),
    ({"structured_outputs": {}}, 400, "structured_outputs", "invalid_value"),
    ({"stop": [1] * 30_000}, 400, "stop", "invalid_value"),
    ({"logprobs": True}, 400, "logprobs", "unsupported_value"),
    ({"n": 5}, 400, "n", None),
    ({"messages": [{"role": "user", "content": "long"}]}, 400, "messages", "context_length_exceeded"),
    ({"messages": [{"role": "user", "content": "long"}], "stream": True}, 400, "messages", "context_length_exceeded"),
    ({"messages": [{"role": "user", "content": "broken"}]}, 500, None, None),
    ({"user": "x" * 100_000}, 413, None, None),
]


@pytest.mark.parametrize(("given", "status", "param", "code"), REFUSED, ids=[str(row[0])[:40] for row in REFUSED])
def test_errors_are_openais(url: str, given: dict[str, Any], status: int, param: str | None, code: str | None) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], **given}
    answer = httpx.post(f"{url}/chat/completions", json=body, headers={"Authorization": f"Bearer {SECRET}"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (status, param, code), error
    assert set(error) == {"message", "type", "param", "code"}
    assert SECRET not in answer.text


def test_what_is_no_request(url: str) -> None:
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    for body in (b"", b"[", b"[]", b"null", b"\xff", b"[" * 50_000, b'{"model": NaN}'):
        answer = httpx.post(f"{url}/chat/completions", content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error"), body
    assert httpx.get(f"{url}/chat/completions", headers=headers).status_code == 405
    assert httpx.get(f"{url}/nothing", headers=headers).json()["error"]["type"] == "invalid_request_error"
    with pytest.raises(openai.AuthenticationError) as refused:
        chat(openai.OpenAI(base_url=url, api_key="wrong", max_retries=0), "a")
    assert refused.value.code == "invalid_api_key"


def test_one_answer_too_many_is_told_to_come_again(client: openai.OpenAI, words: Words) -> None:
    words.free.clear()
    asked = [threading.Thread(target=chat, args=(client, "wait"), kwargs={"n": 2}) for _ in "12"]
    try:
        for thread in asked:
            thread.start()
        for _ in range(4):
            assert words.begun.acquire(timeout=30)
        with pytest.raises(openai.RateLimitError) as refused:
            chat(client, "one more")
        assert refused.value.response.headers["retry-after"] == "1"
        assert refused.value.code == "rate_limit_exceeded"
    finally:
        words.free.set()
        for thread in asked:
            thread.join(30)
    assert chat(client, "free again").choices[0].message.content == "free again"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_whose_client_has_left_is_given_up(client: openai.OpenAI, words: Words, stream: bool) -> None:
    words.free.clear()
    try:
        for _ in range(5):  # one more than run at a time
            with pytest.raises(openai.APITimeoutError):
                chat(client, "wait", stream=stream, timeout=0.5)
            assert words.begun.acquire(timeout=30)
            assert words.given_up.acquire(timeout=30)
    finally:
        words.free.set()
    assert chat(client, "free again").choices[0].message.content == "free again"


def test_progspace_asks_it_as_it_asks_the_embedded_lm(url: str, words: Words, mood: Any) -> None:
    from progspace.programs.compact import CompactAdapter

    lm = ps.lm("openai/tiny", base_url=url, api_key=SECRET)
    assert {"choice_logprobs", "structured_outputs", "apply_chat_template"} <= set(lm.supported_params)
    with dspy.context(lm=lm, adapter=CompactAdapter(decoding="scored")):
        answer = dspy.Predict(mood)(text="sun")
    assert (answer.mood, answer.choice_logprobs) == ("glad", {"glad": 0.0, "sad": -1.0})
    asked = words.requests[-1]
    assert asked.system == "Tell the mood of a text.\n\n"
    assert asked.messages[-1].text == "Text: sun\nMood:"
    assert asked.config.extensions == {
        "structured_outputs": {"choice": [" glad", " sad"]}, "apply_chat_template": False,
    }  # fmt: skip
