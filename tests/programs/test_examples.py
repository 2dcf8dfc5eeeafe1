from __future__ import annotations

import csv
import datetime
import decimal
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any, Literal

import dspy
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import progspace as ps
from progspace.programs.examples import deduplicate, example_hash, inputs_hash, read_examples

ROWS = [{"text": "ä, “so so”\nand more", "label": "ok"}, {"text": "2nd", "label": "bad"}]
Label = Literal["ok", "bad"]


def sources(folder: Path) -> dict[str, Any]:
    frame = pd.DataFrame(ROWS)
    (folder / "a.jsonl").write_text("\ufeff" + "\n\n".join(json.dumps(row) for row in ROWS) + "\n", encoding="utf-8")
    (folder / "a.json").write_text(json.dumps(ROWS), encoding="utf-8")
    frame.to_csv(folder / "a.csv", index=False)
    frame.to_parquet(folder / "a.parquet")
    return {
        "jsonl": folder / "a.jsonl",
        "json": str(folder / "a.json"),
        "csv": folder / "a.csv",
        "parquet": folder / "a.parquet",
        "dicts": ROWS,
        "examples": [dspy.Example(**row) for row in ROWS],
        "frame": frame,
    }


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet", "dicts", "examples", "frame"])
def test_every_form_gives_the_same_examples(tmp_path: Path, form: str) -> None:
    read = read_examples(sources(tmp_path)[form], inputs=["text"], outputs={"label": Label})
    assert [dict(example) for example in read] == ROWS
    assert [set(example.inputs().keys()) for example in read] == [{"text"}, {"text"}]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", '{"text": "x"}\n{broken', r"a\.jsonl, row 2: not JSON"),
        ("a.jsonl", '{"text": "x"}\n\n[1]', r"a\.jsonl, row 3: not a JSON object"),
        ("a.jsonl", '{"txt": "x"}', r"row 1, field 'text': the input is missing; did you mean 'txt'\?"),
        ("a.jsonl", '{"text": null}', r"row 1, field 'text': the input is empty"),
        ("a.jsonl", '{"text": "x", "label": "good"}', r"field 'label': 'good' is none of ok, bad"),
        ("a.jsonl", "", "holds no examples"),
        ("a.json", '{"text": "x"}', "not a JSON list"),
        ("a.csv", "text,label\nx,ok,more\n", r"row 2: more values than the header"),
        ("a.csv", 'text,label\nx,ok\n"y,ok\nz,ok\n', r"row 3: a quotation mark is not closed"),
        ("a.csv", 'text,label\n"x\ny",ok\n"y,ok\nz,"ok"\n', r"row 4: a quotation mark is not closed"),
        ("a.csv", '"text,label\nx,ok\n', r"row 1: a quotation mark is not closed"),
        ("a.csv", "text,label, text,,\nx,ok,y,,\n", r"a\.csv, row 1, field 'text': the header has this name twice"),
        ("a.csv", "text,stars\nx,many\n", r"row 2, field 'stars': 'many' is no int"),
        ("a.xlsx", "", "its format is not known"),
        ("a.parquet", "no", "not a Parquet file"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ps.DataError, match=told):
        read_examples(tmp_path / name, inputs=["text"], outputs={"label": Label, "stars": int})


def test_all_bad_rows_are_found_at_once() -> None:
    rows = [{"text": "x", "label": "good"}] * 7 + ROWS
    with pytest.raises(ps.DataError, match=r"7 of 9 rows") as caught:
        read_examples(rows, inputs=["text"], outputs={"label": Label})
    assert "and 2 more" in str(caught.value)
    assert (caught.value.row, caught.value.field) == (1, "label")


def test_what_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ps.DataError, match="no such file"):
        read_examples(tmp_path / "none.jsonl", inputs=["text"])
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ps.DataError, match="a directory; name a file in it"):
        read_examples(tmp_path / "folder.csv", inputs=["text"])
    (tmp_path / "latin.jsonl").write_bytes('{"text": "x"}\n{"text": "ä"}'.encode("latin-1"))
    with pytest.raises(ps.DataError, match=r"row 2: not UTF-8"):
        read_examples(tmp_path / "latin.jsonl", inputs=["text"])
    with pytest.raises(ps.DataError, match="cannot be read"):
        read_examples(3, inputs=["text"])


def test_a_csv_value_may_be_long(tmp_path: Path) -> None:
    rows = [{"text": "word " * 40_000, "label": "ok"}]
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    limit = csv.field_size_limit(131_072)
    try:
        read = read_examples(tmp_path / "a.csv", inputs=["text"], outputs={"label": Label})
    finally:
        csv.field_size_limit(limit)
    assert [dict(example) for example in read] == rows


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_row_ends_with_its_line_and_nowhere_else(tmp_path: Path, form: str) -> None:
    rows = [
        {"text": f"one{end}two", "label": "ok"} for end in ("\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\n")
    ]
    file = tmp_path / f"a.{form}"
    if form == "csv":
        pd.DataFrame(rows).to_csv(file, index=False)
    else:
        file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    read = read_examples(file, inputs=["text"], outputs={"label": Label})
    assert [dict(example) for example in read] == rows
    with file.open("a", encoding="utf-8") as more:
        more.write("x,good\n" if form == "csv" else '\n{"text": "x", "label": "good"}\n')
    with pytest.raises(ps.DataError, match="row 10" if form == "csv" else "row 8"):
        read_examples(file, inputs=["text"], outputs={"label": Label})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


@given(st.dictionaries(st.sampled_from("abc"), values, min_size=1))
def test_an_example_is_its_content(fields: dict[str, Any]) -> None:
    example = dspy.Example(**fields).with_inputs(*sorted(fields)[:1])
    other = dspy.Example(**dict(reversed(fields.items()))).with_inputs(*sorted(fields)[:1])
    assert example_hash(example) == example_hash(other)
    assert inputs_hash(example) == inputs_hash(other)
    assert example_hash(example) != example_hash(dspy.Example(**fields, d=1))
    kept, dropped = deduplicate([example, other, dspy.Example(d=1)])
    assert (len(kept), dropped) == (2, 1)


def test_csv_values_are_converted_to_the_labels_types(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", " stars", "seen ", "rank"], ["x", "4", "true", "2"]])
    types = {"stars": int, "seen": bool, "rank": Literal[1, 2]}
    (example,) = read_examples(tmp_path / "a.csv", inputs=["text"], outputs=types)
    assert (example.stars, example.seen, example.rank) == (4, True, 2)


@pytest.mark.parametrize("form", ["csv", "frame"])
def test_bools_and_choices_among_integers_are_read_as_pandas_has_them(tmp_path: Path, form: str) -> None:
    frame = pd.DataFrame({"text": ["x", "y", "z"], "seen": [True, False, True], "rank": [1, None, 3]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    if form == "csv":
        frame = pd.read_csv(tmp_path / "a.csv", dtype=str, keep_default_na=False)
        assert (list(frame["seen"]), list(frame["rank"])) == (["True", "False", "True"], ["1.0", "", "3.0"])
    types = {"seen": bool, "rank": Literal[1, 2, 3]}
    read = read_examples(frame.iloc[[0, 2]], inputs=["text"], outputs=types)
    assert [(row.seen, row.rank) for row in read] == [(True, 1), (True, 3)]
    assert [type(row.rank) for row in read] == [int, int]
    for rank in (1.5, "1.5", "4.0"):
        with pytest.raises(ps.DataError, match=r"row 1, field 'rank': .* is none of 1, 2, 3"):
            read_examples([{"text": "x", "rank": rank}], inputs=["text"], outputs=types)


class Tagged(BaseModel):
    tags: set[str] = set()
    when: datetime.date = datetime.date(2024, 1, 2)


class Bare:
    pass


def test_hashes_of_usual_rows_stay_what_they_were() -> None:
    """Cells of stores that people have hang on them."""
    rows: dict[str, dict[str, Any]] = {
        "8ebe002f": {"text": "ä “so so”", "label": "ok"},
        "3f023565": {"n": 1, "f": 1.5, "yes": True, "none": None},
        "7b35c686": {"x": ["a", 1, None, 2.5], "y": ("a", ("b", 1))},
        "e5e93a2a": {"x": {"a": {"b": [1]}}, "y": {1: 2, "z": 3}},
        "3b8c4846": {"x": Tagged(), "y": [Tagged(tags={"a"})]},
        "6b3a1a9d": {
            "x": datetime.date(2020, 1, 1),
            "y": datetime.datetime(2020, 1, 1, 2, 3, tzinfo=datetime.timezone.utc),
        },
        "a9833a00": {"x": decimal.Decimal("1.20"), "y": Path("a/b"), "z": datetime.timedelta(hours=3)},
        "270012bd": {"x": b"abc"},
        "98306321": {"x": b"\xff", "y": ["a"]},
        "4d27d9b9": {"x": dspy.Image(url="data:image/png;base64,AAAA")},
        "e33814e2": {"x": dspy.History(messages=[{"a": 1}])},
        "9568cb6e": {"x": dspy.Example(a=1)},
        "7d750ba3": {"x": np.int64(3), "y": [np.float32(1.5), np.bool_(True)]},
        "d4aba313": {"x": float("inf"), "y": 2**80},
        "2f02edee": {"x": {"one"}},
    }
    assert {example_hash(dspy.Example(**row))[:8]: row for row in rows.values()} == rows


def test_rows_are_known_again_in_every_process() -> None:
    code = """
import dspy
from progspace.programs.candidate import demonstration
from progspace.programs.examples import example_hash, plain_values
from progspace.tests.programs.test_examples import Tagged
row = {"a": set("abcdef"), "b": [frozenset("uvwxyz")], "c": Tagged(tags=set("klmnop"))}
print(example_hash(dspy.Example(row)), plain_values({"a": row["a"]}), demonstration({"b": row["b"]}))
"""
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in "123"
    }
    assert len(told) == 1


def test_rows_that_differ_are_no_duplicates() -> None:
    """Long arrays and tables were read by their texts, which are abridged, and no number by none."""
    arrays = [np.where(np.arange(2000) == 1000, fill, 0.0) for fill in range(3)]
    numbers: list[Any] = [[float(text)] for text in ("inf", "-inf", "nan")]
    mixed = [np.array(["x", fill], object) for fill in (1, 2)]
    values: list[Any] = [*arrays, *mixed, *numbers, [None]]
    for column in arrays:
        values += [pd.DataFrame({"a": column}), pd.Series(column)]
    rows = [{"x": each} for each in values] + [{"x": {"deep": [each]}} for each in values]
    assert deduplicate(read_examples(rows, inputs=[]))[1] == 0
    assert deduplicate(read_examples([{"x": each.copy()} for each in arrays * 2], inputs=[]))[1] == 3


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Bare(), "a Bare is told by its address"),
        ([{"deep": Bare()}], "a Bare is told by its address"),
        (lambda: None, "a function is told by its address"),
        ("half \ud83d", "half of a surrogate pair is no character"),
        ({"x": ["\udcff"]}, "half of a surrogate pair is no character"),
    ],
)
def test_what_cannot_be_known_again_or_stored_is_refused(value: Any, told: str) -> None:
    with pytest.raises(ps.DataError, match=f"row 2, field 'text': {told}"):
        read_examples([{"text": "x"}, {"text": value}], inputs=["text"])


class Person(BaseModel):
    name: str
    born: date


def test_values_of_an_example_stay_what_they_are() -> None:
    """A program is called with them, and a metric compares them, as DSPy would."""
    fields = {
        "talk": dspy.History(messages=[{"question": "q", "answer": "a"}]),
        "people": [Person(name="Ann", born=date(2000, 1, 31))],
        "more": {"of": Person(name="Bob", born=date(2000, 1, 31))},
    }
    example = dspy.Example(**fields).with_inputs("talk")
    (read,) = read_examples([example], inputs=["talk"])
    assert dict(read) == fields
    assert isinstance(read.inputs().talk, dspy.History)
    # By what it holds: the same in every process, and as it was when models were read as dicts.
    assert example_hash(read) == example_hash(dspy.Example(**example.toDict()))
    assert inputs_hash(read) == inputs_hash(dspy.Example(**example.toDict()).with_inputs("talk"))


@pytest.mark.parametrize("form", ["examples", "dicts", "file"])
def test_what_dspy_keeps_in_an_example_is_left_out(tmp_path: Path, form: str) -> None:
    rows = [{**row, "dspy_uuid": str(number), "dspy_split": "train"} for number, row in enumerate(ROWS)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    forms = {"examples": [dspy.Example(**row) for row in rows], "dicts": rows, "file": tmp_path / "a.jsonl"}
    read = read_examples(forms[form], inputs=["text"])
    assert list(map(example_hash, read)) == [example_hash(dspy.Example(**row)) for row in ROWS]
