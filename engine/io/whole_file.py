"""Folders, and exported files, which appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EISDIR, ENAMETOOLONG
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from shardcam.engine.errors import ConfigError, DiskFull, storage_error
from shardcam.engine.io.plain_file import beside
from shardcam.engine.io.store import PROBE

_NAME = "PC_NAME_MAX"  # bytes of a name


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


def require_place(option: str, path: Path, folder: bool = True) -> None:
    """Refuse an output that cannot be made, before anything is computed for it. Nothing is made.

    Parameters
    ----------
    folder
        It is one, and those above it are made too.

    Raises
    ------
    ConfigError
        What is in its way, or why the folder cannot be written into.
    DiskFull
        No space there.
    """
    place = path.absolute() if folder else path.absolute().parent
    nearest = next(one for one in (place, *place.parents) if os.path.lexists(one))
    if folder and nearest == place and not place.is_dir():
        raise ConfigError(f"{option} {path}: is a file; name a folder")
    if not nearest.is_dir():
        raise ConfigError(f"{option} {path}: {nearest} is a file, not a folder")
    try:
        if max(map(len, map(os.fsencode, path.parts)), default=0) > os.pathconf(nearest, _NAME):
            raise OSError(ENAMETOOLONG, "a name in it is too long")
        with TemporaryFile(prefix=PROBE, dir=nearest):
            pass
    except OSError as error:
        if isinstance(refusal := storage_error(error, path), DiskFull):
            raise refusal from error
        raise ConfigError(f"{option} {path}: cannot be written: {error.strerror}") from error


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
