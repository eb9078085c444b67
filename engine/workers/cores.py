"""Cores of its own for each worker: no two workers of a machine share one."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path

_claims: list[int] = []  # file handles; the kernel drops their locks when the process ends


def claim_cores(count: int, folder: Path | None = None) -> tuple[int, ...]:
    """Bind this process and all its threads to `count` cores that no other worker has.

    Workers agree by locks on files, which outlive no process.

    Returns
    -------
    tuple of int
        The cores; empty if there were too few free ones, and the process stays as it was.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"shardcam-cores-{os.getuid()}"
    claimed: dict[int, int] = {}
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        for core in sorted(os.sched_getaffinity(0)):
            if len(claimed) < count and (handle := _lock(folder / f"core-{core}")) is not None:
                claimed[core] = handle
    if len(claimed) < count:
        for handle in claimed.values():
            os.close(handle)
        return ()
    _claims.extend(claimed.values())
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has just ended
            os.sched_setaffinity(int(thread.name), claimed)
    return tuple(claimed)


def _lock(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
