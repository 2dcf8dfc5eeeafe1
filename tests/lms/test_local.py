"""The embedded LM, for real."""

from __future__ import annotations

import asyncio
import copy
import json
import multiprocessing
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import dspy
import pytest
from dspy.lm15 import Config, Message, Request
from dspy.utils.exceptions import ContextWindowExceededError, LMUnsupportedFeatureError

import progspace as ps
from progspace.lms import models
from progspace.lms.embedded import EmbeddedEngine, engine_for
from progspace.lms.generation import GenerationOptions

REFERENCE = json.loads((Path(__file__).parent / "reference.json").read_text(encoding="utf-8"))


def request(lm: dspy.LM, text: str, *, system: str | None = None, choice: Any = None, regex: Any = None, **config: Any):
    structured = {key: value for key, value in {"choice": choice, "regex": regex}.items() if value}
    extensions = {"apply_chat_template": False, **({"structured_outputs": structured} if structured else {})}
    config.setdefault("max_tokens", 12)
    return Request(lm.model, (Message.user(text),), system=system, config=Config(extensions=extensions, **config))


def text_of(response: Any) -> str:
    return "".join(part.text for part in response.message.parts)


def engine(lm: dspy.LM) -> EmbeddedEngine:
    return engine_for("smollm2-135m", "f32")


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda case: case["prompt"][:20])
def test_tokens_and_log_probabilities_are_those_of_transformers(local_lm: dspy.LM, case: dict[str, Any]) -> None:
    """The same GGUF weights in transformers, recorded once: what provisioning and scoring promise to be."""
    own = engine(local_lm)
    assert own.encode(case["prompt"]) == case["tokens"]
    assert [own.encode(each["text"]) for each in case["continuations"]] == [
        each["tokens"] for each in case["continuations"]
    ]
    tokens, continuations = case["tokens"], [each["tokens"] for each in case["continuations"]]
    expected = pytest.approx([each["logprob"] for each in case["continuations"]], abs=0.03)
    for shared in (0, 1, len(tokens) - 1):
        assert own.score(tokens[:shared], tokens[shared:], continuations).result() == expected


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda case: case["prompt"][:20])
def test_greedy_generation_is_that_of_transformers(local_lm: dspy.LM, case: dict[str, Any]) -> None:
    given = text_of(local_lm(request(local_lm, case["prompt"])))
    assert given == engine(local_lm).tokenizer.decode(case["greedy"])


def test_answers_do_not_depend_on_what_runs_beside_them(local_lm: dspy.LM) -> None:
    prompts = [f"The number after {number} is" for number in range(24)]
    alone = [local_lm(request(local_lm, prompt)) for prompt in prompts]
    with ThreadPoolExecutor(24) as pool:
        together = list(pool.map(lambda prompt: local_lm(request(local_lm, prompt)), prompts))

    async def tasks() -> list[Any]:
        return await asyncio.gather(*(local_lm.acall(request(local_lm, prompt)) for prompt in prompts))

    expected = [text_of(one) for one in alone]
    assert [text_of(one) for one in together] == expected
    assert [text_of(one) for one in asyncio.run(tasks())] == expected
    assert len(set(expected)) > 1


def test_scores_do_not_depend_on_what_runs_beside_them(local_lm: dspy.LM) -> None:
    def scores(number: int) -> list[float]:
        asked = request(local_lm, f"{number}:", system="Odd or even?\n\n", choice=[" odd", " even"], logprobs=2)
        return [top.logprob for top in sorted(local_lm(asked).logprobs[0].top, key=lambda top: top.token)]

    alone = [scores(number) for number in range(24)]
    with ThreadPoolExecutor(24) as pool:
        together = list(pool.map(scores, range(24)))
    for one, other in zip(alone, together, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_many_continuations_score_as_each_one_alone(local_lm: dspy.LM) -> None:
    """They run some at a time in the same rows, masked from those before them."""
    own = engine(local_lm)
    prompt = own.encode("The customer asks about")
    words = own.encode(" a card payment that was declined in a shop abroad, and when the money will be back")
    continuations = [words[start : start + 1 + start % 6] for start in range(12)] + [words[:7], words[:2], words[:1]]
    together = own.score(prompt[:2], prompt[2:], continuations).result()
    alone = [own.score([], prompt, [each]).result()[0] for each in continuations]
    assert together == pytest.approx(alone, abs=1e-3)


def test_usage_and_finish_reason_are_true(local_lm: dspy.LM) -> None:
    prompt = "Count: one, two, three,"
    cut = local_lm(request(local_lm, prompt, max_tokens=3))
    assert (cut.usage.input_tokens, cut.usage.output_tokens) == (len(engine(local_lm).encode(prompt)), 3)
    assert cut.finish_reason == "length"
    stopped = local_lm(request(local_lm, prompt, stop=("five", " seven"), max_tokens=30))
    assert stopped.finish_reason == "stop"
    assert "five" not in text_of(stopped)


def test_outputs_are_held_to_choice_regex_and_schema(local_lm: dspy.LM) -> None:
    assert text_of(local_lm(request(local_lm, "Colour:", choice=["mauve", "teal"]))) in ("mauve", "teal")
    assert len(text_of(local_lm(request(local_lm, "Year:", regex="[0-9]{4}")))) == 4
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "name": "n", "schema": schema}
    assert isinstance(json.loads(text_of(local_lm(request(local_lm, "A number:", response_format=form))))["n"], int)


def test_a_choice_that_begins_as_another_goes_on_is_told_apart(local_lm: dspy.LM) -> None:
    asked = request(local_lm, "Say no.", choice=[" no", " no way", " yes"], logprobs=3)
    top = {entry.token: entry.logprob for entry in local_lm(asked).logprobs[0].top}
    assert set(top) == {" no", " no way", " yes"}
    assert all(value < 0 for value in top.values())


def test_sampling_differs_within_n_and_is_repeatable_by_seed(local_lm: dspy.LM) -> None:
    answers = local_lm("Invent a name for a cat.", temperature=1.5, n=3, max_tokens=12)
    assert len(answers) == 3
    assert len(set(answers)) > 1
    first, again = (text_of(local_lm(request(local_lm, "A cat named", temperature=1.0, seed=7))) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("words", [8_200, 9_000, 20_000])
def test_a_prompt_that_does_not_fit_is_an_error_and_not_cut(local_lm: dspy.LM, words: int) -> None:
    with pytest.raises(ContextWindowExceededError, match="8,192"):
        local_lm(request(local_lm, "word " * words))
    with pytest.raises(ContextWindowExceededError):
        local_lm(request(local_lm, "word " * words, choice=["a", "b"], logprobs=2))


def test_what_it_cannot_do_is_refused(local_lm: dspy.LM) -> None:
    with pytest.raises(LMUnsupportedFeatureError, match="log-probabilities of choices only"):
        local_lm(request(local_lm, "Hello", logprobs=1))
    unknown = Request(local_lm.model, (Message.user("Hello"),), config=Config(extensions={"wings": 2}))
    with pytest.raises(LMUnsupportedFeatureError, match="wings"):
        local_lm(unknown)


def test_no_thread_is_left_when_the_work_is_done(local_lm: dspy.LM) -> None:
    before = set(threading.enumerate())
    local_lm(request(local_lm, "Hello"))
    local_lm(request(local_lm, "Hello", choice=[" a", " b"], logprobs=2))
    deadline = time.monotonic() + 10
    while own := [each.name for each in set(threading.enumerate()) - before if each.name.startswith("progspace-")]:
        assert time.monotonic() < deadline, own
        time.sleep(0.01)


def test_an_answer_that_nobody_waits_for_is_given_up(local_lm: dspy.LM) -> None:
    own, pieces = engine(local_lm), SimpleQueue[str]()
    endless = GenerationOptions(max_tokens=2000, regex="[0-9]{2000}")
    given_up = own.generate(own.encode("Count."), endless, pieces.put)
    other = own.generate(own.encode("Hello"), GenerationOptions(max_tokens=4))
    pieces.get(timeout=60)
    assert given_up.cancel()
    assert other.result(timeout=60).tokens == 4
    while any(thread.name == "progspace-generation" for thread in threading.enumerate()):
        time.sleep(0.01)
    assert pieces.qsize() < 500


async def test_an_answer_that_nobody_waits_for_is_given_up_while_the_model_loads(
    local_lm: dspy.LM, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, begun, submitted = engine(local_lm), threading.Event(), SimpleQueue[Any]()
    generate, encode = own.generate, own.encode

    def recorded(*given: Any) -> Any:
        future = generate(*given)
        submitted.put(future)
        return future

    def told(text: str) -> list[int]:
        begun.set()
        return encode(text)

    monkeypatch.setattr(own, "generate", recorded)
    monkeypatch.setattr(own, "encode", told)
    with own._lock:  # as while it loads
        task = asyncio.create_task(local_lm.acall(request(local_lm, "Hello")))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    future = submitted.get(timeout=60)
    while not future.done():
        await asyncio.sleep(0.01)
    assert future.cancelled()


def test_there_is_one_engine_a_process(local_lm: dspy.LM) -> None:
    assert engine_for("smollm2-135m", "f32") is engine_for("smollm2-135m", "f32")
    assert ps.lm("local")._engine_spec.engine is local_lm._engine_spec.engine  # type: ignore[attr-defined]


def _use_after_fork(connection: Any) -> None:
    try:
        engine_for("smollm2-135m", "f32").encode("Hello")
    except ps.LMError as error:
        connection.send(str(error))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_after_a_fork_it_is_refused(local_lm: dspy.LM) -> None:
    local_lm(request(local_lm, "Hello"))
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_use_after_fork, args=(there,))
    child.start()
    assert here.poll(30)
    assert "forked" in here.recv()
    child.join()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("local:no-such-model", "progspace models install smollm2-135m"),
        ("local:/no/such/folder", "progspace models install smollm2-135m"),
    ],
)
def test_a_wrong_model_says_what_mends_it(local_lm: dspy.LM, name: str, told: str) -> None:
    with pytest.raises(ps.ModelNotFound, match=told):
        ps.lm(name)


def test_a_missing_model_says_what_mends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROGSPACE_MODELS", str(tmp_path))
    with pytest.raises(ps.ModelNotFound, match="progspace models install smollm2-135m"):
        ps.lm("local")


def test_any_gguf_file_or_folder_serves(local_lm: dspy.LM, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, _ = models.locate("smollm2-135m")
    expected = text_of(local_lm(request(local_lm, "The sky is", max_tokens=4)))
    by_folder = ps.lm(f"local:{folder}")
    assert text_of(by_folder(request(by_folder, "The sky is", max_tokens=4))) == expected
    monkeypatch.setenv("PROGSPACE_MODELS", str(tmp_path))
    by_file = ps.lm(f"local:{models.gguf_file()}")
    assert text_of(by_file(request(by_file, "The sky is", max_tokens=4))) == expected
    assert len(list(tmp_path.iterdir())) == 1


def test_a_pickle_of_the_lm_finds_the_engine_again(local_lm: dspy.LM) -> None:
    again = pickle.loads(pickle.dumps(local_lm))  # noqa: S301 — our own
    assert again.dump_state() == local_lm.dump_state()
    assert again.engine.engine is local_lm.engine.engine
    assert copy.copy(local_lm.engine) is local_lm.engine


def test_a_copy_of_the_lm_shares_its_engine(local_lm: dspy.LM) -> None:
    assert copy.deepcopy(local_lm).engine is local_lm.engine
