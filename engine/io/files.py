"""Bytes at a path: of this machine by plain system calls, at a URL through fsspec.

What a reader needs and no more: a size, a whole file, a range of it, a listing.
Everything is opened for reading, and a range is never longer than the file, whatever a
header claims.  `engine.io.fetch_many` reads many parts at once, and
`engine.io.remote_file` has what is sought in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shardcam.engine.io.urls import as_os_error, ask, is_url, system_of

LARGEST = 1 << 30  # bytes of one image


def size(path: str) -> int:
    """Bytes of a file.

    Raises
    ------
    OSError
        There is none, or it is not a regular file.
    """
    if not is_url(path):
        return _regular(path)
    found = ask(path, lambda system: system.info(path))
    if found.get("type") != "file" or found.get("size") is None:
        raise OSError("its size is unknown")
    return int(found["size"])


def exists(path: str) -> bool:
    """Whether there is a file that may be read.

    Raises
    ------
    OSError
        It cannot be known: the server does not answer.
    """
    if not is_url(path):
        return Path(path).is_file()
    try:
        return size(path) >= 0
    except (FileNotFoundError, PermissionError):  # S3 says the latter where it may not list
        return False


def read(path: str) -> bytes:
    """Return a whole file.

    Raises
    ------
    OSError
        It cannot be read, is not a regular file, or is larger than `LARGEST`.
    """
    if is_url(path):
        return ask(path, lambda system: bytes(system.cat_file(path)))
    length = _regular(path)  # a pipe would wait forever
    _require_image(length)
    return _read_part(path, 0, length)


def read_range(path: str, offset: int, length: int) -> bytes:
    """Return `length` bytes of a file from `offset` on.

    Raises
    ------
    OSError
        It cannot be read, ends before, or is too large for an image.
    """
    _require_image(length)
    if is_url(path):
        end = offset + length
        data = ask(path, lambda system: bytes(system.cat_file(path, start=offset, end=end)))
        if len(data) > length:
            raise OSError("the server sends only whole files: it does not support byte ranges")
    else:
        there = _regular(path)
        data = _read_part(path, offset, max(min(length, there - offset), 0))
    if len(data) != length:
        raise OSError(f"the file is cut short: {len(data)} of {length} bytes at {offset}")
    return data


def read_start(path: str, offset: int, length: int) -> bytes:
    """Return `length` bytes of a file from `offset` on, or as many as there are.

    Raises
    ------
    OSError
        It cannot be read.
    """
    if is_url(path):
        end = offset + length
        return ask(path, lambda system: bytes(system.cat_file(path, start=offset, end=end)))
    return _read_part(path, offset, max(min(length, _regular(path) - offset), 0))


def walk(url: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Folders below a URL: each one's URL, and its subfolders and files by name.

    Subfolders that the caller removes are not entered.

    Raises
    ------
    OSError
        It cannot be listed.
    """
    system = system_of(url)
    try:
        for folder, subfolders, files in system.walk(url, detail=True, on_error="raise"):
            yield str(system.unstrip_protocol(folder)), subfolders, files
    except Exception as error:
        raise as_os_error(error) from error


def _require_image(length: int) -> None:
    if length > LARGEST:
        raise OSError(f"{length} bytes; an image has at most {LARGEST}")


def _regular(path: str) -> int:
    try:
        found = os.stat(path)
    except ValueError as error:  # a path with a NUL character
        raise OSError(str(error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise OSError("not a regular file")
    return found.st_size


def _read_part(path: str, offset: int, length: int) -> bytes:
    """By few system calls, each of which other threads can delay: Python's lock is let go of."""
    handle = os.open(path, os.O_RDONLY)
    try:
        data = os.pread(handle, length, offset)
        while left := length - len(data):  # some file systems give less at once
            more = os.pread(handle, left, offset + len(data))
            if not more:
                break
            data += more
    finally:
        os.close(handle)
    return data
