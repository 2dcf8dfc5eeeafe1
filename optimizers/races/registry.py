"""All races by their standard names, and the one that is used where nobody chose."""

from __future__ import annotations

from ...errors import DataError
from .base import RaceMaker
from .blocks import Blocks
from .confidence import Confidence
from .posterior_halving import PosteriorHalving
from .successive_halving import SuccessiveHalving
from .top_two import TopTwo
from .wilcoxon import Wilcoxon

__all__ = ["DEFAULT_RACE", "RACES", "race_maker"]

RACES: dict[str, RaceMaker] = {
    "posterior_halving": PosteriorHalving,
    "top_two": TopTwo,
    "confidence": Confidence,
    "successive_halving": SuccessiveHalving,
    "blocks": Blocks,
    "wilcoxon": Wilcoxon,
}

DEFAULT_RACE = "posterior_halving"
"""The one of least regret in the replay (``benchmarks/replay.py``)."""


def race_maker(race: str | RaceMaker) -> RaceMaker:
    """Gives what makes races, where it is named.

    Raises:
        DataError: There is no such race.
    """
    if not isinstance(race, str):
        return race
    if race not in RACES:
        raise DataError(f"there is no race {race!r}; there is {', '.join(RACES)}")
    return RACES[race]
