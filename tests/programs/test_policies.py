"""The ready-made policies hold what their questions ask for, and nothing of what is asked without an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from progspace.evaluation.ranking import evaluate_retrieval
from progspace.lms.models import installed
from progspace.programs.policies import CONFIDENTIAL, questions, task, write_policies
from progspace.programs.wording import holds
from progspace.retrievers import Retriever
from progspace.retrievers.ingesting import ingest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policies(tmp_path_factory.mktemp("policies"))


@pytest.fixture(scope="module")
def retriever(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    if not installed("all-minilm-l6-v2"):
        pytest.skip("the embedder is missing: progspace models install all-minilm-l6-v2")
    return ingest(folder, collection="policies", path=tmp_path_factory.mktemp("collections"))


def test_each_answer_stands_in_its_policy(folder: Path, tmp_path: Path) -> None:
    changed = write_policies(tmp_path, changed=True)
    for example in questions():
        assert bool(example.source) == bool(example.answers) == (example.kind != "unanswerable"), example.question
        for place, answers in ((folder, example.answers), (changed, example.changed_answers)):
            for answer in answers:
                assert holds((place / example.source).read_text(encoding="utf-8"), answer), (example.source, answer)
    assert len({example.question for example in questions()}) == len(questions()) >= 80
    assert {example.source for example in questions()} == {*(each.name for each in folder.glob("*.md")), ""}


def test_what_changes_is_told_once(folder: Path, tmp_path: Path) -> None:
    """An old answer is nowhere in the new policy's place, or a stale passage could not be told from a fresh one."""
    changed = write_policies(tmp_path, changed=True) / "remote-work.md"
    for example in questions("change"):
        assert set(example.answers).isdisjoint(example.changed_answers)
        assert not all(holds(changed.read_text(encoding="utf-8"), answer) for answer in example.answers)


def test_the_task_declines_what_no_policy_tells() -> None:
    own = task(lambda question: [])
    rows = [*own.train, *own.dev]
    assert own.metric(rows[0], own.program(question=rows[0].question)).score == float(not rows[0].answers)
    assert {bool(row.answers) for row in rows} == {True, False}


def test_the_right_policy_is_found(retriever: Retriever) -> None:
    asked = [example for example in questions() if example.answers and example.kind != "confidential"]
    found = evaluate_retrieval(retriever, [each.question for each in asked], [each.source for each in asked], ks=[5])
    assert found.recall[5].mean >= 0.95


def test_who_has_no_rights_finds_nothing_confidential(retriever: Retriever) -> None:
    hidden = questions("confidential")
    for example in hidden:
        assert not any(passage.source in CONFIDENTIAL for passage in retriever(example.question, k=50))
        of_his_group = retriever.as_user([example.group])(example.question, k=5)
        assert example.source in [passage.source for passage in of_his_group]
        others = {"hr", "finance", "board"} - {example.group}
        for passage in retriever.as_user(sorted(others))(example.question, k=50):
            assert passage.groups is None or set(passage.groups) & others
