from __future__ import annotations

import numpy as np

from progspace.optimizers.bandit import Bandit


def test_each_is_asked_once_before_any_is_asked_twice() -> None:
    assert Bandit(["a", "b", "c"]).shares(3, np.random.default_rng(0)) == {"a": 1, "b": 1, "c": 1}
    assert Bandit(["a", "b", "c"]).shares(2, np.random.default_rng(0)) == {"a": 1, "b": 1}


def test_who_brings_nothing_or_costs_much_is_asked_seldom() -> None:
    bandit = Bandit(["good", "bad", "dear"])
    for name, calls in (("good", 100), ("bad", 100), ("dear", 2000)):
        bandit.charge(name, calls=calls, candidates=10)
    bandit.settle({"good": 5.0, "bad": 0.1, "dear": 5.0}, {"good": 100, "bad": 100, "dear": 2000})
    generator = np.random.default_rng(0)
    given = {"good": 0, "bad": 0, "dear": 0}
    for _ in range(200):
        for name, share in bandit.shares(5, generator).items():
            given[name] += share
    assert given["good"] > 5 * given["bad"]
    assert given["good"] > 5 * given["dear"]


def test_who_has_run_dry_is_left_out_and_who_has_not_keeps_a_chance() -> None:
    bandit = Bandit(["dry", "poor"])
    for _ in range(2):
        bandit.charge("dry", calls=0, candidates=0)
    bandit.charge("poor", calls=50, candidates=5)
    bandit.settle({"poor": 0.0}, {"poor": 50})
    assert bandit.shares(4, np.random.default_rng(0)) == {"poor": 4}
