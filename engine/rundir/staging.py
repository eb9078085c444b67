"""Files that appear whole or not at all: staging, publication, and what dead writers left."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shardcam.engine.errors import storage_error
from shardcam.engine.io.plain_file import open_plain

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP)


class GuardedStream(io.FileIO):
    """The file below HDF5. It keeps the first error and from then on drops what is written.

    HDF5 2.0 crashes the process when it cannot write out a file it closes, be it that
    the disk is full or that a signal handler raises in between.  So it never learns of
    an error; it is raised when the file is closed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x+")
        self.error: BaseException | None = None
        self.write = self._guarded(self._write_all)  # type: ignore[method-assign]
        self.truncate = self._guarded(super().truncate)  # type: ignore[method-assign, assignment]

    def _write_all(self, data: memoryview) -> None:
        rest = memoryview(data)
        while len(rest):
            rest = rest[super().write(rest) :]

    def _guarded(self, call: Callable[[Any], object]) -> Callable[[Any], int]:
        """The same call, but for its errors.

        A signal handler that raises where a function begins raises outside of its try.
        A generator goes on inside of it.
        """
        calls = self._calls(call)
        next(calls)
        return calls.send

    def _calls(self, call: Callable[[Any], object]) -> Generator[int, Any, None]:
        while True:
            try:
                while True:
                    argument = None  # a buffer, or a traceback with it, that outlives: crash
                    argument = yield 0
                    if self.error is None:
                        call(argument)
            except GeneratorExit:
                return
            except BaseException as error:
                self.error = error.with_traceback(None)


@contextmanager
def new_directory(directory: Path) -> Iterator[None]:
    """Create a directory, with what is above it, and remove them again if the block raises.

    Raises
    ------
    RunDirectoryError, DiskFull
        It cannot be made.
    """
    try:
        made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, directory) from error
    try:
        yield
    except BaseException:
        with suppress(OSError):  # somebody else's files are in it
            for folder in made:
                folder.rmdir()
        raise


def fsync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power failure."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems synchronise no directories
            raise
    finally:
        os.close(handle)


def publish(staged: Path, final: Path) -> bool:
    """Give a sealed file its name, unless the name is taken."""
    try:
        os.link(staged, final)
    except FileExistsError:
        # NFS may repeat a link whose answer was lost, and meet its own success
        return os.path.samestat(staged.stat(), final.lstat())
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _publish_without_links(staged, final)
    return True


def _publish_without_links(staged: Path, final: Path) -> bool:
    """For file systems without hard links. The kernel drops the lock of a dead process."""
    guard = open_plain(staged.with_name("publish.lock"), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if os.path.lexists(final):
            return False
        staged.rename(final)
        return True
    finally:
        os.close(guard)


def remove_abandoned(path: Path, older_than: float) -> bool:
    """Remove a file if its writer is gone; whether it was removed."""
    with suppress(FileNotFoundError):  # its writer has just finished
        if abandoned(path, older_than):
            path.unlink()
            return True
    return False


def abandoned(path: Path, older_than: float) -> bool:
    """Whether the process that made a file or folder, with `writer_name` in its name, is gone.

    What has no such name is not ours.
    """
    writer = re.fullmatch(r".+-([^-]+)-(\d{1,9})-[0-9a-f]{8}(\.\w+)?", path.name)
    if not writer:
        return False
    if writer[1] == _host():
        return not alive(int(writer[2]))
    return time.time() - path.lstat().st_mtime > older_than


def writer_name() -> str:
    """A part of a file name that names the process that writes it."""
    return f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"


def _host() -> str:
    """Where process numbers are unique: a host, and a container on it."""
    return f"{socket.gethostname().replace('-', '_')}.{os.stat('/proc/self/ns/pid').st_ino}"


def alive(pid: int) -> bool:
    """Whether there is a process of that number, and not only what its parent may ask about it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:  # it has just ended, or nothing is told of processes
        return True
    return state not in (b"Z", b"X")
