from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import progspace as ps
from progspace.lms.training.examples import (
    TrainingExample,
    deduplicated,
    estimate,
    read_jsonl,
    split,
    write_jsonl,
)


def example(prompt: str, answer: str = "yes", **settings: bool) -> TrainingExample:
    return TrainingExample((("user", prompt), ("assistant", answer)), **settings)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
EXAMPLES = st.lists(
    st.builds(
        lambda prompt, answer, templated: example(prompt, "." + answer, templated=templated),
        TEXTS,
        TEXTS,
        st.booleans(),
    ),
    min_size=1,
)


@given(EXAMPLES)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, examples: list[TrainingExample]) -> None:
    file = tmp_path_factory.mktemp("data") / "train.jsonl"
    assert read_jsonl(write_jsonl(examples, file)) == tuple(examples)


def test_the_file_is_openais_chat_format(tmp_path: Path) -> None:
    lines = write_jsonl([example("a"), example("b", templated=False)], tmp_path / "x.jsonl").read_text().splitlines()
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "yes"}]
    assert json.loads(lines[0]) == {"messages": messages}
    assert json.loads(lines[1])["templated"] is False


@pytest.mark.parametrize(
    ("row", "field", "told"),
    [
        ('{"messages": [', None, "invalid JSON"),
        ('{"prompt": "a", "completion": "b"}', "messages", "required"),
        ('{"messages": "a"}', "messages", "array"),
        ('{"messages": []}', "messages", "no question and answer"),
        ('{"messages": [{"role": "assistant", "content": "b"}]}', "messages", "no question and answer"),
        ('{"messages": [{"role": "user", "content": "b"}, {"role": "user", "content": "b"}]}', "messages", "by the us"),
        ('{"messages": [{"role": "bot", "content": "b"}]}', "messages.0.role", "'bot'.*system, user, assistant"),
        ('{"messages": [{"role": "user", "content": 3}]}', "messages.0.content", "string"),
        ('{"messages": [{"role": "user"}]}', "messages.0.content", "required"),
        (
            '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}',
            "messages.1.content",
            "empty",
        ),
        ('{"messages": [{"role": "user", "content": "a", "weight": 0}]}', "messages.0.weight", "not permitted"),
        (
            '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\\ud800"}]}',
            None,
            "hex escape",
        ),
    ],
)
def test_a_bad_row_is_told_with_file_row_and_field(tmp_path: Path, row: str, field: str | None, told: str) -> None:
    good = write_jsonl([example("a")], tmp_path / "x.jsonl").read_text()
    (tmp_path / "x.jsonl").write_text(f"{good}\n{row}\n{good}{row}\n")
    with pytest.raises(ps.DataError, match=told) as caught:
        read_jsonl(tmp_path / "x.jsonl")
    assert caught.value.file == str(tmp_path / "x.jsonl")
    assert caught.value.row == 3  # an empty line counts
    assert field is None or caught.value.field == field
    assert "also in row 5" in str(caught.value)


@pytest.mark.parametrize(("content", "told"), [(b"", "no examples"), (b"\n\n", "no examples"), (b"\xff{}", "UTF-8")])
def test_a_file_without_examples_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(ps.DataError, match=told):
        read_jsonl(tmp_path / "x.jsonl")


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    file = write_jsonl([example("a")], tmp_path / "x.jsonl")
    with pytest.raises(ps.DataError, match="no examples"):
        write_jsonl([], file)

    def failing():
        yield example("b")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_jsonl(failing(), file)
    assert read_jsonl(file) == (example("a"),)
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


@given(st.lists(st.builds(example, st.sampled_from("abcde"), st.sampled_from("xyz"))))
def test_duplicates_go_and_the_first_stays_in_place(examples: list[TrainingExample]) -> None:
    kept = deduplicated(examples)
    assert len(set(kept)) == len(kept)
    assert set(kept) == set(examples)
    assert list(kept) == sorted(kept, key=examples.index)


@given(st.lists(st.builds(example, st.sampled_from("abcdefgh"), st.sampled_from("xyz")), min_size=1), st.integers())
def test_equal_prompts_stand_on_one_side(examples: list[TrainingExample], seed: int) -> None:
    if len({one.prompt for one in examples}) < 2:
        with pytest.raises(ps.DataError, match="different prompts"):
            split(examples, seed)
        return
    train, validation = split(examples, seed, 0.3)
    assert train
    assert validation
    assert sorted((*train, *validation), key=repr) == sorted(examples, key=repr)
    assert not {one.prompt for one in train} & {one.prompt for one in validation}
    assert split(examples[::-1], seed, 0.3) == (train[::-1], validation[::-1]) or len(set(examples)) < len(examples)


def test_half_a_character_is_refused_before_it_is_written() -> None:
    with pytest.raises(ps.DataError, match="half a character") as caught:
        example("a", "b\ud800")
    assert caught.value.field == "messages.1.content"


def test_a_seed_splits_otherwise() -> None:
    examples = [example(str(i)) for i in range(100)]
    assert split(examples, 0) == split(examples, 0)
    assert split(examples, 0) != split(examples, 1)
    assert len(split(examples, 0)[1]) == 10
    assert split(examples, 0, share=0) == (tuple(examples), ())


def test_the_cost_counts_all_epochs_and_the_template() -> None:
    plain, chat = example("a b c", templated=False), example("a b c")
    words = lambda text: len(text.split())  # noqa: E731
    assert estimate([plain], words, epochs=1).tokens == 4
    assert estimate([chat], words, epochs=1).tokens == 4 + 2 * 3 + 3
    cost = estimate([plain] * 10, words, epochs=5, usd_per_million=10.0)
    assert (cost.trained_tokens, cost.usd) == (200, pytest.approx(0.002))
    assert estimate([plain], words, epochs=1).usd is None
    with pytest.raises(ValueError, match="epochs=0"):
        estimate([plain], words, epochs=0)
