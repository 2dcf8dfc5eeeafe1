"""``ps.guarded``: a program whose every call ends in time, is tried again, or falls back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from concurrent.futures import wait
from typing import Any, Union

import dspy

from ..errors import CallTimeout, LMError, ProgramError, RetrievalError
from ..programs.copying import copied
from ..programs.noting import note
from ..programs.program import Program, acall, runs_in_tasks
from ..programs.threads import in_thread
from .interface import Interface, check_abstention, interface_of

__all__ = ["Fallback", "Guarded", "guarded", "is_foreseen"]

Fallback = Union[dspy.BaseLM, dspy.Module, Mapping[str, Any]]  # noqa: UP007 — DSPy's classes have no types
_Step = tuple[Union[dspy.Module, Mapping[str, Any]], float]  # noqa: UP007  # who answers, and the seconds to wait before

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_FORESEEN = (LMError, RetrievalError, dspy.LMError, dspy.AdapterParseError)


def guarded(
    program: dspy.Module, *, timeout: float | None = None, retries: int = 0, fallbacks: Sequence[Fallback] = ()
) -> Guarded:
    """Guards each call of a program; what comes back is a module with the same inputs and outputs.

    Args:
        program: Any module; itself not changed.
        timeout: Seconds that one attempt may take; a call takes at most ``1 + retries + len(fallbacks)`` times that,
            and the pauses.
        retries: How often a call is made anew after a failure that may pass: a timeout, a throttled or broken endpoint,
            an answer that cannot be read. What DSPy retries by itself comes before that.
        fallbacks: Tried in turn when the LM, its answer or the retrieval failed: another LM, which the same program
            runs on; another module; or a mapping of output fields to values, an abstention. A fault of the program's
            own code, or of its inputs, falls back to nothing and is raised.

    Raises:
        ValueError: A number is out of range.
        ProgramError: An abstention is not of the program's output fields and types (None is of any).

    >>> class Unreachable(dspy.Module):
    ...     def forward(self, text: str) -> dspy.Prediction:
    ...         raise LMError("nobody answers", retryable=True)
    >>> careful = guarded(Unreachable(), timeout=5, retries=1, fallbacks=[{"label": None}])
    >>> careful(text="Superb.").label is None
    True
    """
    return Guarded(program, timeout=timeout, retries=retries, fallbacks=fallbacks)


class Guarded(dspy.Module):
    """What `guarded` makes. It holds no state of a call: any number of threads and tasks may share it.

    A sync attempt that is out of time is left behind in its thread until its LM answers, and so is that of a module
    without an ``aforward`` of its own; an async one is cancelled.
    ``batch`` is DSPy's: many calls on threads, answers in the order of the inputs.
    """

    def __init__(
        self, program: dspy.Module, *, timeout: float | None, retries: int, fallbacks: Sequence[Fallback]
    ) -> None:
        super().__init__()
        if timeout is not None and timeout <= 0:
            raise ValueError(f"timeout is {timeout}; it is seconds, more than 0, or None for no limit")
        if retries < 0:
            raise ValueError(f"retries is {retries}; it is 0 or more")
        self.program = program
        self.timeout, self.retries = timeout, retries
        self.fallbacks = tuple(_fallback(program, each) for each in fallbacks)

    @property
    def interface(self) -> Interface:
        """The program's; where an abstention leaves a field open, that may be null."""
        program: dspy.Module = self
        nullable: set[str] = set()
        while isinstance(program, Guarded):
            abstained = [each for each in program.fallbacks if not isinstance(each, dspy.Module)]
            nullable |= {name for each in abstained for name, value in each.items() if value is None}
            program = program.program
        return interface_of(program, nullable=nullable)

    def get_lm(self) -> dspy.BaseLM | None:
        """Gives the one LM of the program's predictors.

        Raises:
            ValueError: They have several.
        """
        lm: dspy.BaseLM | None = self.program.get_lm()
        return lm

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Answers, or raises what the last attempt raised.

        Raises:
            CallTimeout: The last attempt took too long.
        """
        plan = self._plan()
        who, pause = next(plan)
        while isinstance(who, dspy.Module):
            time.sleep(pause)
            try:
                return _within(self.timeout, who, inputs)
            except Exception as error:
                who, pause = plan.send(error)
        return dspy.Prediction(**who)

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """As `forward`, in a task."""
        plan = self._plan()
        who, pause = next(plan)
        while isinstance(who, dspy.Module):
            await asyncio.sleep(pause)
            try:
                return await _awithin(self.timeout, who, inputs)
            except Exception as error:
                who, pause = plan.send(error)
        return dspy.Prediction(**who)

    async def stream(self, **inputs: Any) -> AsyncIterator[str | dspy.Prediction]:
        """Gives text as the LM writes it, in its prompt's format, and at last the prediction.

        An LM that does not stream gives the prediction alone. Once text was given out, a failure is raised: a fallback
        would contradict what was read already.
        """
        plan = self._plan()
        who, pause = next(plan)
        while isinstance(who, dspy.Module):
            await asyncio.sleep(pause)
            begun = False
            try:
                async for piece in _streamed(self.timeout, who, inputs):
                    begun = True
                    yield piece
                return
            except Exception as error:
                if begun:
                    raise
                who, pause = plan.send(error)
        yield dspy.Prediction(**who)

    def _plan(self) -> Generator[_Step, Exception, None]:
        """Says who is asked next; is sent the failure of the one before, and raises the last."""
        failure = yield self.program, 0.0
        for number in range(self.retries):
            if not _may_pass(failure):
                break
            note("retries")
            failure = yield self.program, _pause(failure, number)
        for fallback in self.fallbacks:
            if not is_foreseen(failure):
                break
            note("fallbacks" if isinstance(fallback, dspy.Module) else "abstentions")
            failure = yield fallback, 0.0
        raise failure


def is_foreseen(error: Exception) -> bool:
    """Tells whether an LM, its answer or a retrieval failed, and not the program's own code or its inputs."""
    return isinstance(error, _FORESEEN)


def _may_pass(error: Exception) -> bool:
    retryable = getattr(error, "retryable", False) is True or dspy.is_retryable_lm_error(error)
    return retryable or isinstance(error, dspy.AdapterParseError)


def _pause(error: Exception, number: int) -> float:
    told = getattr(error, "retry_after", None)
    wanted = float(told) if isinstance(told, int | float) and told >= 0 else _FIRST_PAUSE * 2**number
    return min(wanted, _LONGEST_PAUSE)


def _fallback(program: dspy.Module, told: Fallback) -> dspy.Module | Mapping[str, Any]:
    if isinstance(told, dspy.BaseLM):
        copy = copied(program)
        for predictor in copy.predictors():
            predictor.lm = told
        if isinstance(copy, Program):
            copy.own_lm = told
        return copy
    if isinstance(told, dspy.Module):
        return told
    if not isinstance(told, Mapping):
        raise ProgramError(f"a fallback is an LM, a module, or a mapping of output fields to values, not {told!r}")
    while isinstance(program, Guarded):
        program = program.program
    check_abstention(program, told)
    return dict(told)


def _late(seconds: float) -> CallTimeout:
    return CallTimeout(f"the program did not answer within {seconds:g} s")


def _within(seconds: float | None, module: dspy.Module, inputs: dict[str, Any]) -> Any:
    if seconds is None:
        return module(**inputs)
    future = in_thread(module, inputs)
    if not wait([future], seconds).done:
        raise _late(seconds)
    return future.result()


async def _awithin(seconds: float | None, module: dspy.Module, inputs: dict[str, Any]) -> Any:
    if seconds is None:
        return await acall(module, **inputs)
    task = asyncio.ensure_future(acall(module, **inputs))
    try:
        # Not wait_for: its TimeoutError cannot be told from one of the module's own.
        if not (await asyncio.wait([task], timeout=seconds))[0]:
            raise _late(seconds)
        return task.result()
    finally:
        task.cancel()


async def _streamed(
    seconds: float | None, module: dspy.Module, inputs: dict[str, Any]
) -> AsyncIterator[str | dspy.Prediction]:
    pieces: asyncio.Queue[str | dspy.Prediction | Exception] = asyncio.Queue()
    streamed = dspy.streamify(module, is_async_program=runs_in_tasks(module))

    async def run() -> None:
        try:
            async for value in streamed(**inputs):
                if isinstance(value, dspy.Prediction):
                    pieces.put_nowait(value)
                elif text := _text(value):
                    pieces.put_nowait(text)
        except dspy.LMUnsupportedFeatureError as error:
            pieces.put_nowait(await acall(module, **inputs) if pieces.empty() else error)
        except Exception as error:
            pieces.put_nowait(error)

    # In a task of its own: the scopes of cancellation inside must end where they began.
    task = asyncio.ensure_future(run())
    ends = None if seconds is None else time.monotonic() + seconds
    try:
        while True:
            try:
                piece = await asyncio.wait_for(
                    pieces.get(), None if ends is None else max(0.0, ends - time.monotonic())
                )
            except asyncio.TimeoutError:
                raise _late(seconds or 0.0) from None
            if isinstance(piece, Exception):
                raise piece
            yield piece
            if isinstance(piece, dspy.Prediction):
                return
    finally:
        task.cancel()


def _text(chunk: Any) -> str:
    choices = getattr(chunk, "choices", None)
    return (choices[0].delta.get("content") or "") if choices else ""
