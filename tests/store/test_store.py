from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import progspace as ps
from progspace.store.database import Store, open_store
from progspace.store.records import Answer, Cell
from progspace.tests.postgres import Server


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


def test_what_no_database_holds_is_kept_all_the_same(store: Store) -> None:
    answer = Answer("k", ["half a \ud83d, none \0, whole \U0001f600"])
    store.put_answer(answer)
    assert store.answer("k") == answer
    store.put_cells([Cell("p", "e", "m", score=1.0, feedback="a\0b\ud83dc", output={"text": "\0\ud83d"})])
    cell = store.cells("p", "m", ["e"])["e"]
    assert (cell.feedback, cell.output) == ("a\ufffdb?c", {"text": "\0\ud83d"})


def test_threads_and_processes_share_a_store(where: str) -> None:
    with open_store(where) as one, open_store(where) as other:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: (one, other)[i % 2].put_answer(Answer(f"k{i}", [i])), range(200)))
        assert one.count("answers") == other.count("answers") == 200


def test_a_new_file_that_another_one_is_making_is_waited_for(tmp_path: Path) -> None:
    """SQLite refuses the change to WAL at once, whatever wait it was given, while another one is about to write."""
    maker = sqlite3.connect(tmp_path / "runs.db", isolation_level=None, check_same_thread=False)
    maker.execute("BEGIN IMMEDIATE")
    done = threading.Timer(0.3, lambda: maker.execute("COMMIT"))
    done.start()
    with open_store(tmp_path / "runs.db") as store:
        assert store.count("answers") == 0
    done.join()
    maker.close()


def test_many_that_open_a_new_store_make_it_once(where: str) -> None:
    script = "import sys\nfrom progspace.store.database import open_store\nopen_store(sys.argv[1]).count('cells')"
    at_once = [subprocess.Popen([sys.executable, "-c", script, where]) for _ in range(4)]
    assert [each.wait() for each in at_once] == [0] * 4


def test_what_was_written_outlives_a_killed_process(where: str) -> None:
    script = (
        "import os, signal, sys\n"
        "from progspace.store.database import open_store\n"
        "from progspace.store.records import Answer\n"
        "store = open_store(sys.argv[1])\n"
        "for i in range(50): store.put_answer(Answer(f'k{i}', [i]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, where], check=False).returncode == -9
    with open_store(where) as store:
        assert store.count("answers") == 50


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, " * 100)
    with pytest.raises(ps.StoreError, match=r"notes\.txt: not a store"):
        open_store(text)
    with pytest.raises(ps.StoreError, match=r"^mysql://…: is no store"):
        open_store("mysql://user:secret@host/db")


def test_a_store_of_a_newer_release_is_left_alone(where: str) -> None:
    with open_store(where) as store:
        store.run("UPDATE progspace_schema SET version_num = '9999'")
    with pytest.raises(ps.StoreError, match="schema 9999, and this release knows"):
        open_store(where)


def test_a_server_that_is_not_there_is_named_without_its_password(postgres: Callable[[], str]) -> None:
    for url in ("postgresql+psycopg://me:secret@127.0.0.1:1/db", f"{postgres().replace('postgres@', 'me:secret@')}"):
        with pytest.raises(ps.StoreError, match="not to be reached") as caught:
            open_store(url)
        assert "secret" not in str(caught.value)
    with pytest.raises(ps.StoreError, match="cannot be read"):
        open_store("postgresql+psycopg://host:port:more/")


def test_a_server_that_comes_back_is_waited_for(postgres_server: Server) -> None:
    with open_store(postgres_server.new()) as store:
        store.put_answer(Answer("before", [1]))
        postgres_server.stop()
        back = threading.Timer(1.0, postgres_server.start)
        back.start()
        try:
            store.put_answer(Answer("meanwhile", [2]))
            assert store.count("answers") == 2
        finally:
            back.join()


def test_a_damaged_row_is_no_loss_of_the_others(store: Store) -> None:
    store.put_answer(Answer("good", [1]))
    with pytest.raises(ps.StoreError, match="cannot be written"):
        store.run("INSERT INTO answers (key) VALUES (?)", [("bad",)])
    store.put_answer(Answer("later", [1]))
    assert store.count("answers") == 2


@pytest.mark.parametrize("name", ["od?d.db", "o%20d.db", "o#d.db", "ü d.db", "file:x?mode=ro"])
def test_a_path_is_the_file_that_it_names(tmp_path: Path, name: str) -> None:
    with open_store(tmp_path / name) as store:
        store.put_answer(Answer("k", "one", 1, 2, 0.5))
        with open_store(store.url) as again:
            assert again.answer("k") == store.answer("k")
        assert (tmp_path / name).is_file()
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("where", ["file:x?mode=ro", "sqlite:///file:x", "sqlite:///x.db?mode=ro"])
def test_an_address_of_sqlites_own_is_refused_and_makes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ps.StoreError, match="give the"):
        open_store(where)
    assert not list(tmp_path.iterdir())


def test_a_password_among_the_settings_of_a_url_is_not_shown() -> None:
    with pytest.raises(ps.StoreError, match="not to be reached") as caught:
        open_store("postgresql+psycopg://me@127.0.0.1:1/db?password=secret")
    assert "secret" not in str(caught.value)
