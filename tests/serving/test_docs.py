"""The examples of docs/embedding.md, and of docs/watching.md, run, on the embedded LM."""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
from pathlib import Path
from typing import Any

import dspy
import pytest

import progspace
from progspace.artifacts.artifact import Artifact, Provenance, write_artifact
from progspace.evaluation.findings import Findings
from progspace.programs.candidate import Candidate
from progspace.programs.formats import Format
from progspace.programs.sentiment import Sentiment
from progspace.programs.structure import describe

PAGE = Path(progspace.__file__).parent / "docs" / "embedding.md"
README = PAGE.parent.parent / "README.md"
LABELS = {"positive", "negative"}


@pytest.fixture(autouse=True)
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_lm: dspy.LM) -> None:
    monkeypatch.chdir(tmp_path)
    write(dspy.Predict(Sentiment), local_lm)


def write(program: dspy.Predict, local_lm: dspy.LM) -> None:
    made = Artifact(
        task="sentiment",
        structure=describe(program),
        candidate=Candidate.declared(program).with_choice(format=Format(kind="compact", decoding="constrained")),
        lm={"model": local_lm.model, "engine": {"model": "smollm2-135m", "precision": "f32"}, "settings": {}},
        provenance=Provenance(),
        report=Findings(task="sentiment", lm=local_lm.model, seed=0, sizes={}, rungs=()),
    )
    write_artifact(made, Path("sentiment.progspace.json"))


def block(title: str, page: Path = PAGE) -> str:
    section = page.read_text(encoding="utf-8").split(f"# {title}\n")[1].split("\n## ")[0]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


def run(title: str, page: Path = PAGE) -> dict[str, Any]:
    made: dict[str, Any] = {"__name__": "example"}
    exec(compile(block(title, page), str(page), "exec", dont_inherit=True), made)  # noqa: S102 — our own page
    return made


def test_the_first_lines() -> None:
    assert run("A compiled program in an app")["prediction"].sentiment in LABELS


def test_a_watched_program() -> None:
    made = run("Watching a program in an app", PAGE.parent / "watching.md")
    made["program"].close()
    (found,) = progspace.monitor("runs.db")
    assert (found.name, found.calls, found.judged, found.score) == ("sentiment", 1, 1, 1.0)


def test_strange_inputs() -> None:
    (found,) = run("Are the inputs those that it was compiled for?", PAGE.parent / "watching.md")["found"]
    assert [stream.n for stream in found.streams if stream.name == "strange inputs"] == [1]


def test_a_fastapi_app() -> None:
    fastapi = pytest.importorskip("fastapi.testclient", reason="pip install 'progspace[dev]'")
    client = fastapi.TestClient(run("In a FastAPI app")["app"])
    assert client.post("/reviews", json={"text": "A joy."}).json()["sentiment"] in LABELS
    assert client.post("/reviews", json={"text": 1}).status_code == 422


def test_a_worker(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [{"id": n, "text": f"Number {n} is a joy."} for n in range(5)]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(json.dumps(job) + "\n" for job in jobs)))
    run("In a worker")
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["id"] for each in told] == list(range(5))
    assert {each["sentiment"] for each in told} <= LABELS


async def awaited(code: str) -> dict[str, Any]:
    """Runs code as IPython does: inside an event loop, with await at the top."""
    made: dict[str, Any] = {"__name__": "__main__", "ps": progspace}
    cell = eval(compile(code, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True), made)  # noqa: S307 — our own pages
    assert inspect.iscoroutine(cell)
    await cell
    return made


async def test_a_notebooks_cell() -> None:
    answers = (await awaited(block("In a notebook")))["answers"]
    assert {answer.sentiment for answer in answers} <= LABELS


async def test_the_readmes_app(local_lm: dspy.LM) -> None:
    write(dspy.Predict("text -> label: Literal['positive', 'negative']"), local_lm)
    (code,) = re.findall(r"## In an app\n\n```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    made = await awaited(code.replace("await program", "answer = await program"))
    assert made["answer"].label in LABELS
