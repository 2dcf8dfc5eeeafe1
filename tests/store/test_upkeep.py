from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

import progspace as ps
from progspace.evaluation.batches import StoreBatches
from progspace.evaluation.matrix import StoreAnswers
from progspace.lms.batch import BatchRecord
from progspace.lms.budget import Meter
from progspace.lms.journal import JournaledLM
from progspace.store.database import Store, open_store
from progspace.store.records import Answer, Cell
from progspace.store.traces import Trace, put_feedback, put_traces, read_traces
from progspace.store.upkeep import check, collect, export_table, import_table, size


def filled(store: Store, count: int) -> None:
    for i in range(count):
        store.put_answer(Answer(f"k{i:05}", [f"text {i} " * 50], 10, 2, 0.5))
    store.put_cells(Cell("p", f"e{i:05}", "m", score=i / count, output={"n": i}) for i in range(count))


def test_what_is_old_goes(store: Store) -> None:
    filled(store, 200)
    long_ago = [(time.time() - 1000, "%0000_")]
    store.run("UPDATE answers SET created = ? WHERE key LIKE ?", long_ago)
    store.run("UPDATE cells SET created = ? WHERE example LIKE ?", long_ago)
    before, after = collect(store, older_than=500)
    assert (before.answers, after.answers, after.cells) == (200, 190, 190)
    assert after.oldest is not None
    assert after.oldest > time.time() - 500


def test_a_batch_that_may_be_under_way_stays(store: Store) -> None:
    batches = StoreBatches(store)
    for name, hours in (("old", 100), ("young", 10)):
        batches.put(BatchRecord("https://api.example", name, frozenset({"k"})))
        store.run("UPDATE batches SET created = ? WHERE input_file = ?", [(time.time() - 3600 * hours, name)])
    collect(store, older_than=3600)
    assert [each.input_file for each in batches.of("https://api.example")] == ["young"]


def test_the_oldest_answers_go_until_it_is_small_enough(store: Store) -> None:
    filled(store, 2_000)
    most = size(store).bytes // 2
    before, after = collect(store, max_bytes=most)
    assert after.bytes <= most < before.bytes
    assert 0 < after.answers < 2_000
    assert after.cells == 2_000
    assert store.answer("k01999") is not None
    assert store.answer("k00000") is None
    assert collect(store, max_bytes=most) == (after, after)
    with pytest.raises(ps.StoreError, match="there is little left to delete"):
        collect(store, max_bytes=10)


@pytest.mark.parametrize("table", ["cells", "answers"])
def test_what_is_carried_elsewhere_is_the_same_there(store: Store, tmp_path: Path, table: Any) -> None:
    filled(store, 300)
    file = tmp_path / "x.parquet"
    assert export_table(store, table, file) == 300
    with open_store(":memory:") as other:
        other.put_answer(Answer("k00000", ["what it knows already"]))
        assert import_table(other, file) == (table, 300 - (table == "answers"))
        assert import_table(other, file) == (table, 0)
        if table == "cells":
            keys = [f"e{i:05}" for i in range(300)]
            assert other.cells("p", "m", keys) == store.cells("p", "m", keys)
        else:
            assert other.answer("k00007") == store.answer("k00007")
            assert other.answer("k00000") == Answer("k00000", ["what it knows already"])
    assert list(tmp_path.glob("*.part")) == []


def altered(file: Path, **columns: Any) -> None:
    read = pyarrow.parquet.read_table(file)
    for name, values in columns.items():
        place = read.schema.names.index(name)
        read = read.set_column(place, name, pyarrow.array(values))
    pyarrow.parquet.write_table(read, file)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"value": ['["a"]', "{no json"]}, "row 2, field 'value': is no JSON"),
        ({"value": ['["a"]', None]}, "row 2, field 'value': is missing"),
        ({"value": ["7", '["a"]']}, "row 1, field 'value': is no answer"),
        ({"seconds": ["long", "short"]}, "row 1, field 'seconds': is 'long'"),
    ],
)
def test_a_damaged_file_is_told_by_its_row(store: Store, tmp_path: Path, columns: Any, told: str) -> None:
    filled(store, 2)
    file = tmp_path / "x.parquet"
    export_table(store, "answers", file)
    altered(file, **columns)
    with open_store(":memory:") as other, pytest.raises(ps.DataError, match=told):
        import_table(other, file)


def test_what_is_no_export_is_refused(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    file.write_bytes(b"PAR1 not really")
    with pytest.raises(ps.DataError, match="cannot be read as Parquet"):
        import_table(store, file)
    pyarrow.parquet.write_table(pyarrow.table({"key": ["k"]}), file)
    with pytest.raises(ps.DataError, match="is no table that"):
        import_table(store, file)
    with pytest.raises(ps.StoreError, match="cannot be written"):
        export_table(store, "cells", tmp_path / "nowhere" / "x.parquet")


def test_damage_is_found(store: Store) -> None:
    filled(store, 3)
    assert list(check(store)) == []
    store.run("UPDATE answers SET value = ? WHERE key = ?", [("{cut", "k00001")])
    store.run("UPDATE cells SET asked = ? WHERE example = ?", [('[["k", "one", 2]]', "e00002")])
    faults = sorted(check(store))
    assert len(faults) == 2
    assert faults[0].startswith("answers, key='k00001': field 'value': is no JSON")
    assert faults[1].endswith("field 'asked': is no list of key, input tokens and output tokens")
    with pytest.raises(ps.StoreError, match=r"answer k00001 is damaged .* store check --delete"):
        store.answer("k00001")
    with pytest.raises(ps.StoreError, match=r"cell p, e00002 is damaged"):
        store.cells("p", "m", ["e00001", "e00002"])
    assert sorted(check(store, delete=True)) == faults
    assert list(check(store)) == []
    assert store.answer("k00001") is None
    assert list(store.cells("p", "m", ["e00001", "e00002"])) == ["e00001"]


def test_damaged_traces_and_feedback_are_found(store: Store) -> None:
    put_traces(store, [Trace(f"t{i}", "p", "v", float(i), 0.1, inputs={"text": "a"}) for i in range(4)])
    for trace in read_traces(store):
        put_feedback(store, trace.id, score=1.0, labels={"label": "a"})
    assert list(check(store)) == []
    store.run("UPDATE traces SET inputs = ? WHERE id = ?", [("{cut", "t1")])
    store.run("UPDATE feedback SET labels = ? WHERE trace = ?", [("[]", "t2")])
    with pytest.raises(ps.StoreError, match=r"trace t\d is damaged .* store check --delete"):
        read_traces(store)
    faults = list(check(store, delete=True))
    assert len(faults) == 2
    assert faults[0].startswith("traces, id='t1': field 'inputs': is no JSON")
    assert faults[1] == "feedback, trace='t2': field 'labels': is no object"
    assert list(check(store)) == []
    assert [(trace.id, trace.score) for trace in read_traces(store)] == [("t0", 1.0), ("t2", None), ("t3", 1.0)]
    assert store.count("feedback") == 2


@pytest.mark.parametrize(
    "value", ["7", '"text"', "[1]", "{}", '{"text": "a"}', '{"text": 1, "model": "m", "usage": [1, 1], "logprobs": []}']
)
def test_an_answer_that_is_none_is_told_and_never_used(store: Store, rule_engine: Any, value: str) -> None:
    engine = rule_engine(lambda prompt: "[[ ## answer ## ]]\nfour")
    lm = JournaledLM(engine.lm(), Meter(), StoreAnswers(store))
    lm("2 + 2?")
    store.run("UPDATE answers SET value = ?", [(value,)])
    with pytest.raises(ps.StoreError, match=r"progspace store check --delete"):
        lm("2 + 2?")
    assert len(list(check(store, delete=True))) == 1
    assert "four" in str(lm("2 + 2?"))
