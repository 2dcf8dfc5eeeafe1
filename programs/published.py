"""Tasks from the files of published benchmarks, as these are published: BIG-bench Hard, GSM8K and SQuAD.

Nothing is downloaded, and none of the files ships with progspace: give the path of your own copy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import dspy

from ..errors import DataError
from . import metrics
from .examples import parsed
from .task import Task

__all__ = ["PUBLISHED", "GradeSchoolMath", "Reading", "bbh", "gsm8k", "squad"]

_CHOICES = 20
"""A BIG-bench Hard task with more different targets than this is one of free answers."""
_CALCULATED = re.compile(r"<<[^>]*>>")


class GradeSchoolMath(dspy.Signature):
    """Solve the problem; the answer is a number."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Reading(dspy.Signature):
    """Answer the question with a few words of the passage. If it does not hold the answer, say: unanswerable."""

    passage: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


def bbh(path: str | Path, **settings: Any) -> Task:
    """Makes a task of a file of BIG-bench Hard (`Suzgun et al. 2022 <https://arxiv.org/abs/2210.09261>`_).

    Where there are few different targets, they are the choices. The instruction names the task as its file does.

    Args:
        path: ``boolean_expressions.json``, say: ``{"examples": [{"input": …, "target": …}]}``.
        settings: Of the `Task`.

    Raises:
        DataError: It is no such file.
    """
    path = Path(path)
    rows = [
        {"question": str(_field(row, "input", path, number)), "answer": str(_field(row, "target", path, number))}
        for number, row in enumerate(_list(_read(path), "examples", path), 1)
    ]
    targets = tuple(sorted({row["answer"] for row in rows}))
    few = len(targets) <= _CHOICES
    kind: Any = Literal[targets] if few else str
    signature = dspy.Signature(
        {"question": (str, dspy.InputField()), "answer": (kind, dspy.OutputField())},
        f"Answer the question: {path.stem.replace('_', ' ')}.",
    )
    metric = metrics.choice("answer") if few else metrics.exact_match("answer")
    settings = {"name": path.stem.replace("_", "-"), **settings}
    return Task(dspy.Predict(signature), rows, ["question"], metric=metric, **settings)


def gsm8k(path: str | Path, **settings: Any) -> Task:
    """Makes a task of a file of GSM8K (`Cobbe et al. 2021 <https://arxiv.org/abs/2110.14168>`_).

    The worked solution stands in each example as ``reasoning``, without the calculator's marks, so that demonstrations
    can show it.

    Args:
        path: ``train.jsonl``: ``{"question": …, "answer": "… #### 72"}`` a line.
        settings: Of the `Task`: ``test="test.jsonl"`` is read in the same way.

    Raises:
        DataError: It is no such file.
    """
    if isinstance(sealed := settings.get("test"), str | Path):
        settings["test"] = list(_solved(Path(sealed)))
    program, rows = dspy.ChainOfThought(GradeSchoolMath), list(_solved(Path(path)))
    return Task(program, rows, ["question"], metric=metrics.numeric("answer"), **{"name": "gsm8k", **settings})


def squad(path: str | Path, **settings: Any) -> Task:
    """Makes a task of a file of SQuAD 1.1 or 2.0 (`Rajpurkar et al. 2018 <https://arxiv.org/abs/1806.03822>`_).

    Scored by F1 against the best of the annotators' answers; a question without any wants an abstention.

    Args:
        path: ``train-v2.0.json``, say.
        settings: Of the `Task`: ``test="dev-v2.0.json"`` is read in the same way.

    Raises:
        DataError: It is no such file.
    """
    if isinstance(sealed := settings.get("test"), str | Path):
        settings["test"] = list(_questions(Path(sealed)))
    metric = metrics.answer_f1("answer", gold="answers")
    rows = list(_questions(Path(path)))
    settings = {"name": "squad", **settings}
    return Task(dspy.Predict(Reading), rows, ["passage", "question"], metric=metric, **settings)


PUBLISHED: dict[str, Callable[..., Task]] = {"bbh": bbh, "gsm8k": gsm8k, "squad": squad}
"""By the name that stands before the path on the command line: ``gsm8k:train.jsonl``."""


def _solved(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        row = parsed(line, path, number)
        reasoning, marked, answer = str(_field(row, "answer", path, number)).rpartition("####")
        if not marked:
            raise DataError("has no '#### NUMBER' at its end", file=str(path), row=number, field="answer")
        worked = _CALCULATED.sub("", reasoning).strip()
        yield {"question": _field(row, "question", path, number), "reasoning": worked, "answer": answer.strip()}


def _questions(path: Path) -> Iterator[dict[str, Any]]:
    for article in _list(_read(path), "data", path):
        for paragraph in _list(article, "paragraphs", path):
            for row in _list(paragraph, "qas", path):
                found = [_field(each, "text", path, None) for each in _list(row, "answers", path)]
                yield {
                    "passage": _field(paragraph, "context", path, None),
                    "question": _field(row, "question", path, None),
                    "answer": found[0] if found else "unanswerable",
                    "answers": list(dict.fromkeys(found)),
                }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", file=str(path)) from error


def _read(path: Path) -> Any:
    return parsed(_text(path), path)


def _field(row: Any, field: str, path: Path, number: int | None) -> Any:
    if not isinstance(row, dict) or field not in row:
        raise DataError("is missing; is it a file of another benchmark?", file=str(path), row=number, field=field)
    return row[field]


def _list(row: Any, field: str, path: Path) -> list[Any]:
    found = _field(row, field, path, None)
    if not isinstance(found, list):
        raise DataError("is no list; is it a file of another benchmark?", file=str(path), field=field)
    return found
