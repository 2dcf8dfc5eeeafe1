from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.errors import SandboxMissing
from progspace.programs.checks import Check, PassesTests, passes_tests
from progspace.programs.metrics import metric_identity, scored
from progspace.programs.sandbox import Limits, Sandbox


@pytest.fixture(scope="module")
def metric() -> PassesTests:
    made = ps.metrics.passes_tests(limits=Limits(seconds=20, cpu_seconds=1, memory=256 * 2**20))
    try:
        made.sandbox.check()
    except SandboxMissing as missing:
        pytest.skip(str(missing))
    return made


AREA = dspy.Example(task="…", tests=["area(2, 3) == 6", "assert area(4, 5) == 20", "area(0, 9) == 0"])


def score(metric: PassesTests, code: Any, example: dspy.Example = AREA) -> tuple[float, str]:
    given = metric(example, dspy.Prediction(code=code))
    return given.score, given.feedback


def test_the_score_is_the_share_of_checks_passed(metric: PassesTests) -> None:
    assert score(metric, "def area(a, b):\n    print('noise')\n    return a * b") == (1.0, "All checks passed.")
    some, why = score(metric, "def area(a, b):\n    return 6")
    assert some == pytest.approx(1 / 3)
    assert why == "1 of 3 checks passed. area(4, 5) gave 6, not 20; area(0, 9) gave 6, not 0."
    none, why = score(metric, "def area(a, b):\n    print('noise')\n    return a + c")
    assert (none, why) == (
        0.0,
        "0 of 3 checks passed. area(2, 3): NameError: name 'c' is not defined; "
        "area(4, 5): NameError: name 'c' is not defined; and 1 more.",
    )
    assert metric(AREA, dspy.Prediction(code="area = int.__mul__"), []) is True
    assert metric(AREA, dspy.Prediction(code="def area(a, b): return 6"), []) is False


@pytest.mark.parametrize(
    "code", ["", "  \n", None, "area = ", "\0", "x = '\ud800'", "def area(a, b): pass", "```\nx\n```"]
)
def test_what_is_no_solution_scores_nothing(metric: PassesTests, code: str | None) -> None:
    assert score(metric, code)[0] == 0.0


def test_every_plain_value_comes_through(metric: PassesTests) -> None:
    value = {"a": [1, 2.5, (None, True)], (1, "ü\n"): {3, 4}, 5: b"\x00\xff", "": "'; \\", "n": -(10**30), "e": {}}
    example = dspy.Example(tests=[f"give() == {value!r}", "give()['a'][2] == (None, True)"])
    assert score(metric, f"def give():\n    return {value!r}", example)[0] == 1.0
    named = "import collections, enum\nclass E(enum.IntEnum):\n    A = 6\nP = collections.namedtuple('P', 'x y')\n"
    example = dspy.Example(tests=["give() == (6, {'a': 1})"])
    assert score(metric, named + "def give():\n    return P(E.A, collections.Counter('a'))", example)[0] == 1.0
    assert "object is no plain value" in score(metric, "def give():\n    return object()", example)[1]
    assert score(metric, "def give():\n    return [6, {'a': 1}]", example)[0] == 0.0


GUESS = (
    "import os\nfor n in range(1, 64):\n    try:\n        os.write(n, b{!r})\n    except OSError:\n        pass\n"
    "os._exit(0)"
)
EQUAL = (
    "class Any:\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
    "    __hash__ = None\n    def __repr__(self): return '6'\ndef area(a, b): return Any()"
)


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(0)",
        "raise SystemExit",
        "print('All checks passed.')",
        "print(6); print(20); print(0)\nimport sys; sys.exit(0)",
        GUESS.format("True"),
        GUESS.format('["passed"]'),
        GUESS.format("[" * 60000),
        GUESS.format('["set", ["list"]]'),
        GUESS.format('["dict", 1]'),
        GUESS.format('"\\udcff'),
        GUESS.format("9" * 5000),
        EQUAL,
        "import builtins, json\nbuiltins.eval = builtins.exec = lambda *a: True\n"
        "json.dump = lambda v, f: f.write('true')",
        "import sys\nsys.modules['json'] = None\nraise AssertionError",
        "import sys\nframe = sys._getframe()\nwhile frame.f_back: frame = frame.f_back\n"
        "found = repr(frame.f_globals)\ndef area(a, b): return found",
        "import gc\nfound = [o for o in gc.get_objects() if isinstance(o, dict) and 'expected' in o]\n"
        "def area(a, b): return found and found[0]['expected']",
        "import atexit, os\natexit.register(lambda: os.write(1, b'true'))\ndef area(a, b): 1 / 0",
        "import threading, os\nthreading.Thread(target=lambda: [os.write(1, b'1') for _ in range(99)]).start()",
    ],
)
def test_a_verdict_is_not_forged(metric: PassesTests, code: str) -> None:
    assert score(metric, code)[0] == 0.0


def test_what_is_expected_never_enters_the_sandbox(metric: PassesTests) -> None:
    """All that the program can reach of its own process is looked through."""
    code = (
        "import gc, sys\nframe = sys._getframe()\ntexts = []\nwhile frame:\n"
        "    texts += map(repr, frame.f_globals.values())\n"
        "    texts += map(repr, frame.f_code.co_consts)\n    frame = frame.f_back\n"
        "texts += [repr(o) for o in gc.get_objects() if isinstance(o, (dict, list, tuple))]\n"
        "texts += [open('/sandbox/program.py').read()]\n"
        "value = '-'.join(('expected', 'value'))\n"
        "def look(word): return [any(part in text for text in texts) for part in (word, value)]"
    )
    example = dspy.Example(tests=["look('look(') == 'expected-value'"])
    assert "gave [True, False], not" in score(metric, code, example)[1]


def test_limits_are_told_of(metric: PassesTests) -> None:
    one = dspy.Example(tests=["f() == 1"])
    assert "stopped by its limit of CPU time" in score(metric, "while True: pass", one)[1]
    assert "stopped by its limit of memory" in score(metric, "x = bytearray(2**34)", one)[1]
    assert "stopped by its limit of output" in score(metric, "while True: print('x' * 1000)", one)[1]
    assert "it crashed" in score(metric, "import os; os.abort()", one)[1]
    assert len(score(metric, "def f(): return 'x' * 9999", one)[1]) < 400


@pytest.mark.parametrize(
    "check", ["area(2, 3)", "area(2, 3) > 5", "area(2) == f(3)", "1 == 1 == 1", "x = 1", "a ==", "", "a; b"]
)
def test_a_check_must_have_a_value(check: str) -> None:
    with pytest.raises(ps.DataError, match="expression == literal"):
        Check.read(check)


@pytest.mark.parametrize("tests", [None, [], "", 3])
def test_an_example_must_have_checks(tests: Any) -> None:
    with pytest.raises(ps.MetricError, match="has no checks"):
        scored(passes_tests(), dspy.Example(tests=tests), dspy.Prediction(code="x = 1"))


def test_another_limit_or_module_is_another_metric() -> None:
    metrics = [
        passes_tests(), passes_tests("answer"), passes_tests(limits=Limits()), passes_tests(modules={"a": "x = 1"}),
        passes_tests(modules={"a": "x = 2"}),
    ]  # fmt: skip
    assert len(set(map(metric_identity, metrics))) == len(metrics)
    assert metric_identity(passes_tests()) == metric_identity(passes_tests())


def test_without_a_sandbox_it_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    (tmp_path / "python").symlink_to(os.__file__)
    refusing = PassesTests(sandbox=Sandbox(interpreter=os.fspath(tmp_path / "python")))
    for code in ("def area(a, b): return a * b", ""):
        with pytest.raises(SandboxMissing, match="bubblewrap"):
            scored(refusing, AREA, dspy.Prediction(code=code))
