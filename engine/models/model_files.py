"""Opening the files of models, which may come from anyone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from shardcam.engine.errors import ModelError

MAX_WEIGHTS = 100_000  # arrays in one file; the largest networks have some thousands

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_model_file(path: Path, most: int | None = None) -> bytes:
    """All bytes of a regular file.

    Raises
    ------
    ModelError
        It cannot be read, is larger than `most` bytes or than the memory, or is no regular file:
        a pipe would be waited for, and a device may never end.
    """
    size = model_file_size(path)
    if most is not None and size > most:
        raise ModelError(f"{path}: has {size} bytes; such a file has at most {most}")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read(size)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except MemoryError as error:
        raise ModelError(f"{path}: there is no memory for its {size} bytes") from error


def model_file_size(path: Path) -> int:
    """Bytes of a regular file.

    Raises
    ------
    ModelError
        It cannot be looked at, or is another kind of file.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise ModelError(f"{path}: is {kind}, not a regular file")
    return found.st_size
