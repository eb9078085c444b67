"""One driver for a run: the second is refused, the lock of a dead one is free."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from shardcam.engine.errors import storage_error
from shardcam.engine.io.plain_file import open_plain, parse_json
from shardcam.engine.io.plain_text import printable

_TRIES, _PAUSE = 10, 0.05  # how often the lock is asked for, and the seconds in between
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class FileLock:
    """The lock of a run directory, which must exist.

    The kernel drops the lock of a process that ends, however it does, also on network file
    systems that pass locks on (NFS 4, Lustre with `flock`). Where there are no locks, nothing
    is refused: shards are published once all the same. At a URL see `engine.rundir.url_lock`.

    Parameters
    ----------
    path
        The file that is locked; it names its holder, and is emptied when it is released.
    keep
        False: it is deleted then.

    Attributes
    ----------
    abandoned : bool
        Whether the last holder died without releasing it; known when it is taken.
    """

    def __init__(self, path: Path, keep: bool = True) -> None:
        self._path, self._keep = path, keep
        self._handle: int | None = None
        self.abandoned = False

    def take(self) -> str | None:
        """Take the lock, or return its holder if there is another one."""
        try:
            self._handle = open_plain(self._path, os.O_RDWR | os.O_CREAT)
            _take(self._handle)
            if not _is_at(self._path, self._handle):  # its holder deleted it, and has just ended
                raise BlockingIOError
            self.abandoned = os.fstat(self._handle).st_size > 0
            now = datetime.now(timezone.utc)
            since = f"{now:%Y-%m-%d %H:%M}"
            holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, json.dumps(holder).encode(), 0)
        except BlockingIOError:
            handle, self._handle = self._handle, None  # what names the holder must stay
            assert handle is not None
            try:
                return _holder(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise storage_error(error, self._path.parent) from error
        return None

    def release(self) -> None:
        """Release the lock, if it was taken."""
        if self._handle is not None:
            with suppress(OSError):
                if self._keep:
                    os.ftruncate(self._handle, 0)
                else:
                    self._path.unlink()
            os.close(self._handle)
            self._handle = None

    def holder(self) -> str | None:
        """Who holds it at the moment; None if no one does."""
        try:
            handle = open_plain(self._path)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(handle)
        except OSError:
            return None
        finally:
            os.close(handle)
        return None


def _take(handle: int) -> None:
    """Try for half a second: `FileLock.holder` shares the lock for the time of a look."""
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return
            raise
        time.sleep(_PAUSE)


def _is_at(path: Path, handle: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(handle))
    return False


def _holder(handle: int) -> str:
    with suppress(ValueError, KeyError, TypeError):
        holder = parse_json(os.pread(handle, 1000, 0))
        told = f"process {holder['pid']} on {holder['host']} (since {holder['since']} UTC)"
        return printable(told)
    return "another process"
