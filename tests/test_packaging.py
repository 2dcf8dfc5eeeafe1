"""What is published is whole."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import progspace
from progspace.tests.command_line import progspace as command_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="reads pyproject.toml before Python 3.11")

ROOT = Path(progspace.__file__).parent
UNPUBLISHED = {"tests", "docs", "build", "dist", "results"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def files() -> list[Path]:
    found = []
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [each for each in inner if each not in UNPUBLISHED and not each.startswith((".", "__"))]
        inner[:] = [each for each in inner if not each.endswith(".egg-info")]
        found += [Path(folder, name).relative_to(ROOT) for name in names]
    return found


def test_every_package_is_published(project: dict[str, Any]) -> None:
    there = {".".join(("progspace", *path.parent.parts)) for path in files() if path.name == "__init__.py"}
    assert there == set(project["tool"]["setuptools"]["packages"])


def test_all_data_is_published(project: dict[str, Any]) -> None:
    published: set[Path] = set()
    for package, patterns in project["tool"]["setuptools"]["package-data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        for pattern in patterns:
            matched = {path.relative_to(ROOT) for path in folder.glob(pattern)}
            assert matched, f"{package}: nothing is called {pattern}"
            published |= matched
    packages = {tuple(each.split(".")[1:]) for each in project["tool"]["setuptools"]["packages"]}
    data = {path for path in files() if len(path.parts) > 1 and path.name[0] != "." and path.suffix != ".pyc"}
    data = {path for path in data if path.suffix != ".py" or path.parent.parts not in packages}
    assert data == published - {Path("py.typed")}


def test_the_version_is_the_same_everywhere(project: dict[str, Any], tmp_path: Path) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = project["project"]["version"]
    assert citation["version"] == version
    told = command_line("--version", folder=tmp_path)
    assert (told.returncode, told.stdout) == (0, f"progspace {version}\n")


def test_a_form_for_an_issue_is_one() -> None:
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    assert forms
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(form)
        assert {field["type"] for field in form["body"]} <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
