"""Files that can be sought in, here or at a URL, where they are read by ranges."""

from __future__ import annotations

import gc
import io
import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from shardcam.engine.io import files
from shardcam.engine.io.fetch_many import Part, read_ranges
from shardcam.engine.io.urls import is_url

BLOCK = 1 << 20  # bytes fetched at once by a stream
_KEPT = 16  # blocks of a file that is read here and there
_END = 1 << 16  # bytes: HDF5 opens a file by its beginning and its end
_TOGETHER = 64  # files that are opened at once


def open_stream(path: str) -> BinaryIO:
    """Open a file that can be read and sought in.

    Raises
    ------
    OSError
        It cannot be read.
    """
    length = files.size(path)
    if is_url(path):
        return io.BufferedReader(_RemoteFile(path, length), BLOCK)
    return Path(path).open("rb")


class _Uncollected:
    """While somebody is inside, no thread collects garbage.

    HDF5 holds h5py's lock while it reads through us, and we wait for fsspec's thread: if that
    one came upon an object of h5py in the garbage, it would wait for the lock forever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._enabled = True

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._enabled = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._enabled:
                gc.enable()


_uncollected = _Uncollected()


class _RemoteFile(io.RawIOBase):
    """A file at a URL, by ranges."""

    def __init__(self, path: str, length: int) -> None:
        self._path = path
        self._length = length
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(min(len(buffer), self._length - self._at), 0)
        if count:
            with _uncollected:
                buffer[:count] = files.read_range(self._path, self._at, count)
        self._at += count
        return count


class Blocks(_RemoteFile):
    """A file at a URL for HDF5, which jumps about in it: blocks are fetched once and kept.

    HDF5 2.0 crashes the process when Python raises while it reads.  So it never learns of an
    error, and reads zeros; closing the file raises `error`.

    Parameters
    ----------
    path
        Its URL.
    length
        Its size, if it is known.
    ends
        Parts of it that are at hand, by their place.

    Raises
    ------
    OSError
        Its size cannot be known.
    """

    def __init__(
        self, path: str, length: int | None = None, ends: Mapping[int, bytes] | None = None
    ) -> None:
        super().__init__(path, files.size(path) if length is None else length)
        self.error: BaseException | None = None
        self._ends = ends or {}
        self._block = lru_cache(_KEPT)(self._fetched)

    def __str__(self) -> str:
        return self._path

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the file goes; HDF5 does not ask twice."""
        start = self._at
        end = max(min(start + len(buffer), self._length), start)
        while self._at < end:
            part = self._at_hand(end - self._at)
            if not part:
                number, offset = divmod(self._at, BLOCK)
                part = self._block_or_zeros(number)[offset : offset + end - self._at]
            buffer[self._at - start : self._at - start + len(part)] = part
            self._at += len(part)
        return end - start

    def _at_hand(self, count: int) -> bytes:
        for start, data in self._ends.items():
            offset = self._at - start
            if 0 <= offset < len(data):
                return data[offset : offset + count]
        return b""

    def _block_or_zeros(self, number: int) -> bytes:
        if self.error is None:
            try:
                return self._block(number)
            except BaseException as error:  # a signal's too
                # A copy: the tracebacks of the error and of its causes hold HDF5's buffer, which
                # does not outlive this call.
                self.error = type(error)(*error.args)
        return bytes(BLOCK)

    def _fetched(self, number: int) -> bytes:
        start = number * BLOCK
        with _uncollected:
            return files.read_range(self._path, start, min(BLOCK, self._length - start))


def open_together(sizes: Mapping[str, int]) -> Iterator[Blocks]:
    """Open files at URLs, whose sizes are known, for HDF5, in their order.

    Of many at once those parts are fetched that HDF5 needs to open them. One that does not
    come is asked for again when it is read.
    """
    waiting = iter(sizes.items())
    while some := list(islice(waiting, _TOGETHER)):
        spans: list[Part] = [(path, *span) for path, size in some for span in _ends_of(size)]
        found: dict[str, dict[int, bytes]] = {path: {} for path, _ in some}
        for (path, start, _), data in zip(spans, read_ranges(spans), strict=True):
            if data is not None:
                found[path][start] = data
        for path, size in some:
            yield Blocks(path, size, found.pop(path))


def _ends_of(size: int) -> list[tuple[int, int]]:
    if size <= 2 * _END:
        return [(0, size)] if size else []
    return [(0, _END), (size - _END, size)]
