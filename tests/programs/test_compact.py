"""The compact format: what is written is read back, and the LM is asked for what it offers."""

from __future__ import annotations

import asyncio
import enum
import json
from typing import Any, Literal

import dspy
import pytest
from dspy.lm15 import TextPart, ThinkingPart
from dspy.utils.exceptions import AdapterParseError
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from progspace.programs.compact import CompactAdapter
from progspace.programs.fields import parse_field, write_field
from progspace.programs.formats import Format


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Person(BaseModel):
    name: str
    age: int | None = None
    friends: list[str] = []


TEXT = st.text(st.characters(codec="utf-8"))
PERSONS = st.builds(Person, name=TEXT, age=st.none() | st.integers(), friends=st.lists(TEXT, max_size=3))
TYPED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, TEXT),
    (int, st.integers()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (Literal["a", "b c", "1"], st.sampled_from(["a", "b c", "1"])),
    (Literal[1, 2], st.sampled_from([1, 2])),
    (Colour, st.sampled_from(Colour)),
    (list[str], st.lists(TEXT, max_size=4)),
    (list[int], st.lists(st.integers(), max_size=4)),
    (dict[str, int], st.dictionaries(TEXT, st.integers(), max_size=3)),
    (Person, PERSONS),
    (list[Person], st.lists(PERSONS, max_size=3)),
    (str | None, st.none() | TEXT),
]
IDS = [str(annotation) for annotation, _ in TYPED]


@pytest.mark.parametrize(("annotation", "strategy"), TYPED, ids=IDS)
def test_a_value_is_one_line_and_comes_back(annotation: Any, strategy: st.SearchStrategy[Any]) -> None:
    @settings(max_examples=60, deadline=None)
    @given(strategy)
    def check(value: Any) -> None:
        line = write_field(value, annotation)
        assert "\n" not in line
        assert parse_field(line, annotation) == value

    check()


@st.composite
def signatures_with_values(draw: st.DrawFn) -> tuple[type[dspy.Signature], dict[str, Any]]:
    chosen = draw(st.lists(st.sampled_from(TYPED), min_size=1, max_size=4))
    fields: dict[str, Any] = {"text": (str, dspy.InputField())}
    values = {}
    for number, (annotation, strategy) in enumerate(chosen):
        fields[f"out_{number}"] = (annotation, dspy.OutputField())
        values[f"out_{number}"] = draw(strategy)
    return dspy.Signature(fields, "Do it."), values


@settings(max_examples=150, deadline=None)
@given(signatures_with_values())
def test_outputs_of_every_kind_round_trip(drawn: tuple[type[dspy.Signature], dict[str, Any]]) -> None:
    signature, values = drawn
    adapter = CompactAdapter()
    assert adapter.parse(signature, adapter.format_assistant_message_content(signature, values)) == values


@settings(max_examples=60, deadline=None)
@given(signatures_with_values())
def test_json_outputs_round_trip(drawn: tuple[type[dspy.Signature], dict[str, Any]]) -> None:
    signature, values = drawn
    adapter = CompactAdapter(decoding="constrained")
    written = adapter._outputs(signature.output_fields, values, "json", None).removeprefix("JSON: ")
    json.loads(written)
    assert adapter._parse(signature, written, layout="json") == values


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("Positive.", Literal["positive", "negative"], "positive"),
        ("**negative**, because it is long", Literal["positive", "negative"], "negative"),
        ("yes", Literal["yes", "yes and no"], "yes"),
        ("yes and no!", Literal["yes", "yes and no"], "yes and no"),
        ("RED", Colour, Colour.RED),
        ("True", bool, True),
        (" 12 ", int, 12),
        ("['a', 'b']", list[str], ["a", "b"]),
    ],
)
def test_what_lms_write_is_read(text: str, annotation: Any, value: Any) -> None:
    assert parse_field(text, annotation) == value


@pytest.mark.parametrize(
    ("text", "annotation"), [("positively", Literal["positive"]), ("", Literal["a"]), ("many", int)]
)
def test_what_is_no_value_is_refused(text: str, annotation: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 — whatever it says
        parse_field(text, annotation)


TWO = dspy.Signature(
    {"text": (str, dspy.InputField()), "mood": (str, dspy.OutputField()), "n": (int, dspy.OutputField())}
)


@pytest.mark.parametrize("written", ["glad\nN: 3", "Mood: glad\nN: 3", " glad \nN: 3 ", "glad\nN: 3\n"])
def test_the_first_label_may_be_repeated(written: str) -> None:
    assert CompactAdapter().parse(TWO, written) == {"mood": "glad", "n": 3}


@pytest.mark.parametrize("written", ["glad", "glad\nN: many", ""])
def test_a_missing_or_wrong_output_is_a_parse_error(written: str) -> None:
    with pytest.raises(AdapterParseError):
        CompactAdapter().parse(TWO, written)


def call(engine: Any, adapter: dspy.Adapter, signature: Any, **inputs: Any) -> dspy.Prediction:
    predict = dspy.Predict(signature)
    with dspy.context(lm=engine.lm(), adapter=adapter):
        given = predict(**inputs)
        assert dict(asyncio.run(predict.acall(**inputs))) == dict(given)
    return given


class Thoughtful(dspy.BaseLM):
    """One of the app's own that reasons: it answers as endpoints do."""

    def forward(self, prompt: Any = None, messages: Any = None, **settings: Any) -> Any:
        message = {"role": "assistant", "content": "sad", "reasoning_content": "Rain? It may be glad."}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "own", "choices": [choice]}
        return ChatCompletion.model_validate(answer)

    async def aforward(self, prompt: Any = None, messages: Any = None, **settings: Any) -> Any:
        return self.forward(prompt, messages, **settings)


@pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")
def test_what_an_lm_thought_is_no_part_of_its_answer(rule_engine: Any) -> None:
    """Glued onto the answer, it made the best format look like the worst."""
    engine = rule_engine(lambda prompt: [ThinkingPart("Rain? It may be glad."), TextPart("sad")])
    for lm in (engine.lm(), Thoughtful("own/model", cache=False)):
        predict = dspy.Predict("text -> mood")
        with dspy.context(lm=lm, adapter=CompactAdapter()):
            assert predict(text="rain").mood == "sad"
            assert asyncio.run(predict.acall(text="rain")).mood == "sad"


@pytest.mark.parametrize(
    ("demo", "layout", "shown"),
    [
        ({"mood": "glad"}, "lines", "Mood: glad"),
        ({"reasoning": None, "mood": "glad"}, "lines", "Mood: glad"),
        ({"reasoning": "It shines."}, "lines", "Reasoning: It shines."),
        ({"mood": "glad", "place": None}, "lines", "Mood: glad\nPlace: null"),
        ({"mood": "glad"}, "json", 'JSON: {"mood": "glad"}'),
        ({"mood": "glad", "place": None}, "json", 'JSON: {"mood": "glad", "place": null}'),
        ({}, "lines", None),
        ({"reasoning": None}, "json", None),
    ],
)
def test_outputs_that_a_demonstration_lacks_are_left_out(demo: dict[str, Any], layout: str, shown: str | None) -> None:
    """Written as null, they showed the LM not to reason."""
    fields: dict[str, Any] = {name: (str, dspy.OutputField()) for name in ("reasoning", "mood")}
    fields = {"text": (str, dspy.InputField()), **fields, "place": (str | None, dspy.OutputField())}
    signature = dspy.Signature(fields, "Do it.")
    constant, _ = CompactAdapter()._prompt(signature, [{"text": "sun", **demo}], {"text": "rain"}, layout=layout)
    assert constant.endswith("\n\n" if shown is None else f"\n\nText: sun\n{shown}\n\n")
    assert ("sun" in constant) == (shown is not None)
    assert "Reasoning: null" not in constant


def test_outputs_without_the_first_one_are_written_with_their_label() -> None:
    assert CompactAdapter().format_assistant_message_content(TWO, {"n": 3}) == "N: 3"
    assert CompactAdapter().format_assistant_message_content(TWO, {"n": 3}, "unknown") == "unknown\nN: 3"
    assert CompactAdapter().format_assistant_message_content(TWO, {}) == ""


def test_biases_are_taken_off_before_the_choice(rule_engine: Any, mood: Any) -> None:
    engine = rule_engine(str.upper, logprobs=lambda prompt, choice: {" glad": -1.0, " sad": -2.0}[choice])
    plain = call(engine, Format(kind="compact", decoding="scored").adapter(), mood, text="x")
    assert plain.mood == "glad"
    assert plain.choice_logprobs == {"glad": -1.0, "sad": -2.0}
    biases = (("glad", 0.5), ("sad", -1.0))
    calibrated = Format(kind="compact", decoding="calibrated", biases=biases).adapter()
    assert call(engine, calibrated, mood, text="x").mood == "sad"


def test_where_the_lm_offers_nothing_decoding_is_free(rule_engine: Any, mood: Any) -> None:
    engine = rule_engine(lambda prompt: "Mood: sad")
    for decoding in ("free", "constrained", "scored", "calibrated"):
        assert call(engine, CompactAdapter(decoding=decoding), mood, text="rain").mood == "sad"
    assert all(prompt.endswith("Text: rain\nMood:") for prompt in engine.prompts)


def test_what_is_constant_stands_first(rule_engine: Any, mood: Any) -> None:
    engine = rule_engine(lambda prompt: "sad")
    predict = dspy.Predict(mood)
    predict.demos = [dspy.Example(text="two\nlines", mood="glad")]
    with dspy.context(lm=engine.lm(), adapter=CompactAdapter(hints=True)):
        predict(text="one")
        predict(text="two")
    one, two = engine.prompts
    shared = 'Tell the mood of a text.\nMood: glad or sad\n\nText: "two\\nlines"\nMood: glad\n\nText: '
    assert (one, two) == (f"{shared}one\nMood:", f"{shared}two\nMood:")


def test_several_answers_are_asked_for_one_by_one(rule_engine: Any, mood: Any) -> None:
    engine = rule_engine(lambda prompt: "sad")
    with dspy.context(lm=engine.lm(), adapter=CompactAdapter()):
        given = dspy.Predict(mood, n=3, temperature=0.9)(text="rain")
    assert len(given.completions) == 3
    assert len(engine.prompts) == 3


def test_unknown_settings_and_histories_are_refused(rule_engine: Any, mood: Any) -> None:
    engine = rule_engine(lambda prompt: "sad")
    with dspy.context(lm=engine.lm(), adapter=CompactAdapter()), pytest.raises(TypeError, match="logit_bias"):
        dspy.Predict(mood, logit_bias={})(text="rain")


@pytest.mark.parametrize(
    ("kind", "decoding"),
    [("chat", "free"), ("json", "free"), ("json", "constrained"), ("compact", "free"), ("compact", "constrained")],
)
def test_every_format_runs_on_the_embedded_lm(local_lm: dspy.LM, kind: Any, decoding: Any) -> None:
    class Extract(dspy.Signature):
        """Extract the people that a text names."""

        text: str = dspy.InputField()
        people: list[str] = dspy.OutputField()
        count: int = dspy.OutputField()

    predict = dspy.Predict(Extract)
    predict.demos = [
        dspy.Example(text="Jim met Bo.", people=["Jim", "Bo"], count=2),
        dspy.Example(text="Nobody came.", people=[], count=0),
    ]
    with dspy.context(lm=local_lm, adapter=Format(kind=kind, decoding=decoding).adapter()):
        given = predict(text="Ann saw Tom.")
    assert isinstance(given.people, list)
    assert isinstance(given.count, int)
