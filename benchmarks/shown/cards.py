"""Score cards: what a compile is worth on each task, slice by slice, and against an earlier version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from ...evaluation import numbers
from ...evaluation.statistics import Interval, paired_test
from .content import Kind, Mark, Plot, Suite, Table, Verdict, columns, judged
from .reading import Run, heading, parsed

__all__ = ["LUCK", "Card", "cards", "share", "span"]

LUCK = 0.05
_DECLARED, _COMPILED = "baseline", "progspace"


class Card(Run):
    """The score card of a program on the sealed rows of a task, as ``core`` writes it.

    ``worst`` is the robust score on the first ``n_worst`` rows, ``perturbed`` what each change of inputs does to the
    score; ``difference`` and what follows are told of the compiled program alone.
    """

    task: str
    seed: int
    optimizer: str
    score: float
    low: float
    high: float
    n_test: int
    input_tokens: int
    output_tokens: int
    seconds: float
    slices: dict[str, float]
    failed: int = 0
    worst: float | None = None
    n_worst: int = 0
    perturbed: dict[str, float] = Field(default_factory=dict)
    lm: str = ""
    test: str = ""
    scores: tuple[float, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    python: str = ""
    machine: str = ""
    usd: float | None = None
    choice: str = ""
    difference: float = 0.0
    difference_low: float = 0.0
    difference_high: float = 0.0
    p_value: float = 1.0
    compile_seconds: float = 0.0
    search_calls: int = 0

    @property
    def tokens(self) -> float:
        """In and out, an example."""
        return (self.input_tokens + self.output_tokens) / max(1, self.n_test)


Pair = tuple[Card, Card]
"""The program as declared, and what was compiled of it."""


def cards(name: str, file: str, lines: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]] = ()) -> Suite:
    """Shows score cards.

    Args:
        name: Of the suite.
        file: That the lines stand in.
        lines: The cards.
        before: Those of an earlier version.

    Raises:
        DataError: A line is no score card.
    """
    known = parsed(Card, lines, file)
    declared = {(card.task, card.seed): card for card in known if card.optimizer == _DECLARED}
    pairs = [
        (declared[card.task, card.seed], card)
        for card in known
        if card.optimizer == _COMPILED and (card.task, card.seed) in declared
    ]
    earlier = _compared(pairs, parsed(Card, before, "the earlier version"))
    return Suite(
        **heading(name, file, lines, like="core"),
        rule="A win needs p < 0.05; any lower mean is a loss.",
        verdicts=tuple(_verdict(*pair) for pair in pairs),
        tables=(_table(pairs), *([earlier] if earlier else []), *(_card(*pair) for pair in pairs)),
        notes=_conditions(known),
    )


def span(card: Any) -> str:
    """The interval of whatever has a low and a high end."""
    return numbers.interval(Interval(card.low, card.high, 0.95, ""))


def share(value: float | None) -> str:
    """A share of one that may not have been measured."""
    return "–" if value is None else numbers.percent(value)


def _title(card: Card) -> str:
    return f"{card.task}, seed {card.seed}" if card.seed else card.task


def _verdict(declared: Card, compiled: Card) -> Verdict:
    gain = compiled.difference
    told = (
        f"{_title(compiled)}: {numbers.percent(declared.score)} → {numbers.percent(compiled.score)}, "
        f"{numbers.points(gain)} points {numbers.points_between(compiled.difference_low, compiled.difference_high)}, "
        f"p {numbers.p_told(compiled.p_value)}"
    )
    return judged(told, gain, compiled.p_value < LUCK)


def _plot(declared: Card, compiled: Card) -> Plot:
    kind: Kind = "worse" if compiled.difference < 0 else "won"
    return Plot(
        marks=(
            Mark(label="declared", score=declared.score, low=declared.low, high=declared.high),
            Mark(label="compiled", score=compiled.score, low=compiled.low, high=compiled.high, kind=kind),
        )
    )


def _table(pairs: Sequence[Pair]) -> Table:
    paid = any(compiled.usd is not None for _, compiled in pairs)
    perturbed = any(card.worst is not None for pair in pairs for card in pair)
    rows = []
    for declared, compiled in pairs:
        rows.append((
            _title(compiled), numbers.percent(declared.score), numbers.percent(compiled.score), span(compiled),
            _plot(declared, compiled), numbers.points(compiled.difference), numbers.p_value(compiled.p_value),
            " → ".join(numbers.count(card.tokens) for card in (declared, compiled)),
            " → ".join(numbers.figure(float(f"{card.seconds:.2g}")) for card in (declared, compiled)),
            numbers.count(compiled.search_calls), numbers.duration(compiled.compile_seconds),
            *([" → ".join(share(card.worst).rstrip("% ") for card in (declared, compiled))] if perturbed else []),
            *(["–" if compiled.usd is None else numbers.figure(compiled.usd)] if paid else []),
        ))  # fmt: skip
    return Table(
        caption="As declared and compiled, on the same sealed rows; tokens and seconds an example"
        + ("; worst: the robust score" if perturbed else ""),
        columns=columns(
            "task", "declared", "compiled", "95 %", "interval", "gain", "p", "tokens", "seconds", "calls", "search",
            *(["worst"] if perturbed else []), *(["USD"] if paid else []),
        ),
        rows=tuple(rows),
    )  # fmt: skip


def _card(declared: Card, compiled: Card) -> Table:
    """One task by slices, and what was chosen."""
    slices = [name for name in compiled.slices if name in declared.slices]
    rows = [
        (name, *(numbers.percent(card.slices[name]) for card in (declared, compiled)),
         numbers.points(compiled.slices[name] - declared.slices[name]))
        for name in slices
    ]  # fmt: skip
    rows += [
        (f"{name} of inputs", *(numbers.points(card.perturbed[name]) for card in (declared, compiled)), "")
        for name in compiled.perturbed
        if name in declared.perturbed
    ]
    if compiled.worst is not None:
        rows.append((f"worst of these, {compiled.n_worst} rows", share(declared.worst), share(compiled.worst), ""))
    rows.append(("failed rows", str(declared.failed), str(compiled.failed), ""))
    return Table(
        caption=f"{_title(compiled)}, by slice of {compiled.n_test} rows. Chosen: {compiled.choice or 'as declared'}",
        columns=columns("slice", "declared", "compiled", "gain"),
        rows=tuple(rows),
        folded=True,
    )  # fmt: skip


def _compared(pairs: Sequence[Pair], before: Sequence[Card]) -> Table | None:
    """Winner against an earlier version's winner, where the sealed rows are the same."""
    old = {(card.task, card.seed, card.test): card for card in before if card.optimizer == _COMPILED}
    rows = []
    for _, card in pairs:
        earlier = old.get((card.task, card.seed, card.test))
        if earlier is None or len(earlier.scores) != len(card.scores) or not card.scores:
            continue
        test = paired_test(card.scores, earlier.scores)
        rows.append((
            _title(card), numbers.percent(earlier.score), numbers.percent(card.score),
            numbers.points(test.difference), numbers.points_between(test.interval.low, test.interval.high),
            numbers.p_value(test.p_value),
        ))  # fmt: skip
    if not before:
        return None
    return Table(
        caption="Against the earlier version's winner, where the sealed rows are the same",
        columns=columns("task", "before", "now", "difference", "95 %", "p"),
        rows=tuple(rows),
    )


def _conditions(known: Sequence[Card]) -> tuple[str, ...]:
    """With what it was measured: a line for each combination."""
    told = {
        ", ".join(
            filter(None, [card.lm, *(f"{name} {version}" for name, version in card.versions.items()),
                          card.python and f"Python {card.python}", card.machine])
        )
        for card in known
    }  # fmt: skip
    return tuple(sorted(filter(None, told)))
