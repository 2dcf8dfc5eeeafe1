"""Any DSPy teleprompter as a proposer: what it compiles is one more candidate."""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import random
import sys
import warnings
import weakref
from typing import Any

import dspy
from dspy.teleprompt import BetterTogether, Teleprompter

from ...errors import BudgetExceeded
from ...evaluation.matrix import Matrix
from ...programs.candidate import Candidate, demonstration
from ...programs.copying import copied
from ...programs.program import Program
from .base import SearchState
from .novelty import novel

__all__ = ["FromDSPy"]

_ENOUGH = 20
_NEVER = 1_000_000_000


class FromDSPy:
    """Runs a DSPy teleprompter on the incumbent's program and the train examples, and proposes what comes of it.

    The program runs in the incumbent's formats. Every call is counted by the search's own meter and remembered by its
    journal, also those of LMs that the teleprompter brings along (``prompt_model``, ``reflection_lm``,
    ``teacher_settings``). A teleprompter that wants a ``valset`` gets half of the train examples for it: dev examples
    belong to the race. It proposes once in a search, and may spend all that is left for its rung: give it limits of
    its own (``max_metric_calls=…``, ``num_trials=…``) where that is too much.

    One that was given its examples when it was made, and whose ``compile`` takes none, keeps to those.

    What becomes of a program is its instructions and demonstrations; one that is built otherwise (an ensemble, one with
    other weights, as of ``dspy.BetterTogether``, one that chooses neighbours at run time as that of
    ``dspy.KNNFewShot``: the space's selection ``nearest`` is that) is no candidate. Nor is there one where the
    teleprompter fails: a warning says why.

    Args:
        teleprompter: ``dspy.MIPROv2(metric=…, prompt_model=lm, task_model=lm)``, say.
        name: For the report; by default that of its class. Two of one class need two names.
        compile_kwargs: Further arguments of its ``compile``.

    >>> FromDSPy(dspy.LabeledFewShot(k=2)).name
    'LabeledFewShot'
    """

    def __init__(self, teleprompter: Teleprompter, *, name: str | None = None, **compile_kwargs: Any) -> None:
        self.teleprompter, self.compile_kwargs = teleprompter, compile_kwargs
        self.name = name or type(teleprompter).__name__
        self._ran: weakref.WeakSet[Matrix] = weakref.WeakSet()

    def propose(self, state: SearchState, count: int) -> list[Candidate]:
        """Gives the compiled program as a candidate, the first time that it is asked; then nothing.

        Raises:
            BudgetExceeded: Nothing is left to spend, and the teleprompter has found nothing.
        """
        if count < 1 or state.matrix in self._ran:
            return []
        self._ran.add(state.matrix)
        incumbent = state.incumbent.candidate
        try:
            teleprompter = _metered(self.teleprompter, state.matrix)
            arguments = _metered(self.compile_kwargs, state.matrix)
        except BudgetExceeded as fault:  # money is limited, and the price of an LM that it brings along is not known
            warnings.warn(f"{self.name} is not run: {fault}", stacklevel=2)
            return []
        try:
            compiled = _compile(teleprompter, arguments, _student(incumbent, state), state)
            candidate = _candidate(compiled, incumbent, state)
        except BudgetExceeded:
            raise
        except Exception as fault:  # the teleprompter's own: the search goes on without it
            # DSPy's evaluations take an exception of the meter for a failed example.
            if state.matrix.meter.calls_left == 0:
                raise BudgetExceeded(f"the budget was spent while {self.name} ran") from fault
            warnings.warn(f"{self.name} gave no program: {type(fault).__name__}: {fault}", stacklevel=2)
            return []
        found = novel([candidate.model_copy(update={"origin": f"{incumbent.origin}; {self.name}"})], state, count)
        if not found and state.matrix.meter.calls_left == 0:
            raise BudgetExceeded(f"the budget was spent while {self.name} ran")
        return found


def _compile(teleprompter: Teleprompter, arguments: dict[str, Any], student: Program, state: SearchState) -> Any:
    train = list(state.task.train)
    random.Random(state.seed).shuffle(train)  # noqa: S311 — reproducible, not secret
    taken = inspect.signature(teleprompter.compile).parameters
    if "programs" in taken:  # dspy.Ensemble
        raise ValueError("its compile makes one of several programs, which is no longer the program itself")
    if isinstance(teleprompter, BetterTogether):
        raise ValueError("it has LMs trained in between; give those that write prompts one by one, each as FromDSPy")
    if "valset" in taken and "valset" not in arguments and len(train) >= _ENOUGH:
        half = len(train) // 2
        train, arguments["valset"] = train[:half], train[half:]
    anything = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken.values())
    if "trainset" in taken or anything or "student" not in taken:
        arguments = {"trainset": train, **arguments}
    # An answer that cannot be read is a low score here as well, and no reason to give up after ten of them. Some
    # print as they go: standard output is the caller's.
    settings = {"lm": state.matrix.lm, "max_errors": _NEVER}
    log = logging.getLogger("dspy.utils.parallelizer")
    log.addFilter(_not_of_an_example)
    try:
        with contextlib.redirect_stdout(sys.stderr), dspy.context(**settings):
            return teleprompter.compile(student, **arguments)
    finally:
        log.removeFilter(_not_of_an_example)


def _not_of_an_example(record: logging.LogRecord) -> bool:
    """Lets no error through that one example was answered badly: a small LM makes thousands of them."""
    return not record.getMessage().startswith("Error for ")


def _student(incumbent: Candidate, state: SearchState) -> Program:
    """Gives the incumbent's program with signatures of its own: some teleprompters write into the class itself."""
    program = incumbent.apply(state.task.program, lms=state.lms)
    for predictor in program.module.predictors():
        predictor.signature = predictor.signature.with_instructions(predictor.signature.instructions)
    return program


def _metered(value: Any, matrix: Matrix) -> Any:
    """Gives a copy of a teleprompter, or of one of its settings, whose LMs are metered."""
    if isinstance(value, dspy.BaseLM):
        return matrix.journaled(value)
    if isinstance(value, dict):
        return {key: _metered(each, matrix) for key, each in value.items()}
    if isinstance(value, Teleprompter):
        metered = copy.copy(value)
        for key, each in vars(value).items():
            if isinstance(each, dspy.BaseLM | dict | Teleprompter | dspy.Module):
                setattr(metered, key, _metered(each, matrix))
        return metered
    if isinstance(value, dspy.Module):
        module = copied(value)
        for predictor in module.predictors():
            if predictor.lm is not None:
                predictor.lm = matrix.journaled(predictor.lm)
        return module
    return value


def _candidate(compiled: Any, incumbent: Candidate, state: SearchState) -> Candidate:
    """Reads a compiled program as a change of the incumbent.

    Raises:
        ValueError: It is built otherwise than the task's program.
    """
    program = incumbent.apply(state.task.program, lms=state.lms)
    before = dict(program.module.named_predictors())
    if not isinstance(compiled, Program):
        raise ValueError(f"it is a {type(compiled).__name__}, and no longer the program itself")
    if "forward" in vars(compiled) or "forward" in vars(compiled.module):
        raise ValueError(
            "it has a forward of its own, and is no longer the program itself; where that chooses neighbours for each "
            "input, Space(selections=['nearest']) searches them"
        )
    after = dict(compiled.module.named_predictors())
    if set(after) != set(before):
        raise ValueError(f"it has the predictors {', '.join(after)}, and the program has {', '.join(before)}")
    allowed = state.space.searched(state.task.program)
    candidate = incumbent
    for name, predictor in after.items():
        fields = set(before[name].signature.fields)
        if set(predictor.signature.fields) != fields:
            raise ValueError(f"the signature of {name} has other fields")
        if name not in allowed:
            continue
        if predictor.signature.instructions != before[name].signature.instructions:
            candidate = candidate.with_choice(predictor=name, instruction=predictor.signature.instructions)
        shown = [
            demonstration({key: value for key, value in each.items() if key in fields}) for each in predictor.demos
        ]
        shown = [each for each in shown if each]
        had = [demonstration(dict(each)) for each in before[name].demos]
        if shown != had:
            # Neighbours that are chosen for each input would stand before them.
            candidate = candidate.with_choice(predictor=name, demonstrations=tuple(shown), nearest=None)
    return candidate
