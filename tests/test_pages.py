"""Every block of docs/ runs, or, where its first line says what it lacks, at least names what there is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import progspace
from progspace.artifacts.compiled import Compiled
from progspace.lms.models import installed
from progspace.tests.command_line import progspace as command_line
from progspace.tests.pages import Names, blocks, commands, options_of, run

ROOT = Path(progspace.__file__).parent
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if page.name != "command-line.md")
TOLD = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "RELEASING.md"))]
"""What has its names and commands checked."""
RUN_ELSEWHERE = {"embedding.md", "gate.md", "watching.md"}
"""Pages whose blocks want an app or pytest around them: tests/serving/test_docs.py, tests/test_pytest_plugin.py."""
CHEAP = {"inspect", "run", "models list", "store size", "store check", "--version", "registry list"}
"""Commands that are run where a page shows them."""


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run_commands(page: Path, words: list[str]) -> None:
    told = " ".join(words[1:])
    if words[0] == "progspace" and any(told == each or told.startswith(f"{each} ") for each in CHEAP):
        done = command_line(*words[1:], folder=Path.cwd())
        assert done.returncode == 0, f"{page.name}: {' '.join(words)}\n{done.stderr}"


def needs_lm(page: Path) -> bool:
    return any('ps.lm("local"' in block.code for block in blocks(page, "python") if block.runs)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=named(page), marks=[pytest.mark.embedded] if needs_lm(page) else [])
        for page in PAGES
        if page.name not in RUN_ELSEWHERE and "decisions" not in page.parts
    ],
)
def test_a_page_runs(
    page: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [block for block in blocks(page, "python", "console") if block.runs]
    code = "".join(block.code for block in shown if block.language == "python")
    if needs_lm(page):
        shutil.copytree(request.getfixturevalue("searched")[1], tmp_path, dirs_exist_ok=True)
    if "ingest(" in code and not installed("all-minilm-l6-v2"):
        pytest.skip("the embedder is missing: progspace models install all-minilm-l6-v2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in shown:
        if block.language == "python":
            run(block, names)
        else:
            for words in commands(block):
                run_commands(page, words)


@pytest.mark.parametrize("page", TOLD, ids=named)
def test_what_a_page_names_is_there(page: Path) -> None:
    names = Names()
    faults = [fault for block in blocks(page, "python") for fault in names.faults(block)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("page", TOLD, ids=named)
def test_the_commands_of_a_page_are_there(page: Path) -> None:
    extras = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in (words for block in blocks(page, "console") for words in commands(block)):
        if words[0] == "progspace" and words[1] != "benchmark":
            given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
            assert given <= options_of(words), f"{page.name}: {' '.join(words)}"
        elif words[0] == "make":
            assert all(f"\n{target}:" in makefile for target in words[1:])
        for extra in re.findall(r"progspace\[([\w,]+)\]", " ".join(words)):
            assert set(extra.split(",")) <= set(extras)


async def test_the_notebook_runs_from_top_to_bottom(searched: tuple[Compiled, Path], tmp_path: Path) -> None:
    shutil.copytree(searched[1], tmp_path, dirs_exist_ok=True)
    nbclient = pytest.importorskip("nbclient", reason="pip install 'progspace[docs]'")
    import nbformat

    notebook = nbformat.read(ROOT / "docs" / "notebooks" / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept: clear them"
    client = nbclient.NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(tmp_path)}})
    await client.async_execute()
    bought, said = (notebook.cells[at].outputs[-1]["data"]["text/plain"] for at in (-3, -1))
    assert bought == "0"
    assert said in ("'positive'", "'negative'")


def test_the_site_is_made_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("furo", reason="pip install 'progspace[docs]'")
    made = subprocess.run(
        [sys.executable, "-m", "sphinx", "--builder", "html", "--quiet", "--fail-on-warning", "--keep-going",
         "--nitpicky", "--doctree-dir", str(tmp_path / "doctrees"), str(ROOT / "docs"), str(tmp_path / "site")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    for page in PAGES:
        assert (tmp_path / "site" / page.relative_to(ROOT / "docs")).with_suffix(".html").exists()
