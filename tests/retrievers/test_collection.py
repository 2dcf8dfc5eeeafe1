"""Collections, on every engine that there is here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from progspace import RetrievalError
from progspace.retrievers import Collection, Passage, Search

Place = Callable[..., Collection]
MODES = ["dense", "sparse", "hybrid"]


def texts(passages: Any) -> list[str]:
    return [each.text for each in passages]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("diversity", [0.0, 0.4])
@pytest.mark.parametrize("fusion", ["rrf", "dbsf"])
def test_finds_what_is_asked_for(filled: Collection, mode: Any, diversity: float, fusion: Any) -> None:
    search = Search(mode=mode, diversity=diversity, fusion=fusion, k=2)
    found = filled.search("the office cat", search)
    assert found[0].text == "The office cat is called Minka."
    assert found[0].source == "1.md"
    assert found[0].position == 0
    assert found[0].score > 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("diversity", [0.0, 0.5])
def test_a_caller_sees_public_passages_and_those_of_his_groups(filled: Collection, mode: Any, diversity: float) -> None:
    search = Search(mode=mode, diversity=diversity, k=6)
    query = "salaries working day chief earns cat leave travel"

    def seen(groups: list[str] | None) -> set[str]:
        return {str(each.groups) for each in filled.search(query, search, groups)}

    assert seen(None) == seen([]) == seen(["*"]) == seen(["h", "r"]) == {"None"}
    assert seen(["hr"]) == {"None", "('hr',)"}
    assert seen(["hr", "board"]) == {"None", "('hr',)", "('board',)"}


@pytest.mark.parametrize("mode", MODES)
def test_hidden_passages_take_no_places_of_seen_ones(place: Place, words: Any, mode: Any) -> None:
    """As they would if rights were looked at after the search, or in its last step only."""
    hidden = [Passage.of(f"cat cat cat {i}", source="x", position=i, groups=["board"]) for i in range(80)]
    shown = [Passage.of("A dog and a cat walk along the long road.", source="y")]
    with place(embedder=words) as collection:
        collection.upsert(hidden + shown, words.embed(texts(hidden + shown)))
        found = collection.search("cat", Search(mode=mode, k=3, candidates=5))
    assert texts(found) == texts(shown)


@pytest.mark.parametrize("diversity", [0.0, 0.4])
def test_passages_whose_fused_ranks_tie_are_found_in_one_order(place: Place, words: Any, diversity: float) -> None:
    """An engine orders and cuts them by chance: the same question would be another prompt, and be paid for again."""
    near_by_terms = Passage.of("cat", source="a")
    near_by_meaning = Passage.of("cat and a dog on a road", source="b")
    with place(embedder=words) as collection:
        collection.upsert([near_by_terms, near_by_meaning], words.embed(["a cat on a road", "cat"]))
        for k in (1, 2):
            search = Search(k=k, candidates=2, diversity=diversity)
            found = [collection.search("cat", search) for _ in range(20)]
            assert {len(each) for each in found} == {k}
            assert len({tuple(texts(each)) for each in found}) == 1


def test_a_passage_for_no_group_is_refused_not_shown_to_all(place: Place, words: Any) -> None:
    with place(embedder=words) as collection:
        for groups in ([], ["*"], ["hr", "*"]):
            with pytest.raises(RetrievalError, match="name nobody"):
                collection.upsert([Passage.of("x", source="x", groups=groups)], words.embed(["x"]))
        assert collection.count() == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_search_is_narrowed(filled: Collection, mode: Any) -> None:
    def sources(**where: Any) -> set[tuple[str, int]]:
        found = filled.search("the cat is leave travel", Search(mode=mode, k=6, where=where))
        return {(each.source, each.position) for each in found}

    assert sources(source="1.md") == {("1.md", 0), ("1.md", 1)}
    assert sources(source=["0.md", "1.md"], position=0) == {("0.md", 0), ("1.md", 0)}
    assert sources(document="hash2") == {("2.md", 0)}
    assert sources(source="none.md") == set()
    assert sources(groups="board") == set()  # narrowing widens no rights


def test_scores_below_the_threshold_are_left_out(filled: Collection) -> None:
    search = Search(mode="dense", k=6)
    all_found = filled.search("the office cat", search)
    limit = (all_found[0].score + all_found[1].score) / 2
    assert texts(filled.search("the office cat", search.model_copy(update={"min_score": limit}))) == texts(
        all_found[:1]
    )
    assert filled.search("the office cat", Search(mode="hybrid", min_score=1e6)) == []
    diverse = Search(mode="dense", k=6, min_score=limit, diversity=0.5)
    assert texts(filled.search("the office cat", diverse)) == texts(all_found[:1])


def test_diversity_trades_likeness_for_difference(place: Place, words: Any) -> None:
    rows = ["red cat sits", "red cat sits down", "red cat sits here", "red dog barks loud"]
    passages = [Passage.of(text, source="x", position=i) for i, text in enumerate(rows)]
    with place(embedder=words) as collection:
        collection.upsert(passages, words.embed(rows))
        for mode in ("dense", "hybrid"):
            alike = collection.search("red cat sits", Search(mode=mode, k=2))
            other = collection.search("red cat sits", Search(mode=mode, k=2, diversity=0.9))
            assert alike[1].text.startswith("red cat")
            assert texts(other) == ["red cat sits", "red dog barks loud"]


def test_many_queries_are_embedded_in_one_batch(filled: Collection, words: Any) -> None:
    words.batches.clear()
    found = filled.search_many(["office cat", "", "travel assistant", " \n "], Search(k=1))
    assert words.batches == [2]
    assert [texts(each) for each in found] == [
        ["The office cat is called Minka."],
        [],
        ["Travel is booked by the assistant."],
        [],
    ]
    assert filled.search_many([], Search()) == []


def test_words_without_terms_find_nothing_by_terms(filled: Collection) -> None:
    assert filled.search("the of", Search(mode="sparse")) == []
    assert filled.search("?!", Search(mode="sparse")) == []
    assert len(filled.search("the of", Search(mode="hybrid", k=3))) == 3
    assert [len(each) for each in filled.search_many(["of", "cat", "the"], Search(mode="sparse"))] == [0, 1, 0]


def test_more_may_be_asked_for_than_there_is(filled: Collection) -> None:
    for mode in MODES:
        assert 1 <= len(filled.search("the cat is", Search(mode=mode, k=10_000))) <= 4


def test_an_empty_collection_finds_nothing(place: Place, words: Any) -> None:
    with place(embedder=words) as collection:
        for mode in MODES:
            for diversity in (0, 0.5):
                assert collection.search("cat", Search(mode=mode, diversity=diversity)) == []
        collection.optimize()
        collection.upsert([], np.empty((0, 32), np.float32))
        collection.delete([])
        assert (collection.count(), collection.stored()) == (0, {})


def test_the_same_passage_is_stored_once(filled: Collection, words: Any, policies: list[Passage]) -> None:
    filled.upsert(policies, words.embed(texts(policies)))
    assert filled.count() == 6


def test_what_is_stored_is_told(filled: Collection, policies: list[Passage]) -> None:
    ids = [each.id for each in policies]
    assert filled.stored() == {f"{i}.md": {f"hash{i}": set(ids[2 * i : 2 * i + 2])} for i in range(3)}
    filled.delete([ids[0], ids[2], ids[2], "00000000-0000-0000-0000-000000000000"])
    assert filled.stored()["1.md"] == {"hash1": {ids[3]}}
    assert filled.count() == 4


def test_all_of_a_passage_comes_back(place: Place, words: Any) -> None:
    passage = Passage.of(
        "Deckt \0 alles: 日本語, עברית, 😀𝔘\U0010fffd, e\u0301, \u202eבא\u202c, \ufeff.",
        source="Ordner/Ümläut 😀.md",
        position=7,
        title="Titel «𝔘»",
        time="2026-01-31T12:00:00+01:00",
        groups=("größe", "🐈"),
        document="abc",
    )
    with place(embedder=words) as collection:
        collection.upsert([passage], words.embed([passage.text]))
        for mode in MODES:
            (found,) = collection.search("日本語 alles", Search(mode=mode), groups=["🐈"])
            assert found.score != 0
            assert Passage(**{**{f: getattr(found, f) for f in Passage.__slots__}, "score": 0.0}) == passage
        assert collection.search("日本語 alles", Search(where={"source": "Ordner/Ümläut 😀.md"}), ["größe"])


def test_half_of_a_surrogate_pair_is_refused_in_a_passage_and_replaced_in_a_query(
    filled: Collection, words: Any
) -> None:
    with pytest.raises(RetrievalError, match="surrogate"):
        Passage.of("bad \ud800", source="x")
    some_id = "00000000-0000-0000-0000-000000000001"
    for passage in (
        Passage(some_id, "bad \ud800", "x"),
        Passage(some_id, "x", "x", title="\udfff"),
        Passage(some_id, "x", "x", groups=("\udfff",)),
    ):
        with pytest.raises(RetrievalError, match="surrogate"):
            filled.upsert([passage], words.embed(["x"]))
    assert filled.search("the office cat \ud83d", Search(k=1))[0].text == "The office cat is called Minka."
    assert filled.search("cat", Search(k=1), groups=["\ud83d"])[0].text == "The office cat is called Minka."


def test_vectors_that_cannot_be_are_refused(filled: Collection) -> None:
    passage = Passage.of("new", source="x")
    with pytest.raises(RetrievalError, match=r"dimension 32 .*\(1, 31\)"):
        filled.upsert([passage], np.ones((1, 31), np.float32))
    with pytest.raises(RetrievalError, match="for 1 texts"):
        filled.upsert([passage], np.ones((2, 32), np.float32))
    with pytest.raises(RetrievalError, match="not finite"):
        filled.upsert([passage], np.full((1, 32), np.nan, np.float32))
    with pytest.raises(RetrievalError, match="no UUID"):
        filled.upsert([Passage("seven", "x", "x")], np.ones((1, 32), np.float32))
    assert filled.count() == 6


def test_more_than_one_batch_is_stored_whole(place: Place, words: Any) -> None:
    passages = [Passage.of(f"number {i}", source=f"{i % 7}.md", position=i, document="d") for i in range(1_203)]
    with place(embedder=words) as collection:
        collection.upsert(passages, words.embed(texts(passages)))
        collection.flush()
        collection.optimize()
        assert collection.count() == 1_203
        assert {i for by in collection.stored().values() for ids in by.values() for i in ids} == {
            p.id for p in passages
        }
        for mode in MODES:
            assert collection.search("number 1100", Search(mode=mode, k=1))[0].text == "number 1100"
        collection.delete([each.id for each in passages[3:]])
        assert collection.count() == 3


def test_what_was_stored_is_there_when_opened_again(place: Place, words: Any, policies: list[Passage]) -> None:
    with place(embedder=words, chunking="whole") as collection:
        collection.upsert(policies, words.embed(texts(policies)))
        fingerprint = collection.fingerprint()
    with place(create=False) as collection:
        assert collection.making.chunking == "whole"
        assert collection.fingerprint() == fingerprint
        assert collection.search("cat", Search(mode="sparse"))
        with pytest.raises(RetrievalError, match="made by the embedder 'words'"):
            collection.search("cat")
    with place(embedder=words, create=False) as collection:
        assert collection.search("cat")


def test_another_making_is_refused_and_told_from_the_stored_one(place: Place, words: Any, word_embedder: Any) -> None:
    place(embedder=words, chunking="256 tokens", language="german").close()
    for settings, told in (
        ({"embedder": word_embedder("other")}, "embedder 'words', not 'other'"),
        ({"embedder": word_embedder(dimension=16)}, "dimension 32, not 16"),
        ({"chunking": "64 tokens"}, "chunking '256 tokens', not '64 tokens'"),
        ({"language": "english"}, "language 'german', not 'english'"),
        ({"embedder": word_embedder("a", 9), "chunking": "c"}, "embedder .* dimension .* chunking"),
    ):
        with pytest.raises(RetrievalError, match=told):
            place(**settings)
    place(embedder=words, chunking="256 tokens").close()


def test_vectors_of_another_dimension_are_refused_though_the_embedder_tells_none(
    filled: Collection, place: Place, word_embedder: Any
) -> None:
    other = word_embedder(dimension=16)
    del other.dimension
    other.embed = lambda texts: np.ones((len(texts), 16), np.float32)
    with place(embedder=other) as collection, pytest.raises(RetrievalError, match="dimension 32"):
        collection.search("cat")


def test_a_collection_that_is_not_there_is_not_made_unasked(place: Place, words: Any) -> None:
    with pytest.raises(RetrievalError, match="ingest something"):
        place("missing", create=False)
    with pytest.raises(RetrievalError, match="no name"):
        Collection.open("../up")
    with pytest.raises(RetrievalError, match="not both"):
        Collection.open("x", path="x", url="http://127.0.0.1:1")
    with pytest.raises(RetrievalError, match="klingon"):
        place("missing", embedder=words, language="klingon")
    with pytest.raises(RetrievalError, match="ingest something"):
        place("missing", create=False)


def test_the_fingerprint_is_of_the_content(place: Place, words: Any, policies: list[Passage]) -> None:
    vectors = words.embed(texts(policies))
    with place(embedder=words) as one, place("two", embedder=words) as two:
        assert one.fingerprint() == two.fingerprint()
        one.upsert(policies[:3], vectors[:3])
        two.upsert(policies[2::-1], vectors[2::-1])
        before = one.fingerprint()
        assert before == two.fingerprint()
        one.delete([policies[0].id])
        assert one.fingerprint() != before
        one.upsert(policies[4:5], vectors[4:5])  # as many, but others
        assert one.fingerprint() != before
        with place(embedder=words) as again:
            again.delete([policies[4].id])
            again.upsert(policies[:1], vectors[:1])
        assert one.fingerprint() == before


def test_the_fingerprint_is_of_the_content_under_ids_of_ones_own_too(
    place: Place, words: Any, policies: list[Passage]
) -> None:
    own = Passage("00000000-0000-0000-0000-000000000001", "Leave is 20 days.", "kb")
    changes: list[dict[str, Any]] = [{}, {"text": "Leave is 25 days."}, {"source": "other"}, {"position": 1}]
    with place(embedder=words) as collection:
        collection.upsert(policies, words.embed(texts(policies)))
        # As it always was with ids that are of the content: stored scores stay those of the same programs.
        assert collection.fingerprint() == "6:39e42255bf2141e4f1db9211d73e1a9b"
        found = set()
        for each in (replace(own, **change) for change in changes):
            collection.upsert([each], words.embed([each.text]))
            found.add(collection.fingerprint())
        assert len(found) == 4
        collection.upsert([own], words.embed([own.text]))
        assert collection.fingerprint() in found


def test_threads_may_share_a_collection(place: Place, words: Any) -> None:
    errors: list[BaseException] = []
    with place(embedder=words) as collection:

        def work(number: int) -> None:
            try:
                for turn in range(8):
                    passages = [Passage.of(f"thread{number} turn{turn} {i}", source=f"{number}") for i in range(5)]
                    collection.upsert(passages, words.embed(texts(passages)))
                    for mode in MODES:
                        found = collection.search(f"thread{number} turn{turn}", Search(mode=mode, k=3))
                        assert found[0].text.startswith(f"thread{number} turn{turn}")
                    if turn == 4:
                        collection.flush()
                        collection.optimize()
                    collection.fingerprint()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert collection.count() == 6 * 8 * 5


def test_a_closed_collection_says_so(place: Place, words: Any) -> None:
    collection = place(embedder=words)
    collection.close()
    collection.close()
    with pytest.raises(RetrievalError):
        collection.count()
