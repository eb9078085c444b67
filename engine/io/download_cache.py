"""Parts of files at URLs, kept in a folder of this machine for the next run over them."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
import zlib
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path

from shardcam.engine.errors import ConfigError

_LOOKS = 32  # times that a process looks how full the folder is, until it has filled it alone
_CHECK = 4  # bytes of a checksum before the data
_LEFT = re.compile(r"\.[0-9a-f]{62}-[0-9a-f]{8}")  # name of a part that is being written
_ABANDONED = 3600.0  # seconds until one counts as left by a process that was killed
Key = tuple[Hashable, ...]  # identifies a part, by its text


class PartCache:
    """A folder that processes share. When it is full, nothing more is kept.

    To throw out what was used long ago would throw out all of a set that is larger than the
    folder, just before it is read again.

    Parameters
    ----------
    folder
        It is made if need be.
    limit
        Bytes.

    Raises
    ------
    ConfigError
        It cannot be made, or belongs to another user.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = folder.stat().st_uid
        except OSError as error:
            raise ConfigError(f"--cache {folder}: {error.strerror}") from error
        if owner != os.getuid():
            raise ConfigError(
                f"--cache {folder}: belongs to another user; name a folder of your own"
            )
        self._folder, self._limit = folder, limit
        self._held: int | None = None  # bytes in the folder when this process last looked
        self._added = 0  # since then, by this process

    def get(self, part: Key) -> bytes | None:
        """The bytes of a cached part; None if they are missing or damaged."""
        try:
            data = self._file(part).read_bytes()
        except OSError:
            return None
        good = data[:_CHECK] == _checksum(memoryview(data)[_CHECK:])
        return data[_CHECK:] if good else None

    def put(self, part: Key, data: bytes) -> None:
        """Keep a part, if there is room; what cannot be written is not kept."""
        with suppress(OSError):  # somebody may delete the folder meanwhile
            if self._held is None or self._added > self._limit // _LOOKS:
                self._held, self._added = self._size(), 0
            if self._held + self._added + len(data) > self._limit:
                return
            file = self._file(part)
            temporary = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
            file.parent.mkdir(exist_ok=True)
            try:
                temporary.write_bytes(_checksum(data) + data)
                temporary.replace(file)
                self._added += len(data)
            finally:
                temporary.unlink(missing_ok=True)

    def _file(self, part: Key) -> Path:
        name = hashlib.sha256(repr(part).encode()).hexdigest()
        return self._folder / name[:2] / name[2:]

    def _size(self) -> int:
        total = 0
        for folder in self._folder.iterdir():
            with suppress(OSError), os.scandir(folder) as entries:
                total += sum(map(_bytes, entries))
        return total


def _bytes(entry: os.DirEntry[str]) -> int:
    """Bytes of a file; what a process that was killed left half written is removed."""
    with suppress(OSError):  # another process is removing it
        found = entry.stat()
        if not _LEFT.fullmatch(entry.name) or time.time() - found.st_mtime < _ABANDONED:
            return found.st_size
        Path(entry).unlink()
    return 0


def _checksum(data: bytes | memoryview) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECK, "little")
