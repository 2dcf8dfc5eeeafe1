"""What a file holds, of every kind, and what is wrong with it."""

from __future__ import annotations

import csv
import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progspace.errors import DataError
from progspace.retrievers.documents import Document, groups_of, read_document, time_of
from progspace.retrievers.folders import FoundFile, Skipped, find_files
from progspace.retrievers.rows import read_rows

EVERY_PLANE = "naïve Ω ж 漢字 अ ﷽ 😀 𐍈 𝔘 𠀀 󠁁 👩‍👩‍👧"


def docx(path: Path) -> None:
    from docx import Document as Docx

    made = Docx()
    made.core_properties.title = "The handbook"
    made.add_heading("Holidays", 1)
    made.add_paragraph(f"Twenty-five days. {EVERY_PLANE}")
    table = made.add_table(2, 2)
    for row, column, text in [(0, 0, "Grade"), (0, 1, "Days"), (1, 0, "A"), (1, 1, "30")]:
        table.cell(row, column).text = text
    made.add_heading("Carried over", 2)
    made.add_paragraph("Five days.")
    made.save(str(path))


def pdf(path: Path) -> None:
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate

    styles = getSampleStyleSheet()
    SimpleDocTemplate(str(path), title="The handbook").build(
        [
            Paragraph("Holidays", styles["Heading1"]),
            *(Paragraph("Everyone has twenty-five days of holiday in a year.", styles["Normal"]) for _ in range(8)),
            PageBreak(),
            Paragraph("Carried over", styles["Heading2"]),
            Paragraph("Five days are carried over to March.", styles["Normal"]),
        ]
    )


def html(path: Path) -> None:
    path.write_text(
        '<html><head><title>The handbook &amp; more</title><meta name="description" content="# not said">'
        "<script>alert(1)</script></head><body><h1>Holidays</h1><p>Twenty-five <b>days</b>. "
        f"{EVERY_PLANE}</p><h2>Carried over</h2><ul><li>Five days.</li></ul><script>alert(2)</script></body></html>",
        encoding="utf-8",
    )


@pytest.mark.parametrize(("name", "make"), [("a.docx", docx), ("a.pdf", pdf), ("a.html", html)])
def test_what_a_library_parses_comes_as_markdown(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / name)
    document = read_document(tmp_path / name, name)
    assert document.title.startswith("The handbook")
    assert document.markdown
    assert "# Holidays" in document.text
    assert "## Carried over" in document.text
    assert "Five days" in document.text
    assert document.groups is None
    if name != "a.pdf":
        assert EVERY_PLANE in document.text
    assert "alert" not in document.text
    assert "not said" not in document.text
    assert "title:" not in document.text


def test_tables_are_read(tmp_path: Path) -> None:
    docx(tmp_path / "a.docx")
    assert "| A | 30 |" in read_document(tmp_path / "a.docx", "a.docx").text


def test_a_page_is_read_in_the_charset_that_it_states(tmp_path: Path) -> None:
    page = tmp_path / "a.htm"
    page.write_bytes('<meta charset="iso-8859-1"><title>Café</title><p>Déjà vu'.encode("latin-1"))
    assert "Déjà vu" in read_document(page, "a.htm").text
    page.write_bytes("<p>Déjà vu".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_document(page, "a.htm")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'<meta charset="iso-8859-1"><p>It\x92s \x80 25, \x81 caf\xe9', "It’s € 25, \x81 café"),
        (b"<meta charset=us-ascii><p>It\x92s", "It’s"),
        (b'\xef\xbb\xbf<meta charset="iso-8859-1"><p>D\xc3\xa9j\xc3\xa0 vu', "Déjà vu"),
        ('\ufeff<meta charset="iso-8859-1"><p>Déjà vu'.encode("utf-16-le"), "Déjà vu"),
        ('<meta charset="utf-16"><p>Déjà vu'.encode(), "Déjà vu"),
        ('<meta charset="utf-16le"><p>Déjà vu!'.encode(), "Déjà vu!"),
    ],
)
def test_a_page_is_decoded_as_browsers_do(tmp_path: Path, data: bytes, text: str) -> None:
    (tmp_path / "a.html").write_bytes(data)
    assert text in read_document(tmp_path / "a.html", "a.html").text


@pytest.mark.parametrize("charset", ["klingon", "hex", "idna"])
def test_a_charset_that_is_none_is_told(tmp_path: Path, charset: str) -> None:
    (tmp_path / "a.html").write_bytes(f'<meta charset="{charset}"><p>Déjà vu'.encode())
    with pytest.raises(DataError, match=f"not text in {charset}"):
        read_document(tmp_path / "a.html", "a.html")


def test_all_of_a_page_below_its_head_is_read(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text("<article><header><h1>Leave</h1><p>25 days.</p></header><p>Ask your manager.</p></article>")
    assert "25 days." in read_document(page, "a.html").text
    told = "<meta name=keywords content='İSTANBUL İLİ İZİN'>" * 10
    page.write_text(f"<html><HEAD>{told}<title>İZİN</title></HEAD><body><p>Yirmi beş gün.</p>", encoding="utf-8")
    document = read_document(page, "a.html")
    assert (document.title, document.text.strip()) == ("İZİN", "Yirmi beş gün.")


def test_front_matter_states_title_time_and_rights(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("---\ntitle: Leave\ntime: 2024-05-01\ngroups: [hr, board]\nother: 1\n---\n# Leave\n\nWords.\n")
    document = read_document(page, "a.md", groups=("staff",))
    assert (document.title, document.time, document.groups) == ("Leave", "2024-05-01", ("hr", "board"))
    assert document.text == "# Leave\n\nWords.\n"
    page.write_text("---\n\nJust a rule above.\n\n---\nand below\n")
    plain = read_document(page, "a.md", groups=("staff",))
    assert plain.groups == ("staff",)
    assert "Just a rule above." in plain.text


@pytest.mark.parametrize(
    ("front", "told"),
    [
        ("groups: [hr", "not YAML"),
        ("groups:", "groups"),
        ("groups: []", "names no group"),
        ("groups: 3", "groups"),
        ("groups: [1]", "groups"),
        ("groups: '*'", "names no group"),
        ("time: yesterday", "no date"),
        ("time: 0001-01-01T00:00:00+01:00", "no date"),
        (f"number: {'1:' * 200}1.0", "not YAML"),
        ('title: "\\ud83d\\ude80"', "surrogate"),
        ('groups: ["\\ud83d"]', "surrogate"),
        ("groups: [hr]\nGroups: [staff]", "two of it"),
        ("a: !!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_rights_that_cannot_be_read_do_not_make_it_public(tmp_path: Path, front: str, told: str) -> None:
    page = tmp_path / "a.md"
    page.write_text(f"---\n{front}\n---\nsecret\n")
    with pytest.raises(DataError, match=told):
        read_document(page, "a.md")


@pytest.mark.parametrize(
    "text",
    [
        "\n \n---\ngroups: [board]\n---\nsecret\n",
        "\ufeff\n\ufeff---\ngroups: [board]\n---\nsecret\n",
        "---\nGroups: [board]\n---\nsecret\n",
        " ---\nGROUPS: board\n...\nsecret\n",
        "---\n'groups ': board\n---\nsecret\n",
    ],
)
def test_rights_stand_however_the_front_matter_is_written(tmp_path: Path, text: str) -> None:
    page = tmp_path / "a.md"
    page.write_text(text, encoding="utf-8")
    document = read_document(page, "a.md")
    assert (document.groups, document.text) == (("board",), "secret\n")


@pytest.mark.parametrize(
    "text",
    [
        "---\ngroups: [board]\n\n# Pay\n\nsecret\n",
        "---\ngroups: [board]\n ---\n# Pay\n\nsecret\n",
        "---\ngroups: [board]\n----\nsecret\n",
        "---\ntitle: Pay\nsecret\n",
        "---\n# who may read it\n\n'Groups': [board]\nsecret\n",
        "---\n# who may read it\n\n  ' groups ': [board]\nsecret\n",
        "---\ngroups:",
    ],
)
def test_front_matter_without_an_end_does_not_make_it_public(tmp_path: Path, text: str) -> None:
    page = tmp_path / "a.md"
    for before in ("", "\n\n"):
        page.write_text(before + text)
        with pytest.raises(DataError, match=r"has no end: .* write a line that is ---") as told:
            read_document(page, "a.md")
        assert told.value.row == 1 + len(before)


@pytest.mark.parametrize(
    "text",
    [
        "---\n\nNote: a rule stands above.\n",
        "---\n# Working groups\n\nThere are groups: two of them.\n",
        "---\nhttps://example.org is a page.\n",
        "---\n",
        "---",
        "\n---\n\nOne.\n\n---\n\nTwo.\n",
    ],
)
def test_a_page_that_begins_with_a_rule_is_a_page(tmp_path: Path, text: str) -> None:
    page = tmp_path / "a.md"
    page.write_text(text)
    document = read_document(page, "a.md", groups=("staff",))
    assert (document.text, document.groups) == (text, ("staff",))


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.txt", b"\x89PNG\0\0\x01", "not UTF-8"),
        ("a.txt", b"ab\0cd", "binary"),
        ("a.md", b"fine\nline \xff\n", "row 2"),
        ("a.pdf", b"%PDF-1.4 no more", "cannot be read"),
        ("a.docx", b"PK\x03\x04junk", "cannot be read"),
    ],
)
def test_damaged_files_are_told_of(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=told):
        read_document(tmp_path / name, name)


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    large = tmp_path / "a.txt"
    with large.open("wb") as file:
        file.truncate(300_000_000)  # sparse: it takes no room
    with pytest.raises(DataError, match=r"300 MB, and at most 256 MB.*JSONL"):
        read_document(large, "a.txt")


def test_wide_text_and_odd_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("one\r\ntwo\rthree".encode("utf-16"))
    assert read_document(tmp_path / "a.txt", "a.txt").text == "one\ntwo\nthree"


def test_a_documents_time_is_its_files_and_does_not_make_it_another(tmp_path: Path) -> None:
    page = tmp_path / "a.txt"
    page.write_text("words")
    os.utime(page, (0, 0))
    first = read_document(page, "a.txt")
    assert first.time == "1970-01-01T00:00:00Z"
    os.utime(page, (86400, 86400))
    assert read_document(page, "a.txt").fingerprint == first.fingerprint
    assert read_document(page, "a.txt", ("hr",)).fingerprint != first.fingerprint


def test_times_are_written_in_one_way() -> None:
    assert time_of("2024-05-01T12:00:00Z") == "2024-05-01T12:00:00Z"
    assert time_of("2024-05-01T12:00:00") == "2024-05-01T12:00:00Z"
    assert time_of(datetime.date(2024, 5, 1)) == "2024-05-01"
    with pytest.raises(DataError, match="no date"):
        time_of("May 2024")


def test_groups_are_names() -> None:
    assert groups_of(" a, b ,a") == ("a", "b")
    for bad in ("", " , ", [], [""], 3, {"a": 1}, ["*"]):
        with pytest.raises(DataError, match="groups"):
            groups_of(bad)


def read(path: Path, text: str, groups: tuple[str, ...] | None = None) -> list[Document | DataError]:
    path.write_text(text, encoding="utf-8")
    return list(read_rows(path, path.name, groups))


def test_rows_are_documents(tmp_path: Path) -> None:
    rows = read(
        tmp_path / "a.jsonl",
        '\ufeff{"text": "one", "title": "T", "source": "book", "time": "2024-05-01", "groups": ["hr"], "page": 3}\n\n'
        '{"text": "two", "id": "x7"}\n{"text": "three"}\n',
        ("staff",),
    )
    assert all(isinstance(row, Document) for row in rows)
    one, two, three = rows
    assert (one.text, one.title, one.source, one.time, one.groups) == ("one", "T", "book", "2024-05-01", ("hr",))
    assert (two.source, two.groups) == ("a.jsonl#x7", ("staff",))
    assert three.source == "a.jsonl#4"


def test_a_csv_is_rows(tmp_path: Path) -> None:
    one, two, bad, last = read(tmp_path / "a.csv", 'text,groups\n"a\nb, c","hr,board"\nfree,\nx,y,z\nlast,hr\n')
    assert (one.text, one.groups) == ("a\nb, c", ("hr", "board"))
    assert (two.text, two.groups) == ("free", None)
    assert isinstance(bad, DataError)
    assert bad.row == 4
    assert last.text == "last"


@pytest.mark.parametrize("name", ["Groups", " groups", "GROUPS "])
def test_rights_of_a_row_stand_however_their_column_is_written(tmp_path: Path, name: str) -> None:
    (row,) = read(tmp_path / "a.csv", f"Text ,{name}\nsecret,hr\n")
    (line,) = read(tmp_path / "a.jsonl", json.dumps({"TEXT": "secret", name: ["hr"]}))
    assert (row.text, row.groups) == (line.text, line.groups) == ("secret", ("hr",))


@pytest.mark.parametrize("header", ["text,groups,groups,page,page", "text,groups,Groups ,page,Page"])
def test_a_table_that_states_rights_twice_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(DataError, match="row 1, field 'groups': two columns"):
        read(tmp_path / "a.csv", f"{header}\nsecret,hr,,1,2\n")


def test_a_csv_value_may_be_long(tmp_path: Path) -> None:
    limit = csv.field_size_limit(131_072)
    try:
        (long,) = read(tmp_path / "a.csv", f"text\n{'word' * 40_000}\n")
    finally:
        csv.field_size_limit(limit)
    assert len(long.text) == 160_000


@pytest.mark.parametrize(
    ("line", "field", "told"),
    [
        ("{", None, "not JSON"),
        ("[1]", None, "not a JSON object"),
        ('{"txt": "a"}', "text", "did you mean 'txt'"),
        ('{"text": 3}', "text", "a text is wanted"),
        ('{"text": "a", "title": ["b"]}', "title", "a text is wanted"),
        ('{"text": "a", "time": "soon"}', "time", "no date"),
        ('{"text": "a", "groups": []}', "groups", "names no group"),
        ('{"text": "a", "groups": {"hr": true}}', "groups", "no list"),
        ('{"text": "a", "id": {"b": 1}}', "id", "a text or a number"),
        ('{"text": "a", "time": "0001-01-01T00:00:00+01:00"}', "time", "'0001-01-01T00:00:00+01:00' is no date"),
        ('{"text": "a", "groups": ["hr"], "Groups": null}', "groups", "two of it"),
        ('{"text": "\\ud800"}', "text", "surrogate"),
        ('{"text": "a", "id": "\\ud800"}', "id", "surrogate"),
        ('{"text": "a", "groups": ["\\ud800"]}', "groups", "surrogate"),
        ('{"text": "a\\u0000"}', "text", "binary"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_read(tmp_path: Path, line: str, field: str | None, told: str) -> None:
    before, bad, after = read(tmp_path / "a.jsonl", f'{{"text": "b"}}\n{line}\n{{"text": "c"}}\n')
    assert (before.text, after.text) == ("b", "c")
    assert isinstance(bad, DataError)
    assert told in str(bad)
    assert (bad.row, bad.field) == (2, field)
    assert "a.jsonl" in str(bad)


@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1))
def test_any_text_comes_back_from_a_file(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "a.txt"
    path.write_bytes(text.encode())
    assert read_document(path, "a.txt").text == text.removeprefix("\ufeff")


def test_only_documents_of_the_folder_are_found(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub" / ".git").mkdir(parents=True)
    for name in ("b.md", "A.TXT", ".hidden.md", "sub/c.md", "sub/.git/d.md", "photo.jpg"):
        (root / name).write_text("x")
    (tmp_path / "outside.md").write_text("secret")
    (root / "loop").symlink_to(root)
    (root / "out.md").symlink_to(tmp_path / "outside.md")
    (root / "in.md").symlink_to(root / "b.md")
    (root / "gone.md").symlink_to(root / "nothing.md")
    os.mkfifo(root / "pipe.txt")
    found = list(find_files(root))
    assert [each.source for each in found if isinstance(each, FoundFile)] == ["A.TXT", "b.md", "in.md", "sub/c.md"]
    skipped = {each.source: each.reason for each in found if isinstance(each, Skipped)}
    assert set(skipped) == {"loop", "out.md", "gone.md", "pipe.txt", "photo.jpg"}
    assert "no known kind" in skipped["photo.jpg"]
    assert "outside" in skipped["out.md"]
    with pytest.raises(DataError, match="no such file or folder"):
        list(find_files(root / "none"))
