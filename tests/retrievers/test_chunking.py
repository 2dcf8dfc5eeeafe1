"""Documents split by their headings, and by the tokens of the embedder."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progspace.errors import RetrievalError
from progspace.lms.embedder import EmbeddedEmbedder, embedder_for
from progspace.lms.models import installed
from progspace.retrievers.chunking import Chunker, embedded_text
from progspace.retrievers.documents import Document
from progspace.retrievers.embedders import OpenAIEmbedder


@pytest.fixture(scope="module")
def embedder() -> EmbeddedEmbedder:
    if not installed("all-minilm-l6-v2"):
        pytest.skip("the embedder is missing: progspace models install all-minilm-l6-v2")
    found = embedder_for()
    assert isinstance(found, EmbeddedEmbedder)
    return found


def tokens(embedder: EmbeddedEmbedder, text: str) -> int:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(embedder.folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


BOOK = """Before any heading.

# Leave

All have leave.

## Carried over

{long}

## Sick leave

Tell your manager.

```python
# no heading
x = 1
```

# Travel

By train.
"""
LONG = " ".join(f"Sentence number {number} says how many days are carried over." for number in range(40))


def test_headings_above_a_passage_are_its_title(embedder: EmbeddedEmbedder) -> None:
    passages = Chunker(embedder, 64).split(Document("book.md", BOOK.format(long=LONG), "Handbook", markdown=True))
    titles = list(dict.fromkeys(passage.title for passage in passages))
    assert titles[0] == "Handbook"
    assert "Handbook > Leave > Carried over" in titles
    assert "Handbook > Leave > Sick leave" in titles
    assert "Handbook > Travel" in titles
    assert [passage.position for passage in passages] == list(range(len(passages)))
    assert all("no heading" not in title for title in titles)
    for passage in passages:
        assert tokens(embedder, passage.text) <= 64
        if passage.title.endswith("Carried over"):
            assert "manager" not in passage.text


def test_small_sections_of_one_parent_are_one_passage(embedder: EmbeddedEmbedder) -> None:
    document = Document("book.md", BOOK.format(long="Five days."), markdown=True)
    (whole,) = Chunker(embedder, 256).split(document)
    assert whole.text.split() == document.text.split()
    assert whole.title == ""
    titles = list(dict.fromkeys(passage.title for passage in Chunker(embedder, 16).split(document)))
    assert titles == ["", "Leave > Carried over", "Leave > Sick leave", "Travel"]


def test_a_heading_alone_is_no_passage(embedder: EmbeddedEmbedder) -> None:
    text = f"# A\n\n## B\n\n{LONG}\n\n## C\n\n{LONG}"
    passages = Chunker(embedder, 64).split(Document("a.md", text, markdown=True))
    assert {passage.title for passage in passages} == {"A > B", "A > C"}
    assert all("Sentence" in passage.text for passage in passages)
    (only,) = Chunker(embedder, 64).split(Document("a.md", "# A\n", markdown=True))
    assert only.text == "# A"


def test_a_heading_without_text_is_kept_beside_a_longer_one(embedder: EmbeddedEmbedder) -> None:
    text = f"# A\n\n## Pets: coming soon\n\n## B\n\n{LONG}"
    first, *others = Chunker(embedder, 64).split(Document("a.md", text, markdown=True))
    assert (first.title, first.text) == ("A", "# A\n\n## Pets: coming soon")
    assert {passage.title for passage in others} == {"A > B"}


@pytest.mark.parametrize(
    "text", [f"Intro.\n\n{LONG}\n---\n", f"# {LONG}\n", f"{LONG}\n---\nBelow.\n\n{LONG}\n\n## B\n\nEnd."]
)
def test_a_paragraph_that_looks_like_a_heading_is_text(embedder: EmbeddedEmbedder, text: str) -> None:
    passages = Chunker(embedder, 64).split(Document("a.md", text, markdown=True))
    assert " ".join(word for passage in passages for word in passage.text.split()) == " ".join(text.split())
    assert {passage.title for passage in passages} <= {"", "B"}


def test_a_heading_alone_that_does_not_fit_is_split(embedder: EmbeddedEmbedder) -> None:
    heading = "How many days of leave are carried over to the next year where nobody asked for them until March"
    passages = Chunker(embedder, 16).split(Document("a.md", f"# {heading}\n\n# Travel\n\nBy train.", markdown=True))
    assert heading in " ".join(passage.text for passage in passages)


@pytest.mark.parametrize("size", [16, 64, 256])
def test_nothing_is_embedded_cut(embedder: EmbeddedEmbedder, size: int) -> None:
    document = Document("a.md", f"# {'Long title ' * 4}\n\n{LONG * 5}", "Handbook of everything", markdown=True)
    for passage in Chunker(embedder, size).split(document):
        assert tokens(embedder, embedded_text(passage)) <= embedder.max_tokens - 2


def test_neighbours_overlap(embedder: EmbeddedEmbedder) -> None:
    document = Document("a.txt", LONG)
    without, shared = (Chunker(embedder, 64, overlap).split(document) for overlap in (0, 24))
    assert len(shared) > len(without)
    assert all(
        any(sentence in after.text for sentence in before.text.split(". ")[-1:])
        for before, after in itertools.pairwise(shared)
    )
    assert "".join(passage.text for passage in without).replace(" ", "") == LONG.replace(" ", "")


def test_a_text_without_a_space_is_split_too(embedder: EmbeddedEmbedder) -> None:
    passages = Chunker(embedder, 64).split(Document("a.txt", "x" * 100_000))
    assert "".join(passage.text for passage in passages) == "x" * 100_000
    assert max(len(passage.text) for passage in passages) <= 64 * 16


def test_the_same_content_has_the_same_ids(embedder: EmbeddedEmbedder) -> None:
    one, two = (Chunker(embedder, 64).split(Document(source, LONG)) for source in ("a.txt", "b.txt"))
    assert [passage.id for passage in one] == [p.id for p in Chunker(embedder, 64).split(Document("a.txt", LONG))]
    assert not {passage.id for passage in one} & {passage.id for passage in two}
    assert len({passage.id for passage in one}) == len(one)


def test_settings_are_part_of_the_identity(embedder: EmbeddedEmbedder) -> None:
    other = OpenAIEmbedder("m", base_url="http://127.0.0.1:1")
    made = [Chunker(embedder, 64), Chunker(embedder, 128), Chunker(embedder, 64, 8), Chunker(other, 64)]
    assert len({chunker.identity for chunker in made}) == 4
    assert Chunker(embedder, 64).identity == made[0].identity


def test_without_a_tokenizer_characters_are_counted() -> None:
    passages = Chunker(OpenAIEmbedder("m", base_url="http://127.0.0.1:1"), 64).split(Document("a.txt", LONG))
    assert len(passages) > 5
    assert max(len(passage.text) for passage in passages) <= 256


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (15, 0), (64, -1), (64, 32)])
def test_sizes_that_cannot_be_are_refused(embedder: EmbeddedEmbedder, size: int, overlap: int) -> None:
    with pytest.raises(RetrievalError, match="tokens"):
        Chunker(embedder, size, overlap)


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=3000),
    markdown=st.booleans(),
)
def test_no_letter_of_any_text_is_lost(embedder: EmbeddedEmbedder, text: str, markdown: bool) -> None:
    passages = Chunker(embedder, 32).split(Document("a", text, markdown=markdown))
    said = "".join(f"{passage.title}{passage.text}" for passage in passages)
    assert {letter for letter in text if letter.isalnum()} <= set(said)
    assert all(passage.text.strip() for passage in passages)
