"""Scores code by running it on checks, in a sandbox."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dspy

from ..errors import DataError
from .sandbox import Limits, Run, Sandbox
from .score import Score

__all__ = ["Check", "PassesTests", "passes_tests"]

LIMITS = Limits(seconds=5.0, cpu_seconds=2, memory=256 * 2**20)
"""Of one check."""
_SANDBOX = Sandbox(LIMITS)
_SHOWN = 2  # failures that a feedback tells of
_LENGTH = 160  # characters of each value in it

# What the code prints goes elsewhere: only a value is an answer. Values are told as JSON, in which lists stand for what
# JSON lacks, each with its kind first.
_DRIVER = """
import json, os, sys

def plain(value):
    if value is None or value is True or value is False:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, dict):
        return ["dict", *([plain(key), plain(each)] for key, each in value.items())]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return ["set" if kind is frozenset else kind.__name__, *map(plain, value)]
    raise TypeError(f"{{type(value).__name__}} is no plain value")

answers = os.dup(1)
os.dup2(2, 1)
sys.stdout = sys.stderr
solution = sys.modules["solution"] = type(sys)("solution")
exec(compile({code!r}, "solution.py", "exec"), solution.__dict__)
value = eval(compile({expression!r}, "check", "eval"), solution.__dict__)
with open(answers, "w") as told:
    json.dump(plain(value), told)
"""


@dataclass(frozen=True, slots=True)
class Check:
    """An expression, and the value that it must have.

    Attributes:
        expression: Python source; it calls what the code defines.
        expected: Its value: plain data.
    """

    expression: str
    expected: Any

    @classmethod
    def read(cls, text: str, field: str = "tests") -> Check:
        """Reads ``expression == literal``, with or without ``assert`` before it.

        Raises:
            DataError: It is something else.

        >>> Check.read("assert area(2, 3) == 6")
        Check(expression='area(2, 3)', expected=6)
        """
        try:
            (statement,) = ast.parse(text.strip()).body
            asked = statement.test if isinstance(statement, ast.Assert) else getattr(statement, "value", None)
            if isinstance(asked, ast.Compare) and len(asked.ops) == 1 and isinstance(asked.ops[0], ast.Eq):
                return cls(ast.unparse(asked.left), ast.literal_eval(asked.comparators[0]))
        except (SyntaxError, ValueError):
            pass
        raise DataError(f"the check {text!r} must be `expression == literal`, as `area(2, 3) == 6`", field=field)


class _AllOrNothing(Score):
    good_from = 1.0


@dataclass(frozen=True)
class PassesTests:
    """Scores code by the share of the example's checks that it passes, each run in a sandbox of its own.

    The sandbox is given the code and a check's expression, and answers with the expression's value; what is expected
    never enters it, and is compared outside. So printing, leaving early, changing builtins, or reading the program
    that it runs in gains the code nothing: it passes a check by giving the right value, and by that alone. What remains
    possible is to know or to guess the value: checks that leave a choice of two are to be balanced, and those of the
    task must not be told in the prompt.

    Attributes:
        field: The output that is code.
        tests: The example's field with its checks, a list of `Check` texts.
        sandbox: Where it is run.
    """

    field: str = "code"
    tests: str = "tests"
    sandbox: Sandbox = _SANDBOX

    @cached_property
    def name(self) -> str:
        """Identity of the metric: other limits or modules may give another score."""
        content = [dataclasses.asdict(self.sandbox.limits), sorted(self.sandbox.modules.items()), _DRIVER]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
        return f"passes_tests({self.field}, {self.tests})@{digest}"

    def __call__(self, example: dspy.Example, prediction: Any, trace: Any = None) -> Any:
        """Runs the checks; gives a score from 0 to 1 and what failed, with a trace whether all passed.

        Raises:
            DataError: The example has no checks, or one is not as it must be.
            SandboxMissing: There is no sandbox here; nothing was run.
        """
        checks = self._checks(example)
        self.sandbox.check()
        code = prediction.get(self.field) if hasattr(prediction, "get") else None
        if isinstance(code, str) and code.strip():
            faults = [fault for check in checks if (fault := self._fault(code, check)) is not None]
        else:
            faults = [f"the output has no {self.field}"] * len(checks)
        score = (len(checks) - len(faults)) / len(checks)
        judged = _AllOrNothing(score=score, feedback=_feedback(faults, len(checks)))
        return judged if trace is None else bool(judged)

    def _checks(self, example: dspy.Example) -> list[Check]:
        texts = example.get(self.tests)
        if isinstance(texts, str):
            texts = texts.splitlines()
        if not isinstance(texts, Sequence) or not texts:
            raise DataError("the example has no checks: a list of texts as `area(2, 3) == 6`", field=self.tests)
        return [Check.read(str(text), self.tests) for text in texts]

    def _fault(self, code: str, check: Check) -> str | None:
        """Runs one check, and tells what is wrong."""
        run = self.sandbox.run(_DRIVER.format(code=code, expression=check.expression))
        if run.stopped is None and run.stdout:
            try:
                found = _value(json.loads(run.stdout))
                right = bool(found == check.expected)
            except (ValueError, TypeError, LookupError, RecursionError):  # no answer of the driver's
                return f"{check.expression}: the code answered in the check's place"
            return None if right else f"{check.expression} gave {_cut(found)}, not {_cut(check.expected)}"
        return f"{check.expression}: {_reason(run)}"


def passes_tests(
    field: str = "code",
    tests: str = "tests",
    *,
    limits: Limits = LIMITS,
    modules: Mapping[str, str] | None = None,
) -> PassesTests:
    """Scores code by the share of the example's checks that it passes; see `PassesTests`.

    Args:
        field: The output that is Python source.
        tests: The example's field with its checks: texts of the form ``expression == literal``.
        limits: Of one check.
        modules: Source of modules that the code may import, by name, beside the standard library.

    >>> passes_tests().name.partition("@")[0]
    'passes_tests(code, tests)'
    """
    return PassesTests(field, tests, Sandbox(limits, dict(modules or {})))


def _value(told: Any) -> Any:
    """Reads what the driver's ``plain`` wrote."""
    if not isinstance(told, list):
        return told
    kind, *items = told
    if kind == "bytes":
        return bytes.fromhex(items[0])
    if kind == "dict":
        return {_value(key): _value(each) for key, each in items}
    return {"list": list, "tuple": tuple, "set": set}[kind](map(_value, items))


def _reason(run: Run) -> str:
    if run.stopped is not None:
        return f"stopped by its limit of {run.stopped}" if run.stopped != "signal" else "it crashed"
    last = run.stderr.rstrip().rpartition("\n")[2]
    return _short(last) if run.status and last else "it ended without a value"


def _feedback(faults: Sequence[str], checks: int) -> str:
    if not faults:
        return "All checks passed."
    told = "; ".join(dict.fromkeys(faults[:_SHOWN]))
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return f"{checks - len(faults)} of {checks} checks passed. {told}{more}."


def _cut(value: Any) -> str:
    return _short(repr(value))


def _short(text: str) -> str:
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"
