"""An LM that is metered, and never asked twice for what it has answered."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any
from uuid import uuid4

import dspy
from dspy.lm15 import Request, ToolResultPart
from dspy.utils.exceptions import ContextWindowExceededError

from ..errors import BudgetExceeded, LMError, StoreError
from .answers import Answers, StoredAnswer, answer_as_json, answer_from_json
from .budget import Meter
from .identity import class_told, lm_identity
from .prices import Price, price_of
from .stopping import stopped, stopping_when
from .waves import Wanted, asked_as, price_share

__all__ = ["CallRecord", "JournaledLM", "StrayCalls", "concurrency"]

# The name under which DSPy's settings carry a program run's own list of calls into every thread and task of it.
CALLS = "_progspace_calls"
# And the one under which what a spent budget refused is noted: DSPy's own threads, and a module's ``except Exception``,
# hide it from the run, which would score an answer that was not given.
REFUSED = "_progspace_refused"
# And the one under which calls that the LM left unanswered are noted, for the same reason.
UNANSWERED = "_progspace_unanswered"
# And the name under which they carry which repeat it is, so that each repeat buys answers of its own.
ROLLOUT = "_progspace_rollout"
SECOND_TRY = 500_000
"""Rollouts from here on ask again for an answer that could not be read: sampled, even where the first was not."""
_SEEDS_A_ROLLOUT = 1000  # more than the votes of one answer, which have seeds of their own
_PAUSES = (0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One LM call of a program run: the answer's key, the tokens and, where money is limited, its price in USD."""

    model: str
    key: str
    input_tokens: int
    output_tokens: int
    usd: float | None = None


class _Listener:
    """Hears what DSPy tells of the very call that is made under it: its usage and, from the history, its price."""

    def __init__(self) -> None:
        self.usage: dict[str, Any] = {}
        # What an LM that asks others rolls up: its own usage tells of them.
        self.usage_data: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.history: list[dict[str, Any]] = []

    def add_usage(self, model: str, usage: dict[str, Any]) -> None:  # noqa: ARG002 — DSPy's usage tracker's
        """Takes the usage of a call."""
        self.usage = usage

    @property
    def usd(self) -> float | None:
        """The call's price, where DSPy tells it."""
        return self.history[-1].get("cost") if self.history else None


@dataclass(frozen=True, slots=True)
class _RolledUp:
    """Stands for the lists of a usage tracker: hands on, call by call, what is rolled up into them."""

    add_usage: Callable[[str, dict[str, Any]], None]
    model: str = ""

    def __getitem__(self, model: str) -> _RolledUp:
        return replace(self, model=model)

    def extend(self, entries: Iterable[dict[str, Any]]) -> None:
        for usage in entries:
            self.add_usage(self.model, usage)


class StrayCalls:
    """Counts calls of LMs that no journal stands before, such as one that a metric keeps to itself.

    It takes the place of DSPy's usage tracker, which hears of a call when it has been answered: so the budget ends
    after such a call, where it ends before a journaled one. Of calls under a ``dspy.track_usage`` or in a watched
    program it hears when these end. Their answers are not remembered.

    Args:
        meter: Counts them against a budget; None where nothing is counted.
    """

    def __init__(self, meter: Meter | None) -> None:
        self._meter = meter

    def __deepcopy__(self, memo: dict[int, Any]) -> StrayCalls:
        # DSPy copies a usage tracker for each of its own threads; their calls are counted here as well.
        return self

    @property
    def usage_data(self) -> _RolledUp:
        """Where trackers inside roll up what they have heard; of a journaled LM's calls that is nothing."""
        return _RolledUp(self.add_usage)

    def add_usage(self, model: str, usage: dict[str, Any]) -> None:
        """Takes the usage of a call.

        Raises:
            BudgetExceeded: The budget is spent.
        """
        key = uuid4().hex  # the same run asks, and pays, anew when it is run again
        tokens_in, tokens_out = _tokens(usage)
        _log(model, key, tokens_in, tokens_out)
        if self._meter is not None:
            with _noted():
                self._meter.ask(key)
                self._meter.answered(key, tokens_in, tokens_out)
                self._meter.bought(None, f"{model} is asked by a metric, or by a program's own code")


def concurrency(lm: dspy.BaseLM) -> int:
    """How many calls an LM takes well at a time: as its engine says, else a number that few endpoints mind."""
    if isinstance(lm, JournaledLM):
        return concurrency(lm.lm)
    return int(getattr(getattr(lm, "_engine_spec", None), "concurrency", 16))


def _ask(meter: Meter, key: str) -> None:
    with _noted():
        meter.ask(key)


@contextmanager
def _noted() -> Iterator[None]:
    try:
        yield
    except BudgetExceeded as fault:
        if (refused := dspy.settings.get(REFUSED)) is not None:
            refused.append(fault)
        raise


def _go_on(meter: Meter) -> None:
    if stopped() or meter.late():
        raise LMError("stopped, while another worker asks for the same answer", retryable=True)


class JournaledLM(dspy.BaseLM):
    """Any ``dspy.BaseLM``, counted call by call, its answers remembered.

    An answer is stored before it is used; a call that was answered before costs nothing, in whatever process that was.
    Text is remembered: what the LM says, what it thought, why it refused. An answer that holds more (tool calls,
    images, log-probabilities of a call without a ``Request``) is passed through and not remembered; to ask for it again
    is another call, which the budget counts.

    Args:
        lm: The LM that answers.
        meter: Counts what is bought.
        answers: Remembers; None to remember nothing.
    """

    def __init__(self, lm: dspy.BaseLM, meter: Meter, answers: Answers | None = None) -> None:
        super().__init__(lm.model, lm.model_type, cache=False, **lm.kwargs)
        self.kwargs = lm.kwargs
        self.lm, self.meter = lm, meter
        self._answers = answers
        asks, names = type(lm), ("forward", "aforward")  # those of a class of the app's own may not know of the cache
        self._dspys = isinstance(lm, dspy.LM) and all(getattr(asks, each) is getattr(dspy.LM, each) for each in names)
        # What a free LM, the embedded one say, answers twice costs nothing but its time.
        own = getattr(getattr(lm, "_engine_spec", None), "price", None)
        self._claims = answers is not None and own != Price(0.0, 0.0)
        try:
            self._identity = json.dumps(lm_identity(lm), sort_keys=True)
        except (TypeError, ValueError) as error:
            raise LMError(
                f"the settings of {lm.model} are not all text, numbers, lists and dicts ({error}), so its answers "
                "could not be told from another LM's: give them as these"
            ) from error

    @property
    def journaled(self) -> dspy.BaseLM:
        """The LM itself, which this one is known as."""
        return self.lm

    @property
    def supports_function_calling(self) -> bool:
        """As the LM itself."""
        return bool(self.lm.supports_function_calling)

    @property
    def supports_reasoning(self) -> bool:
        """As the LM itself."""
        return bool(self.lm.supports_reasoning)

    @property
    def supports_response_schema(self) -> bool:
        """As the LM itself."""
        return bool(self.lm.supports_response_schema)

    @property
    def supported_params(self) -> set[str]:
        """As the LM itself."""
        return set(self.lm.supported_params)

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """Answers from the journal, or asks the LM.

        Raises:
            BudgetExceeded: The answer is not known and nothing is left to buy it.
        """
        key, prompt, kwargs = self._asked(prompt, messages, kwargs)
        _ask(self.meter, key)
        with self.meter.under_way.alone(key):
            for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
                if (known := self._recall(key)) is not None:
                    return known
                if self._claim(key):
                    break
                _go_on(self.meter)
                time.sleep(pause)
            with self._claimed(key):
                if self._claims and (known := self._recall(key)) is not None:
                    return known  # it came in between
                _ask(self.meter, key)  # another's answer to it may have come, and not been remembered
                listener = _Listener()
                started = time.perf_counter()
                try:
                    with dspy.context(**self._listening(listener)), asked_as(key), stopping_when(self.meter.late):
                        outputs = self.lm(prompt, messages=messages, **self._uncached(kwargs))
                except Wanted:
                    self.meter.withdraw(key)
                    raise
                except Exception as fault:
                    self._failed(key, fault)
                    raise
                return self._remember(key, outputs, listener, time.perf_counter() - started)

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """As a call, for tasks."""
        key, prompt, kwargs = self._asked(prompt, messages, kwargs)
        _ask(self.meter, key)
        for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
            if (known := self._recall(key)) is not None:
                return known
            if self._claim(key):
                break
            _go_on(self.meter)
            await asyncio.sleep(pause)
        with self._claimed(key):
            if self._claims and (known := self._recall(key)) is not None:
                return known
            _ask(self.meter, key)
            listener = _Listener()
            started = time.perf_counter()
            try:
                with dspy.context(**self._listening(listener)), asked_as(key), stopping_when(self.meter.late):
                    outputs = await self.lm.acall(prompt, messages=messages, **self._uncached(kwargs))
            except Wanted:
                self.meter.withdraw(key)
                raise
            except Exception as fault:
                self._failed(key, fault)
                raise
            return self._remember(key, outputs, listener, time.perf_counter() - started)

    def copy(self, **kwargs: Any) -> JournaledLM:
        """Copies the LM itself, and goes on with the same meter and journal."""
        return JournaledLM(self.lm.copy(**kwargs), self.meter, self._answers)

    def _listening(self, listener: _Listener) -> dict[str, Any]:
        """DSPy's settings under which a listener hears a call; DSPy reckons its price only where money is limited."""
        if self.meter.budget.usd is None:
            return {"usage_tracker": listener, "disable_history": True}
        heard = {"caller_modules": [listener], "disable_history": False, "max_history_size": 1}
        return {"usage_tracker": listener, **heard}

    def _uncached(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Asks past DSPy's cache: what that knows comes without tokens and in no time, and would be kept as such."""
        return {**kwargs, "cache": False} if self._dspys and kwargs.get("cache", self.lm.cache) else kwargs

    def _asked(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> tuple[str, Any, dict[str, Any]]:
        """Gives the key of what is asked, and what is asked: in a repeat by another seed and past every cache."""
        rollout = dspy.settings.get(ROLLOUT)
        if not rollout:
            asked = [self._identity, prompt, messages, kwargs]
        else:
            prompt, kwargs = self._repeated(prompt, kwargs, rollout)
            asked = [self._identity, prompt, messages, kwargs, rollout]
        key = hashlib.sha256(json.dumps(asked, sort_keys=True, default=_describe).encode()).hexdigest()[:32]
        return key, prompt, kwargs

    def _repeated(self, prompt: Any, kwargs: dict[str, Any], rollout: int) -> tuple[Any, dict[str, Any]]:
        request = prompt if isinstance(prompt, Request) else None
        given = request.config.temperature if request is not None else kwargs.get("temperature")
        temperature = self.kwargs.get("temperature") if given is None else given
        settings: dict[str, Any] = {}
        if not temperature and rollout >= SECOND_TRY:
            # The one temperature that every LM takes, those that reason too.
            settings["temperature"] = temperature = 1.0
        if not temperature:
            return prompt, kwargs
        apart = rollout * _SEEDS_A_ROLLOUT
        if "seed" in self.supported_params:
            seed = request.config.seed if request is not None else kwargs.get("seed", self.kwargs.get("seed"))
            settings["seed"] = (seed or 0) + apart
        kwargs = {**kwargs, "rollout_id": (kwargs.get("rollout_id") or 0) + apart}
        if request is not None:
            return replace(request, config=replace(request.config, **settings)), kwargs
        return prompt, {**kwargs, **settings}

    def _claim(self, key: str) -> bool:
        return not self._claims or (self._answers is not None and self._answers.claim(key))

    @contextmanager
    def _claimed(self, key: str) -> Iterator[None]:
        try:
            yield
        finally:
            if self._claims and self._answers is not None:
                self._answers.give_back(key)

    def _failed(self, key: str, fault: Exception) -> None:
        if isinstance(fault, ContextWindowExceededError):
            _log(self.model, key, 0, 0)  # it will fail again: as known as an answer
        else:
            self.meter.unanswered(key)
            if (unanswered := dspy.settings.get(UNANSWERED)) is not None:
                unanswered.append(fault)
            with _noted():
                self.meter.gave_up(fault)

    def _recall(self, key: str) -> Any:
        known = self._answers.get(key) if self._answers is not None else None
        if known is None:
            return None
        try:
            answer = answer_from_json(known.value)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"the stored answer {key} is none of an LM ({type(error).__name__}: {error}); `progspace store check "
                "--delete` takes out what is damaged, and it is bought again when it is needed"
            ) from error
        tokens = known.input_tokens, known.output_tokens
        usd = self.worth(*tokens)
        _log(self.model, key, *tokens, usd if self.meter.budget.usd is not None else None)
        self.meter.answered(key, *tokens, usd)
        return answer

    def worth(self, input_tokens: int, output_tokens: int) -> float:
        """What an answer cost, in US dollars, where money is limited; 0 where that is not known."""
        if self.meter.budget.usd is None:
            return 0.0
        return 0.0 if self._price is None else self._price.of(input_tokens, output_tokens) * self._share

    @functools.cached_property
    def _price(self) -> Price | None:
        return price_of(self.lm)

    @property
    def _share(self) -> float:
        return price_share(getattr(self.lm, "_engine_spec", None))

    def _remember(self, key: str, outputs: Any, listener: _Listener, seconds: float) -> Any:
        tokens_in, tokens_out = _tokens(listener.usage)
        if self._answers is not None and (value := answer_as_json(outputs)) is not None:
            self._answers.put(StoredAnswer(key, value, tokens_in, tokens_out, seconds))
        else:
            # It stays counted, under a key that nobody asks for again.
            self.meter.unanswered(key)
            key = uuid4().hex
        usd = listener.usd
        if usd is None and self._price is not None:
            usd = self._price.of_call(listener.usage)
        usd = None if usd is None else usd * self._share
        _log(self.model, key, tokens_in, tokens_out, usd if self.meter.budget.usd is not None else None)
        self.meter.answered(key, tokens_in, tokens_out)
        with _noted():
            self.meter.bought(usd)
        return outputs


def _log(model: str, key: str, input_tokens: int, output_tokens: int, usd: float | None = None) -> None:
    log = dspy.settings.get(CALLS)
    if log is not None:
        log.append(CallRecord(model, key, input_tokens, output_tokens, usd))


def _tokens(usage: dict[str, Any]) -> tuple[int, int]:
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)


def _describe(value: Any) -> Any:
    """What stands for an object in a key: its content where it can be said, else its type's name."""
    if isinstance(value, Request):
        parts = [(message.role, [repr(part) for part in message.parts]) for message in value.messages]
        told = ["request", value.model, repr(value.system), parts, repr(value.tools), repr(value.config)]
        system = value.system if isinstance(value.system, tuple) else ()
        media = _media([*system, *chain.from_iterable(message.parts for message in value.messages)])
        return [*told, media] if media else told
    return class_told(value) if isinstance(value, type) else repr(value)


def _media(parts: Iterable[Any]) -> list[str]:
    """Hashes of the images, sounds and files in parts of a prompt: their repr tells no more than how long they are."""
    found = []
    for part in parts:
        if isinstance(part, ToolResultPart):
            found += _media(part.content)
        elif getattr(part, "data", None) is not None or getattr(part, "path", None) is not None:
            found.append(hashlib.sha256(part.bytes).hexdigest())
    return found
