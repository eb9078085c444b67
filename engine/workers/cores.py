"""Cores for each worker: no two workers of a machine share one."""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
_claims: list[int] = []  # file handles; the kernel drops their locks when the process ends


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Cores that this process can keep busy: fewer than the machine's in most containers."""
    return max(int(min(len(os.sched_getaffinity(0)), _quota(cgroup))), 1)


def claim_cores(count: int, folder: Path | None = None, cgroup: Path = CGROUP) -> tuple[int, ...]:
    """Bind this process and all its threads to `count` cores that no other worker has.

    Workers agree by locks on files, which outlive no process. A container that is given time
    on all cores of its machine, not cores of its own, does not see the locks of the others:
    there nothing is bound, or the workers of all containers would crowd on the first cores.

    Returns
    -------
    tuple of int
        The cores; empty if there were too few free ones, and the process stays as it was.
    """
    if _quota(cgroup) < len(os.sched_getaffinity(0)):
        return ()
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


def _quota(cgroup: Path) -> float:
    """Cores' worth of time that a container may use, by version 2 or 1 of control groups."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with suppress(OSError, ValueError):
            text = " ".join((cgroup / name).read_text() for name in names)
            quota, period = map(float, text.replace("max", "inf").split())
            if quota > 0:  # -1: none
                return quota / period
    return math.inf


def _lock(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
