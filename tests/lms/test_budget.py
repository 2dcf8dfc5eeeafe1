from __future__ import annotations

from typing import Any

import pytest

import progspace as ps
from progspace.lms.budget import Meter


@pytest.mark.parametrize(
    "limit", [{"calls": 0}, {"tokens": -1}, {"usd": 0.0}, {"minutes": float("nan")}, {"minutes": float("inf")}]
)
def test_a_limit_of_nothing_is_refused(limit: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        ps.Budget(**limit)


def test_whatever_runs_out_first_ends_it() -> None:
    now = [0.0]
    meter = Meter(ps.Budget(calls=10, tokens=100, usd=1.0, minutes=1.0), clock=lambda: now[0])
    for _ in range(2):
        meter.ask("a")
        meter.answered("a", 60, 39)
    meter.bought(0.5)
    assert meter.calls_left == 9
    meter.ask("b")
    meter.answered("b", 1, 0)
    with pytest.raises(ps.BudgetExceeded, match="100 tokens"):
        meter.ask("c")
    assert meter.calls_left == 0
    late = Meter(ps.Budget(minutes=1.0), clock=lambda: now[0])
    now[0] = 61.0
    with pytest.raises(ps.BudgetExceeded, match="1 minutes"):
        late.ask("a")
    assert late.spent.seconds == 61.0
    assert late.late()
    with pytest.raises(ps.BudgetExceeded, match=r"1 minutes is spent, .* \(down\)$"):
        late.gave_up(RuntimeError("down\nTo fix: wait"))


def test_a_call_that_is_not_answered_is_neither_bought_nor_known() -> None:
    meter = Meter()
    meter.ask("a")
    meter.unanswered("a")
    meter.ask("a")  # again
    meter.answered("a", 1, 1)
    meter.bought(None)
    meter.ask("known")
    meter.answered("known", 1, 1)
    assert (meter.spent.calls, meter.spent.bought, meter.spent.failed) == (3, 1, 1)
    assert ((meter.spent + meter.spent) - meter.spent).failed == 1


def test_an_unknown_price_breaks_a_budget_of_money() -> None:
    meter = Meter(ps.Budget(usd=1.0))
    meter.ask("a")
    with pytest.raises(ps.BudgetExceeded, match="price is not known"):
        meter.bought(None)


def test_what_was_paid_before_counts_in_a_budget_of_money_and_is_not_paid_again() -> None:
    meter = Meter(ps.Budget(usd=1.0))
    for key in ("known", "known", "too"):
        meter.ask(key)
        meter.answered(key, 1, 1, usd=0.5)
    assert (meter.spent.usd, meter.spent.recalled_usd) == (0.0, 1.0)
    with pytest.raises(ps.BudgetExceeded, match="1 USD"):
        meter.ask("new")


@pytest.mark.parametrize("budget", [ps.Budget(tokens=1000), ps.Budget(usd=10.0)])
def test_calls_under_way_count_as_the_mean_of_those_answered(budget: ps.Budget) -> None:
    """With many at a time, limits of tokens and money were gone beyond by all that was under way."""
    meter = Meter(budget)
    meter.ask("first")
    meter.answered("first", 60, 40)
    meter.bought(1.0)
    for number in range(9):
        meter.ask(f"under way {number}")
    with pytest.raises(ps.BudgetExceeded):
        meter.ask("one too many")
    assert meter.calls_left == 0
    for number in range(9):
        meter.answered(f"under way {number}", 30, 20)
        meter.bought(0.5)
    meter.ask("what they left")
    meter.unanswered("what they left")
    meter.ask("what a failed one left")
