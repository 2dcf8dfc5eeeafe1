"""Where candidates meet: their standings on one order of dev examples, and the buying of their cells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import replace

import dspy
import numpy as np

from ..errors import BudgetExceeded
from ..evaluation.matrix import Matrix
from ..lms.stopping import stopping_by
from ..programs.candidate import Candidate, unshown
from ..programs.examples import example_hash
from ..programs.task import Task
from ..store.records import Cell
from .board import Board
from .calibration import calibrate, is_calibrated
from .finetuning_space import Weights
from .kinship import groups
from .races.base import Race
from .search_log import SearchLog
from .standing import Standing

__all__ = ["BLOCK", "FIRST", "Arena", "Dropped"]

FIRST = 10
"""Examples of a first look."""
BLOCK = 4
"""Examples that are bought together: single cells leave the LM's batches empty."""
RACED = 0.75
_FEWEST_FRESH = 4
_SIDE_BY_SIDE = 8
"""Candidates that run at a time: blocks are small, and an LM that batches wants more than one of them.

Where more than 64 cells run at a time, on a cluster say, more candidates do: one for each eight cells.
"""

Dropped = Callable[[Standing, str], None]
"""Is told who a race gave up, and why."""


class Arena:
    """All candidates of a search, by their hash, with what each did so far.

    Args:
        task: What is searched.
        dev: Its dev split, in the one order in which all cells are bought. Races look at the first three quarters; the
            last quarter, or what of it is kept, is fresh: for promotions.
        matrix: Runs, remembers, and counts.
        lms: LMs that predictors may run on instead of the task's, by name.
        repeats: How often a program runs on an example; its scores are averaged.
        max_prompt_tokens: A candidate whose calls have longer prompts, on average, leaves the race.
        spare: Train examples on which no candidate was chosen. Where all of dev cannot tell a gain from luck, they may.

    Attributes:
        log: Is told who joins, what is bought and who is dropped.
    """

    def __init__(
        self,
        task: Task,
        dev: Sequence[dspy.Example],
        matrix: Matrix,
        *,
        lms: Mapping[str, dspy.BaseLM] | None = None,
        repeats: int = 1,
        max_prompt_tokens: int | None = None,
        spare: Sequence[dspy.Example] = (),
    ) -> None:
        self.task, self.dev, self.matrix, self.spare = task, list(dev), matrix, list(spare)
        self.lms, self.repeats, self.max_prompt_tokens = dict(lms or {}), repeats, max_prompt_tokens
        raced = max(min(len(self.dev), FIRST), round(RACED * len(self.dev)))
        self.raced, self.fresh = self.dev[:raced], self.dev[raced:]
        self.log = SearchLog()
        self.standings: dict[str, Standing] = {}
        self.weights: dict[str, Weights] = {}
        self._fitted: dict[str, int] = {}
        self._too_long: set[str] = set()

    def add(self, candidates: Iterable[Candidate], proposer: str) -> list[str]:
        """Lets candidates in; gives the hashes of those that were not there yet."""
        joined = []
        for candidate in candidates:
            if candidate.hash not in self.standings:
                standing = Standing(candidate, (), len(self.standings), proposer)
                self.standings[candidate.hash] = standing
                joined.append(candidate.hash)
                self.log.joined(standing, self.apply(candidate))
        return joined

    def add_weights(self, weights: Weights) -> None:
        """Lets candidates choose weights that were trained, by their name among ``lms``."""
        self.weights[weights.name] = weights
        self.lms[weights.name] = weights.lm

    def keep_fresh(self, calls: float) -> None:
        """Keeps as many fresh examples as a candidate can be run on for so many calls; no fewer than four."""
        self.fresh = self.fresh[: max(_FEWEST_FRESH, int(calls / self.calls_a_cell(self.standings)))]

    def apply(self, candidate: Candidate) -> dspy.Module:
        """Makes a candidate's program."""
        return candidate.apply(self.task.program, lms=self.lms)

    def buy(self, key: str, until: int) -> Standing:
        """Buys a candidate's cells on the examples before ``until`` that it does not have yet.

        Raises:
            BudgetExceeded: Nothing is left to buy one; what was bought is stored.
        """
        with self._taking_turns({key: until - len(self.standings[key].cells)}):
            self._buy(key, until)
        self._drop_long()
        return self.standings[key]

    def _buy(self, key: str, until: int) -> Standing:
        standing = self.standings[key]
        have = len(standing.cells)
        if until <= have:
            return standing
        candidate, fit = standing.candidate, is_calibrated(standing.candidate)
        # Biases are fitted anew whenever the examples have doubled: each new fit scores all of them anew.
        if fit and (until >= 2 * self._fitted.get(key, 0) or until == len(self.raced)):
            candidate = calibrate(candidate, self.apply, self.raced[:until], self.matrix)
            self._fitted[key], have = until, 0
        bought = self._fill(self.apply(candidate), self.raced[have:until])
        cells = (*standing.cells[:have], *bought)
        self.standings[key] = replace(standing, candidate=candidate, cells=cells)
        self.log.bought(standing, cells)
        return self.standings[key]

    def confirm(self, key: str) -> Standing:
        """Buys a candidate's cells on the fresh examples.

        Raises:
            BudgetExceeded: Nothing is left to buy one; what was bought is stored.
        """
        with self._taking_turns({key: len(self.fresh) - len(self.standings[key].fresh)}):
            return self._confirm(key)

    def _confirm(self, key: str) -> Standing:
        standing = self.standings[key]
        if len(standing.fresh) < len(self.fresh):
            candidate, cells = standing.candidate, standing.cells
            if is_calibrated(candidate):  # on their inputs, too: labels are not looked at
                inputs = [*self.raced[: len(cells)], *self.fresh]
                candidate = calibrate(candidate, self.apply, inputs, self.matrix)
                cells = tuple(self._fill(self.apply(candidate), self.raced[: len(cells)]))
            fresh = tuple(self._fill(self.apply(candidate), self.fresh))
            self.standings[key] = replace(standing, candidate=candidate, cells=cells, fresh=fresh)
            self.log.bought(standing, cells)
            self.log.bought(standing, fresh, fresh=True)
            self.log.flush()
        return self.standings[key]

    def buy_spare(self, key: str, until: int) -> Standing:
        """Buys a candidate's cells on the spare examples before ``until``, but for those that its own prompts show.

        Raises:
            BudgetExceeded: Nothing is left to buy one; what was bought is stored.
        """
        standing = self.standings[key]
        some = self.spare[len(standing.spare) : until]
        with self._taking_turns({key: len(some)}):
            program = self.apply(standing.candidate)
            own = unshown(some, program)
            bought = dict(zip(map(example_hash, own), self._fill(program, own), strict=True))
        cells = (*standing.spare, *(bought.get(example_hash(each)) for each in some))
        self.standings[key] = replace(standing, spare=cells)
        return self.standings[key]

    def _fill(self, program: dspy.Module, examples: Sequence[dspy.Example]) -> list[Cell]:
        return self.matrix.fill(program, examples, repeats=self.repeats)

    def buy_all(self, keys: Sequence[str], until: int) -> None:
        """Buys for several candidates, some side by side.

        Raises:
            BudgetExceeded: Nothing is left; the candidates that have their cells keep them.
        """
        first = {_asked(self.standings[key].candidate) or key: key for key in reversed(keys)}
        riders = dict.fromkeys(each for key in first.values() for each in self._free_riders(key))
        # Those that ask the same run afterwards: side by side, each would ask.
        for wave in (list(first.values())[::-1], list(riders)):
            interrupted = threading.Event()
            with (
                self._taking_turns({key: until - len(self.standings[key].cells) for key in wave}) as turns,
                stopping_by(interrupted),
                ThreadPoolExecutor(
                    1 if turns else max(_SIDE_BY_SIDE, self.matrix.concurrency // 8),
                    thread_name_prefix="progspace-arena",
                ) as pool,
            ):
                bought = [pool.submit(copy_context().run, self._buy, key, until) for key in wave]
                try:
                    wait(bought)
                except BaseException:  # Ctrl-C: what is under way is paid for, and has to be stored
                    interrupted.set()
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
            for each in bought:
                each.result()
        self.log.flush()

    def _taking_turns(self, cells: Mapping[str, int]) -> AbstractContextManager[bool]:
        """Lets cells run one after the other where the budget may end among them.

        Side by side, it would hang on the threads which of them have the last calls; the same search again would buy
        others.
        """
        left = self.matrix.meter.calls_left
        most = sum(max(0, count) * self._most_calls(key) for key, count in cells.items())
        return nullcontext(False) if left is None or left >= most else self.matrix.in_turn()

    def _most_calls(self, key: str) -> int:
        """Calls of a candidate's dearest cell; before one is known, two for each predictor: it may ask anew."""
        known = [len(cell.asked) for cell in self.standings[key].cells]
        return max(known, default=2 * self.plain_calls)

    def _free_riders(self, key: str) -> list[str]:
        """Candidates that ask the very same: those that differ in what is taken off the scores afterwards."""
        asked = _asked(self.standings[key].candidate)
        if asked is None:
            return []
        return [other for other, each in self.standings.items() if other != key and _asked(each.candidate) == asked]

    def calls_a_cell(self, keys: Iterable[str]) -> float:
        """How many calls one more cell takes, a judge's included: a mean over these candidates, as far as is known."""
        known = [each.asked / len(each.cells) for key in keys if (each := self.standings[key]).cells]
        return max(1.0, sum(known) / len(known)) if known else float(self.plain_calls)

    def key_of(self, standing: Standing) -> str:
        """The hash under which a standing's candidate joined; a fit of its biases gives it another."""
        return next(key for key, each in self.standings.items() if each.order == standing.order)

    @property
    def declared(self) -> str:
        """Hash of the program as declared, the first to join."""
        return next(iter(self.standings))

    @property
    def plain_calls(self) -> int:
        """Calls of a cell whose predictors each ask once."""
        return max(1, len(self.task.program.predictors())) * self.repeats

    def affordable(self, keys: Sequence[str], calls: int | None = None) -> int | None:
        """How many more cells the budget, or so many calls of it, hold; None without a limit."""
        left = self.matrix.meter.calls_left
        if calls is not None:
            left = calls if left is None else min(left, calls)
        return None if left is None else int(left / self.calls_a_cell(keys))

    def board(self, keys: Sequence[str], *, fresh: bool = False, affordable: int | None = None) -> Board:
        """What a race looks at; the first key is the incumbent's.

        Args:
            keys: Of the candidates, row by row.
            fresh: Whether to show the fresh and the spare examples as well, after the others. A race must not see them.
            affordable: How many more cells may be bought.
        """
        standings = [self.standings[key] for key in keys]
        starts = (0, len(self.raced), len(self.raced) + len(self.fresh))
        width = starts[2] + max((len(each.spare) for each in standings), default=0) if fresh else starts[1]
        scores = np.full((len(keys), width), np.nan)
        for row, standing in enumerate(standings):
            shown: tuple[Sequence[Cell | None], ...] = (standing.cells, standing.fresh, standing.spare)
            for start, cells in zip(starts, shown if fresh else shown[:1], strict=False):
                for column, cell in enumerate(cells, start):
                    if cell is not None and cell.score is not None:
                        # What may not be chosen has nothing to win.
                        scores[row, column] = 0.0 if keys[row] in self._too_long else cell.score
        bought = np.array([len(each.cells) for each in standings], np.int64)
        tokens = [each.tokens if each.cells else np.nan for each in standings]
        return Board(scores, bought, np.array(tokens), groups([each.candidate for each in standings]), affordable)

    def run(
        self,
        race: Race,
        keys: Sequence[str],
        *,
        calls: int | None,
        on_step: Callable[[Sequence[str], int], None] | None = None,
        on_dropped: Dropped | None = None,
    ) -> str | None:
        """Runs a race until it is over or so many calls are spent; gives what ended it, if the budget did.

        Args:
            race: Decides what to buy.
            keys: Of the candidates, the incumbent's first.
            calls: The most that the race may ask for; None for as many as the budget holds.
            on_step: Is told who runs next, and on how many examples in all.
            on_dropped: Is told who was given up.
        """
        begun = self.matrix.meter.spent.calls
        width = len(self.raced)
        while True:
            left = None if calls is None else calls - (self.matrix.meter.spent.calls - begun)
            affordable = self.affordable(keys, left)
            board = self.board(keys, affordable=affordable)
            purchase = race.step(board)
            if purchase is None:
                return None
            for row, reason in purchase.dropped:
                self.log.dropped(self.standings[keys[row]], reason)
                if on_dropped is not None:
                    on_dropped(self.standings[keys[row]], reason)
            until = min(_whole_block(purchase.until), width)
            wanted = [row for row in purchase.candidates if board.bought[row] < until]
            if not wanted:
                if not purchase.dropped:
                    return None  # it wants what is there already
                continue
            if affordable is not None and affordable < 1:
                return "its share of the calls is spent"
            named = [keys[row] for row in wanted]
            if on_step is not None:
                on_step(named, until)
            try:
                self.buy_all(named, until)
            except BudgetExceeded as error:
                return str(error)
            finally:
                self._drop_long(on_dropped)

    def _drop_long(self, on_dropped: Dropped | None = None) -> None:
        """Drops what has prompts that are too long, of all that have cells: some run along with what is bought."""
        if self.max_prompt_tokens is None:
            return
        for key, standing in self.standings.items():
            if standing.prompt_tokens > self.max_prompt_tokens and key not in self._too_long:
                self._too_long.add(key)
                reason = f"its prompts have {standing.prompt_tokens:.0f} tokens, above {self.max_prompt_tokens}"
                self.log.dropped(standing, reason)
                if on_dropped is not None:
                    on_dropped(standing, reason)

    def too_long(self, key: str) -> bool:
        """Tells whether a candidate's prompts are longer than the space allows."""
        return key in self._too_long

    @property
    def measured(self) -> list[str]:
        """Hashes of the candidates that were run on at least half as many examples as any."""
        known = {key: len(each.scores) for key, each in self.standings.items() if each.scores}
        most = max(known.values(), default=0)
        return [key for key, count in known.items() if 2 * count >= most]


def _whole_block(until: int) -> int:
    """Rounds up what is bought of a candidate that has been looked at."""
    return until if until < BLOCK else -(-until // BLOCK) * BLOCK


def _asked(candidate: Candidate) -> str | None:
    """What a candidate asks of its LM, where another one may ask the same."""
    choices = [choice for _, choice in sorted(candidate.predictors.items())]
    # In a chain, what one predictor answers is asked of the next.
    if len(choices) != 1 or choices[0].format is None or choices[0].format.decoding not in ("scored", "calibrated"):
        return None
    return candidate.with_choice(format=choices[0].format.asked).model_dump_json()
