"""A program's prompts as text, with a mark where each input goes: for people to read."""

from __future__ import annotations

from typing import Any

import dspy

from .answering import Answering
from .program import Manner, Program

__all__ = ["content_text", "mark", "prompt_texts"]


def mark(field: str) -> str:
    """Stands in a prompt where an input goes.

    >>> mark("text")
    '⟦text⟧'
    """
    return f"⟦{field}⟧"


def prompt_texts(program: dspy.Module) -> dict[str, str]:
    """Gives the prompt of each predictor, by its name, as its adapter writes it; no LM is asked.

    Demonstrations that are chosen for each input are shown as those that stand first in their pool.

    >>> from .formats import Format
    >>> program = Program(dspy.Predict("text -> label"), {"self": Manner(format=Format(kind="compact"))})
    >>> print(prompt_texts(program)["self"].splitlines()[-2])
    Text: ⟦text⟧
    """
    module = program.module if isinstance(program, Program) else program
    manners = program.manners if isinstance(program, Program) else {}
    return {name: _text(predictor, manners.get(name, Manner())) for name, predictor in module.named_predictors()}


def _text(predictor: dspy.Predict, own: Manner) -> str:
    signature = predictor.signature
    demonstrations = [dict(each) for each in predictor.demos]
    if own.nearest is not None:
        demonstrations = [dict(each) for each in own.nearest.pool[: own.nearest.count]]
    adapter = (own.answering or Answering()).adapter(own.format.adapter() if own.format else dspy.ChatAdapter())
    try:
        messages = adapter.format(signature, demonstrations, {name: mark(name) for name in signature.input_fields})
    except Exception:  # an adapter or a field's type of the user's own may not take a mark: the search goes on
        return str(signature.instructions)
    return "\n\n".join(f"[{each['role']}]\n{content_text(each.get('content'))}" for each in messages)


def content_text(content: Any) -> str:
    """Gives the text of a message's content."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
