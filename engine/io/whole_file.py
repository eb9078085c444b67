"""Folders, and exported files, which appear whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EISDIR
from pathlib import Path
from typing import BinaryIO

from shardcam.engine.errors import storage_error
from shardcam.engine.io.plain_file import beside


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside its place, and put it there when all is written.

    Raises
    ------
    DiskFull, RunDirectoryError
        No space, or no permission to write.
    """
    try:
        make_folder(path.parent)
        if path.is_dir():
            raise IsADirectoryError(EISDIR, "it is a folder")
        with beside(path) as temporary:
            with temporary.open("xb") as stream:
                yield stream
            temporary.replace(path)
    except OSError as error:
        raise storage_error(OSError(error.errno, error.strerror), path) from error


def nearest_folder(path: Path) -> Path:
    """A folder, or the nearest above it that there is."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir())


def make_folder(folder: Path) -> None:
    """Make a folder to write into, with those above it.

    Raises
    ------
    DiskFull, RunDirectoryError
        No space, or no permission to write.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
