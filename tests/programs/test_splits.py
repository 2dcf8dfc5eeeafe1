from __future__ import annotations

from collections import Counter

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import progspace as ps
from progspace.programs.examples import inputs_hash
from progspace.programs.splits import Splits, split, stratified


def examples(count: int, label: str = "a") -> list[dspy.Example]:
    return [dspy.Example(text=f"text {i}", label=label).with_inputs("text") for i in range(count)]


def where(splits: Splits) -> dict[str, str]:
    return {inputs_hash(example): name for name in ("train", "dev", "test") for example in getattr(splits, name)}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(60, 120), st.integers(0, 200))
def test_rows_that_are_added_move_no_other_row(seed: int, count: int, more: int) -> None:
    before, after = where(split(examples(count), seed=seed)), where(split(examples(count + more), seed=seed))
    assert before.items() <= after.items()
    assert len(after) == count + more


def test_sizes_are_about_the_fractions_and_another_seed_splits_otherwise() -> None:
    splits = split(examples(1000), seed=0)
    assert [len(splits.train), len(splits.dev), len(splits.test)] == pytest.approx([300, 400, 300], abs=50)
    assert where(splits) != where(split(examples(1000), seed=1))
    assert split(examples(1000)[::-1], seed=0) == splits


def test_equal_inputs_stand_on_one_side_and_duplicates_are_dropped() -> None:
    splits = split([*examples(100), *examples(100, "b"), *examples(30)], seed=3)
    sides = [{inputs_hash(example) for example in side} for side in (splits.train, splits.dev, splits.test)]
    assert sum(map(len, sides)) == len(set.union(*sides))
    assert sum(map(len, (splits.train, splits.dev, splits.test))) == 200
    assert "30 exact duplicates" in splits.notes[0]


def test_an_own_test_is_kept_apart() -> None:
    own = examples(10, "b")
    splits = split(examples(100), seed=0, test=own)
    assert list(splits.test) == own
    assert not {inputs_hash(one) for one in own} & {inputs_hash(one) for one in (*splits.train, *splits.dev)}
    assert len(splits.train) + len(splits.dev) == 90
    assert "10 examples were dropped" in splits.notes[0]


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(ps.DataError, match="split is empty: there are 1"):
        split(examples(1), seed=0)


@given(st.lists(st.sampled_from("aaabc"), min_size=1, max_size=60))
def test_every_beginning_holds_the_classes_in_proportion(labels: list[str]) -> None:
    rows = [dspy.Example(label=label, i=i) for i, label in enumerate(labels)]
    ordered = stratified(rows, lambda row: row.label)
    assert sorted(row.i for row in ordered) == list(range(len(rows)))
    whole = Counter(labels)
    for length in range(1, len(rows) + 1):
        begun = Counter(row.label for row in ordered[:length])
        for label, count in whole.items():
            assert abs(begun[label] - count * length / len(rows)) <= 1.5
