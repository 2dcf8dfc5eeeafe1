"""Ingest and search as a person does: each in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from progspace.lms.models import installed
from progspace.tests.command_line import progspace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "leave.md").write_text("# Leave\n\nEveryone has 25 days of leave a year.\n")
    (docs / "pay.md").write_text("---\ngroups: [hr]\n---\n# Pay\n\nGrade A earns 5,000 a month. [red]\n")
    (docs / "odd.bin").write_bytes(b"\0")
    return tmp_path


def test_help_teaches(folder: Path) -> None:
    told = progspace("--help", folder=folder).stdout
    for command in ("ingest", "search"):
        assert command in told
        help_page = progspace(command, "--help", folder=folder)
        assert "Usage" in help_page.stdout
        assert "Example" in help_page.stdout


def test_from_a_folder_to_passages(folder: Path) -> None:
    if not installed("all-minilm-l6-v2"):
        pytest.skip("the embedder is missing: progspace models install all-minilm-l6-v2")
    made = progspace("ingest", "docs", "--collection", "kb", folder=folder)
    assert made.returncode == 0, made.stderr
    assert "kb: 2 passages added (2 embedded), 0 kept, 0 removed; 2 documents" in " ".join(made.stderr.split())
    assert "odd.bin: of no known kind" in " ".join(made.stderr.split())
    assert made.stdout == ""
    again = progspace("ingest", "docs", "-c", "kb", "--json", folder=folder)
    report = json.loads(again.stdout)
    assert (report["added"], report["kept"], report["documents"]) == (0, 2, 2)
    assert report["skipped"][0]["source"] == "odd.bin"
    public = progspace("search", "kb", "what does grade A earn?", "--json", folder=folder)
    assert [passage["source"] for passage in json.loads(public.stdout)["passages"]] == ["leave.md"]
    allowed = progspace("search", "kb", "what does grade A earn?", "--groups", "hr", "-k", "1", folder=folder)
    assert "1. pay.md" in allowed.stdout
    assert "5,000 a month. [red]" in allowed.stdout
    other = progspace("ingest", "docs", "-c", "kb", "--chunk-tokens", "64", folder=folder)
    assert other.returncode == 2
    assert "256 tokens" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ingest", "nowhere", "--collection", "kb"], "no such file or folder"),
        (["ingest", "docs"], "--collection"),
        (["ingest", "docs", "-c", "a/b"], "is no name of a collection"),
        (["ingest", "docs", "-c", "kb", "--chunk-tokens", "3"], "chunk_tokens=16 or more"),
        (["ingest", "docs", "-c", "kb", "--groups", ","], "names no group"),
        (["ingest", "docs", "-c", "kb", "--embedder", "nothing"], "no embedder is called"),
        (["search", "kb", "leave"], "no collection"),
        (["search", "kb", "leave", "--mode", "magic"], "--mode"),
        (["search", "kb", "leave", "--k", "0"], "--k"),
    ],
)
def test_bad_input_is_told_in_a_sentence(folder: Path, arguments: list[str], told: str) -> None:
    if not installed("all-minilm-l6-v2"):
        pytest.skip("the embedder is missing: progspace models install all-minilm-l6-v2")
    done = progspace(*arguments, folder=folder)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
