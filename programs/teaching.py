"""What a predictor did, as a text to train on: the prompt of a bare program, and the answer that it shall give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import dspy

from .candidate import Candidate
from .compact import CompactAdapter, offers
from .fields import choices_of
from .formats import Decoding, Format

__all__ = ["bare", "training_rows"]

_NO_INSTRUCTION = " "  # DSPy writes one of its own in the place of an empty one


def bare(candidate: Candidate, signatures: Mapping[str, type[dspy.Signature]], lm: str) -> list[Candidate]:
    """Gives what is left of a candidate where weights take the place of its prompts: the inputs, and no more.

    Several, where what was learnt can be read in several ways: the likelier one first.

    Args:
        candidate: What it retrieves, and what is not among the signatures, stays.
        signatures: Of the predictors that are trained, by name.
        lm: The trained LM's name.

    >>> signature = dspy.Signature("text -> label", "Say in one word how it sounds.")
    >>> (student,) = bare(Candidate.declared(dspy.Predict(signature)), {"self": signature}, "tuned")
    >>> student.predictors["self"].demonstrations, student.origin
    ((), 'bare prompt, compact, free, on trained weights')
    """
    chosen = [info for each in signatures.values() for info in each.output_fields.values()]
    scored = any(choices_of(info.annotation) for info in chosen)
    decodings: tuple[Decoding, ...] = ("scored", "calibrated") if scored else ("free",)
    students = []
    for decoding in decodings:
        student, layout = candidate, Format(kind="compact", decoding=decoding)
        for name in signatures:
            student = student.with_choice(
                predictor=name,
                instruction=_NO_INSTRUCTION,
                demonstrations=(),
                nearest=None,
                answering=None,
                format=layout,
                lm=lm,
            )
        students.append(student.model_copy(update={"origin": f"bare prompt, {layout.label}, on trained weights"}))
    return students


def training_rows(
    signatures: Mapping[str, type[dspy.Signature]],
    taught: Mapping[str, Sequence[Mapping[str, Any]]],
    lm: dspy.BaseLM,
) -> tuple[list[dict[str, Any]], Literal["chat", "completion"]]:
    """Writes what predictors did as rows to train on, in DSPy's terms, and says in which of its formats they are.

    The prompts are those that `bare` programs ask, to the letter.

    Args:
        signatures: Of the predictors, by name.
        taught: The values of each predictor's fields, by its name; those that lack one are left out.
        lm: That is trained: one that takes raw prompts is asked to go on with a text, another one to answer messages.

    >>> signature = dspy.Signature("text -> label")
    >>> shown = {"text": "Superb.", "label": "positive"}
    >>> rows, form = training_rows({"self": signature}, {"self": [shown]}, dspy.LM("openai/gpt-4.1-nano"))
    >>> form, [(message["role"], message["content"].splitlines()) for message in rows[0]["messages"]]
    ('chat', [('user', ['Text: Superb.', 'Label:']), ('assistant', ['positive'])])
    """
    adapter, raw = CompactAdapter(), offers(lm, "apply_chat_template")
    rows: list[dict[str, Any]] = []
    for name, signature in signatures.items():
        asked = signature.with_instructions(_NO_INSTRUCTION)
        for values in taught.get(name, ()):
            if not all(field in values for field in asked.fields):
                continue  # the passages that were retrieved for it are not to be shown
            inputs = {field: values[field] for field in asked.input_fields}
            outputs = {field: values[field] for field in asked.output_fields}
            messages = [each for each in adapter.format(asked, [], inputs) if each["content"]]
            answer = adapter.format_assistant_message_content(asked, outputs)
            if raw:
                # A completion goes on after "Label:" with a space.
                prompt = "".join(each["content"] for each in messages)
                rows.append({"prompt": prompt, "completion": f" {answer}"})
            else:
                rows.append({"messages": [*messages, {"role": "assistant", "content": answer}]})
    return rows, "completion" if raw else "chat"
