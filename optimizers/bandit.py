"""Who proposes next: a bandit over proposers, paid by what their candidates did in the race."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Account", "Bandit"]


@dataclass(slots=True)
class Account:
    """What a proposer has cost and brought.

    Attributes:
        calls: LM calls of its own, and those of its candidates in the race.
        candidates: How many it has proposed.
        promise: The sum, over its candidates, of how probably each beats the incumbent of its time.
        rounds: How often it was asked.
        idle: How often, one after the other, it had nothing to propose.
    """

    calls: int = 0
    candidates: int = 0
    promise: float = 0.0
    rounds: int = 0
    idle: int = 0


@dataclass(slots=True)
class Bandit:
    """Shares out the places of a round among proposers by Thompson sampling.

    A candidate of a proposer beats the incumbent with an unknown chance (a Beta posterior whose counts are the race's
    own probabilities); a place goes to the proposer whose drawn chance is the highest for the calls that a candidate of
    it has cost. So a proposer whose candidates lose, or whose proposals are dear, is soon asked seldom.
    (`Thompson 1933 <https://doi.org/10.1093/biomet/25.3-4.285>`_.)

    Attributes:
        names: Of the proposers, the likelier ones first.
        accounts: By name.

    >>> bandit = Bandit(["labelled", "writer"])
    >>> sum(bandit.shares(6, np.random.default_rng(0)).values())
    6
    """

    names: Sequence[str]
    accounts: dict[str, Account] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.names:
            self.accounts.setdefault(name, Account())

    def shares(self, places: int, generator: np.random.Generator) -> dict[str, int]:
        """Says how many candidates each proposer is asked for; those that have run dry are left out.

        Each is asked for one at first, in their order, so that none is judged unseen.
        """
        able = [name for name in self.names if self.accounts[name].idle < 2]
        shares = dict.fromkeys(able, 0)
        new = [name for name in able if not self.accounts[name].rounds]
        for name in new[:places]:
            shares[name] += 1
        for _ in range(places - min(len(new), places)):
            if not able:
                break
            drawn = {name: self._draw(self.accounts[name], generator) for name in able}
            shares[max(able, key=drawn.__getitem__)] += 1
        return {name: share for name, share in shares.items() if share}

    @staticmethod
    def _draw(account: Account, generator: np.random.Generator) -> float:
        chance = generator.beta(1 + account.promise, 1 + max(0.0, account.candidates - account.promise))
        # The cost of a candidate, with one of 20 calls that everybody starts with.
        return float(chance) / ((20 + account.calls) / (1 + account.candidates))

    def charge(self, name: str, *, calls: int, candidates: int) -> None:
        """Books a round of a proposer: the calls of its own, and how many candidates came of it."""
        account = self.accounts[name]
        account.calls += calls
        account.candidates += candidates
        account.rounds += 1
        account.idle = 0 if candidates else account.idle + 1

    def settle(self, promises: Mapping[str, float], calls: Mapping[str, int]) -> None:
        """Books how probably the candidates of each proposer beat the incumbent, and all that they cost so far."""
        for name, account in self.accounts.items():
            account.promise, account.calls = promises.get(name, 0.0), calls.get(name, 0)
