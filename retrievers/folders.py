"""Which files of a folder are documents."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .documents import KINDS

__all__ = ["FoundFile", "Skipped", "find_files"]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that holds documents: its path, what it is called, its size in bytes."""

    path: Path
    source: str
    size: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was not read, and why; whether what is stored of it stays, since it may be there again another time.

    Its source is a file's, a folder's for all that is in it, or ``.`` for all of the place.
    """

    source: str
    reason: str
    stays: bool = False


def find_files(place: Path) -> Iterator[FoundFile | Skipped]:
    """Finds the documents of a folder and of the folders in it, in the order of their names; or takes the one file.

    What begins with a dot is passed over in silence. A link to a folder is not followed, nor one to a file that
    stands elsewhere: whoever may write into the folder could otherwise have any file of the machine read. Folders that
    cannot be opened come last.

    Raises:
        DataError: There is nothing at that place.
    """
    if not place.exists():
        raise DataError("no such file or folder", file=str(place))
    if not place.is_dir():
        yield _file(place, place.name)
        return
    root = place.resolve()
    hidden: list[Skipped] = []

    def denied(error: OSError) -> None:
        closed = Path(error.filename or root)
        reason = f"the folder {_shown(closed)} cannot be opened ({error.strerror})"
        hidden.append(Skipped(_relative(closed, root), reason, stays=True))

    for folder, folders, files in os.walk(root, onerror=denied):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in list(folders):
            if _is_link(linked := Path(folder, name)):
                folders.remove(name)
                yield Skipped(_relative(linked, root), "a link to a folder, which is not followed")
        for name in sorted(files):
            path = Path(folder, name)
            if name.startswith("."):
                continue
            source = _relative(path, root)
            if _is_link(path) and not path.resolve().is_relative_to(root):
                yield Skipped(source, "a link to a file outside of the folder")
            else:
                yield _file(path, source)
    yield from hidden


def _is_link(path: Path) -> bool:
    return os.path.islink(path)  # noqa: PTH114 — `Path.is_symlink` raises in a folder that may be listed but not entered


def _relative(path: Path, root: Path) -> str:
    return _shown(path.relative_to(root))


def _shown(path: Path) -> str:
    # A name that is no Unicode cannot be stored: its odd bytes are shown.
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def _file(path: Path, source: str) -> FoundFile | Skipped:
    try:
        told = path.stat()
    except OSError as error:
        return Skipped(source, f"cannot be opened ({error.strerror})", stays=True)
    if not stat.S_ISREG(told.st_mode):
        return Skipped(source, "no regular file")
    if path.suffix.lower() not in KINDS:
        return Skipped(source, f"of no known kind; there is {', '.join(KINDS)}")
    return FoundFile(path, source, told.st_size)
