from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import dspy
import pytest
from dspy.lm15 import (
    ContinuationState,
    ImagePart,
    Message,
    RefusalPart,
    Request,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

import progspace as ps
from progspace.evaluation.matrix import Matrix, StoreAnswers
from progspace.lms.budget import Meter
from progspace.lms.identity import lm_identity
from progspace.lms.journal import JournaledLM
from progspace.lms.wire import answers_of
from progspace.programs.formats import Format
from progspace.store.database import Store
from progspace.store.upkeep import check


def test_an_answer_is_bought_once_in_every_way_of_asking(rule_engine: Any, store: Store, mood: Any) -> None:
    engine = rule_engine(lambda prompt: "[[ ## mood ## ]]\nglad", logprobs=lambda prompt, choice: -float(len(choice)))
    chat, scored = dspy.ChatAdapter(), Format(kind="compact", decoding="scored").adapter()
    for round_ in range(2):
        meter = Meter()
        lm = JournaledLM(engine.lm(), meter, StoreAnswers(store))
        for adapter in (chat, scored):
            with dspy.context(lm=lm, adapter=adapter):
                first = dspy.Predict(mood)(text="sun")
                again = asyncio.run(dspy.Predict(mood).acall(text="sun"))
            assert first.mood == again.mood
            assert dict(first) == dict(again)
        assert lm("a plain prompt") == lm("a plain prompt")
        assert (meter.spent.calls, meter.spent.bought) == (3, 3 if round_ == 0 else 0)
        assert meter.spent.input_tokens > 0
    assert store.count("answers") == 3


def test_other_settings_are_another_call(rule_engine: Any, store: Store) -> None:
    engine, meter = rule_engine(str.upper), Meter()
    for lm in (engine.lm(), engine.lm(temperature=0.5), engine.lm("rule/two")):
        journaled = JournaledLM(lm, meter, StoreAnswers(store))
        journaled("hello")
        journaled("hello", max_tokens=5)
    assert meter.spent.bought == 6


class Own(dspy.BaseLM):
    def __init__(self, place: str, key: str = "", **settings: Any) -> None:
        super().__init__("own/model", "chat", cache=False, **settings)
        self.place, self.api_token, self.asked = Path(place), key, len(key)

    def forward(self, prompt: Any = None, messages: Any = None, **settings: Any) -> Any:
        raise NotImplementedError


class Identified(Own):
    def identity(self) -> dict[str, Any]:
        return {"weights": self.place.name}


def test_an_lm_of_the_apps_own_is_known_by_what_it_holds() -> None:
    """Two weights behind one name gave each other's answers, and so did stops that were given as a tuple."""
    assert lm_identity(Own("a")) != lm_identity(Own("b"))
    assert lm_identity(Own("a", "a key")) == lm_identity(Own("a", "another key"))
    assert lm_identity(Own("a", stop=("x",))) != lm_identity(Own("a", stop=("y",)))
    assert lm_identity(Own("a", stop=("x",))) == lm_identity(Own("a", stop=["x"]))
    assert lm_identity(Identified("here/one")) == lm_identity(Identified("there/one"))
    assert lm_identity(Identified("here/one"))["engine"] == {"class": "Identified", "weights": "one"}


def test_the_budget_is_kept_with_many_threads(rule_engine: Any, store: Store) -> None:
    engine, meter = rule_engine(str.upper), Meter(ps.Budget(calls=20))
    lm = JournaledLM(engine.lm(), meter, StoreAnswers(store))

    def ask(number: int) -> bool:
        try:
            lm(f"prompt {number}")
        except ps.BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(ask, range(100))) == 20
    assert len(engine.prompts) == 20


def test_no_key_is_in_an_identity() -> None:
    lm = dspy.LM("openai/gpt-4o-mini", api_key="sk-secret", api_base="http://127.0.0.1:1/v1", extra_headers={"X": "s3"})
    assert "s3" not in str(lm_identity(lm))
    assert "secret" not in str(lm_identity(lm))
    assert lm_identity(lm)["settings"]["api_base"] == "http://127.0.0.1:1/v1"
    assert lm_identity(JournaledLM(lm, Meter())) == lm_identity(lm)


def test_no_secret_is_in_an_identity_however_deep_it_stands() -> None:
    secrets: dict[str, Any] = {
        "vertex_credentials": {"private_key": "s3cret"}, "default_headers": {"Authorization": "s3cret"},
        "client_secret": "s3cret", "azure_ad_token": "s3cret", "aws_region_name": "s3cret", "token": "s3cret",
        "accessToken": "s3cret", "subscription-key": "s3cret", "auth_header": "s3cret",
        "api_base": "https://me:s3cret@host/v1?api-key=s3cret&version=2",  # pragma: allowlist secret
        "extra_body": {"api_key": "s3cret", "top_k": 1, "via": [{"access_token": "s3cret"}]},
    }  # fmt: skip
    told = lm_identity(dspy.LM("vertex_ai/gemini", **secrets))
    assert "s3cret" not in json.dumps(told)
    assert told["settings"]["api_base"] == "https://host/v1?api-key=***&version=2"
    assert told["settings"]["extra_body"] == {"top_k": 1, "via": [{}]}
    lm = ps.lm("openai/tiny", base_url="http://127.0.0.1:1/v1", api_key="k", extra_body={"token": "s3cret", "top_k": 1})
    assert lm_identity(lm)["engine"]["extra_body"] == {"top_k": 1}


def test_what_says_how_an_lm_answers_is_in_its_identity_as_it_was() -> None:
    """Answers of stores that people have hang on it."""
    settings: dict[str, Any] = {
        "max_tokens": 9, "stop_token_ids": [1, 2], "prompt_cache_key": "a", "logit_bias": {"7": -1}, "temperature": 0.5,
        "eos_token": "</s>", "custom_token_bans": ["x"], "system_header": "#", "num_keys": "2",
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "extra_body": {"guided_json": {"properties": {
            "key": {"type": "string"}, "headers": {"type": "object"}, "token": {"type": "string"},
        }, "required": ["key"]}, "skip_special_tokens": True}, "stop": ["a", "b"],
    }  # fmt: skip
    told = lm_identity(dspy.LM("openai/gpt-4o-mini", **settings))
    assert {name: told["settings"][name] for name in settings} == settings
    assert told.keys() == {"model", "settings"}


class Fair(BaseModel):
    mood: str


class Other(BaseModel):
    other: str


def test_lms_that_answer_otherwise_are_others() -> None:
    def told(**settings: Any) -> str:
        return json.dumps(lm_identity(dspy.LM("openai/gpt-4o-mini", **settings)), sort_keys=True)

    for others in (
        [{}, {"model_type": "text"}, {"model_type": "responses"}],
        [{}, {"response_format": Fair}, {"response_format": Other}],
        [{"extra_body": {"ids": {"a", "b"}}}, {"extra_body": {"ids": {"a"}}}, {"ids": {"a"}}, {}],
    ):
        assert len({told(**each) for each in others}) == len(others)
    assert told() == told(model_type="chat")
    assert told(extra_body={"ids": set("abcdef")}) == told(extra_body={"ids": sorted("abcdef")})
    by_path = Own("a"), Own("a")
    by_path[0].tokenizer_path, by_path[1].tokenizer_path = "here", "there"
    assert lm_identity(by_path[0]) != lm_identity(by_path[1])
    with pytest.raises(ps.LMError, match="the settings of openai/gpt-4o-mini are not all text"):
        JournaledLM(dspy.LM("openai/gpt-4o-mini", extra_body={"ids": [object()]}), Meter())


def test_prompts_with_other_images_have_answers_of_their_own(rule_engine: Any, store: Store) -> None:
    engine = rule_engine(lambda prompt: f"answer {len(engine.prompts)}")
    lm = JournaledLM(engine.lm(), Meter(), StoreAnswers(store))

    def asked(part: Any, role: Any = "user") -> str:
        return lm._asked(Request("rule/model", (Message.user("What is it?"), Message(role, (part,)))), None, {})[0]

    one, other = (ImagePart("image/png", data=data) for data in ("AAAA", "BBBB"))
    assert asked(one) == asked(ImagePart("image/png", data="AAAA")) != asked(other)
    assert len({asked(ToolResultPart("1", (each,)), "tool") for each in (one, other)}) == 2
    at = [ImagePart("image/png", url=f"https://host/{name}.png") for name in "ab"]
    assert len({*map(asked, at)}) == 2


def test_the_lm_itself_is_what_it_offers(rule_engine: Any) -> None:
    lm = rule_engine(str.upper, logprobs=lambda prompt, choice: 0.0).lm(temperature=0.3)
    journaled = JournaledLM(lm, Meter())
    assert journaled.supported_params == set(lm.supported_params)
    assert journaled.kwargs == lm.kwargs
    assert journaled.copy(temperature=0.9).kwargs["temperature"] == 0.9


def test_a_failed_call_is_not_remembered(store: Store, rule_engine: Any) -> None:
    calls = []

    def rule(prompt: str) -> str:
        calls.append(prompt)
        if len(calls) == 1:
            raise OSError("the wire is cut")
        return "fine"

    lm = JournaledLM(rule_engine(rule).lm(), Meter(), StoreAnswers(store))
    with pytest.raises(Exception, match="wire"):
        lm("hello")
    assert lm("hello") == ["fine"]
    assert store.count("answers") == 1


def test_who_asks_while_another_asks_the_same_gets_that_answer(rule_engine: Any, store: Store) -> None:
    begun, both = threading.Event(), threading.Event()

    def slow(prompt: str) -> str:
        begun.set()
        both.wait(5)
        return "yes"

    engine = rule_engine(slow)
    lm = JournaledLM(engine.lm(), Meter(), StoreAnswers(store))
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(lm, "Is it?")
        begun.wait(5)
        others = [pool.submit(lm, "Is it?") for _ in range(3)]
        both.set()
        assert {tuple(each.result()) for each in (first, *others)} == {("yes",)}
    assert len(engine.prompts) == 1
    assert lm.meter.spent.bought == 1


def answered(lm: JournaledLM) -> list[Any]:
    """What an LM answers in every way of asking."""
    request = Request(lm.model, (Message.user("Is it?"),))
    return [
        lm(request).message,
        asyncio.run(lm.acall(request)).message,
        lm("Is it?"),
        lm(messages=[{"role": "user", "content": "Is it?"}], n=2),
        asyncio.run(lm.acall("Is it?")),
    ]


SIGNED = (ContinuationState("anthropic", "signature", {"signature": "s", "of": [1]}),)


@pytest.mark.parametrize(
    "parts",
    [
        [ThinkingPart("Hm.", SIGNED), TextPart("yes")],
        [TextPart("y"), ThinkingPart(""), TextPart("es")],
        [ThinkingPart("It may be, and")],
        [RefusalPart("I must not say.")],
    ],
    ids=["signed", "in between", "cut", "refused"],
)
def test_what_an_lm_thought_is_remembered_with_its_answer(rule_engine: Any, store: Store, parts: list[Any]) -> None:
    """No answer of an LM that reasons was remembered: each was bought again and again."""
    engine = rule_engine(lambda prompt: parts)
    fresh = answered(JournaledLM(engine.lm(), Meter(), StoreAnswers(store)))
    asked = len(engine.prompts)
    assert asked == 4  # of two answers to one prompt each is asked for
    meter = Meter()
    assert answered(JournaledLM(engine.lm(), meter, StoreAnswers(store))) == fresh
    assert fresh[0] == Message("assistant", tuple(parts))
    assert len(engine.prompts) == asked
    assert (meter.spent.calls, meter.spent.bought) == (3, 0)
    assert list(check(store)) == []


def test_an_answer_that_cannot_be_remembered_counts_each_time(rule_engine: Any, store: Store) -> None:
    """The second time it was bought and not counted: a budget was no limit."""
    engine = rule_engine(lambda prompt: [ToolCallPart("1", "look", {"at": prompt})])
    meter = Meter(ps.Budget(calls=6))
    lm = JournaledLM(engine.lm(), meter, StoreAnswers(store))
    assert lm("Look.")[0]["tool_calls"][0].function.name == "look"
    assert asyncio.run(lm.acall("Look."))[0]["tool_calls"]

    def ask(_: int) -> bool:
        try:
            lm("Look.")
        except ps.BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(20))) == 4
    with pytest.raises(ps.BudgetExceeded):
        asyncio.run(lm.acall("Look."))
    assert len(engine.prompts) == 6
    assert (meter.spent.calls, meter.spent.bought, meter.spent.failed) == (6, 6, 0)
    assert meter.spent.output_tokens == 6


class Looking(dspy.Module):
    """Asks the same for every text, and is given a call of a tool."""

    def forward(self, text: str) -> dspy.Prediction:
        calls = dspy.settings.lm("Look.")[0]["tool_calls"]
        return dspy.Prediction(mood=calls[0].function.name)


def test_a_search_that_goes_on_counts_what_cannot_be_remembered_as_one_that_ran_through(
    rule_engine: Any, store: Store, mood_rows: Any
) -> None:
    engine = rule_engine(lambda prompt: [ToolCallPart("1", "glad", {})])
    rows = [dspy.Example(**row).with_inputs("text") for row in mood_rows[:10]]
    for bought in (10, 0):
        matrix = Matrix(store, ps.metrics.choice("mood"), engine.lm(), meter := Meter())
        assert sum(cell.score or 0.0 for cell in matrix.fill(Looking(), rows)) == 5
        assert (meter.spent.calls, meter.spent.bought, meter.spent.failed) == (10, bought, 0)
    assert len(engine.prompts) == 10


class InThreads(dspy.Module):
    """Asks in threads of DSPy's: its predictor, and an LM that it keeps to itself."""

    def __init__(self, way: str, own: dspy.LM) -> None:
        super().__init__()
        self.way, self.predict, self.ask_own = way, dspy.Predict("text -> mood"), lambda text: own(text)

    def forward(self, text: str) -> Any:
        texts = [text, f"{text}, again"]
        dspy.Parallel(num_threads=2, disable_progress_bar=True)([(self.ask_own, (each,)) for each in texts])
        if self.way == "batch":
            examples = [dspy.Example(text=each).with_inputs("text") for each in texts]
            return self.predict.batch(examples, num_threads=2, disable_progress_bar=True)[0]
        pairs = [(self.predict, {"text": each}) for each in texts]
        return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)[0]


@pytest.mark.parametrize("way", ["parallel", "batch"])
def test_calls_in_threads_of_dspys_are_counted(rule_engine: Any, store: Store, mood_rows: Any, way: str) -> None:
    """DSPy copies what counts them for each thread: it could not be copied, and every score was 0."""
    engine = rule_engine(lambda prompt: f"[[ ## mood ## ]]\n{'glad' if 'sun' in prompt else 'sad'}")
    own = rule_engine(str.upper)
    rows = [dspy.Example(**row).with_inputs("text") for row in mood_rows[:6]]
    matrix = Matrix(store, ps.metrics.choice("mood"), engine.lm(), meter := Meter())
    cells = matrix.fill(InThreads(way, own.lm("rule/own")), rows)
    assert [(cell.score, cell.error) for cell in cells] == [(1.0, None)] * 6
    assert [(cell.calls, len(cell.asked)) for cell in cells] == [(4, 4)] * 6
    assert (len(engine.prompts), len(own.prompts)) == (12, 12)
    assert (meter.spent.calls, meter.spent.bought) == (24, 24)


class Kept(dspy.Module):
    """Asks an LM that it keeps to itself."""

    def __init__(self, own: dspy.BaseLM) -> None:
        super().__init__()
        self.predict, self.with_own = dspy.Predict("text -> mood"), lambda: dspy.context(lm=own)

    def forward(self, text: str) -> Any:
        with self.with_own():
            return self.predict(text=text)


class Tracked(dspy.Module):
    """Asks such an LM, and the task's, under what listens to their usage."""

    def __init__(self, way: str, own: dspy.BaseLM) -> None:
        super().__init__()
        self.way, self.predict, self.kept = way, dspy.Predict("text -> mood"), Kept(own)
        if way == "watched":
            self.kept = ps.watch(self.kept, store=None)

    def forward(self, text: str) -> Any:
        if self.way == "watched":
            self.kept(text=text)
            return self.predict(text=text)
        with dspy.track_usage() as usage, dspy.track_usage() if self.way == "nested" else nullcontext():
            self.kept(text=text)
            mood = self.predict(text=text)
        assert list(usage.get_total_tokens()) == ["rule/own"]
        return mood


@pytest.mark.parametrize("way", ["tracked", "nested", "watched"])
def test_calls_whose_usage_something_else_listens_to_are_counted_once(
    rule_engine: Any, store: Store, mood_rows: Any, way: str
) -> None:
    """What listens rolls up when it ends, into lists that were not there: every example failed."""
    engine, own = (
        rule_engine(lambda prompt: f"[[ ## mood ## ]]\n{'glad' if 'sun' in prompt else 'sad'}") for _ in "12"
    )
    rows = [dspy.Example(**row).with_inputs("text") for row in mood_rows[:12]]
    matrix = Matrix(store, ps.metrics.choice("mood"), engine.lm(), meter := Meter())
    cells = matrix.fill(Tracked(way, own.lm("rule/own")), rows[:6])
    assert [(cell.score, cell.error, cell.calls) for cell in cells] == [(1.0, None, 2)] * 6
    assert (len(engine.prompts), len(own.prompts)) == (6, 6)
    assert (meter.spent.calls, meter.spent.bought) == (12, 12)
    words = sum(len(prompt.split()) for prompt in (*engine.prompts, *own.prompts))
    assert (meter.spent.input_tokens, meter.spent.output_tokens) == (words, 12)
    few = Matrix(store, ps.metrics.choice("mood"), engine.lm(), Meter(ps.Budget(calls=5)), workers=1)
    with pytest.raises(ps.BudgetExceeded, match="5 calls"):
        few.fill(Tracked(way, own.lm("rule/own")), rows[6:])


def completion(said: str) -> ChatCompletion:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "own", "choices": [choice]}
    return ChatCompletion.model_validate({**answer, "usage": usage})


class Asking(dspy.BaseLM):
    """One of the app's own that asks another, and listens to what that uses."""

    def __init__(self, other: dspy.BaseLM) -> None:
        super().__init__("own/model", "chat", cache=False)
        self.other = other

    def forward(self, prompt: Any = None, messages: Any = None, **settings: Any) -> Any:
        with dspy.track_usage():
            said = self.other(prompt, messages=messages)
        return completion(said[0])


@pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")
def test_an_lm_that_listens_to_another_is_one_call(rule_engine: Any, store: Store) -> None:
    lm = JournaledLM(Asking(rule_engine(str.upper).lm()), meter := Meter(), StoreAnswers(store))
    assert lm("a plain prompt") == lm("a plain prompt") == ["A PLAIN PROMPT"]
    assert (meter.spent.calls, meter.spent.bought) == (1, 1)
    assert (meter.spent.input_tokens, meter.spent.output_tokens) == (5, 2)


class Hiding(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("text -> mood")

    def forward(self, text: str) -> Any:
        try:
            return self.predict(text=text)
        except Exception:
            return dspy.Prediction(mood="sad")


@pytest.mark.parametrize("way", ["parallel", "batch", "hidden"])
def test_the_end_of_the_budget_is_no_score(rule_engine: Any, store: Store, mood_rows: Any, way: str) -> None:
    """Hidden by DSPy's threads, or by the module, what was not answered was scored, and stored."""
    engine = rule_engine(lambda prompt: f"[[ ## mood ## ]]\n{'glad' if 'sun' in prompt else 'sad'}")
    program = Hiding() if way == "hidden" else InThreads(way, rule_engine(str.upper).lm("rule/own"))
    rows = [dspy.Example(**row).with_inputs("text") for row in mood_rows[:12]]
    matrix = Matrix(store, ps.metrics.choice("mood"), engine.lm(), Meter(ps.Budget(calls=10)), workers=1)
    with pytest.raises(ps.BudgetExceeded):
        matrix.fill(program, rows)
    known = Matrix(store, ps.metrics.choice("mood"), engine.lm(), Meter(), workers=1).fill(program, rows)
    assert [cell.score for cell in known] == [1.0] * 12


def test_what_an_lm_thought_is_estimated_where_no_tokens_are_told() -> None:
    """It counted as nothing, and so did the answer after it; one that was cut before its answer was taken for none."""
    request = Request("openai/tiny", (Message.user("Is it?"),))
    for message, tokens in (
        ({"content": "yes", "reasoning_content": "Hm, hm, hm."}, 5),
        ({"content": None, "reasoning_content": "Hm, hm, hm."}, 4),
    ):
        (response,) = answers_of(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}), request)
        assert response.usage.output_tokens == tokens
        assert response.message.first(ThinkingPart) == ThinkingPart("Hm, hm, hm.")


def test_what_dspys_cache_knows_has_its_tokens_all_the_same(rule_engine: Any, store: Store) -> None:
    engine = rule_engine(str.upper)
    lm = engine.lm()
    lm.cache = True
    prompt = f"the cache knows {uuid4().hex}"  # and does so after the tests as well
    for _ in range(2):
        assert lm(prompt) == [prompt.upper()]
    assert len(engine.prompts) == 1
    assert JournaledLM(lm, meter := Meter(), StoreAnswers(store))(prompt) == [prompt.upper()]
    assert (meter.spent.bought, meter.spent.input_tokens, meter.spent.output_tokens) == (1, 4, 1)


@pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")
def test_a_class_of_the_apps_own_is_asked_as_it_was_written(store: Store) -> None:
    class Own(dspy.LM):
        def forward(self, prompt: Any = None, messages: Any = None) -> Any:
            return completion("it is")

    assert JournaledLM(Own("own/one"), Meter(), StoreAnswers(store))("Is it?") == ["it is"]


class Keeping(dspy.Module):
    def __init__(self, own: dspy.LM) -> None:
        super().__init__()
        self.predict, self.ask_own = dspy.Predict("text -> mood"), lambda text: own(text)

    def forward(self, text: str) -> Any:
        self.ask_own(text)
        return self.predict(text=text)


def test_calls_that_no_journal_keeps_count_each_time(rule_engine: Any, store: Store, mood_rows: Any) -> None:
    engine = rule_engine(lambda prompt: f"[[ ## mood ## ]]\n{'glad' if 'sun' in prompt else 'sad'}")
    own = rule_engine(str.upper)
    program = Keeping(own.lm())
    rows = [dspy.Example(**row).with_inputs("text") for row in mood_rows[:6]]
    matrix = Matrix(store, ps.metrics.choice("mood"), engine.lm(), meter := Meter())
    matrix.fill(program, rows)
    for _ in range(2):
        matrix.traces(program, rows)
    assert len(own.prompts) == 18
    assert meter.spent.calls == meter.spent.bought == len(engine.prompts) + len(own.prompts) == 24
