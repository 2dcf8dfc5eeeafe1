"""Shows how a compile goes on: what is searched, how far, how fast, who leads. On standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.prompt import Confirm
from rich.text import Text

from .evaluation import numbers
from .lms.budget import Budget, Spent
from .lms.training.jobs import Event
from .optimizers.rung import Rung
from .optimizers.standing import Standing

__all__ = ["CompileProgress"]

_EVERY = 15.0  # seconds between lines where there is no terminal


class CompileProgress:
    """A bar on a terminal; elsewhere a line now and then.

    Attributes:
        best: The highest rung that was kept so far.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.best: Rung | None = None
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, rate="", unit="cells")
        self._name, self._filled, self._since, self._told = "", 0, 0.0, 0.0
        self._left = ""

    def __enter__(self) -> CompileProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def rung(self, name: str) -> None:
        """A rung begins."""
        self._name = name
        self._begin(name, None)

    def spent(self, spent: Spent, budget: Budget) -> None:
        """So much of the budget is spent: says what is left of it."""
        self._left = ", ".join(_left(spent, budget))

    def round(self, examples: int, candidates: int, leader: Standing | None) -> None:
        """A round of a race begins."""
        ahead = f", {numbers.percent(leader.mean)} leads" if leader is not None else ""
        left = f"; {self._left}" if self._left else ""
        self._begin(f"{self._name}: {candidates} candidates × {examples} examples{ahead}{left}", candidates * examples)

    def cells(self, count: int) -> None:
        """So many cells were filled."""
        self._filled += count
        rate = f"{self._filled / max(time.monotonic() - self._since, 1e-3):.0f}/s"
        self._bar.update(self._task, advance=count, rate=rate)
        self._now_and_then(f"{numbers.count(self._filled)} cells, {rate}")

    def kept(self, rung: Rung) -> None:
        """A rung has been climbed: says what came of it, for good."""
        if rung.kept:
            self.best = rung
        found = rung.best.candidate.origin
        score = f"{numbers.percent(rung.best.mean)} on {len(rung.best.scores)} dev examples"
        outcome = f"{found}: {score}" if rung.kept else f"nothing better; the best was {found}: {score}"
        cost = f"{numbers.count(rung.spent.calls)} calls, {numbers.duration(rung.spent.seconds)}"
        mark = ("✓", "green") if rung.kept else ("–", "yellow")
        # Text, as markup would take "[v2]" of a candidate's name for a style.
        self.console.print(Text.assemble(mark, f" {rung.name}: {outcome} ", (f"({cost})", "dim")))

    def ask(self, question: str, unheard: str) -> bool:
        """Asks a person; where none is there, says so, and takes that for a no."""
        if not (self.console.is_terminal and sys.stdin.isatty()):
            self.console.print(Text(f"  {question} {unheard}"))
            return False
        self._bar.stop()
        try:
            return Confirm.ask(Text(question, "prompt"), console=self.console, default=False)
        finally:
            self._bar.start()

    def training(self, event: Event) -> None:
        """A training goes on: how far it is, its loss, the time left."""
        step, steps, loss = (event.data.get(name) for name in ("step", "steps", "train_loss"))
        left = event.data.get("seconds_left")
        told = f"{self._name}: {event.message}" if steps is None or loss is None else f"{self._name}: loss {loss:.3f}"
        told += "" if left is None else f", {numbers.duration(left)} left"
        self._bar.update(self._task, description=told, completed=step or 0, total=steps, rate="", unit="steps")
        self._now_and_then(told + (f" (step {step}/{steps})" if steps else ""))

    def _now_and_then(self, line: str) -> None:
        """Says how it goes on where there is no bar to show it."""
        now = time.monotonic()
        if not self.console.is_terminal and now - self._told > _EVERY:
            self._told = now
            self.console.print(Text(f"  … {line}"))

    def _begin(self, description: str, total: int | None) -> None:
        self._filled, self._since = 0, time.monotonic()
        self._bar.reset(self._task, description=description, total=total, rate="", unit="cells")
        if not self.console.is_terminal:
            self.console.print(Text(f"· {description}"))
            self._told = time.monotonic()


def _left(spent: Spent, budget: Budget) -> Iterator[str]:
    """What is left of each limit, and how long the calls that are left take at the pace so far."""
    minutes = None if budget.minutes is None else max(0.0, 60 * budget.minutes - spent.seconds)
    if budget.calls is not None:
        calls = max(0, budget.calls - spent.calls)
        yield f"{numbers.count(calls)} calls left"
        if minutes is None and spent.calls:
            yield f"{numbers.duration(spent.seconds / spent.calls * calls)} at most at this pace"
    if budget.tokens is not None:
        yield f"{numbers.count(max(0, budget.tokens - spent.input_tokens - spent.output_tokens))} tokens left"
    if budget.usd is not None:
        yield f"{max(0.0, budget.usd - spent.counted_usd):.2f} USD left"
    if minutes is not None:
        yield f"{numbers.duration(minutes)} left"
