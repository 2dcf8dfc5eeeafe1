"""Passages are known again wherever a part of them stands, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from progspace.retrievers import Passage, Passages
from progspace.retrievers.recording import holds_passage

PAGE = """# Salaries

This page is for the board of directors alone.

The salary of Bo is 50274 euros, paid monthly.
A bonus of a twelfth is paid in April, and to those who left before it in December."""
PASSAGE = Passage.of(PAGE, source="pay.md")


@pytest.mark.parametrize(
    "value",
    [
        PAGE,
        str(Passages([PASSAGE], "tagged")),
        "The salary of Bo is 50274 euros, paid monthly.",
        "[2] …paid in April, and to those who left before it in December. [3] Else.",
        {"context": ["Another.", "«A bonus of a twelfth is paid in April, and to those …»"]},
        "A  bonus of a\ntwelfth is **paid** in April, and to those",
    ],
)
def test_a_part_of_a_passage_is_known_again(value: object) -> None:
    assert holds_passage(value, [Passage.of("Another page.", source="a.md"), PASSAGE])


def test_lines_of_a_list_are_known_again() -> None:
    rows = ["Ann\t1", "Bob\t2", 'Dora "D" 4', "Emil 5\\6", "Fred 7", "Gabi 8", "Hugo 9", "Ida 10", "Jan 11"]
    lines = Passage.of("\n".join(rows), source="a.csv")
    assert holds_passage([f"of it: {lines.text}"], [lines])
    assert holds_passage({"rows": lines.text.replace("\n", "\r\n")}, [lines])


@pytest.mark.parametrize(
    "value", ["What is the salary of Bo?", "50274 euros", "", [], None, {"to whom": "the board of directors alone"}]
)
def test_what_a_question_or_an_answer_shares_with_a_passage_is_none_of_it(value: object) -> None:
    assert not holds_passage(value, [PASSAGE])


def test_a_short_passage_is_known_as_a_whole_and_one_without_letters_never() -> None:
    assert holds_passage("It says: Parking is free.", [Passage.of("Parking is free!", source="a")])
    assert not holds_passage("Parking is not free.", [Passage.of("Parking is free!", source="a")])
    for text in ("***", " ", ""):
        assert not holds_passage("anything", [Passage.of(text, source="a")])
        assert not holds_passage("***", [Passage.of(text, source="a")])
