"""Per-input demonstrations, on the real embedder."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import pytest
from pydantic import ValidationError

from progspace.errors import ModelNotFound
from progspace.lms.models import installed
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.programs.nearest import Nearest

SIGNATURE = dspy.Signature("text -> mood")
POOL = (
    {"text": "The soup was cold and the waiter rude.", "mood": "sad"},
    {"text": "The pasta at this restaurant is superb.", "mood": "glad"},
    {"text": "My card payment was declined at the shop.", "mood": "sad"},
    {"text": "The bank refunded the fee at once.", "mood": "glad"},
    {"text": "Our team lost the final by one goal.", "mood": "sad"},
)
needs_embedder = pytest.mark.skipif(
    not installed("all-minilm-l6-v2"), reason="the embedder is missing: progspace models install all-minilm-l6-v2"
)


def texts(shown: list[dict[str, Any]]) -> list[str]:
    return [each["text"] for each in shown]


@needs_embedder
@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("The waiter brought a cold soup.", 0),
        ("What a wonderful plate of pasta!", 1),
        ("Why was my credit card refused?", 2),
        ("They scored in the last minute and we were beaten.", 4),
    ],
)
def test_the_nearest_are_shown_beside_the_input(asked: str, nearest: int) -> None:
    shown = Nearest(pool=POOL, count=2).select(SIGNATURE, {"text": asked})
    assert len(shown) == 2
    assert shown[-1] == POOL[nearest]
    first = Nearest(pool=POOL, count=2, order="nearest_first").select(SIGNATURE, {"text": asked})
    assert first == shown[::-1]


@needs_embedder
def test_an_input_never_finds_its_own_answer() -> None:
    for own in POOL:
        shown = Nearest(pool=POOL, count=10).select(SIGNATURE, {"text": own["text"]})
        assert sorted(texts(shown)) == sorted(each["text"] for each in POOL if each != own)
    other_label = (*POOL, {"text": POOL[0]["text"], "mood": "glad"})
    assert POOL[0]["text"] not in texts(
        Nearest(pool=other_label, count=10).select(SIGNATURE, {"text": POOL[0]["text"]})
    )


@needs_embedder
def test_equal_demonstrations_are_shown_once_and_ties_keep_their_order() -> None:
    pool = ({"text": "Rain.", "mood": "sad"}, {"text": "Rain.", "mood": "glad"}, {"mood": "sad", "text": "Rain."})
    assert Nearest(pool=pool, count=9, order="nearest_first").select(SIGNATURE, {"text": "Snow."}) == list(pool[:2])
    assert Nearest(pool=(), count=2).select(SIGNATURE, {"text": "Snow."}) == []


@needs_embedder
def test_several_fields_of_any_type_count_alike() -> None:
    signature = dspy.Signature("place: str, tags: list[str] -> mood")
    pool = (
        {"place": "restaurant", "tags": ["soup", "wine"], "mood": "glad"},
        {"place": "bank", "tags": ["soup", "wine"], "mood": "sad"},
        {"place": "bank", "tags": ["loan", "fee"], "mood": "sad"},
        {"mood": "glad"},
    )
    near = Nearest(pool=pool, count=4, order="nearest_first")
    shown = near.select(signature, {"place": "bank", "tags": ["loan", "interest"]})
    assert shown[0] == pool[2]
    assert shown[-1] == pool[3]
    assert near.select(signature, {"place": "bank", "tags": ["loan", "fee"]})[0] == pool[1]


@needs_embedder
def test_threads_tasks_and_copies_select_alike() -> None:
    asked = [f"Question {number} about a bank card." for number in range(20)]
    expected = [Nearest(pool=POOL, count=3).select(SIGNATURE, {"text": text}) for text in asked]
    with ThreadPoolExecutor(8) as pool:
        copies = [Nearest.model_validate_json(Nearest(pool=POOL, count=3).model_dump_json()) for _ in asked]
        found = list(pool.map(lambda near, text: near.select(SIGNATURE, {"text": text}), copies, asked))
    assert found == expected
    found[0][0]["text"] = "changed by the caller"
    assert Nearest(pool=POOL, count=3).select(SIGNATURE, {"text": asked[0]}) == expected[0]
    other = Nearest(pool=POOL, count=3).model_copy(update={"pool": POOL[:1]})
    assert other.select(SIGNATURE, {"text": asked[0]}) == [POOL[0]]


@needs_embedder
def test_a_program_shows_each_input_its_own(rule_engine: Any) -> None:
    engine = rule_engine(lambda prompt: "glad")
    candidate = Candidate.declared(module := dspy.Predict(SIGNATURE)).with_choice(
        format=Format(kind="compact"), nearest=Nearest(pool=POOL, count=1)
    )
    program = candidate.apply(module, engine.lm())
    program(text="Why was my credit card refused?")
    asyncio.run(program.acall(text="What a wonderful plate of pasta!"))
    assert [sum(each["text"] in prompt for each in POOL) for prompt in engine.prompts] == [1, 1]
    assert POOL[2]["text"] in engine.prompts[0]
    assert POOL[1]["text"] in engine.prompts[1]
    assert module.demos == []


def test_a_missing_embedder_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROGSPACE_MODELS", str(tmp_path))
    near = Nearest(pool=({"text": "A pool that no other test has.", "mood": "sad"},), count=1)
    with pytest.raises(ModelNotFound, match="progspace models install all-minilm-l6-v2"):
        near.select(SIGNATURE, {"text": "Snow."})
    with pytest.raises(ModelNotFound, match="no embedder is called 'other'"):
        near.model_copy(update={"embedder": "other"}).select(SIGNATURE, {"text": "Snow."})


def test_it_is_a_value() -> None:
    near = Nearest(pool=POOL, count=3)
    assert near == Nearest.model_validate(near.model_dump())
    assert near.label == "3 nearest of 5"
    assert near.model_copy(update={"order": "nearest_first"}).label == "3 nearest of 5, nearest first"
    for wrong in ({"count": 0}, {"count": 1, "order": "random"}, {"count": 1, "k": 2}):
        with pytest.raises(ValidationError):
            Nearest(pool=POOL, **wrong)
