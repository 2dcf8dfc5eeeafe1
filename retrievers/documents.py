"""What a file holds: text, Markdown, HTML, PDF, DOCX; rows of JSONL and CSV are read by `rows`."""

from __future__ import annotations

import codecs
import datetime
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, RetrievalError
from .passage import EVERYONE

__all__ = ["KINDS", "Document", "check_text", "folded", "groups_of", "read_document", "text_of", "time_of"]

# Extensions, and how what they name is read; rows are in `rows`.
KINDS = {
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "parsed",
    ".htm": "parsed",
    ".pdf": "parsed",
    ".docx": "parsed",
    ".jsonl": "rows",
    ".ndjson": "rows",
    ".csv": "rows",
}
_LARGEST = {"text": 256, "markdown": 256, "parsed": 128}  # MB; parsing takes some twelve times the size in memory
_PATIENCE = 900  # seconds for one file: a PDF of 6,000 pages takes minutes, a broken one for ever
_FRONT_MATTER = re.compile(r"(?:[ \t\ufeff]*\n)*[ \t\ufeff]*---[ \t]*(?:\n|\Z)")
_END = re.compile(r"^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.MULTILINE)
# What is front matter though it has no end: a field right below the first line, or rights farther down.
_FIELD = re.compile(r"[ \t]*[\w'\"-]+[ \t]*:(?:\s|\Z)")
_RIGHTS = re.compile(r"^[ \t'\"]*groups[ \t'\"]*:(?:\s|\Z)", re.MULTILINE | re.IGNORECASE)
_STATED = ("title", "time", "date", "groups")
_LONGEST_FRONT_MATTER = 65_536
_LONGEST_HEAD = 10_000_000
# What a page says of itself comes out as text of its own otherwise.
_TOLD = re.compile(r"<(?:meta|link|base)\b[^<>]*>", re.IGNORECASE)
_CHARSET = re.compile(rb"<meta\b[^<>]*charset\s*=\s*[\"']?\s*([A-Za-z0-9_-]+)", re.IGNORECASE)
_HEAD, _HEAD_END = (re.compile(rf"<{name}(?=[\s/>])", re.IGNORECASE) for name in ("head", "/head"))
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Latin-1 and ASCII are names of Windows-1252 in pages: browsers have never read them otherwise.
_LATIN = {"ascii", "iso8859-1", "cp1252"}
_WINDOWS = {code: bytes([code]).decode("cp1252", "ignore") or chr(code) for code in range(0x80, 0xA0)}
_TITLE = re.compile(r"<title\b[^<>]*>([^<]*)<", re.IGNORECASE)
_NO_TITLE = {"", "untitled", "(unspecified)", "(anonymous)"}


@dataclass(frozen=True, slots=True)
class Document:
    """One document: what is split into passages.

    Attributes:
        source: Its path relative to the folder, or what a row calls itself.
        text: What it says.
        title: What it is called.
        time: ISO 8601, in UTC.
        groups: Who may read it; None: everyone.
        markdown: Whether its text is Markdown, with headings.
        fingerprint: A hash of what it says, of its title and of its rights, but not of a file's time: a file that was
            only copied has not changed.
        file: Of a row that names a source of its own, the file that it stands in.
    """

    source: str
    text: str
    title: str = ""
    time: str | None = None
    groups: tuple[str, ...] | None = None
    markdown: bool = False
    stated_time: bool = False  # by the document itself, and not by its file
    file: str = ""

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits."""
        said = [self.text, self.title, self.groups, self.time if self.stated_time else None]
        return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()[:16]


def read_document(path: Path, source: str, groups: tuple[str, ...] | None = None) -> Document:
    """Reads one file that is not made of rows.

    Markdown may begin with front matter in YAML, of which ``title``, ``time`` (or ``date``) and ``groups`` are read, in
    small letters or capitals. A page of HTML is read in the encoding of its byte order mark, else in the one that
    it states, which is taken as in the `HTML standard <https://encoding.spec.whatwg.org>`_: no UTF-16, and Windows-1252
    for Latin-1.

    Args:
        path: The file.
        source: What the document is called.
        groups: Who may read it, where it does not say so itself.

    Raises:
        DataError: It is too large, damaged, binary, not UTF-8, or says of itself what cannot be.
        RetrievalError: The library that reads its format is not installed.
    """
    kind = KINDS[path.suffix.lower()]
    stat = path.stat()
    if stat.st_size > _LARGEST[kind] * 1_000_000:
        raise DataError(
            f"{stat.st_size / 1e6:,.0f} MB, and at most {_LARGEST[kind]} MB are read; split it, or give its passages "
            "as JSONL, which is read row by row",
            file=str(path),
        )
    time = time_of(datetime.datetime.fromtimestamp(stat.st_mtime, datetime.timezone.utc))
    if kind == "parsed" and stat.st_size == 0:
        return Document(source, "", time=time, groups=groups)
    if kind == "parsed":
        text, title = _parsed(path)
        return Document(source, _clean(text, str(path)), title, time, groups, markdown=True)
    text = _clean(text_of(path.read_bytes(), str(path)), str(path))
    if kind == "text":
        return Document(source, text, "", time, groups)
    told, text = _front_matter(text, str(path))
    stated = told.get("time", told.get("date"))
    title = str(told.get("title") or "")
    check_text(title, "title", file=str(path))
    return Document(
        source,
        text,
        " ".join(title.split()),
        time if stated is None else time_of(stated, file=str(path)),
        groups_of(told["groups"], file=str(path)) if "groups" in told else groups,
        markdown=True,
        stated_time=stated is not None,
    )


def text_of(data: bytes, name: str) -> str:
    """Decodes what a file holds: UTF-8, or UTF-16 where its first bytes say so.

    Raises:
        DataError: It is neither.
    """
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise DataError("not UTF-8 text; save it as UTF-8", file=name, row=None if wide else row) from error


def _clean(text: str, name: str) -> str:
    if "\0" in text:
        raise DataError("binary data, not text", file=name)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _parsed(path: Path) -> tuple[str, str]:
    """Gives what a library makes of it as Markdown, and its title."""
    try:
        import kreuzberg
    except ImportError as error:
        raise RetrievalError(
            f"{path.suffix} files need kreuzberg, which is not installed: pip install 'progspace[documents]'"
        ) from error
    config = kreuzberg.ExtractionConfig(
        use_cache=False,  # a second copy of what may be confidential
        enable_quality_processing=False,
        output_format="markdown",
        extraction_timeout_secs=_PATIENCE,
    )
    page, told = _html(path) if path.suffix.lower() in (".html", ".htm") else (None, "")
    try:
        if page is None:
            result = kreuzberg.extract_file_sync(str(path), config=config)
        else:
            result = kreuzberg.extract_bytes_sync(page.encode(), "text/html", config=config)
    except kreuzberg.KreuzbergError as error:
        raise DataError(f"cannot be read ({' '.join(str(error).split())[:200]})", file=str(path)) from error
    except Exception as error:  # what its plugins raise is not all of its own kind
        raise DataError(f"cannot be read ({type(error).__name__}: {error})", file=str(path)) from error
    title = " ".join(str(told or result.metadata.get("title") or "").split())
    return result.content, "" if title.lower() in _NO_TITLE else title


def _html(path: Path) -> tuple[str, str]:
    """Gives a page without its head, and its title."""
    text = _page(path.read_bytes(), str(path))
    head, rest = text[:4096], text
    if (begun := _HEAD.search(text, 0, _LONGEST_HEAD)) and (end := _HEAD_END.search(text, begun.end(), _LONGEST_HEAD)):
        head, rest = text[begun.start() : end.start()], text[end.start() :]
    title = _TITLE.search(head)
    return _TOLD.sub("", rest), html.unescape(title[1]) if title else ""


def _page(data: bytes, name: str) -> str:
    """Decodes a page."""
    stated = _CHARSET.search(data[:4096])
    if stated is None or data.startswith(_MARKS):
        return text_of(data, name)
    charset = stated[1].decode()
    try:
        known = codecs.lookup(charset).name
        if known.startswith("utf-16"):  # its name could not have been read in bytes of it
            return text_of(data, name)
        return data.decode("latin-1").translate(_WINDOWS) if known in _LATIN else data.decode(known)
    except (LookupError, UnicodeError) as error:
        raise DataError(f"not text in {charset}, as it says", file=name) from error


def _front_matter(text: str, name: str) -> tuple[dict[str, Any], str]:
    """Parts the front matter from the text; a document without any is all text."""
    import yaml  # type: ignore[import-untyped]

    begun = _FRONT_MATTER.match(text)
    if begun is None:
        return {}, text
    start = begun.end()
    row = text.count("\n", 0, start - 1) + 1
    end = _END.search(text, start)
    if end is None:
        if _FIELD.match(text, start) or _RIGHTS.search(text, start, start + _LONGEST_FRONT_MATTER):
            # Not read as text either: it would be everyone's.
            raise DataError(
                "the front matter that begins here has no end: below its last field write a line that is --- and "
                "begins with no space; or write *** in place of this line, where it is meant as a rule",
                file=name,
                row=row,
            )
        return {}, text
    stated = text[start : end.start()]
    try:
        if len(stated) > _LONGEST_FRONT_MATTER:
            raise DataError("the front matter is longer than 65,536 characters", file=name)
        told = yaml.safe_load(stated)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        # Not read as text: the rights that it tried to state would be lost.
        raise DataError(
            f"the front matter is not YAML ({' '.join(str(error).split())[:200]})", file=name, row=row
        ) from error
    if not isinstance(told, Mapping):
        return {}, text  # a line between two rules
    return folded(told, _STATED, file=name), text[end.end() :]


def folded(
    told: Mapping[Any, Any], fields: Sequence[str], *, file: str | None = None, row: int | None = None
) -> dict[str, Any]:
    """Picks fields by their names, which may be in capitals and between spaces: no rights are lost by that.

    Raises:
        DataError: Two names are one field.

    >>> folded({" Groups": "hr", "page": 3}, ["title", "groups"])
    {'groups': 'hr'}
    """
    found: dict[str, Any] = {}
    for name, value in told.items():
        field = str(name).strip().lower()
        if field in found:
            twice = "there are two of it, but for capitals and spaces; keep one"
            raise DataError(twice, file=file, row=row, field=field)
        if field in fields:
            found[field] = value
    return found


def check_text(value: str, field: str, *, file: str | None = None, row: int | None = None) -> None:
    """Makes sure that a value can be stored.

    Raises:
        DataError: It is no text.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            "half of a surrogate pair, which is no text; write the character itself", file=file, row=row, field=field
        ) from error
    if "\0" in value:
        raise DataError("binary data, not text", file=file, row=row, field=field)


def groups_of(value: Any, *, file: str | None = None, row: int | None = None) -> tuple[str, ...]:
    """Checks who may read a document: names, in a list or parted by commas.

    Raises:
        DataError: There is no name, or what is there is none.

    >>> groups_of("hr, board")
    ('hr', 'board')
    """
    names: Sequence[Any] = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{value!r} is no list of names of groups", file=file, row=row, field="groups")
    for name in names:
        check_text(name, "groups", file=file, row=row)
    kept = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not kept or EVERYONE in kept:
        raise DataError(
            f"{value!r} names no group; leave the field out where everyone may read it",
            file=file,
            row=row,
            field="groups",
        )
    return kept


def time_of(value: Any, *, file: str | None = None, row: int | None = None) -> str:
    """Writes a date or a time in ISO 8601, a time in UTC; one without a zone is taken to be in UTC.

    Raises:
        DataError: It is no date.

    >>> time_of("2024-05-01T12:00:00+02:00"), time_of("2024-05-01")
    ('2024-05-01T10:00:00Z', '2024-05-01')
    """
    given = value
    if isinstance(value, str):
        try:
            text = value.strip()
            value = (
                datetime.date.fromisoformat(text)
                if len(text) == len("2024-05-01")
                else datetime.datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00"))
            )
        except ValueError:
            pass
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.timezone.utc)
        with suppress(OverflowError):  # near the first and the last year there is none in UTC
            utc: datetime.datetime = value.astimezone(datetime.timezone.utc)
            return utc.isoformat(timespec="seconds").replace("+00:00", "Z")
    elif isinstance(value, datetime.date):
        return value.isoformat()
    raise DataError(
        f"{given!r} is no date of ISO 8601 (2024-05-01, 2024-05-01T12:00:00Z)", file=file, row=row, field="time"
    )
