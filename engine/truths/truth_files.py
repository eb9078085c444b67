"""The files of a truth: read within bounds, and hashed as they are read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.plain_file import read_plain

_BLOCK = 1 << 20  # bytes of a text that are read at once; no line has more
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_UTF_8 = b"\xef\xbb\xbf"


class TruthFiles:
    """Reads the files of a truth.

    Parameters
    ----------
    root
        The folder that files named by others must be in, whatever links there are in it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._top = os.path.realpath(root).rstrip("/") + "/"
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of names and contents of all that was read, in its order."""
        return self._hash.hexdigest()

    def inside(self, name: str) -> str:
        """The file of a name below the folder.

        Raises
        ------
        OSError
            It leads out of the folder, or there is none.
        """
        try:
            path = os.path.realpath(os.path.join(self._top, name))
            there = stat.S_ISREG(os.stat(path).st_mode)
        except ValueError as error:  # a NUL in the name
            raise OSError(str(error)) from error
        if not path.startswith(self._top):
            raise OSError("it leads out of the folder")
        if not there:
            raise OSError("not a regular file")
        return path

    def read(self, name: str, most: int) -> bytes:
        """A file below the folder; OSError or ValueError where it cannot be read."""
        data = read_plain(Path(self.inside(name)), most)
        self.hash(name, data)
        return data

    def names(self, ending: str) -> tuple[list[str], list[str]]:
        """Files below the folder that have an ending, sorted, and linked folders.

        Hidden files are not there, and linked folders are not entered.

        Raises
        ------
        OSError
            A folder cannot be listed.
        """
        names, linked = [], []
        for folder, folders, files_there in os.walk(self._top, onerror=_raised):
            inside = folder[len(self._top) :].strip("/")
            folders[:] = [name for name in folders if not name.startswith(".")]
            links = [name for name in folders if Path(folder, name).is_symlink()]
            linked += [os.path.join(inside, name) for name in links]
            names += [
                os.path.join(inside, name)
                for name in files_there
                if name.lower().endswith(ending) and not name.startswith(".")
            ]
        return sorted(names), sorted(linked)

    def hash(self, name: str, data: bytes) -> None:
        """Count contents as read."""
        self._hash.update(f"{name}\0{len(data)}\0".encode(errors="surrogateescape"))
        self._hash.update(data)

    def hash_more(self, data: bytes) -> None:
        """Count more of the contents that were hashed last."""
        self._hash.update(data)


def _raised(error: OSError) -> None:
    raise error


def read_whole(path: Path, most: int) -> bytes:
    """A file that the user named, which may be a link.

    Raises
    ------
    SourceError
        It cannot be read, is no regular file, or is larger.
    """
    try:
        size = files.size(str(path))
        if size > most:
            raise SourceError(f"{path}: {size} bytes; a truth of this kind has at most {most}")
        with path.open("rb") as stream:
            return stream.read(most)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error


def lines(path: Path, read: TruthFiles) -> Iterator[tuple[int, str]]:
    """Number and text of each line of a text file that is not blank.

    Raises
    ------
    SourceError
        It cannot be read or is no text in UTF-8.
    """
    number, rest = 0, b""
    try:
        files.size(str(path))  # a pipe would wait
        read.hash(path.name, b"")
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                read.hash_more(block)
                if not number and not rest:
                    _require_utf_8(block, path)
                    block = block.removeprefix(_UTF_8)
                whole, end, rest = (rest + block).rpartition(b"\n")
                if len(rest) > _BLOCK:
                    raise SourceError(f"{path}, line {number + 1}: longer than {_BLOCK} bytes")
                for text in _text(whole, path, number).split("\n") if end else ():
                    number += 1
                    if text := text.strip():
                        yield number, text
        if text := _text(rest, path, number).strip():
            yield number + 1, text
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error


def _require_utf_8(start: bytes, path: Path) -> None:
    if start.startswith(_UTF_16):
        raise SourceError(f"{path}: text in UTF-16; save it as UTF-8")


def _text(data: bytes, path: Path, number: int) -> str:
    """Some lines behind line `number`."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line, why = number + data.count(b"\n", 0, error.start) + 1, error.reason
        raise SourceError(f"{path}, line {line}: not UTF-8: {why}; save it as UTF-8") from None
    if (at := text.find("\0")) >= 0:
        line = number + text.count("\n", 0, at) + 1
        raise SourceError(f"{path}, line {line}: a NUL character: this is no text")
    if "\r" in text.replace("\r\n", "\n").rstrip("\r"):
        raise SourceError(f"{path}: lines end in CR alone; save it with LF or CRLF")
    return text
