from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import progspace as ps
from progspace.store.database import Store, open_store
from progspace.store.records import Answer, Cell


def test_cells_come_back_as_they_were(store: Store) -> None:
    cell = Cell("p", "e", "m", 0, 0.5, "fair", None, {"label": "ä", "n": [1, 2]}, 1, (("k", 30, 4),), 30, 4, 0.25)
    store.put_cells([cell])
    assert store.cells("p", "m", ["e", "other"]) == {"e": cell}
    assert store.cells("p", "another metric", ["e"]) == {}


def test_a_cell_without_a_score_is_bought_again(store: Store) -> None:
    store.put_cells([Cell("p", "e", "m", error="the LM did not answer")])
    assert store.cells("p", "m", ["e"]) == {}
    store.put_cells([Cell("p", "e", "m", score=1.0)])
    assert store.cells("p", "m", ["e"])["e"].score == 1.0
    assert store.count("cells") == 1


def test_many_examples_are_looked_up_at_once(store: Store) -> None:
    store.put_cells(Cell("p", f"e{i}", "m", score=float(i % 2)) for i in range(2_345))
    assert len(store.cells("p", "m", [f"e{i}" for i in range(3_000)])) == 2_345


def test_the_first_answer_stays(store: Store) -> None:
    store.put_answer(Answer("k", ["one"], 1, 2, 0.5))
    store.put_answer(Answer("k", ["two"], 1, 2, 0.5))
    assert store.answer("k") == Answer("k", ["one"], 1, 2, 0.5)
    assert store.answer("unknown") is None


def test_threads_and_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    with open_store(path) as one, open_store(path) as other:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: (one, other)[i % 2].put_answer(Answer(f"k{i}", [i])), range(200)))
        assert one.count("answers") == other.count("answers") == 200


def test_what_was_written_outlives_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "killed.db"
    script = (
        "import os, signal, sys\n"
        "from progspace.store.database import open_store\n"
        "from progspace.store.records import Answer\n"
        "store = open_store(sys.argv[1])\n"
        "for i in range(50): store.put_answer(Answer(f'k{i}', [i]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
    with open_store(path) as store:
        assert store.count("answers") == 50


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, " * 100)
    with pytest.raises(ps.StoreError, match=r"notes\.txt: not a store"):
        open_store(text)
    newer = tmp_path / "newer.db"
    open_store(newer).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    with pytest.raises(ps.StoreError, match="schema 99"):
        open_store(newer)
    with pytest.raises(ps.StoreError, match="only SQLite"):
        open_store("postgresql+psycopg://user:secret@host/db")
