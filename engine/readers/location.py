"""Shared by readers: locations inside a container, and keys that can be stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shardcam.engine.errors import SourceError
from shardcam.engine.io.fetch_many import Part


def place(path: str, offset: int, length: int) -> str:
    """The location of some bytes of a file: ``path#offset:length``."""
    return f"{path}#{offset}:{length}"


def refusal(path: str, reason: str) -> str:
    """The location of a sample that can never be read; reading it raises OSError(reason)."""
    return f"{path}#!{reason}"


def part_at(location: str) -> Part:
    """The bytes at a location.

    Raises
    ------
    OSError
        The location is a refusal.
    """
    path, _, where = location.rpartition("#")
    if where.startswith("!"):
        raise OSError(where[1:])
    offset, length = map(int, where.split(":"))
    return path, offset, offset + length


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
