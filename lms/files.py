"""Files that are replaced as a whole, or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

__all__ = ["replace_bytes", "replace_text"]


def replace_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Writes a file; whoever reads it, or kills this process, finds the old content or the new one, never a part.

    Args:
        path: Of the file; its folder must be there.
        content: Its new content. What is there and no file, a pipe or a device, is written into; where a link stands,
            it is what the link points to that is replaced.

    Raises:
        OSError: The disk is full, the folder is missing, …; the old file is as it was.
    """
    file = Path(path)
    if file.exists() and not file.is_file():
        file.write_bytes(content)
        return file
    target = Path(os.path.realpath(file))
    scratch = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with scratch.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
    return file


def replace_text(path: str | os.PathLike[str], text: str) -> Path:
    """Writes a file as UTF-8; otherwise as `replace_bytes`."""
    return replace_bytes(path, text.encode())
