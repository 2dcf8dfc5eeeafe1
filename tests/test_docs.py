"""What the documentation says runs, runs."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import json
import pkgutil
import re
import shlex
from pathlib import Path

import dspy
import pytest
import yaml

import progspace
from progspace.lms.models import installed
from progspace.programs import policies, sentiment
from progspace.tests.pages import blocks, options_of

ROOT = Path(progspace.__file__).parent
MODULES = [
    info.name
    for info in pkgutil.walk_packages([str(ROOT)], "progspace.")
    # Alembic runs the last one; it is not to be imported.
    if not info.name.startswith(("progspace.tests", "progspace.build", "progspace.store.migrations.env"))
]
if importlib.util.find_spec("ray") is None:
    MODULES = [name for name in MODULES if not name.startswith("progspace.evaluation.clusters.")]
NEEDS_LM = {"progspace.lms.local", "progspace.lms.factory"}
NEEDS_EMBEDDER = {"progspace.lms.embedder", "progspace.monitoring.inputs"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.embedded] if name in NEEDS_LM else []) for name in MODULES]
)
def test_the_examples_of_docstrings_run(name: str, request: pytest.FixtureRequest) -> None:
    if name in NEEDS_LM:
        request.getfixturevalue("local_lm")
    if name in NEEDS_EMBEDDER and not installed("all-minilm-l6-v2"):
        pytest.skip("the embedder is missing: progspace models install all-minilm-l6-v2")
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(name) for name in MODULES]
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) > 30


def block(said: str) -> str:
    """The one that says this."""
    return next(each.code for each in blocks(ROOT / "README.md", "python") if said in each.code)


def test_the_readmes_documents_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed("all-minilm-l6-v2"):
        pytest.skip("the embedder is missing: progspace models install all-minilm-l6-v2")
    monkeypatch.chdir(tmp_path)
    policies.write_policies("handbook")
    rows = [
        {"question": each.question, "answer": each.answers, "source": each.source}
        for each in policies.questions()
        if each.answers
    ]
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    made: dict[str, object] = {}
    exec(compile("import progspace as ps\n" + block("ps.retrievers.ingest"), "README.md", "exec"), made)  # noqa: S102
    task = made["task"]
    assert isinstance(task, progspace.Task)
    first, *_ = task.qrels()
    found = task.program.retriever(first.query, k=5)
    assert any(first.answered_by(passage) for passage in found)
    task.program.retriever.collection.close()


def test_the_readmes_python_runs(local_lm: dspy.LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, but for a smaller budget."""
    monkeypatch.chdir(tmp_path)
    task = sentiment.task()
    rows = [*task.train, *task.dev][:60]
    Path("reviews.jsonl").write_text(
        "".join(json.dumps({"text": row.review, "label": row.sentiment}) + "\n" for row in rows), encoding="utf-8"
    )
    code = block("calls=2000")
    code = code.replace("calls=2000", "calls=60").replace('ps.lm("local")', 'ps.lm("local", max_tokens=16)')
    code = re.sub(r"^await .*$", "", code, flags=re.MULTILINE)
    exec(compile(code, "README.md", "exec", dont_inherit=True), {})  # noqa: S102 — the README's own code
    assert Path("sentiment.progspace.json").exists()


def test_the_gates_workflow_runs_the_gate() -> None:
    (workflow,) = (yaml.safe_load(each.code) for each in blocks(ROOT / "docs" / "gate.md", "yaml"))
    steps = [step["run"] for step in workflow["jobs"]["gate"]["steps"] if "run" in step]
    (gate,) = (shlex.split(step) for step in steps if step.startswith("progspace compare"))
    assert {"--fail-if-worse", "--margin"} <= set(gate)
    assert {word for word in gate if word.startswith("--")} <= options_of(gate)


def test_what_is_public_is_there() -> None:
    for name in progspace.__all__:
        assert getattr(progspace, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        progspace.nothing  # noqa: B018
    assert callable(progspace.compile)
