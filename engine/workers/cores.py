"""Cores for each worker: no two workers of a machine share one."""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_claims: list[int] = []  # file handles; the kernel drops their locks when the process ends


def usable_cores(cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
    """Cores that this process can keep busy: fewer than the machine's in most containers."""
    return max(int(min(len(os.sched_getaffinity(0)), _quota(cgroup, membership))), 1)


def claim_cores(
    count: int,
    folder: Path | None = None,
    cgroup: Path = CGROUP,
    membership: Path = MEMBERSHIP,
) -> tuple[int, ...]:
    """Bind this process and all its threads to `count` cores that no other worker has.

    Workers agree by locks on files, which outlive no process. A container that is given time
    on all cores of its machine, not cores of its own, does not see the locks of the others:
    there nothing is bound, or the workers of all containers would crowd on the first cores.

    Returns
    -------
    tuple of int
        The cores; empty if there were too few free ones, and the process stays as it was.
    """
    if _quota(cgroup, membership) < len(os.sched_getaffinity(0)):
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


def _quota(cgroup: Path, membership: Path) -> float:
    """Cores' worth of time that this process may use, by version 2 or 1 of control groups.

    The smallest quota counts of its group and of all above it that can be seen.
    """
    own = {"": "", "cpu": ""}  # path of the group by controller, which version 2 does not name
    with suppress(OSError):
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            own |= {name: path for name in ("", "cpu") if name in controllers.split(",")}
    second, first = _groups_above(cgroup, own[""]), _groups_above(cgroup / "cpu", own["cpu"])
    return min(
        *(_ratio(group / "cpu.max") for group in second),
        *(_ratio(group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us") for group in first),
    )


def _groups_above(mount: Path, path: str) -> list[Path]:
    """A control group and those above it, as far as they are mounted.

    In a container the mount may begin further down than the path: then only the path's last
    parts are there.
    """
    parts = [part for part in path.split("/") if part not in ("", "..")]
    while parts and not os.access(mount.joinpath(*parts), os.R_OK):
        del parts[0]
    return [mount.joinpath(*parts[:end]) for end in range(len(parts) + 1)]


def _ratio(*files: Path) -> float:
    """Quota by period, infinite where there is none."""
    with suppress(OSError, ValueError):
        quota, period = " ".join(file.read_text() for file in files).split()
        if quota not in ("max", "-1"):
            return float(quota) / float(period)
    return math.inf


def _lock(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
