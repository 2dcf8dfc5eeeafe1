from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from progspace.store.database import open_store
from progspace.store.records import Answer
from progspace.tests.command_line import progspace


def test_a_store_is_measured_carried_elsewhere_and_thinned_out(tmp_path: Path, postgres: Callable[[], str]) -> None:
    here, there, file = str(tmp_path / "runs.db"), postgres(), str(tmp_path / "answers.parquet")
    with open_store(here) as store:
        for i in range(300):
            store.put_answer(Answer(f"k{i}", ["text " * 200], 10, 2, 0.5))
    told = json.loads(progspace("store", "size", "--store", here, "--json", folder=tmp_path).stdout)
    assert (told["answers"], told["cells"]) == (300, 0)
    assert "300 answers" in progspace("store", "export", "answers", file, "--store", here, folder=tmp_path).stdout
    assert (
        json.loads(progspace("store", "import", file, "--store", there, "--json", folder=tmp_path).stdout)["rows"]
        == 300
    )
    assert "300 answers" in progspace("store", "size", "--store", there, folder=tmp_path).stdout
    gone = json.loads(progspace("store", "gc", "--max-size", "200k", "--store", here, "--json", folder=tmp_path).stdout)
    assert 0 < gone["answers"] < 300
    assert gone["bytes"] <= 200_000
    assert "0 answers" in progspace("store", "gc", "--older-than", "1d", "--store", here, folder=tmp_path).stdout


def test_what_is_damaged_gives_exit_status_1(tmp_path: Path) -> None:
    here = str(tmp_path / "runs.db")
    with open_store(here) as store:
        store.put_answer(Answer("k", ["text"]))
    assert progspace("store", "check", "--store", here, folder=tmp_path).returncode == 0
    with open_store(here) as store:
        store.run("UPDATE answers SET value = ?", [("{cut",)])
    found = progspace("store", "check", "--store", here, folder=tmp_path)
    assert found.returncode == 1
    assert "answers, key='k'" in found.stdout


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    here = str(tmp_path / "runs.db")
    assert "there is no such store" in progspace("store", "size", "--store", here, folder=tmp_path).stderr
    assert "nothing says what may go" in progspace("store", "gc", "--store", here, folder=tmp_path).stderr
    open_store(here).close()
    assert (
        "write 12h, 30d or 8w"
        in progspace("store", "gc", "--older-than", "1y", "--store", here, folder=tmp_path).stderr
    )
    assert "write 500M or 2G" in progspace("store", "gc", "--max-size", "big", "--store", here, folder=tmp_path).stderr
