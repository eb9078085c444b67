"""How many files a process may open: plain h5py opens every shard of an index."""

from __future__ import annotations

import resource
from contextlib import suppress

_SPARE = 64  # files that a process has open besides the shards of an index


def ulimit_for(shards: int) -> int | None:
    """The ``ulimit -n`` that plain h5py needs to read an index over so many shards.

    None if processes started from here may open as many files.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = shards + _SPARE
    enough = soft == resource.RLIM_INFINITY or needed <= soft
    return None if enough else 1 << (needed - 1).bit_length()


def allow_open_files(shards: int) -> None:
    """Raise this process's soft limit so far, or to the hard limit if that is lower."""
    count = shards + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # not allowed here
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
