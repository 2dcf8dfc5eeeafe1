from __future__ import annotations

import dspy
import pytest

import progspace as ps
from progspace.lms.prices import price, price_of


@pytest.fixture(autouse=True)
def _bundled_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "true")


def test_a_given_price_goes_before_the_list() -> None:
    assert price(ps.lm("openai/gpt-4o-mini", price=ps.Price(1.0, 2.0)), 1e6, 1e6) == 3.0
    assert price(ps.lm("openai/gpt-4o-mini"), 1e6, 1e6) == pytest.approx(0.15 + 0.60)
    assert price(dspy.LM("openai/gpt-4o-mini", api_key="none"), 1e6, 1e6) == pytest.approx(0.15 + 0.60)


def test_cached_tokens_cost_less_by_the_list_too() -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 500_000}}
    listed = price_of(ps.lm("openai/gpt-4o-mini"))
    assert listed is not None
    assert listed.of_call(usage) == pytest.approx(0.075 + 0.0375)


def test_what_is_not_known_has_no_price(rule_engine: type) -> None:
    assert price(ps.lm("openai/a-model-of-ours"), 1, 1) is None
    assert price(rule_engine(str.upper).lm(), 1, 1) is None


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_price_is_a_number(wrong: float) -> None:
    with pytest.raises(ValueError, match="must be US dollars"):
        ps.Price(1.0, wrong)
