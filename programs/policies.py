"""A ready-made demo: the policies of a company that does not exist, with dates and rights, and questions about them.

All of it was written for progspace. No LM has read it before, so what a program knows of it, it was shown.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import dspy

from . import metrics
from .rag import QuestionAnswering
from .task import Task

__all__ = ["CONFIDENTIAL", "questions", "task", "write_policies"]

_DATA = files("progspace.programs").joinpath("data")
CONFIDENTIAL = (
    "acquisition.md",
    "customer-credit.md",
    "disciplinary-cases.md",
    "restructuring.md",
    "salary-bands.md",
    "treasury.md",
)
"""The policies that only some may read: those of the groups that their front matter names."""


def write_policies(folder: str | Path, *, changed: bool = False) -> Path:
    """Writes the policies into a folder, as Markdown files whose front matter tells title, date and groups.

    Args:
        folder: Where to; made if it is missing.
        changed: Whether the policy on remote work is the later one.

    Returns:
        The folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(len(list(write_policies(folder).glob("*.md"))))
    28
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ["policies", *(["policies_changed"] if changed else [])]:
        for policy in _DATA.joinpath(kind).iterdir():
            if policy.name.endswith(".md"):
                (folder / policy.name).write_text(policy.read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def questions(*kinds: str) -> list[dspy.Example]:
    """Gives the questions, with ``question`` as their input.

    Each has ``answers``, all right, none for what no policy tells; ``source``, the file that tells; ``group``,
    whose member may read that, empty for everyone; ``kind``; and of the policy that changes, ``changed_answers``.

    Args:
        kinds: ``number``, ``name``, ``date``, ``time``, ``place``, ``change``, ``confidential``, ``unanswerable``; all
            by default.

    >>> questions("unanswerable")[0].question
    'How many days of paid leave are there for moving house?'
    """
    lines = _DATA.joinpath("policies_questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [dspy.Example(**row).with_inputs("question") for row in rows if not kinds or row["kind"] in kinds]


def task(retriever: Any, *, seed: int = 0) -> Task:
    """Makes the task of answering what everyone may know, and of declining what no policy tells.

    Args:
        retriever: Of the policies.
        seed: Of the split.

    >>> task(lambda question: []).inputs
    ('question',)
    """
    return Task(
        program=QuestionAnswering(retriever),
        examples=[example for example in questions() if example.kind not in ("confidential", "change")],
        inputs=["question"],
        metric=metrics.answer_f1(gold="answers"),
        name="policies",
        seed=seed,
    )
