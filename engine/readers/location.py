"""What readers share: locations inside a container, and keys that can be stored."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.fetch_many import Part, at_hand
from shardcam.engine.io.urls import is_url
from shardcam.engine.types import Sample

_BYTES = re.compile(r"\d+:\d+")


def place(path: str, offset: int, length: int) -> str:
    """The location of some bytes of a file: ``path#offset:length``."""
    return f"{path}#{offset}:{length}"


def refusal(path: str, reason: str) -> str:
    """The location of a sample that can never be read; reading it raises OSError(reason)."""
    return f"{path}#!{reason}"


def read_place(location: str) -> bytes:
    """Return the bytes at a location.

    Raises
    ------
    OSError
        They cannot be read, are not all there, or the location is a refusal.
    """
    path, _, where = location.rpartition("#")
    if where.startswith("!"):
        raise OSError(where[1:])
    offset, _, length = where.partition(":")
    return files.read_range(path, int(offset), int(length))


@contextmanager
def fetched_together(samples: Sequence[Sample]) -> Iterator[None]:
    """Inside, a reader need not wait for each of these samples; those here are as they were."""
    there = [sample for sample in samples if is_url(sample.location)]
    parts = [(_part(sample.location), sample.size) for sample in there]
    with at_hand({part: size for part, size in parts if part is not None}):
        yield


def _part(location: str) -> Part | None:
    """The bytes at a location; None where only HDF5 knows, or where nothing will be read."""
    path, _, where = location.rpartition("#")
    if not path:
        return location, 0, None
    if not _BYTES.fullmatch(where):
        return None
    start, length = map(int, where.split(":"))
    if length > files.LARGEST:  # which reading it says
        return None
    return path, start, start + length


def key_text(name: str) -> str:
    """A key is stored as UTF-8 without NUL: other bytes of a name become ``\\xNN``."""
    if name.isascii() and "\0" not in name:
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text.replace("\0", "\\x00")


@contextmanager
def listing(path: str) -> Iterator[None]:
    """Turn errors of a file that is being listed into one line that names it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise SourceError(f"{path}: {reason}") from error
