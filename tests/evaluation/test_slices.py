"""Slices: a weak one is found, and noise is not mined."""

from __future__ import annotations

import dspy
import numpy as np
import pytest

import progspace as ps
from progspace.evaluation.slices import find_slices
from progspace.evaluation.slicing import slice_values


def test_noise_is_not_mined() -> None:
    """Twelve slices of scores that have nothing to do with them: any is told of in 5 of 100 cases at most."""
    generator, told, runs = np.random.default_rng(0), 0, 200
    for _ in range(runs):
        scores = (generator.random(120) < 0.7).astype(float)
        groups = {by: [str(value) for value in generator.integers(0, 4, 120)] for by in "abc"}
        found = find_slices(scores.tolist(), groups)
        assert len(found) == 12
        told += any(each.weak for each in found)
    assert told / runs <= 0.05


@pytest.mark.parametrize("graded", [False, True])
def test_a_weak_slice_is_found_with_its_interval(graded: bool) -> None:
    generator = np.random.default_rng(1)
    weak = np.arange(200) % 4 == 0
    right = generator.random(200) < np.where(weak, 0.3, 0.9)
    scores = np.where(right, 0.9, 0.2) if graded else right.astype(float)
    groups = {"kind": ["weak" if each else "other" for each in weak], "noise": [str(i % 3) for i in range(200)]}
    first, *rest = find_slices(scores.tolist(), groups)
    assert (first.by, first.value, first.n, first.weak) == ("kind", "weak", 50, True)
    assert first.interval.low < first.difference < first.interval.high < 0
    assert first.interval.level == pytest.approx(1 - 0.05 / 4)
    assert not any(each.weak for each in rest)
    # A mirror image is no second finding.
    assert [each.value for each in (first, *rest) if each.by == "kind"] == ["weak"]


def test_a_strong_slice_is_not_weak() -> None:
    found = find_slices([1.0] * 30 + [0.0] * 30 + [0.0] * 30, {"kind": ["a"] * 30 + ["b"] * 30 + ["c"] * 30})
    assert {each.value: each.weak for each in found} == {"a": False, "b": True, "c": True}
    assert not any(each.weak for each in find_slices([0.5] * 40, {"kind": ["a"] * 20 + ["b"] * 20}))
    assert find_slices([1.0] * 12, {"kind": ["a"] * 6 + ["b"] * 6}) == ()


def test_what_examples_are_sliced_by(mood: type[dspy.Signature]) -> None:
    texts = ["sun", "Солнце светит", "日照", "sun and rain", "42"]
    rows = [
        dspy.Example(text=text, mood="glad", stars=stars, shop=None).with_inputs("text")
        for text, stars in zip(texts * 6, range(30), strict=True)
    ]
    program = dspy.Predict(mood)
    told = slice_values(rows, program, {"stars": "stars", "first": lambda row: row.text[:1]})
    assert told["script"][:5] == ["latin", "cyrillic", "cjk", "latin", None]
    assert set(told["mood"]) == {"glad"}
    assert sorted(set(told["stars"])) == ["over 14, up to 21", "over 21", "over 7, up to 14", "up to 7"]
    assert (told["length"][0], told["length"][1]) == ("over 2, up to 3", "over 12")
    assert told["first"][:2] == ["s", "С"]
    with pytest.raises(ps.DataError, match="no example has it"):
        slice_values(rows, program, {"shop": "shop"})
    many = [dspy.Example(text=f"t{i}", mood="glad", id=f"n{i}").with_inputs("text") for i in range(30)]
    with pytest.raises(ps.DataError, match="more than 20 different values"):
        slice_values(many, program, {"id": "id"})
