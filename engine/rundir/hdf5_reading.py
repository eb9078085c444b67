"""Opening HDF5 files of a run: what is damage, and what only cannot be read now."""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import h5py

from shardcam.engine.errors import (
    RunDirectoryError,
    ShardcamError,
    StoreError,
    needs,
    read_error,
    store_error,
)
from shardcam.engine.io.plain_file import require_plain
from shardcam.engine.io.remote_file import Blocks
from shardcam.engine.rundir.own_datasets import Unsound, datasets
from shardcam.engine.rundir.run_dir import ShardFile

_FILTERS = {"zstd": 32015, "lz4": 32004}  # that HDF5 has from hdf5plugin
_SYSTEM_ERROR = re.compile(r"errno = (\d+), error message")  # as HDF5 reports it


@cache
def register_filters() -> None:
    """Make HDF5 know zstd and lz4, if they are installed; other codecs need nothing.

    Raises
    ------
    StoreError
        The operating system does not let it be read now; the next call tries again.
    """
    try:
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401
    except OSError as error:
        raise read_error(error, "hdf5plugin") from error


@contextmanager
def reading(path: ShardFile) -> Iterator[h5py.File]:
    """Open a file that was written complete; what is wrong with it becomes one line.

    At a URL only the blocks that are read are fetched.

    Raises
    ------
    RunDirectoryError
        The file is missing or damaged.
    StoreError
        It cannot be read now: the operating system or the server refuses, or a codec of it is
        not installed.
    """
    register_filters()
    opened = blocks_at(path) if isinstance(path, str) else path
    require_file(opened)
    blocks = opened if isinstance(opened, Blocks) else None
    # Raised when nothing holds HDF5's own error any more: it holds the file at the URL, which
    # HDF5 would look for when Python has ended, and crash.
    problem: Exception | None = None
    try:
        with h5py.File(opened, "r", locking="best-effort") as file:
            try:
                yield file
            except Exception as error:
                problem = reading_problem(path, error, file) or error
    except Exception as error:
        problem = problem or reading_problem(path, error) or error
    require_answered(path, blocks)  # else the file may well be good
    if problem:
        raise problem


def require_file(path: ShardFile) -> None:
    """Refuse a link, which could lead anywhere, and a pipe, which would be waited for.

    Raises
    ------
    StoreError
        It is one.
    """
    try:
        if isinstance(path, Path):
            require_plain(path)
    except OSError as error:
        raise read_error(error, path) from None


def reading_problem(
    place: object, error: Exception, file: h5py.File | None = None
) -> ShardcamError | None:
    """The message for an exception of HDF5 while it read a file; None for others, which are bugs.

    Damage is what HDF5 calls damage. Where the operating system did not let it read, or it
    lacks a codec, the file may well be good.

    Parameters
    ----------
    place
        What to call the file.
    file
        The file, if it could be opened.
    """
    if isinstance(error, Unsound):
        return RunDirectoryError(f"{place}: unreadable ({error})")
    if isinstance(error, ShardcamError) or not _is_of_h5py(error):
        return None
    number = _system_error(error)
    if number:
        return system_problem(place, number)
    lacking = _missing_filter(file) if file else None
    if lacking:
        return StoreError(f"{place}: cannot be read here: {_remedy(lacking)}")
    return RunDirectoryError(f"{place}: unreadable ({first_line(error)})")


def system_problem(place: object, number: int) -> ShardcamError:
    """The message for an error of the operating system."""
    if number == errno.ENOENT:
        return RunDirectoryError(f"{place}: missing")
    return StoreError(f"{place}: cannot be read now: {os.strerror(number)}")


def _is_of_h5py(error: Exception) -> bool:
    """Whether h5py raised it, not we nor a signal handler that came while h5py was at work."""
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    return str(innermost.f_globals.get("__name__")).startswith("h5py")


def _system_error(error: Exception) -> int | None:
    """The operating system's number; h5py has it as an attribute only when it opens a file."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    found = _SYSTEM_ERROR.search(str(error))
    return int(found[1]) if found else getattr(error, "errno", None)


def require_filter(place: object, codec: str) -> None:
    """Make sure that HDF5 can read chunks of a codec.

    Raises
    ------
    StoreError
        It cannot: `place` names the file or the run.
    """
    register_filters()
    number = _FILTERS.get(codec)
    if number and not h5py.h5z.filter_avail(number):
        raise StoreError(f"{place}: cannot be read here: {_remedy(number)}")


def _missing_filter(file: h5py.File) -> int | None:
    """A filter that a file was written with and HDF5 does not have here."""
    with suppress(Exception):  # the file is damaged all the more
        for dataset in datasets(file).values():
            created = dataset.id.get_create_plist()
            for place in range(created.get_nfilters()):
                number = int(created.get_filter(place)[0])
                if not h5py.h5z.filter_avail(number):
                    return number
    return None


def _remedy(number: int) -> str:
    """What to install for a filter."""
    for codec, known in _FILTERS.items():
        if number == known:
            return f"it is packed with {codec}, which {needs('hdf5plugin')}"
    return f"it is packed with HDF5's filter {number}, which is not installed"


def blocks_at(url: str) -> Blocks:
    try:
        return Blocks(url)
    except FileNotFoundError as error:
        raise RunDirectoryError(f"{url}: missing") from error
    except OSError as error:
        raise store_error(error, url, "read") from error


def require_answered(path: ShardFile, blocks: Blocks | None) -> None:
    """Raise what the server or a signal had to say while HDF5 was reading."""
    error = blocks.error if blocks else None
    if isinstance(error, OSError):
        raise store_error(error, str(path), "read") from error
    if error is not None:
        raise error


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return str(error.args[-1] if error.args else error).partition("\n")[0]
