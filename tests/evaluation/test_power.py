"""What so many examples can tell, checked against simulated tests; and when it is said not to spend."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from progspace.evaluation.power import advice, detectable_gain, label_note, power_of
from progspace.evaluation.statistics import paired_test, sign_flip


def found(gain: float, n: int, discordance: float, races: int) -> float:
    """The share of simulated pairs of programs whose gain the paired test of the report finds."""
    generator = np.random.default_rng(0)
    chances = [(discordance + gain) / 2, (discordance - gain) / 2, 1 - discordance]
    right = 0
    for (better, worse, ties), times in Counter(map(tuple, generator.multinomial(n, chances, races).tolist())).items():
        test = paired_test([1.0] * better + [0.0] * worse + [1.0] * ties, [0.0] * better + [1.0] * (worse + ties))
        right += times * (test.p_value <= 0.05 and test.difference > 0)
    return right / races


@pytest.mark.parametrize(("gain", "n", "discordance"), [(0.1, 80, 0.2), (0.15, 100, 0.3), (0.03, 200, 0.05)])
def test_the_power_is_what_simulated_tests_show(gain: float, n: int, discordance: float) -> None:
    power = power_of(gain, n, discordance)
    assert 0.1 < power < 0.95
    assert found(gain, n, discordance, 1500) == pytest.approx(power, abs=4 * math.sqrt(0.25 / 1500))


@pytest.mark.parametrize(("n", "discordance"), [(40, 0.2), (80, 0.1), (200, 0.3)])
def test_the_detectable_gain_is_found_four_times_of_five(n: int, discordance: float) -> None:
    gain = detectable_gain(n, discordance=discordance)
    share = found(gain, n, max(gain, discordance), 1500)
    assert share == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / 1500))
    assert found(0.7 * gain, n, max(0.7 * gain, discordance), 1500) < 0.7


def test_more_examples_and_less_disagreement_tell_smaller_gains() -> None:
    by_size = [detectable_gain(n) for n in (6, 10, 20, 50, 100, 500, 2000)]
    assert by_size == sorted(by_size, reverse=True)
    by_discordance = [detectable_gain(200, discordance=share) for share in (0.05, 0.1, 0.2, 0.4)]
    assert by_discordance == sorted(by_discordance)
    # Five pairs, all won, have p = 0.0625.
    assert detectable_gain(5) == math.inf
    assert detectable_gain(0) == math.inf
    assert paired_test([1.0] * 5, [0.0] * 5).p_value > 0.05 > paired_test([1.0] * 6, [0.0] * 6).p_value


def test_scores_that_are_not_0_or_1_go_by_their_spread() -> None:
    gain, generator, right = detectable_gain(50, spread=0.3), np.random.default_rng(1), 0
    for _ in range(160):
        differences = generator.normal(gain, 0.3, 50)
        right += sign_flip(differences) <= 0.05 and differences.mean() > 0
    assert right / 160 == pytest.approx(0.8, abs=0.1)


def test_it_says_when_not_to_spend() -> None:
    near = advice([1.0] * 75 + [0.0] * 5, 80, 400)
    assert not near.worth_it
    assert "Do not spend: no gain that a search finds could be told from luck." in near.text
    # A perfect program would win five pairs and lose none.
    assert paired_test([1.0] * 80, [1.0] * 75 + [0.0] * 5).p_value > 0.05
    far = advice([1.0, 0.0] * 40, 80, 400)
    assert far.worth_it
    assert "Do not spend" not in far.text
    assert far.headroom == pytest.approx(0.5)
    perfect = advice([1.0] * 80, 80, 400)
    assert not perfect.worth_it
    assert "nothing is above it" in perfect.text
    part = advice([1.0] * 19 + [0.0], 80, 400)
    assert part.worth_it  # twenty rows at 95 % leave room, which eighty at 94 % did not
    assert part.text.endswith(" On 20 of them the baseline is at 95.0 % [76.4–99.1]: up to 23.6 points are left.")


def test_of_a_test_that_is_not_asked_for_nothing_is_said() -> None:
    alone = advice([1.0, 0.0] * 40, 80)
    assert alone.text == (
        "80 dev rows tell a gain of 14.2 points or more from luck. The baseline is at 50.0 %, and there are 50.0 "
        "points above it."
    )
    assert alone.test_gain is alone.test_rows is None


def test_before_the_baseline_is_known_it_tells_of_the_data_alone() -> None:
    assert advice([], 80, 120).worth_it
    few = advice([], 3, 120)
    assert not few.worth_it
    assert few.text == (
        "3 dev rows tell no gain from luck, 120 test rows one of 11.8. Do not spend: give more examples first."
    )
    assert few.baseline is few.interval is few.headroom is None


@pytest.mark.parametrize("wrong", [{"discordance": 1.5}, {"level": 0.0}, {"power": 0.01}])
def test_what_is_out_of_range_is_told(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="power lies between"):
        detectable_gain(80, **wrong)
    with pytest.raises(ValueError, match="needs a discordance"):
        power_of(0.5, 80, 0.2)


def test_labels_all_alike_are_noted() -> None:
    assert label_note(["a", "a", "b"]) is None
    assert label_note(["a"]) is None
    assert "All 3 train rows have the label 'a'" in str(label_note(["a"] * 3, "train"))


def test_scores_that_are_all_alike_tell_no_gain_of_nothing() -> None:
    assert advice([0.5] * 10, 40).dev_gain == pytest.approx(detectable_gain(40))


def test_where_the_best_is_not_known_nothing_speaks_against_a_search() -> None:
    told = advice([71.0, 80.0, 90.0] * 4, 40, best=math.inf)
    assert told.worth_it
    assert told.text.startswith("40 dev rows tell a gain of 3.")
    assert "what the metric gives at most is not known" in told.text
