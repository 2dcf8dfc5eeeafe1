"""A rung of the ladder: what is planned for it, what came of it, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..evaluation.power import Headroom
from ..lms.budget import Spent
from .bandit import Account
from .promotion import Verdict
from .proposers.base import Proposer
from .standing import Standing

__all__ = ["Climb", "Listener", "Rung", "RungPlan"]


@dataclass(frozen=True, slots=True)
class RungPlan:
    """What is searched on a rung.

    Attributes:
        name: Of the rung.
        proposers: Who makes candidates, the likelier ones first.
        share: Of the calls that are left when it begins.
        places: Candidates a round; None for all that there are, in one round.
        rematch: Whether what earlier rungs measured runs on: not where what is new was dear, and is to be looked at.
        sure: How probable it has to be that its best is better than the rung below, or no worse and cheaper.
        proven: Whether what stands below it is first proven to be better than the program as declared: where calls end
            on this rung, they would be missing for that, and all that was won before would be given up.
    """

    name: str
    proposers: tuple[Proposer, ...]
    share: float
    places: int | None = None
    rematch: bool = True
    sure: float = 0.5
    proven: bool = False


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung, climbed.

    Attributes:
        name: What was searched.
        best: The best candidate of it.
        shrunken: Its dev score as the quality model has it, luck taken off.
        kept: Whether it beat the rung below.
        standings: All that were measured on it.
        spent: What the rung asked for.
        verdict: The comparison with the rung below on examples that neither was chosen on; None for the baseline.
        accounts: What each proposer cost and brought.
        dropped: Who was given up and why, by candidate hash.
        stopped: Why it ended.
    """

    name: str
    best: Standing
    shrunken: float
    kept: bool
    standings: tuple[Standing, ...]
    spent: Spent
    verdict: Verdict | None = None
    accounts: tuple[tuple[str, Account], ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class Climb:
    """The whole ladder.

    Attributes:
        rungs: From the baseline up.
        headroom: What the data can tell, and how much there was to gain.
        ended: Why rungs that were planned were not climbed; None where all were.
        notes: What proposers had to say.
    """

    rungs: tuple[Rung, ...]
    headroom: Headroom
    ended: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def winner(self) -> Rung:
        """The highest rung that was kept."""
        return next(rung for rung in reversed(self.rungs) if rung.kept)


@dataclass(frozen=True, slots=True)
class Listener:
    """Is told how a climb goes on.

    Attributes:
        rung: A rung begins.
        kept: A rung has been climbed.
        round: Cells are bought: on so many examples in all, for so many candidates, and who leads.
        proposed: A proposer gave so many candidates.
    """

    rung: Callable[[str], None] = lambda _: None
    kept: Callable[[Rung], None] = lambda _: None
    round: Callable[[int, int, Standing | None], None] = lambda *_: None
    proposed: Callable[[str, int], None] = lambda *_: None
