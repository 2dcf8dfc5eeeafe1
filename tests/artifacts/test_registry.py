"""The registry: versions by their content, tags and their way, and what hostile folders do."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest

import progspace as ps
from progspace.artifacts.artifact import read_artifact, read_hashed, write_artifact
from progspace.lms.adapters import write_adapter


@pytest.fixture
def registry(tmp_path: Path) -> ps.Registry:
    ticks = itertools.count()
    return ps.Registry(tmp_path / "registry", clock=lambda: f"2026-01-01T00:00:{next(ticks):02}+00:00")


@pytest.fixture
def artifacts(make_artifact: Callable[..., Path], mood: Any, tmp_path: Path) -> list[Path]:
    module = dspy.Predict(mood)
    return [make_artifact(tmp_path / f"{i}.progspace.json", module, instruction=f"Way {i}.") for i in range(3)]


def test_a_tag_goes_from_version_to_version_and_back(registry: ps.Registry, artifacts: list[Path]) -> None:
    first, second, third = (registry.add(path, tags=["prod"], note=path.name) for path in artifacts)
    assert [version.note for version in registry.versions()] == [
        "2.progspace.json",
        "1.progspace.json",
        "0.progspace.json",
    ]
    assert registry.tags() == {"prod": third.hash}
    assert [version.hash for version in registry.lineage("prod")] == [third.hash, second.hash, first.hash]
    assert registry.rollback("prod") == second
    assert registry.rollback("prod") == first
    with pytest.raises(ps.ArtifactError, match="never named another version"):
        registry.rollback("prod")
    assert registry.tag("prod", third.hash[:8]) == third
    assert registry.rollback("prod") == first
    assert [move.how for move in registry.history("prod")] == ["tag"] * 3 + ["rollback"] * 2 + ["tag", "rollback"]
    assert read_artifact(registry.path("prod")).candidate.predictors["self"].instruction == "Way 0."


def test_what_is_there_is_not_added_again(registry: ps.Registry, artifacts: list[Path]) -> None:
    version = registry.add(artifacts[0], tags=["prod"])
    again = registry.add(artifacts[0], tags=["prod", "staging"], note="ignored", parent="prod")
    assert again == version
    assert len(registry.history("prod")) == 1
    assert registry.tags() == {"prod": version.hash, "staging": version.hash}
    assert registry.version(version.hash[:6]) == version
    assert registry.add(artifacts[1], parent="staging").parent == version.hash
    artifacts[0].unlink()
    assert registry.path("prod").exists()


@pytest.mark.parametrize(
    ("tag", "told"),
    [(tag, "no tag") for tag in ("../prod", "", "Prod", "a/b", "-x", "x" * 65, "..", "prod\n")]
    + [("abcdef", "could be the hash")],
)
def test_hostile_tags_are_refused_before_anything_is_kept(
    registry: ps.Registry, artifacts: list[Path], tag: str, told: str
) -> None:
    with pytest.raises(ps.ArtifactError, match=told):
        registry.add(artifacts[0], tags=[tag])
    assert registry.versions() == []
    assert not registry.folder.exists()


def test_what_is_not_there_is_told(registry: ps.Registry, artifacts: list[Path], tmp_path: Path) -> None:
    version = registry.add(artifacts[0], tags=["prod"])
    for reference in ("none", "000000", "../../etc/passwd", version.hash[:5], ""):
        with pytest.raises(ps.ArtifactError, match=r"there is no version .* give a tag \(prod\)"):
            registry.path(reference)
    with pytest.raises(ps.ArtifactError, match="there is no tag 'none'; there is prod"):
        registry.rollback("none")
    with pytest.raises(ps.ArtifactError, match="there is no version"):
        registry.add(artifacts[1], parent="none")
    with pytest.raises(ps.ArtifactError, match="cannot be read"):
        registry.add(tmp_path / "none.progspace.json")
    edited = json.loads(artifacts[1].read_text())
    edited["content"]["task"] = "other"
    artifacts[1].write_text(json.dumps(edited))
    with pytest.raises(ps.ArtifactError, match="edited or damaged"):
        registry.add(artifacts[1])
    assert registry.versions() == [version]


def test_altered_files_are_refused(registry: ps.Registry, artifacts: list[Path]) -> None:
    registry.add(artifacts[0], tags=["prod"])
    registry.add(artifacts[1], tags=["prod"])
    kept = registry.folder / "versions" / f"{read_hashed(artifacts[0])[0]}.progspace.json"
    kept.write_bytes(artifacts[2].read_bytes())  # an artifact, and a whole one, but not this
    with pytest.raises(ps.ArtifactError, match="altered"):
        registry.rollback("prod")
    with pytest.raises(ps.ArtifactError, match="altered"):
        registry.tag("prod", kept.name[:10])
    kept.unlink()
    with pytest.raises(ps.ArtifactError, match="cannot be read"):
        registry.rollback("prod")
    assert read_artifact(registry.path("prod")).candidate.predictors["self"].instruction == "Way 1."


@pytest.mark.parametrize("harm", ["edited", "another's", "missing"])
def test_what_is_added_anew_is_whole_again(registry: ps.Registry, artifacts: list[Path], harm: str) -> None:
    version = registry.add(artifacts[0], tags=["prod"])
    kept = registry.path("prod")
    if harm == "edited":
        kept.write_text(kept.read_text().replace("Way 0.", "Way 9."))
    elif harm == "another's":
        kept.write_bytes(artifacts[1].read_bytes())
    else:
        kept.unlink()
    with pytest.raises(ps.ArtifactError):
        registry.path("prod")
    assert registry.add(artifacts[0], tags=["canary"]) == version
    assert registry.path("prod") == registry.path("canary") == kept
    assert kept.read_bytes() == artifacts[0].read_bytes()
    assert registry.versions() == [version]


def test_weights_that_are_added_anew_are_whole_again(
    registry: ps.Registry, artifacts: list[Path], tmp_path: Path
) -> None:
    tensors = {"base_model.model.x.lora_A.weight": np.zeros((1, 1), np.float32)}
    adapter = write_adapter(tmp_path / "new", tensors, base="smollm2-135m", rank=1, alpha=1, weights={})
    adapter.path.rename(tmp_path / f"{adapter.sha256[:16]}.safetensors")
    trained = {"model": "local/x", "engine": {"model": "smollm2-135m", "adapter": adapter.sha256}}
    file = write_artifact(read_artifact(artifacts[0]).model_copy(update={"lms": {"trained": trained}}), artifacts[0])
    registry.add(file, tags=["prod"])
    kept = registry.path("prod").with_name(f"{adapter.sha256[:16]}.safetensors")
    whole = kept.read_bytes()
    for harm in (lambda: kept.write_bytes(whole[:-1]), kept.unlink):
        harm()
        registry.add(file)
        assert kept.read_bytes() == whole


def test_a_hostile_index_is_refused(registry: ps.Registry, artifacts: list[Path]) -> None:
    version = registry.add(artifacts[0], tags=["prod"])
    index = registry.folder / "registry.json"
    good = json.loads(index.read_text())
    move, stranger = good["tags"]["prod"][0], "0" * 64
    for changed, told in [
        ({"versions": {"../../x": good["versions"][version.hash]}}, "damaged at versions"),
        ({"versions": {}}, "do not fit"),
        ({"versions": {version.hash: {**good["versions"][version.hash], "hash": stranger}}}, "do not fit"),
        ({"tags": {"prod": []}}, "do not fit"),
        ({"tags": {"prod": [{**move, "how": "rollback"}]}}, "do not fit"),
        ({"tags": {"prod": [move, {**move, "version": stranger}]}}, "do not fit"),
        ({"tags": {"../prod": [move]}}, "damaged at tags"),
        ({"schema": 2}, "newer: it has schema 2"),
        ({"schema": 0}, "damaged at schema"),
        ({"format": "other"}, "damaged at format"),
        ({"run": "x"}, "damaged at run"),
    ]:
        index.write_text(json.dumps({**good, **changed}))
        with pytest.raises(ps.ArtifactError, match=told):
            registry.path("prod")
    for text in ("", "[" * 100_000, "[]", '{"tags": 3}', "\x00"):
        index.write_text(text)
        with pytest.raises(ps.ArtifactError, match="damaged"):
            registry.add(artifacts[1], tags=["prod"])
    index.write_bytes(b"\xff\xfe")
    with pytest.raises(ps.ArtifactError, match="cannot be read"):
        registry.tags()
    # A line of parents that runs in a ring ends.
    second = registry.folder / "registry.json"
    second.write_text(json.dumps(good))
    ring = json.loads(json.dumps(good))
    ring["versions"][version.hash]["parent"] = version.hash
    index.write_text(json.dumps(ring))
    assert registry.lineage("prod") == [registry.version("prod")]


def test_many_may_add_at_a_time(
    registry: ps.Registry, make_artifact: Callable[..., Path], mood: Any, tmp_path: Path
) -> None:
    module = dspy.Predict(mood)
    paths = [make_artifact(tmp_path / f"many{i}.json", module, instruction=f"{i}") for i in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda path: ps.Registry(registry.folder).add(path, tags=["prod"]), paths))
    assert len(registry.versions()) == len(registry.history("prod")) == 12
