"""Files in folders that somebody else may have filled: regular ones only, and through no link."""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR
_DEPTH, _DEEP = 8, "it is nested too deep"


def open_plain(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file, and neither what a link leads to nor a pipe, which would wait.

    A file that is opened for writing must not be known by another name: what is written would
    be seen there too.

    Raises
    ------
    OSError
        It is none, or cannot be opened.
    """
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if flags & _WRITING and found.st_nlink > 1:
            why = "it has another name (a hard link), where the change would be seen; copy it"
            raise OSError(errno.EMLINK, why, str(path))
    except OSError:
        os.close(handle)
        raise
    return handle


def read_plain(path: Path, most: int) -> bytes:
    """Read a file whole that has at most `most` bytes.

    Raises
    ------
    OSError
        It cannot be opened; see `open_plain`.
    ValueError
        It is larger.
    """
    with os.fdopen(open_plain(path), "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise ValueError(f"it has {size} bytes; such a file has at most {most}")
        return stream.read(most)


def parse_json(text: bytes) -> Any:
    """What JSON says; ValueError where it is none, or deeper than ours ever is."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_DEEP) from None
    _require_shallow(value, _DEPTH)
    return value


def _require_shallow(value: Any, levels: int) -> None:
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError(_DEEP)
        for inner in value.values() if isinstance(value, dict) else value:
            _require_shallow(inner, levels - 1)


def require_plain(path: Path) -> None:
    """Make sure that a name is a file's, a folder's, or nobody's.

    Raises
    ------
    OSError
        It is a link, a pipe or a device.
    """
    try:
        kind = os.lstat(path).st_mode
    except OSError:  # who opens it will see why
        return
    if stat.S_ISLNK(kind):
        raise OSError(errno.ELOOP, "a link, which is not followed here", str(path))
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise OSError(errno.EINVAL, "neither a file nor a folder", str(path))


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name for a new file in the folder of another, whose place it may take.

    Nobody has a file of that name yet; it is removed if it is still there at the end.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink()
