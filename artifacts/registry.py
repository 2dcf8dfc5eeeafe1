"""Versions of compiled programs, by the hash of their content: tags, lineage, rollback."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ArtifactError
from ..lms.files import replace_bytes, replace_text
from .artifact import Artifact, read_hashed
from .weights import put_beside, sought_beside

if TYPE_CHECKING:  # an app whose program has no weights of its own does without numpy
    from ..lms.adapters import Adapter

__all__ = ["DEFAULT_REGISTRY", "Move", "Registry", "Version", "artifact_path", "check_no_version"]

DEFAULT_REGISTRY = Path(".progspace/registry")

_SCHEMA = 1
_SHORTEST = 6  # digits of a hash that name a version
_DIGITS = re.compile(r"[0-9a-f]{6,64}")
_TAG = r"^[a-z0-9][a-z0-9._-]{0,63}$"

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Tag = Annotated[str, Field(pattern=_TAG)]


class Version(BaseModel):
    """An artifact that the registry keeps.

    Attributes:
        hash: Of its content; its name.
        task: What it was compiled for.
        added: When, ISO 8601, UTC.
        parent: The version that it came from, where it is known.
        note: What whoever added it had to say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hash: Hash
    task: str
    added: str
    parent: Hash | None = None
    note: str = ""


class Move(BaseModel):
    """A tag came to name a version.

    Attributes:
        version: Its hash.
        time: When, ISO 8601, UTC.
        how: ``tag``, or ``rollback`` to the version that the tag named before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Hash
    time: str
    how: Literal["tag", "rollback"]


class _Index(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["progspace registry"] = "progspace registry"
    schema_version: int = Field(default=_SCHEMA, alias="schema", ge=1)
    versions: dict[Hash, Version] = Field(default_factory=dict)
    tags: dict[Tag, list[Move]] = Field(default_factory=dict)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


class Registry:
    """A folder of artifacts, named by the hash of their content, and the tags that point at them.

    What is added is never changed: a tag moves from one version to another, and its way is kept. Processes may share
    it.

    Args:
        folder: Is made when something is added.
        clock: Tells the time, ISO 8601.

    >>> Registry("none").versions()
    []
    """

    def __init__(self, folder: str | Path = DEFAULT_REGISTRY, *, clock: Callable[[], str] = _now) -> None:
        self.folder = Path(folder)
        self._clock = clock

    def add(self, path: str | Path, *, tags: Sequence[str] = (), parent: str | None = None, note: str = "") -> Version:
        """Keeps a copy of an artifact, with its trained weights; one that is kept already, and whole, is only tagged.

        Args:
            path: The file that ``compiled.save`` wrote.
            tags: Come to name it.
            parent: The version that it came from; by default the one that the first of the tags named until now.
            note: What there is to say of it.

        Raises:
            ArtifactError: The file is damaged or edited, its weights are not beside it, a tag is no tag, or the parent
                is not there.
        """
        source = Path(path)
        for tag in tags:
            _check_tag(tag)
        name, artifact = read_hashed(source)
        with self._changing() as index:
            if name in index.versions:
                if not self._whole(name, artifact):
                    self._keep(source, name, artifact)
            else:
                from_ = self._found(index, parent) if parent is not None else None
                if from_ is None and tags and (before := _standing(index.tags.get(tags[0], []))):
                    from_ = before[-1]
                self._keep(source, name, artifact)
                index.versions[name] = Version(
                    hash=name, task=artifact.task, added=self._clock(), parent=from_, note=note
                )
            for tag in tags:
                self._move(index, tag, name)
        return index.versions[name]

    def tag(self, tag: str, reference: str) -> Version:
        """Lets a tag name a version; it stays where it is if it does so already.

        Raises:
            ArtifactError: The tag is no tag, or there is no such version, or it was altered.
        """
        _check_tag(tag)
        with self._changing() as index:
            name = self._found(index, reference)
            self._checked(name)
            self._move(index, tag, name)
        return index.versions[name]

    def rollback(self, tag: str) -> Version:
        """Lets a tag name the version that it named before; again, the one before that.

        Raises:
            ArtifactError: There is no such tag, it never named another version, or that one was altered.
        """
        with self._changing() as index:
            standing = _standing(self._moves(index, tag))
            if len(standing) < 2:
                raise ArtifactError(f"{tag}: it never named another version than {standing[-1][:12]}")
            self._checked(standing[-2])
            index.tags[tag].append(Move(version=standing[-2], time=self._clock(), how="rollback"))
        return index.versions[standing[-2]]

    def versions(self) -> list[Version]:
        """All versions, the last added first."""
        return list(reversed(self._read().versions.values()))

    def tags(self) -> dict[str, str]:
        """The version that each tag names, by its hash."""
        return {tag: moves[-1].version for tag, moves in sorted(self._read().tags.items())}

    def history(self, tag: str) -> list[Move]:
        """The way of a tag, oldest first.

        Raises:
            ArtifactError: There is no such tag.
        """
        return list(self._moves(self._read(), tag))

    def lineage(self, reference: str) -> list[Version]:
        """A version, the one that it came from, and so on.

        Raises:
            ArtifactError: There is no such version.
        """
        index = self._read()
        line: list[Version] = []
        name: str | None = self._found(index, reference)
        while name in index.versions and index.versions[name] not in line:
            line.append(index.versions[name])
            name = line[-1].parent
        return line

    def version(self, reference: str) -> Version:
        """Gives the version that a tag, a hash, or its first digits name.

        Raises:
            ArtifactError: There is no such version, or there are several.
        """
        index = self._read()
        return index.versions[self._found(index, reference)]

    def path(self, reference: str) -> Path:
        """Gives the file of a version, for ``ps.load``; it is checked to be what was added.

        Raises:
            ArtifactError: There is no such version, or its file is missing or was altered.
        """
        return self._checked(self.version(reference).hash)

    def _file(self, name: str) -> Path:
        return self.folder / "versions" / f"{name}.progspace.json"

    def _keep(self, source: Path, name: str, artifact: Artifact) -> None:
        target = self._file(name)
        adapters = _adapters(source, artifact)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            put_beside(target, adapters)
            replace_bytes(target, source.read_bytes())
        except OSError as error:
            raise ArtifactError(f"{target}: cannot be written ({error.strerror or error})") from error
        self._checked(name)

    def _whole(self, name: str, artifact: Artifact) -> bool:
        try:
            _adapters(self._checked(name), artifact)
        except ArtifactError:
            return False
        return True

    def _checked(self, name: str) -> Path:
        path = self._file(name)
        found, _ = read_hashed(path)
        if found != name:
            raise ArtifactError(
                f"{path}: altered: it holds the artifact {found[:12]}; restore the file, or add it anew"
            )
        return path

    def _move(self, index: _Index, tag: str, name: str) -> None:
        moves = index.tags.setdefault(tag, [])
        if not moves or moves[-1].version != name:
            moves.append(Move(version=name, time=self._clock(), how="tag"))

    def _moves(self, index: _Index, tag: str) -> list[Move]:
        if tag not in index.tags:
            raise ArtifactError(f"{self.folder}: there is no tag {tag!r}; there is {', '.join(index.tags) or 'none'}")
        return index.tags[tag]

    def _found(self, index: _Index, reference: str) -> str:
        if reference in index.tags:
            return index.tags[reference][-1].version
        if _DIGITS.fullmatch(reference):
            found = [name for name in index.versions if name.startswith(reference)]
            if len(found) == 1:
                return found[0]
            if found:
                raise ArtifactError(f"{self.folder}: {len(found)} versions begin with {reference}: give more digits")
        raise ArtifactError(
            f"{self.folder}: there is no version {reference!r}: give a tag ({', '.join(index.tags) or 'none yet'}), "
            f"or {_SHORTEST} digits or more of a version's hash"
        )

    @property
    def _index(self) -> Path:
        return self.folder / "registry.json"

    def _read(self) -> _Index:
        try:
            text = self._index.read_text(encoding="utf-8")
        except FileNotFoundError:
            return _Index()
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{self._index}: cannot be read ({error})") from error
        try:
            index = _Index.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "its beginning"
            raise ArtifactError(f"{self._index}: damaged at {where}: {first['msg']}") from error
        if index.schema_version > _SCHEMA:
            raise ArtifactError(
                f"{self._index}: newer: it has schema {index.schema_version}, and this release knows {_SCHEMA}; "
                "upgrade: pip install -U progspace"
            )
        named = {move.version for moves in index.tags.values() for move in moves}
        if (
            named - set(index.versions)
            or any(name != version.hash for name, version in index.versions.items())
            or any(_standing(moves)[-1:] != [move.version for move in moves[-1:]] for moves in index.tags.values())
            or not all(index.tags.values())
        ):
            raise ArtifactError(f"{self._index}: damaged: its tags and versions do not fit together")
        return index

    @contextmanager
    def _changing(self) -> Iterator[_Index]:
        """The index, alone with it; written when the change is whole."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                index = self._read()
                yield index
                replace_text(self._index, index.model_dump_json(indent=2, by_alias=True) + "\n")
        except OSError as error:
            raise ArtifactError(f"{self.folder}: cannot be written ({error.strerror or error})") from error


def _standing(moves: Sequence[Move]) -> list[str]:
    """The versions that a tag named, without those that were rolled back."""
    standing: list[str] = []
    for move in moves:
        if move.how == "rollback":
            standing = standing[:-1]
        else:
            standing.append(move.version)
    return standing


def _adapters(path: Path, artifact: Artifact) -> dict[str, Adapter]:
    """The trained weights beside an artifact, by their hash."""
    engines = [lm.get("engine") for lm in (artifact.lm, *artifact.lms.values())]
    return {
        str(engine["adapter"]): sought_beside(path, engine)
        for engine in engines
        if isinstance(engine, dict) and engine.get("adapter")
    }


def artifact_path(reference: str | Path) -> Path:
    """Finds an artifact: a file, or ``@TAG`` (or ``@HASH``) of the registry.

    Raises:
        ArtifactError: There is no such version, or its file is missing or was altered.

    >>> artifact_path("mood.progspace.json").name
    'mood.progspace.json'
    """
    if isinstance(reference, Path) or not reference.startswith("@"):
        return Path(reference)
    return Registry().path(reference[1:])


def check_no_version(path: str | Path) -> None:
    """Refuses to have a file written over that a registry keeps: what is added is never changed.

    Raises:
        ArtifactError: It is a version, or a link to one.
    """
    file = Path(os.path.realpath(path))
    name, folder = file.name.removesuffix(".progspace.json"), file.parent.parent
    registry = Registry(folder)
    if re.fullmatch("[0-9a-f]{64}", name) and file == registry._file(name) and registry._index.exists():
        raise ArtifactError(
            f"{path}: it is a version that the registry {folder} keeps, and never changes: "
            "write elsewhere and add that, registry.add(path, tags=[…]); or ps.recompile('@TAG', …), which adds its own"
        )


def _check_tag(tag: str) -> None:
    if not re.fullmatch(_TAG[1:-1], tag):
        raise ArtifactError(
            f"{tag!r} is no tag: letters from a to z, digits, '.', '_' and '-', 64 at most, the first a letter or digit"
        )
    if _DIGITS.fullmatch(tag):
        raise ArtifactError(f"{tag!r} is no tag: it could be the hash of a version")
