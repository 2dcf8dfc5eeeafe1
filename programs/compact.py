"""A completion-like prompt format: short, what is constant first, and outputs held to their type where the LM can."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.adapters.types import Code, History, Type
from dspy.lm15 import Config, Message, Request, Response, TextPart
from dspy.utils.exceptions import AdapterParseError
from pydantic import create_model

from .fields import choices_of, field_label, parse_field, type_hint, write_field

__all__ = ["CompactAdapter", "offers"]

_SETTINGS = ("temperature", "max_tokens", "top_p", "seed")
_UNUSED = {"n", "rollout_id", "cache", "num_retries", "parallel_tool_calls", "stop", "max_completion_tokens"}


def offers(lm: dspy.BaseLM, parameter: str) -> bool:
    """Tells whether an LM takes a parameter: ``structured_outputs``, ``choice_logprobs``, ``response_format``, …"""
    return parameter in lm.supported_params


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is sent, and how the answer is read."""

    layout: str  # "lines": a line a field; "json": one JSON object
    choices: dict[str, Any]  # the texts that are offered, where the only output is a choice
    scored: bool
    config: dict[str, Any]
    extensions: dict[str, Any]


class CompactAdapter(dspy.Adapter):
    r"""Formats a signature as text to be continued.

    The prompt is the instruction, the demonstrations, then the input, a line a field; the LM goes on after the first
    output's label. An LM that takes raw prompts (``apply_chat_template``) gets just that; a chat LM gets the
    instruction and demonstrations as the system's message and the input as the user's. Values of several lines are
    written as JSON strings.

    Decoding ``constrained`` asks the LM for one of the choices of a single ``Literal``, ``Enum`` or ``bool`` output,
    and otherwise for JSON of the outputs' schema. ``scored`` and ``calibrated`` take the choice of the highest
    log-probability (`Zhao et al. 2021 <https://arxiv.org/abs/2102.09690>`_ on why it wants calibrating); they need
    such a single output and an LM that offers ``choice_logprobs``. Where the LM offers less, decoding is free.

    Args:
        decoding: ``free``, ``constrained``, ``scored`` or ``calibrated``.
        hints: Whether to name choices and types under the instruction.
        biases: With ``calibrated``, the log-probability to take off each choice, by its text.

    >>> adapter = CompactAdapter()
    >>> signature = dspy.Signature("text -> label", "Classify the sentiment.")
    >>> for message in adapter.format(signature, [{"text": "Superb.", "label": "positive"}], {"text": "Dull."}):
    ...     print(message["content"], end="")
    Classify the sentiment.
    <BLANKLINE>
    Text: Superb.
    Label: positive
    <BLANKLINE>
    Text: Dull.
    Label:
    """

    def __init__(
        self, *, decoding: str = "free", hints: bool = False, biases: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        self.decoding, self.hints, self.biases = decoding, hints, dict(biases or {})

    # What DSPy calls

    def __call__(
        self,
        lm: dspy.BaseLM,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Asks the LM; gives the outputs of each of ``n`` answers."""
        plan, request = self._prepare(lm, lm_kwargs, signature, demos, inputs)
        rollouts = _rollouts(lm, lm_kwargs)
        return [self._read(signature, plan, lm(request, **rollout)) for rollout in rollouts]

    async def acall(
        self,
        lm: dspy.BaseLM,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Asks the LM; gives the outputs of each of ``n`` answers."""
        plan, request = self._prepare(lm, lm_kwargs, signature, demos, inputs)
        rollouts = _rollouts(lm, lm_kwargs)
        return [self._read(signature, plan, await lm.acall(request, **rollout)) for rollout in rollouts]

    def format(
        self, signature: type[dspy.Signature], demos: list[dict[str, Any]], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Gives the prompt as two messages: what is constant, and the input."""
        constant, tail = self._prompt(signature, demos, inputs, layout="lines")
        return [{"role": "system", "content": constant}, {"role": "user", "content": tail}]

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """Reads the outputs from what the LM wrote after the first output's label.

        Raises:
            AdapterParseError: An output is missing or not of its type.
        """
        return self._parse(signature, completion, layout="lines")

    def format_assistant_message_content(
        self, signature: type[dspy.Signature], outputs: dict[str, Any], missing_field_message: str | None = None
    ) -> str:
        """Writes outputs as the LM would, from after the first output's label; the inverse of `parse`."""
        written = self._outputs(signature.output_fields, outputs, "lines", missing_field_message)
        return written.removeprefix(self._answer_label(signature, "lines")).lstrip(" ")

    # The prompt

    def _prompt(
        self, signature: type[dspy.Signature], demos: list[dict[str, Any]], inputs: dict[str, Any], *, layout: str
    ) -> tuple[str, str]:
        head = signature.instructions.strip()
        given, wanted = signature.input_fields, signature.output_fields  # DSPy finds them anew at each look
        if self.hints or layout == "json":
            head += "".join(
                f"\n{field_label(name)} {hint}" for name, info in wanted.items() if (hint := type_hint(info.annotation))
            )
        blocks = [
            self._inputs(given, demo) + written
            for demo in demos
            if (written := self._outputs(wanted, demo, layout, None))
        ]
        constant = "".join(f"{block}\n\n" for block in (head, *blocks) if block)
        return constant, self._inputs(given, inputs) + self._answer_label(signature, layout)

    @staticmethod
    def _inputs(fields: Mapping[str, Any], values: Mapping[str, Any]) -> str:
        lines = []
        for name, info in fields.items():
            if isinstance(value := values.get(name), (History, Type)) and not isinstance(value, Code):
                raise TypeError(f"the compact format is text, and {name} is a {type(value).__name__}; use chat or json")
            if name in values:
                lines.append(f"{field_label(name)} {write_field(value, info.annotation)}\n")
        return "".join(lines)

    @staticmethod
    def _answer_label(signature: type[dspy.Signature], layout: str) -> str:
        if layout == "json":
            return "JSON:"
        return field_label(next(iter(signature.output_fields)))

    def _outputs(self, fields: Mapping[str, Any], values: Mapping[str, Any], layout: str, missing: str | None) -> str:
        # An output that is not there is left out: written as null, it shows the LM to leave it empty. None is no value
        # of a plain class: DSPy puts it where an LM has given nothing.
        known = {
            name: value
            for name, info in fields.items()
            if (value := values.get(name, missing)) is not None
            or (name in values and not isinstance(info.annotation, type))
        }
        if layout == "json":
            return "JSON: " + json.dumps(_plain(known), ensure_ascii=False) if known else ""
        return "\n".join(
            f"{field_label(name)} {write_field(value, fields[name].annotation)}" for name, value in known.items()
        )

    # The call

    def _prepare(
        self,
        lm: dspy.BaseLM,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> tuple[_Plan, Request]:
        plan = self._plan(lm, signature)
        settings = {**lm.kwargs, **lm_kwargs}
        if unknown := {key for key, value in lm_kwargs.items() if value is not None} - {*_SETTINGS, *_UNUSED}:
            raise TypeError(f"the compact format does not know the LM settings {', '.join(sorted(unknown))}")
        config = {key: settings[key] for key in _SETTINGS if settings.get(key) is not None}
        config.setdefault("max_tokens", settings.get("max_completion_tokens"))
        constant, tail = self._prompt(signature, demos, inputs, layout=plan.layout)
        extensions = dict(plan.extensions)
        if offers(lm, "apply_chat_template"):
            extensions["apply_chat_template"] = False
        request = Request(
            model=lm.model,
            system=constant or None,
            messages=(Message.user(tail),),
            config=Config(**{**config, **plan.config}, extensions=extensions or None),
        )
        return plan, request

    def _plan(self, lm: dspy.BaseLM, signature: type[dspy.Signature]) -> _Plan:
        outputs = list(signature.output_fields.values())
        choices = choices_of(outputs[0].annotation) if len(outputs) == 1 else {}
        completion = offers(lm, "apply_chat_template")
        # A completion goes on after "Label:" with a space; a chat answer begins anew.
        offered = {f" {text}" if completion else text: text for text in choices}
        structured = {"structured_outputs": {"choice": list(offered)}}
        if self.decoding in ("scored", "calibrated") and choices and offers(lm, "choice_logprobs"):
            return _Plan("lines", offered, True, {"logprobs": len(choices)}, structured)
        if self.decoding == "constrained" and choices and offers(lm, "structured_outputs"):
            return _Plan("lines", offered, False, {}, structured)
        if self.decoding == "constrained" and not choices and offers(lm, "response_format"):
            schema = {"type": "json_schema", "name": "outputs", "schema": _schema(signature)}
            return _Plan("json", {}, False, {"response_format": schema}, {})
        return _Plan("lines", {}, False, {"stop": self._stops(signature)} if completion else {}, {})

    @staticmethod
    def _stops(signature: type[dspy.Signature]) -> tuple[str, ...]:
        next_example = ["\n" + field_label(name) for name in list(signature.input_fields)[:1]]
        single = [info for info in signature.output_fields.values() if info.annotation is not str]
        if len(signature.output_fields) == 1 and single:
            return ("\n",)
        return ("\n\n", *next_example)

    # The answer

    def _read(self, signature: type[dspy.Signature], plan: _Plan, response: Response) -> dict[str, Any]:
        # What the LM thought stands in parts of its own, and is no part of the answer.
        text = "".join(part.text for part in response.message.parts if isinstance(part, TextPart))
        if not plan.scored:
            return self._parse(signature, text, layout=plan.layout)
        top = response.logprobs[0].top if response.logprobs else ()
        scores = {plan.choices[entry.token]: entry.logprob for entry in top if entry.token in plan.choices}
        if not scores:
            raise AdapterParseError(
                adapter_name=type(self).__name__,
                signature=signature,
                lm_response=text,
                message="The LM gave no log-probability of any choice.",
            )
        biases = self.biases if self.decoding == "calibrated" else {}
        best = max(scores, key=lambda choice: scores[choice] - biases.get(choice, 0.0))
        name, info = next(iter(signature.output_fields.items()))
        # The evidence goes with the answer, for whoever fits biases or wants to know how sure the LM was.
        return {name: choices_of(info.annotation)[best], "choice_logprobs": scores}

    def _parse(self, signature: type[dspy.Signature], completion: str, *, layout: str) -> dict[str, Any]:
        fields = signature.output_fields
        try:
            if layout == "json":
                values = _model(signature).model_validate_json(completion.strip())
                return {name: getattr(values, name) for name in fields}
            texts = self._split(signature, completion)
            return {name: parse_field(texts[name], info.annotation) for name, info in fields.items()}
        except (ValueError, KeyError) as error:
            missing = f"no line begins with {error}" if isinstance(error, KeyError) else str(error)
            raise AdapterParseError(
                adapter_name=type(self).__name__, signature=signature, lm_response=completion, message=missing
            ) from error

    @staticmethod
    def _split(signature: type[dspy.Signature], completion: str) -> dict[str, str]:
        """Cuts a completion at the labels of the outputs; the first label may be repeated or left out."""
        labels = [(name, field_label(name)) for name in signature.output_fields]
        label = labels[0][1]
        text = completion.strip()
        rest = "\n" + (text if text.startswith(label) else f"{label} {text}")
        values: dict[str, str] = {}
        for (name, label), following in zip(labels, [*labels[1:], None], strict=True):
            start = rest.find("\n" + label)
            if start < 0:
                raise KeyError(label)
            rest = rest[start + 1 + len(label) :]
            end = rest.find("\n" + following[1]) if following else len(rest)
            values[name] = rest[: end if end >= 0 else len(rest)]
        return values


def _rollouts(lm: dspy.BaseLM, lm_kwargs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Call settings for each of ``n`` answers; an explicit request gives one."""
    count = lm_kwargs.get("n") or lm.kwargs.get("n") or 1
    base = lm_kwargs.get("rollout_id")
    if count == 1:
        return [{"rollout_id": base} if base is not None else {}]
    return [{"rollout_id": (base or 0) * count + index} for index in range(count)]


def _plain(values: dict[str, Any]) -> Any:
    from dspy.adapters.utils import serialize_for_json

    return serialize_for_json(values)


def _model(signature: type[dspy.Signature]) -> Any:
    fields: Any = {name: (info.annotation, ...) for name, info in signature.output_fields.items()}
    return create_model("Outputs", **fields)


def _schema(signature: type[dspy.Signature]) -> dict[str, Any]:
    schema: dict[str, Any] = _model(signature).model_json_schema()
    return schema
