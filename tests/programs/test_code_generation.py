from __future__ import annotations

import doctest
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest

import progspace as ps
from progspace.errors import SandboxMissing
from progspace.programs import library_code
from progspace.programs.checks import PassesTests
from progspace.programs.code_generation import CodeGeneration, without_fences
from progspace.retrievers.passage import Passage, Passages

PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(library_code.documentation().glob("*.md"))}
ROWS = [
    json.loads(line)
    for line in library_code.documentation().with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
]


def find(query: str) -> Passages:
    """Finds the three pages that share most words with a query."""
    words = set(re.findall(r"\w+", query.lower()))
    best = sorted(PAGES, key=lambda name: -len(words & set(re.findall(r"\w+", PAGES[name].lower()))))
    return Passages([Passage.of(PAGES[name], source=f"{name}.md") for name in best[:3]])


@pytest.fixture(scope="module")
def metric() -> PassesTests:
    made = library_code.task(None).metric
    assert isinstance(made, PassesTests)
    try:
        made.sandbox.check()
    except SandboxMissing as missing:
        pytest.skip(str(missing))
    return made


@pytest.fixture
def writes(rule_engine: Any) -> Any:
    """An LM that writes a reference solution if the prompt shows the pages of all that it calls, or else a guess."""
    known = {row["task"]: row["code"] for row in ROWS}

    def rule(prompt: str) -> str:
        asked = next(task for task in known if task in prompt)
        shown = all(f"# orrin.{name}(" in prompt for name in re.findall(r"orrin\.(\w+)\b", known[asked]))
        code = known[asked] if shown else "def guess():\n    pass\n"
        return f"[[ ## code ## ]]\nSure!\n```python\n{code}```\n\n[[ ## completed ## ]]"

    return rule_engine(rule)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x = 1\n", "x = 1"),
        ("    return x", "    return x"),
        ("```\nx = 1\n```", "x = 1"),
        ("Here:\n```py\nx = 1\n\n```\nand\n```python3\ny = 2\n```", "x = 1\ny = 2"),
        ("```bash\npip install x\n```\n```python\nx = 1\n```", "x = 1"),
        ("```json\n{}\n```", "{}"),
        ("```python\nx = 1", "x = 1"),
        ("~~~\nx = '```'\n~~~", "x = '```'"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''"),
        ("  ```python title=a.py\n  x = 1\n  ```", "  x = 1"),
        ("", ""),
    ],
)
def test_fences_are_taken_away(text: str, code: str) -> None:
    assert without_fences(text) == code


def test_it_writes_from_what_is_found(writes: Any, metric: PassesTests) -> None:
    row = dspy.Example(**ROWS[0]).with_inputs("task")
    with dspy.context(lm=writes.lm(), adapter=dspy.ChatAdapter()):
        read, alone = CodeGeneration(find)(task=row.task), CodeGeneration(None)(task=row.task)
    assert read.code == row.code.strip("\n")
    assert "daycount.md" in read.sources
    assert metric(row, read).score == 1.0
    assert "sources" not in alone
    assert metric(row, alone).score == 0.0
    assert [predictor.signature.instructions for predictor in CodeGeneration(None).predictors()]


async def test_it_writes_in_tasks(writes: Any) -> None:
    with dspy.context(lm=writes.lm(), adapter=dspy.ChatAdapter()):
        assert (await CodeGeneration(find).acall(task=ROWS[0]["task"])).code == ROWS[0]["code"].strip("\n")
        assert (await CodeGeneration(None).acall(task=ROWS[0]["task"])).code == "def guess():\n    pass"


def test_passages_are_fitted(writes: Any) -> None:
    with dspy.context(lm=writes.lm(), adapter=dspy.ChatAdapter()):
        CodeGeneration(find, max_tokens=40, count=lambda text: len(text.split()))(task=ROWS[0]["task"])
        CodeGeneration(find)(task=ROWS[0]["task"])
    few, all_of_them = (len(prompt.split()) for prompt in writes.prompts)
    assert few < all_of_them - 40


def test_the_retriever_must_be_one() -> None:
    with pytest.raises(ps.ProgramError, match=r"one of ps\.retrievers"):
        CodeGeneration("docs/")  # type: ignore[arg-type]


def test_what_reading_is_worth_is_measured(writes: Any, metric: PassesTests, tmp_path: Any) -> None:
    scores = [
        ps.evaluate(task.program, task, lm=writes.lm(), store=tmp_path / "store.db", split="train").score
        for task in (library_code.task(find), library_code.task(None))
    ]
    assert scores[0] > 0.3
    assert scores[1] == 0.0


def test_every_reference_solution_passes_and_an_empty_one_fails(metric: PassesTests) -> None:
    assert 40 <= len(ROWS) <= 60
    with ThreadPoolExecutor(4) as pool:
        judged = list(pool.map(lambda row: metric(dspy.Example(**row), dspy.Prediction(code=row["code"])), ROWS))
    for row, given in zip(ROWS, judged, strict=True):
        assert 2 <= len(row["tests"]) <= 4
        assert given.score == 1.0, (row["task"], given.feedback)
    for row in ROWS[::10]:
        for code in ("", "pass", "import orrin"):
            assert metric(dspy.Example(**row), dspy.Prediction(code=code)).score == 0.0


def test_no_constant_solves_a_task() -> None:
    for row in ROWS:
        assert len({test.partition(" == ")[2] for test in row["tests"]}) > 1, row["task"]


def test_the_documentation_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(library_code.documentation().parent))
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    for name, text in PAGES.items():
        runner.run(parser.get_doctest(text.replace("```", ""), {}, name, f"{name}.md", 0))
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 2 * len(PAGES) - 3


def test_every_function_has_a_page_and_a_task() -> None:
    (source,) = library_code.modules().values()
    functions = set(re.findall(r"^def ([a-z]\w*)\(", source, re.MULTILINE))
    assert set(PAGES) == functions | {"orrin"}
    for name in functions:
        assert any(f"orrin.{name}" in row["code"] for row in ROWS), name
        assert not any(f"orrin.{name}" in row["task"] for row in ROWS), name
