"""Non-inferiority: its error is what it says, and so are the rows that it asks for."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from progspace.benchmarks.gate import graded, simulate
from progspace.evaluation.noninferiority import _score, _table, noninferiority, score_interval


def scores(n: int, wins: int, losses: int, both: int | None = None) -> tuple[list[float], list[float]]:
    both = (n - wins - losses) // 2 if both is None else both
    rest = n - wins - losses - both
    new = [1.0] * wins + [0.0] * losses + [1.0] * both + [0.0] * rest
    return new, [0.0] * wins + [1.0] * losses + [1.0] * both + [0.0] * rest


def verdicts(n: int, margin: float) -> dict[tuple[int, int], str]:
    """Of each table of n rows, by its wins and losses."""
    tables = [(wins, losses) for wins, losses in product(range(n + 1), repeat=2) if wins + losses <= n]
    return {table: noninferiority(*scores(n, *table), margin=margin).verdict for table in tables}


@pytest.mark.parametrize(("n", "margin"), [(15, 0.05), (40, 0.1), (40, 0.02)])
def test_no_verdict_is_wrong_more_often_than_alpha(n: int, margin: float) -> None:
    """Every table's probability counts, whatever the share of rows on which the two disagree."""
    told = verdicts(n, margin)
    tables = np.array(list(told))
    rest = n - tables.sum(axis=1)
    counts = np.column_stack([tables, rest])
    for losses in margin + np.linspace(0, 0.4, 9):
        wrong = np.array([verdict == "no worse" for verdict in told.values()])
        shares = [losses - margin, losses, 1 - 2 * losses + margin]
        assert np.nansum(stats.multinomial.pmf(counts[wrong], n, shares)) <= 0.05 + 1e-3
        if losses <= 0.5:
            wrong = np.array([verdict == "worse" for verdict in told.values()])
            assert np.nansum(stats.multinomial.pmf(counts[wrong], n, [losses, losses, 1 - 2 * losses])) <= 0.05


@pytest.mark.parametrize("disagreement", [0.05, 0.3])
def test_a_simulation_finds_the_error_that_is_told(disagreement: float) -> None:
    rates = {
        true: simulate(rows=300, margin=0.05, true=true, disagreement=max(disagreement, abs(true)), runs=1000, seed=1)
        for true in (-0.05, 0.0, 0.1)
    }
    noise = 3 * math.sqrt(0.05 * 0.95 / 1000)
    assert rates[-0.05]["no worse"] <= 0.05 + noise
    assert rates[0.0]["worse"] <= 0.05 + noise
    assert rates[0.1]["no worse"] > 0.95
    assert rates[0.0]["no worse"] > rates[-0.05]["no worse"]
    assert all(sum(rate.values()) == pytest.approx(1) for rate in rates.values())


def test_graded_scores_keep_the_error_about() -> None:
    for kind in ("f1", "few"):
        rate = simulate(rows=100, margin=0.05, true=-0.05, disagreement=kind, runs=1000, seed=2)
        assert rate["no worse"] <= 0.07
    assert noninferiority([0.4] * 30, [0.4] * 29 + [0.5], margin=0.1).verdict == "cannot tell"
    assert noninferiority([0.4] * 60, [0.4] * 60, margin=0.1).verdict == "no worse"  # 0.9⁶⁰ is 0.2 %
    worse = noninferiority(*graded("f1", 400, -0.2, np.random.default_rng(0)), margin=0.05)
    assert (worse.verdict, worse.method) == ("worse", "Student's t")


def test_a_loss_or_gain_of_every_row_is_seen() -> None:
    """Also where rounding makes equal differences differ."""
    old = [0.5, 0.6, 0.7, 0.8, 0.9] * 10
    for shift, verdict in [(0.1, "no worse"), (-0.1, "worse"), (0.0, "cannot tell"), (-0.02, "cannot tell")]:
        told = noninferiority([score + shift for score in old], old)
        assert (told.verdict, told.method) == (verdict, "exact test of equal differences")
        assert (told.interval.low >= -0.01) == (verdict == "no worse")
        assert (told.interval.high < 0) == (verdict == "worse")
        assert told.interval.low <= told.difference <= told.interval.high
    assert noninferiority([0.5] * 200, [0.505] * 200, margin=0.1).verdict == "no worse"
    for lost, rows in [(0.5, 8), (0.05, 62)]:  # as docs/gate.md tells
        by_rows = [noninferiority([0.9 - lost] * n, [0.9] * n).verdict for n in (rows - 1, rows)]
        assert by_rows == ["cannot tell", "worse"]
    assert noninferiority([-1.0] * 50, [1.0] * 50).verdict == "worse"  # nothing is lower


@pytest.mark.parametrize("shift", [0.5, 0.02, 0.0, -0.009, -0.02, -0.3])
def test_equal_differences_are_wrong_no_more_often_than_alpha(shift: float) -> None:
    """The least favourable program differs so on all rows but a few, on which it loses, or gains, all that there is."""
    margin = 0.01
    such_if_lost, such_if_kept = (1 - margin) / (1 + shift), 1 / (1 - shift)
    for n in (1, 2, 5, 9, 10, 30, 100, 300, 1000):
        told = noninferiority([0.4 + shift] * n, [0.4] * n, margin=margin)
        if such_if_lost < 1:  # its true loss is the margin
            assert told.p_no_worse == pytest.approx(such_if_lost**n)
        if such_if_kept < 1:  # its true loss is none
            assert told.p_worse == pytest.approx(such_if_kept**n)
        assert told.verdict != "no worse" or such_if_lost**n <= 0.05
        assert told.verdict != "worse" or such_if_kept**n <= 0.05


def test_the_rows_that_it_asks_for_where_hardly_any_differs() -> None:
    fewest = math.ceil(math.log(0.05) / math.log(0.99))
    for n in (10, 50, 200, fewest - 1):
        told = noninferiority([0.3] * n, [0.3] * n)
        assert (told.verdict, told.rows_if_alike, told.rows_if_measured) == ("cannot tell", fewest, fewest)
    assert noninferiority([0.3] * fewest, [0.3] * fewest).verdict == "no worse"
    lost = noninferiority([0.45] * 20, [0.5] * 20)
    assert lost.verdict == "cannot tell"
    assert noninferiority([0.45] * lost.rows_if_measured, [0.5] * lost.rows_if_measured).verdict == "worse"
    for n, wins, losses in [(100, 0, 1), (200, 2, 0), (298, 1, 1), (400, 2, 2), (600, 4, 4)]:
        new = [0.7] * wins + [0.1] * losses + [0.3] * (n - wins - losses)
        told = noninferiority(new, [0.3] * n)
        assert told.verdict == "cannot tell"
        assert min(told.rows_if_alike, told.rows_if_measured) >= max(n, fewest)


@pytest.mark.parametrize(("true", "share", "margin"), [(0.0, 0.1, 0.05), (0.0, 0.02, 0.01), (0.02, 0.2, 0.05)])
def test_the_rows_that_it_asks_for_tell_four_times_in_five(true: float, share: float, margin: float) -> None:
    wins = round(1000 * (share + true) / 2)
    told = noninferiority(*scores(1000, wins, round(1000 * share) - wins), margin=margin)
    rows = told.rows_if_measured
    rate = simulate(rows=rows, margin=margin, true=true, disagreement=share, runs=600, seed=3)
    assert rate["no worse"] == pytest.approx(0.8, abs=0.06)
    assert (true == 0) == (told.rows_if_alike == rows)


def test_the_likeliest_share_of_losses_is_that() -> None:
    """Tango's closed form, against a search for the highest likelihood."""
    n, wins, losses, difference = 50, 6, 9, -0.1
    statistic = float(_score(n, wins, losses, difference))

    def unlikely(lost: float) -> float:
        shares = [lost + difference, lost, 1 - 2 * lost - difference]
        return -float(np.dot([wins, losses, n - wins - losses], np.log(shares)))

    found = optimize.minimize_scalar(unlikely, bounds=(0.1 + 1e-9, 0.55 - 1e-9), method="bounded").x
    variance = n * (2 * found + difference - difference**2)
    assert statistic == pytest.approx((wins - losses - n * difference) / math.sqrt(variance), abs=1e-4)
    assert float(_score(n, wins, losses, 0.0)) == pytest.approx((wins - losses) / math.sqrt(wins + losses))  # McNemar


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.data())
def test_the_score_interval(n: int, data: st.DataObject) -> None:
    wins = data.draw(st.integers(0, n))
    losses = data.draw(st.integers(0, n - wins))
    interval, mirrored = score_interval(n, wins, losses), score_interval(n, losses, wins)
    assert -1 <= interval.low <= (wins - losses) / n <= interval.high <= 1
    assert (interval.low, interval.high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-6)
    wider = score_interval(n, wins, losses, level=0.99)
    assert wider.low <= interval.low + 1e-9
    assert interval.high <= wider.high + 1e-9


@pytest.mark.parametrize("margin", [0.01, 0.2])
def test_more_wins_among_as_many_disagreements_are_never_less(margin: float) -> None:
    """The exact p-value counts on it."""
    for disagreeing, row in enumerate(_table(60, margin)):
        assert all(x <= y + 1e-9 for x, y in pairwise(row[: disagreeing + 1]))


@pytest.mark.parametrize("margin", [percent / 100 for percent in range(1, 100)])
def test_every_margin_has_a_p_value(margin: float) -> None:
    told = noninferiority(*scores(60, 1, 0), margin=margin)
    assert 0 < told.p_no_worse < 1
    assert told.p_no_worse <= noninferiority(*scores(60, 0, 2), margin=margin).p_no_worse


def test_what_is_out_of_range_is_refused() -> None:
    for settings_, told in [({"margin": 0.0}, "margin"), ({"margin": 1.0}, "margin"), ({"alpha": 0.5}, "alpha")]:
        with pytest.raises(ValueError, match=told):
            noninferiority([1, 0], [1, 0], **settings_)
    with pytest.raises(ValueError, match="same examples"):
        noninferiority([1, 0], [1])


def test_many_rows_are_told_by_the_score_test() -> None:
    told = noninferiority(*scores(5000, 100, 100))
    assert (told.verdict, told.method) == ("no worse", "Tango's score test")
    near = noninferiority(*scores(1000, 20, 20))
    assert near.method == "exact score test"
    assert near.p_no_worse == pytest.approx(float(stats.norm.sf(float(_score(1000, 20, 20, -0.01)))), abs=0.01)
