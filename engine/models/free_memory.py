"""How much memory this process may still take."""

from __future__ import annotations

import ctypes
import re
import resource
from contextlib import suppress
from pathlib import Path

HEAD_BYTES = 256 << 20  # for the tensors of a head that runs on activations of our making
_CGROUP = Path("/sys/fs/cgroup")


def free_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes that this process may still take, by machine, container and ``ulimit -v``."""
    free = [1 << 62]
    with suppress(OSError, ValueError, TypeError, AttributeError):
        text = Path("/proc/meminfo").read_text()
        free.append(1024 * int(re.search(r"MemAvailable:\s+(\d+)", text)[1]))  # type: ignore[index]
    with suppress(OSError, ValueError):  # "max" where there is no limit
        limit, used = (int((cgroup / f"memory.{n}").read_text()) for n in ("max", "current"))
        free.append(limit - used)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        free.append(limit - pages * resource.getpagesize())
    return max(min(free), 0)


def give_back() -> None:
    """Return what was freed to the system: the allocator keeps it where little lies above."""
    with suppress(AttributeError, OSError):  # glibc's only
        ctypes.CDLL(None).malloc_trim(0)


def gigabytes(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
