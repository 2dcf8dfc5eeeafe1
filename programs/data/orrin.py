"""Orrin: what the clerks of Orrin harbour reckon with. A library made up for tasks: no LM has read of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

MONTHS = ("Frost", "Thaw", "Bud", "Lamb", "Hay", "Sun", "Reed", "Corn", "Wine", "Leaf", "Mist", "Ash", "Night")
MONTH_DAYS, BELLS = 28, 32
YEAR_DAYS = MONTH_DAYS * len(MONTHS)
STONES_OF_CASK, CASKS_OF_LAST = 20, 12
PINS_OF_MARK, MARKS_OF_CROWN = 8, 15
PIERS = "ABCDEFGHIJKLM"
BERTHS = 20
COLOURS = "rbwkgn"
SEALS = "ABCDEFGHJKLMNPQRSTUVWXY"  # pragma: allowlist secret


def _read(stamp: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+) (\w+) (\d+)(?: /(\d+))?", stamp)
    if not found or found[2] not in MONTHS or not 1 <= int(found[1]) <= MONTH_DAYS or int(found[4] or 0) >= BELLS:
        raise ValueError(f"no stamp: {stamp!r}")
    days = int(found[3]) * YEAR_DAYS + MONTHS.index(found[2]) * MONTH_DAYS + int(found[1]) - 1
    return days, int(found[4] or 0)


def _write(days: int, bell: int) -> str:
    year, rest = divmod(days, YEAR_DAYS)
    month, day = divmod(rest, MONTH_DAYS)
    return f"{day + 1} {MONTHS[month]} {year}" + (f" /{bell}" if bell else "")


def _units(text: str, units: dict[str, int], what: str) -> int:
    parts = [re.fullmatch(rf"(\d+)({'|'.join(units)})", word) for word in text.split()]
    if not parts or None in parts:
        raise ValueError(f"no {what}: {text!r}")
    return sum(int(part[1]) * units[part[2]] for part in parts if part)


def _berth(berth: str) -> tuple[int, int]:
    found = re.fullmatch(r"([A-M])(\d{1,2})", berth)
    if not found or not 1 <= int(found[2]) <= BERTHS:
        raise ValueError(f"no berth: {berth!r}")
    return PIERS.index(found[1]), int(found[2])


def daycount(stamp: str) -> int:
    """Days from 1 Frost 0 to a stamp."""
    return _read(stamp)[0]


def stamp_of(days: int) -> str:
    """The stamp of a daycount."""
    return _write(days, 0)


def bellcount(stamp: str) -> int:
    """Bells from the start of 1 Frost 0 to a stamp."""
    days, bell = _read(stamp)
    return days * BELLS + bell


def span(first: str, second: str) -> int:
    """Days from one stamp to another."""
    return daycount(second) - daycount(first)


def drift(stamp: str, days: int) -> str:
    """A stamp moved by days; its bell stays."""
    start, bell = _read(stamp)
    return _write(start + days, bell)


def ring(stamp: str, bells: int) -> str:
    """A stamp moved by bells."""
    return _write(*divmod(bellcount(stamp) + bells, BELLS))


def watch(stamp: str) -> str:
    """The watch that a stamp's bell falls in."""
    return ("owl", "lark", "gull", "heron")[_read(stamp)[1] // 8]


def season(stamp: str) -> str:
    """The season of a stamp."""
    month = daycount(stamp) % YEAR_DAYS // MONTH_DAYS
    return "ice" if month < 3 else "green" if month < 6 else "gold" if month < 10 else "grey"


def is_market(stamp: str) -> bool:
    """Whether a stamp is a market day."""
    return daycount(stamp) % 9 == 4


def tide(stamp: str) -> int:
    """The height of the tide, in hands."""
    day = daycount(stamp) % 14
    return 2 + min(day, 14 - day)


def days_to_ebb(stamp: str) -> int:
    """Days until the tide is lowest."""
    return -daycount(stamp) % 14


def stones(weight: str) -> int:
    """A weight in stones."""
    return _units(weight, {"l": STONES_OF_CASK * CASKS_OF_LAST, "c": STONES_OF_CASK, "s": 1}, "weight")


def weigh(stones: int) -> str:
    """The weight of a number of stones."""
    casks, rest = divmod(stones, STONES_OF_CASK)
    lasts, casks = divmod(casks, CASKS_OF_LAST)
    return " ".join(f"{n}{unit}" for n, unit in ((lasts, "l"), (casks, "c"), (rest, "s")) if n) or "0s"


def heap(weights: Iterable[str]) -> str:
    """The weight of weights together."""
    return weigh(sum(map(stones, weights)))


def share(weight: str, ships: int) -> list[str]:
    """A weight shared among ships."""
    each, over = divmod(stones(weight), ships)
    return [weigh(each + (ship < over)) for ship in range(ships)]


def stow(weights: Iterable[str], hold: str) -> list[list[str]]:
    """Weights put into holds, one hold after the other."""
    limit, holds, used = stones(hold), [[]], 0  # type: tuple[int, list[list[str]], int]
    for weight in weights:
        if stones(weight) > limit:
            raise ValueError(f"{weight!r} is more than a hold takes")
        if used + stones(weight) > limit:
            holds.append([])
            used = 0
        holds[-1].append(weight)
        used += stones(weight)
    return holds if holds[0] else []


def pins(price: str) -> int:
    """A price in pins."""
    return _units(price, {"cr": PINS_OF_MARK * MARKS_OF_CROWN, "mk": PINS_OF_MARK, "p": 1}, "price")


def coin(pins: int) -> str:
    """The price of a number of pins."""
    marks, rest = divmod(pins, PINS_OF_MARK)
    crowns, marks = divmod(marks, MARKS_OF_CROWN)
    return " ".join(f"{n}{unit}" for n, unit in ((crowns, "cr"), (marks, "mk"), (rest, "p")) if n) or "0p"


def toll(weight: str, season: str) -> int:
    """The toll on a weight, in pins."""
    rates = {"ice": 9, "green": 5, "gold": 6, "grey": 7}
    if season not in rates:
        raise ValueError(f"no season: {season!r}")
    return -(-stones(weight) // STONES_OF_CASK) * rates[season]


def mooring(ells: int, days: int) -> int:
    """What a berth costs a ship, in pins."""
    return 2 * ells * min(days, 6) + ells * max(days - 6, 0)


def late_fine(days: int) -> int:
    """The fine for a ship that is late, in pins."""
    return min(400, 2 * days * (days + 1)) if days > 0 else 0


def opposite(berth: str) -> str:
    """The berth across the pier."""
    pier, number = _berth(berth)
    return f"{PIERS[pier]}{number + 1 if number % 2 else number - 1}"


def beside(berth: str) -> list[str]:
    """The berths on the same side of the pier next to a berth."""
    pier, number = _berth(berth)
    return [f"{PIERS[pier]}{each}" for each in (number - 2, number + 2) if 1 <= each <= BERTHS]


def walk(first: str, second: str) -> int:
    """Paces from one berth to another."""
    (pier, number), (other, target) = _berth(first), _berth(second)
    return 3 * abs(number - target) if pier == other else 3 * (number + target) + 50 * abs(pier - other)


def hoist(text: str) -> str:
    """A text in flags."""
    letters = [ord(letter) - ord("a") for letter in text.lower() if "a" <= letter <= "z"]
    return " ".join(COLOURS[number // 6] + COLOURS[number % 6] for number in letters)


def lower(flags: str) -> str:
    """The text of flags."""
    return "".join(chr(ord("a") + COLOURS.index(pair[0]) * 6 + COLOURS.index(pair[1])) for pair in flags.split())


def seal(text: str) -> str:
    """The seal of a text."""
    return SEALS[sum(place * ord(letter) for place, letter in enumerate(text, 1)) % len(SEALS)]


def is_sealed(text: str) -> bool:
    """Whether a text ends in the seal of the rest."""
    return len(text) > 1 and seal(text[:-1]) == text[-1]
