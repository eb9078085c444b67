"""One driver for a run: the second is refused, a dead one is in nobody's way."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone

from shardcam.engine.errors import RunDirectoryError, storage_error
from shardcam.engine.rundir.url_lock import UrlLock, read_holder
from shardcam.engine.types import RunPaths

_TRIES, _PAUSE = 10, 0.05  # how often the lock is asked for, and the seconds in between
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def driver_lock(paths: RunPaths) -> Iterator[None]:
    """Hold the lock of a run directory that exists.

    The kernel drops the lock of a process that ends, however it does, also on network file
    systems that pass locks on (NFS 4, Lustre with `flock`). Where there are no locks, nothing
    is refused: shards are published once all the same. At a URL see :mod:`engine.rundir.url_lock`.

    Raises
    ------
    RunDirectoryError
        Another process holds it; the message says which, and since when.
    """
    if paths.url is not None:
        with _url_lock(paths):
            yield
        return
    try:
        handle = os.open(paths.lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise storage_error(error, paths.root) from error
    try:
        _acquire(handle, paths)
        yield
    finally:
        os.close(handle)


def lock_holder(paths: RunPaths) -> str | None:
    """Who works on a run at this moment; None if nobody does."""
    if paths.url is not None:
        found = read_holder(paths)
        return str(found) if found is not None and found.lives() else None
    try:
        handle = os.open(paths.lock, os.O_RDONLY)
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


def require_no_driver(paths: RunPaths) -> None:
    """Refuse early, before anything is loaded, what :func:`driver_lock` would refuse later.

    Raises
    ------
    RunDirectoryError
        Another process works on the run.
    """
    holder = lock_holder(paths)
    if holder:
        raise _refusal(paths, holder)


@contextmanager
def _url_lock(paths: RunPaths) -> Iterator[None]:
    lock = UrlLock(paths)
    try:
        holder = lock.take()
        if holder is not None:
            raise _refusal(paths, str(holder))
        yield
    finally:
        lock.release()


def _refusal(paths: RunPaths, holder: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"{paths.home}: {holder} is working on it; wait for it, or stop it first"
    )


def _acquire(handle: int, paths: RunPaths) -> None:
    try:
        _take(handle)
    except BlockingIOError:
        raise _refusal(paths, _holder(handle)) from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return
        raise storage_error(error, paths.root) from error
    now = datetime.now(timezone.utc)
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": f"{now:%Y-%m-%d %H:%M}"}
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)
    except OSError as error:
        raise storage_error(error, paths.root) from error


def _take(handle: int) -> None:
    """Try for half a second: :func:`lock_holder` shares the lock for the time of a look."""
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
        time.sleep(_PAUSE)


def _holder(handle: int) -> str:
    with suppress(ValueError, KeyError, TypeError):
        holder = json.loads(os.pread(handle, 1000, 0))
        return f"process {holder['pid']} on {holder['host']} (since {holder['since']} UTC)"
    return "another process"
