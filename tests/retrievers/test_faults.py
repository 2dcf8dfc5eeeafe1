"""What goes wrong: servers that go away, wrong keys, full disks, two processes, damaged folders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from progspace import RetrievalError
from progspace.retrievers import Collection, Passage, Search, edge
from progspace.retrievers.server import ServerEngine

KEY = "a-wrong-key-7f3a"


def passages(count: int) -> list[Passage]:
    return [Passage.of(f"number {i} ", source=f"{i}.md") for i in range(count)]


def store(collection: Collection, embedder: Any, rows: list[Passage]) -> None:
    collection.upsert(rows, embedder.embed([each.text for each in rows]))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again as often, but waits less."""
    made = ServerEngine.__init__
    monkeypatch.setattr(ServerEngine, "__init__", lambda self, *args: made(self, *args, pauses=(0, 0.01, 0.02)))


# A server.


@pytest.mark.parametrize("fault", ["drop", "late drop", 503, 429, 500])
def test_a_passing_fault_of_the_server_is_waited_out(rest_server: Any, words: Any, patient: None, fault: Any) -> None:
    rest_server.faults.extend([fault, fault])
    with Collection.open("demo", url=rest_server.url, embedder=words) as collection:
        for _ in range(3):
            rest_server.faults.extend([fault, None, fault, fault, None])
            store(collection, words, passages(3))
        rest_server.faults.extend([fault, fault, fault])
        assert collection.search("number 2", Search(k=1))[0].text == "number 2 "
        assert collection.count() == 3


def test_a_server_that_goes_away_in_the_middle_is_told_and_gone_on_with(
    rest_server: Any, words: Any, patient: None
) -> None:
    rows = passages(1_200)
    with Collection.open("demo", url=rest_server.url, embedder=words) as collection:
        rest_server.faults.extend([None, None, *["drop"] * 4])  # the first batch and its mark are stored
        with pytest.raises(RetrievalError, match="went away") as told:
            store(collection, words, rows)
        assert told.value.retryable
        assert collection.count() == 500
        rest_server.faults.extend(["drop"] * 4)
        with pytest.raises(RetrievalError, match="went away") as told:
            collection.search("number 2")
        assert told.value.retryable
        missing = {each.id for each in rows} - {
            each for by in collection.stored().values() for ids in by.values() for each in ids
        }
        store(collection, words, [each for each in rows if each.id in missing])
        assert collection.count() == 1_200


def test_a_server_that_is_not_there_is_told(words: Any, patient: None) -> None:
    with pytest.raises(RetrievalError, match=r"http://127\.0\.0\.1:9: the server cannot be reached") as told:
        Collection.open("demo", url="http://someone:password@127.0.0.1:9", embedder=words)
    assert told.value.retryable
    assert "password" not in str(told.value)


def test_a_wrong_key_is_told_but_not_what_it_is(
    locked_server: Any, words: Any, monkeypatch: pytest.MonkeyPatch, recwarn: Any
) -> None:
    for settings in ({"api_key": KEY}, {"api_key": lambda: KEY}, {}):
        with pytest.raises(RetrievalError, match="refuses the key") as told:
            Collection.open("demo", url=locked_server.url, embedder=words, **settings)
        assert not told.value.retryable
        assert KEY not in str(told.value)
        assert KEY not in "".join(str(warning.message) for warning in recwarn)
        assert told.value.__cause__ is None
    assert len(locked_server.requests) == 3  # not tried again
    Collection.open("demo", url=locked_server.url, embedder=words, api_key="the-right-key").close()
    monkeypatch.setenv("QDRANT_API_KEY", "the-right-key")
    with Collection.open("demo", url=locked_server.url) as collection:
        assert collection.count() == 0
        locked_server.key = "another"
        with pytest.raises(RetrievalError, match="refuses the key"):
            collection.count()


def test_what_the_server_answers_never_shows_the_key(rest_server: Any, words: Any, patient: None) -> None:
    rest_server.answer = lambda *_: (_ for _ in ()).throw(ValueError(f"bad header {KEY}"))
    with pytest.raises(RetrievalError, match="bad header …") as told:
        Collection.open("demo", url=rest_server.url, embedder=words, api_key=KEY)
    assert KEY not in str(told.value)
    assert not told.value.retryable


def test_a_collection_of_others_and_a_server_of_something_else_are_refused(rest_server: Any, words: Any) -> None:
    from qdrant_client import models

    rest_server.client.create_collection(
        "theirs", vectors_config=models.VectorParams(size=3, distance=models.Distance.DOT)
    )
    with pytest.raises(RetrievalError, match="not made by progspace"):
        Collection.open("theirs", url=rest_server.url, embedder=words)
    rest_server.client.update_collection("theirs", metadata={"progspace": {"format": 99}})
    with pytest.raises(RetrievalError, match="newer progspace"):
        Collection.open("theirs", url=rest_server.url, embedder=words)
    rest_server.client.update_collection("theirs", metadata={"progspace": {"format": 1, "dimension": -1}})
    with pytest.raises(RetrievalError, match="damaged"):
        Collection.open("theirs", url=rest_server.url, embedder=words)
    rest_server.answer = lambda *_: ["hello"]
    with pytest.raises(RetrievalError, match="no Qdrant server"):
        Collection.open("demo", url=rest_server.url, embedder=words)
    with pytest.raises(RetrievalError, match=r"cannot be reached|no url"):
        Collection.open("demo", url="no url at all", embedder=words)


def test_two_that_make_the_same_collection_get_one(rest_server: Any, words: Any) -> None:
    opened: list[Collection] = []

    def work() -> None:
        opened.append(Collection.open("demo", url=rest_server.url, embedder=words))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 6
    store(opened[0], words, passages(2))
    assert [each.count() for each in opened] == [2] * 6


# A folder.

OPENS = """
import sys, time
import numpy as np
from progspace.retrievers import Collection, Passage

class Flat:
    name = "flat"
    def embed(self, texts):
        rows = np.array([[len(t) % 7 + 1, sum(map(ord, t)) % 11 + 1, ord(t[-1]) % 13 + 1] for t in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

def rows(start, count, words=3):
    return [Passage.of(f"number {i} " * words, source=f"{i}.md", document="d") for i in range(start, start + count)]

def put(collection, made):
    collection.upsert(made, Flat().embed([each.text for each in made]))

"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    script = OPENS + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def run(code: str, *arguments: object) -> str:
    process = start(code, *arguments)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip()


HOLD = """
with Collection.open("demo", path=sys.argv[1], embedder=Flat()) as collection:
    put(collection, rows(0, 40))
    print("open", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_who_is_in_the_way_and_a_killed_one_is_not(tmp_path: Path) -> None:
    holder = start(HOLD, tmp_path)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "open"
        with pytest.raises(RetrievalError, match="another process uses") as told:
            Collection.open("demo", path=tmp_path)
        assert told.value.retryable
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with Collection.open("demo", path=tmp_path, create=False) as collection:
        assert collection.count() == 40  # what had been stored, though nobody flushed it


def test_one_process_may_open_a_folder_twice(tmp_path: Path, words: Any) -> None:
    one = Collection.open("demo", path=tmp_path, embedder=words)
    two = Collection.open("demo", path=tmp_path / ".." / tmp_path.name, embedder=words)
    store(one, words, passages(2))
    one.close()
    assert two.count() == 2
    with pytest.raises(RetrievalError, match="is closed"):
        one.count()
    del two  # forgotten, not closed
    assert run("print(Collection.open('demo', path=sys.argv[1]).count())", tmp_path) == "2"


def test_a_forked_process_is_told(tmp_path: Path, words: Any) -> None:
    with Collection.open("demo", path=tmp_path, embedder=words) as collection:
        child = os.fork()
        if not child:
            try:
                collection.count()
            except RetrievalError as error:
                os._exit(7 if "forked" in str(error) else 1)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert collection.count() == 0


def test_a_forked_process_that_ends_leaves_its_parent_the_lock(tmp_path: Path) -> None:
    holder = start(
        """
        import os
        collection = Collection.open("demo", path=sys.argv[1], embedder=Flat())
        if not os.fork():
            collection.close()
            del collection
            sys.exit()
        os.wait()
        print("ended", flush=True)
        sys.stdin.readline()
        put(collection, rows(0, 3))
        """,
        tmp_path,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "ended"
    with pytest.raises(RetrievalError, match="another process uses"):
        Collection.open("demo", path=tmp_path)
    _, told = holder.communicate("go\n", timeout=60)
    assert (holder.returncode, told) == (0, "")
    with Collection.open("demo", path=tmp_path) as collection:
        assert collection.count() == 3


FULL = """
from progspace import RetrievalError
from progspace.retrievers import edge
if sys.argv[2] == "blind":
    edge._free = lambda folder: 1 << 40  # as if another program had filled the disk a moment later
collection = Collection.open("demo", path=sys.argv[1], embedder=Flat())
try:
    for start in range(0, 100_000, 500):
        put(collection, rows(start, 500, words=300))
        collection.flush()
        print(start + 500, flush=True)
except RetrievalError as error:
    print(error.retryable, error)
collection.close()
"""
AFTER = """
with Collection.open("demo", path=sys.argv[1], embedder=Flat()) as collection:
    there = {int(source.split(".")[0]) for source in collection.stored()}
    put(collection, rows(0, 1))
    collection.flush()
    print(len(set(range(int(sys.argv[2]))) - there), len(collection.search("number 7")))
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def ballast(small_disk: Path) -> Any:
    """Fills the small disk but for so many MB."""

    def fill(left: int) -> Path:
        path = small_disk / "ballast"
        path.write_bytes(b"0" * ((400 - left) << 20))
        return path

    return fill


def test_a_full_disk_is_told_and_nothing_stored_is_lost(small_disk: Path, ballast: Any) -> None:
    full = ballast(210)
    *_, stored, message = run(FULL, small_disk, "looks").splitlines()
    assert message.startswith("True")
    assert "the disk is full" in message
    full.unlink()
    assert run(AFTER, small_disk, stored) == "0 5"


def test_a_process_that_a_full_disk_ended_loses_nothing_that_was_flushed(small_disk: Path, ballast: Any) -> None:
    full = ballast(85)
    process = start(FULL, small_disk, "blind")
    out, _ = process.communicate(timeout=120)
    stored = [line for line in out.splitlines() if line.isdigit()][-1]
    assert int(stored) >= 500
    full.unlink()
    assert run(AFTER, small_disk, stored) == "0 5"


def test_a_disk_that_is_full_from_the_start_leaves_nothing_half_made(small_disk: Path, ballast: Any) -> None:
    full = ballast(1)
    told = run(
        """
        from progspace import RetrievalError
        try:
            Collection.open("demo", path=sys.argv[1], embedder=Flat())
        except RetrievalError as error:
            print(error.retryable, error)
        """,
        small_disk,
    )
    assert told.startswith("True")
    assert "disk is full" in told
    full.unlink()
    assert run("print(Collection.open('demo', path=sys.argv[1], embedder=Flat()).count())", small_disk) == "0"


def test_a_process_killed_while_it_makes_a_collection_leaves_nothing_half_made(tmp_path: Path, words: Any) -> None:
    draft = tmp_path / ".demo.new" / "shard"
    draft.mkdir(parents=True)
    (draft / "edge_config.json").write_text("{")
    with Collection.open("demo", path=tmp_path, embedder=words) as collection:
        assert collection.count() == 0
    assert not draft.exists()


@pytest.mark.parametrize("damage", ["no making", "half a making", "newer", "no shard", "half a shard", "a file"])
def test_a_damaged_folder_is_refused_and_left_as_it_is(tmp_path: Path, words: Any, damage: str) -> None:
    with Collection.open("demo", path=tmp_path, embedder=words) as collection:
        store(collection, words, passages(50))
        collection.flush()
    folder = tmp_path / "demo"
    making = folder / "collection.json"
    told = "damaged"
    if damage == "no making":
        making.unlink()
    elif damage == "half a making":
        making.write_text(making.read_text()[:20])
    elif damage == "newer":
        making.write_text(json.dumps({**json.loads(making.read_text()), "format": 99}))
        told = "newer progspace"
    elif damage == "no shard":
        (folder / "shard").rename(folder / "elsewhere")
    elif damage == "half a shard":
        for file in (folder / "shard").rglob("*"):
            if file.is_file() and "segments" in file.parts:
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        folder.rename(tmp_path / "elsewhere")
        folder.write_text("no folder")
    before = sorted(folder.rglob("*"))
    with pytest.raises(RetrievalError, match=told):
        Collection.open("demo", path=tmp_path, embedder=words).count()
    assert sorted(folder.rglob("*")) == before
    assert not any(part.is_relative_to(tmp_path) for part in edge._opened)
