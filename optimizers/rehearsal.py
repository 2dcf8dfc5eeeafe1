"""Runs a program without its LM: renders the prompts that it would send, and counts their tokens."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_origin

import dspy

from ..errors import LMError
from ..lms.journal import JournaledLM
from ..lms.local import LocalEngine
from ..programs.answering import REASONING, Answering
from ..programs.compact import CompactAdapter, offers
from ..programs.copying import copied
from ..programs.fields import choices_of
from ..programs.program import Manner, Program
from ..programs.prompt_text import content_text
from ..programs.structure_hash import all_predictors

__all__ = ["CHARACTERS_A_TOKEN", "Rehearsed", "counts_exactly", "rehearse"]

CHARACTERS_A_TOKEN = 4
"""Of English in the tokenizers that most LMs have; where the LM's own tokenizer is not at hand."""
_MOST_TOKENS = 256  # of an answer, where neither LM nor program limits it
_SOME_WORDS = "a few words of text that an answer may hold"
_REASONING = " ".join(["Some steps of reasoning, written out in a sentence or two before the answer."] * 3)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a program would ask for one example, a mean over some.

    Attributes:
        calls: LM calls.
        input_tokens: Of all of them.
        output_tokens: Of all of them, if the LM answers just what it is asked.
        most_output_tokens: Of all of them, if every answer runs up to its limit; the same where decoding is held to a
            choice.
    """

    calls: float
    input_tokens: float
    output_tokens: float
    most_output_tokens: float


def counts_exactly(lm: dspy.BaseLM) -> bool:
    """Tells whether tokens are counted by the LM's own tokenizer."""
    return _engine(lm) is not None


def _engine(lm: dspy.BaseLM) -> LocalEngine | None:
    lm = lm.lm if isinstance(lm, JournaledLM) else lm
    engine = getattr(lm, "_engine_spec", None)
    return engine if isinstance(engine, LocalEngine) else None


def rehearse(program: dspy.Module, examples: Sequence[dspy.Example], lm: dspy.BaseLM) -> Rehearsed:
    """Renders what a program would ask for some examples; no LM is called.

    Each predictor is given what the predictors before it would say, as far as the examples tell; a field that they do
    not tell of holds the first of its choices, or a few words. An answer is taken to be read at the first try. Where
    the program stops at what it was told, or asks an LM past its predictors or by an adapter that it brings along, each
    of its predictors is rehearsed alone.

    Args:
        program: Any module.
        examples: With inputs set.
        lm: What would be asked: its tokenizer counts where it is embedded, else four characters are a token.
    """
    if any(predictor.lm is not None for _, predictor in all_predictors(program)):
        program = copied(program)
        for _, predictor in all_predictors(program):
            predictor.lm = None if predictor.lm is None else _Silent(predictor.lm)
    adapter = _Rehearsal(program, lm)
    module = program.module if isinstance(program, Program) else program
    for example in examples:
        adapter.known = dict(example.toDict())
        with dspy.context(lm=_Silent(lm), adapter=adapter, trace=None, track_usage=False):
            try:
                module(**example.inputs())
            except Exception:
                adapter.alone(module)
    count = max(1, len(examples))
    sums = (adapter.calls, adapter.input_tokens, adapter.output_tokens, adapter.most_output_tokens)
    return Rehearsed(*(total / count for total in sums))


class _Silent(dspy.BaseLM):
    """Stands for an LM, and is asked nothing."""

    def __init__(self, lm: dspy.BaseLM) -> None:
        super().__init__(lm.model, lm.model_type, cache=False)
        self.kwargs, self.lm = lm.kwargs, lm

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise LMError(f"{self.model} is not asked in a rehearsal")

    async def acall(self, *arguments: Any, **settings: Any) -> Any:
        return self(*arguments, **settings)


class _Rehearsal(dspy.ChatAdapter):
    """Writes every prompt, sends none, and answers with what the example says."""

    def __init__(self, program: dspy.Module, lm: dspy.BaseLM) -> None:
        super().__init__()
        self.known: dict[str, Any] = {}
        self.calls = self.input_tokens = self.output_tokens = self.most_output_tokens = 0
        self._count = _counter(lm)
        self._declared = dspy.settings.adapter or dspy.ChatAdapter()
        manners = program.manners if isinstance(program, Program) else {}
        module = program.module if isinstance(program, Program) else program
        self._manners = {id(each): manners[name] for name, each in module.named_predictors() if name in manners}

    def __call__(
        self,
        lm: dspy.BaseLM,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Counts a prompt and its answer."""
        lm = lm.lm if isinstance(lm, _Silent) else lm
        callers = dspy.settings.caller_modules or [None]
        own = self._manners.get(id(callers[-1]), Manner())
        if own.nearest is not None:
            demos = [dict(each) for each in own.nearest.pool[: own.nearest.count]]
        inner = own.format.adapter() if own.format else self._declared
        way = own.answering or Answering()
        outputs = {name: self._said(name, info.annotation) for name, info in signature.output_fields.items()}
        decided = _decided(inner, lm, signature)
        messages = way.adapter(inner).format(signature, [dict(demo) for demo in demos], inputs)
        prompt = self._count(messages, raw=isinstance(inner, CompactAdapter) and offers(lm, "apply_chat_template"))
        written = self._count.text(inner.format_assistant_message_content(signature, outputs))
        most = lm_kwargs.get("max_tokens") or lm.kwargs.get("max_tokens") or _MOST_TOKENS
        several = lm_kwargs.get("n") or lm.kwargs.get("n") or 1
        asked = way.votes * (several if isinstance(inner, CompactAdapter) else 1)  # DSPy's formats ask for all at once
        calls = asked
        if way.reasoning and REASONING not in signature.fields:
            thought = self._count.text(_REASONING)
            written += thought
            if isinstance(inner, CompactAdapter) and inner.decoding != "free":
                calls, prompt = 2 * calls, 2 * prompt + thought
                decided = False
        self.calls += calls
        self.input_tokens += asked * prompt
        self.output_tokens += way.votes * several * min(written, most)
        self.most_output_tokens += way.votes * several * (written if decided else most)
        return [outputs]

    def alone(self, module: dspy.Module) -> None:
        """Rehearses each predictor by itself."""
        for predictor in module.predictors():
            fields = predictor.signature.input_fields
            predictor(**{name: self._said(name, info.annotation) for name, info in fields.items()})

    async def acall(self, *arguments: Any, **settings: Any) -> list[dict[str, Any]]:
        """As a call."""
        return self(*arguments, **settings)

    def _said(self, name: str, annotation: Any) -> Any:
        if name in self.known:
            given = self.known[name]
            return given[0] if isinstance(given, list) and given and annotation is str else given
        if choices := choices_of(annotation):
            return next(iter(choices.values()))
        plain: Mapping[Any, Any] = {int: 1, float: 1.0, bool: True, str: _SOME_WORDS, dict: {}, list: []}
        kind = get_origin(annotation) or annotation
        if name == REASONING:
            return _REASONING
        return plain.get(kind, None if isinstance(kind, enum.EnumMeta) else _SOME_WORDS)


def _decided(adapter: dspy.Adapter, lm: dspy.BaseLM, signature: type[dspy.Signature]) -> bool:
    """Tells whether the LM can answer nothing but one of a few choices."""
    outputs = list(signature.output_fields.values())
    if not isinstance(adapter, CompactAdapter) or len(outputs) != 1 or not choices_of(outputs[0].annotation):
        return False
    needed = "structured_outputs" if adapter.decoding == "constrained" else "choice_logprobs"
    return adapter.decoding != "free" and offers(lm, needed)


class _Counter:
    """Counts the tokens of texts and of prompts."""

    def __init__(self, count: Callable[[str], int], render: Callable[[list[dict[str, str]]], str]) -> None:
        self.text, self._render = count, render

    def __call__(self, messages: Sequence[dict[str, Any]], *, raw: bool) -> int:
        texts = [{"role": str(each["role"]), "content": content_text(each["content"])} for each in messages]
        return self.text("".join(each["content"] for each in texts) if raw else self._render(texts))


def _counter(lm: dspy.BaseLM) -> _Counter:
    local = _engine(lm)
    if local is not None:
        engine = local.engine
        longest = engine.context_length
        return _Counter(lambda text: min(longest, len(engine.encode(text))), engine.render)
    # A message's frame is some four tokens.
    return _Counter(
        lambda text: -(-len(text) // CHARACTERS_A_TOKEN),
        lambda messages: "".join(each["content"] + "    " * CHARACTERS_A_TOKEN for each in messages),
    )
